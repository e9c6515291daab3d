"""Features of a batch job: one file with the keys of its rows, in the order of the input."""

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.batch import Job, Summary, run_job
from app.batch.pools import predict_here
from app.errors import BatchError
from serving import Predictor
from serving.errors import InputError
from serving.inputs import read_inputs, takes_files
from serving.outputs import choose_output
from serving.server.errors import RequestError
from serving.server.image_requests import require_images


def extract(bundle, pattern, output, key=None, pool=predict_here):
    return run_job(Job(bundle, str(pattern), output, key, features=True), pool, lambda *_: None)


def read_keys(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scans(tmp_path, images):
    """A folder of twelve image files."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def few_images_in_a_part(monkeypatch):
    monkeypatch.setattr("app.batch.parts.IMAGES_TOGETHER", 5)


def test_an_array_of_features_has_the_order_of_the_files(bundle, scans, tmp_path):
    output = tmp_path / "features.npy"
    assert extract(bundle, scans / "*.png", output) == Summary(parts=1, rows=12, failed=0)
    files = sorted(map(str, scans.iterdir()))
    features = np.load(output)
    assert features.dtype == np.float32
    expected = Predictor.load(bundle).predict_images(files).features
    np.testing.assert_allclose(features, expected, atol=1e-5)
    keys = read_keys(tmp_path / "features.keys.csv")
    assert keys == [{"file": name, "row": "0"} for name in files]
    assert sorted(tmp_path.iterdir()) == [output.with_suffix(".keys.csv"), output, scans]


def test_features_of_images_have_the_keys_of_the_table_that_names_them(bundle, scans, tmp_path):
    files = [scans / name for name in ("03.png", "01.png")]
    (tmp_path / "list.csv").write_text("id,image\nx3,scans/03.png\nx1,scans/01.png\n")
    output = tmp_path / "features.npy"
    assert extract(bundle, tmp_path / "list.csv", output, "id") == Summary(1, 2, 0)
    expected = Predictor.load(bundle).predict_images(files).features
    np.testing.assert_allclose(np.load(output), expected, atol=1e-5)
    assert read_keys(tmp_path / "features.keys.csv") == [
        {"file": str(file), "row": str(row), "key": key}
        for row, (file, key) in enumerate(zip(files, ("x3", "x1"), strict=True))
    ]


@pytest.mark.parametrize("keys", [[7, -1, 5], ["a", "b", "c"], [1, 2, 2**63]])
def test_a_table_of_features_has_file_row_and_key(keys, raw_bundle, tmp_path):
    bundle, _ = raw_bundle
    rows = {"size": [0.5, None, 1], "color": ["red", None, ""], "weight": [1.0, 2.0, 3.0]}
    kind = pa.uint64() if 2**63 in keys else None
    table = pa.table({**rows, "id": pa.array(keys, kind)})
    pq.write_table(table, tmp_path / "rows.parquet")
    output = tmp_path / "features.parquet"
    extract(bundle, tmp_path / "rows.parquet", output, "id")
    found = pq.read_table(output)
    assert found.column_names == ["file", "row", "key", "features"]
    assert found["file"].to_pylist() == [str(tmp_path / "rows.parquet")] * 3
    assert found["row"].to_pylist() == [0, 1, 2]
    assert found["key"].to_pylist() == (keys if 2**63 not in keys else list(map(str, keys)))
    inputs = {
        "inputs": np.array([[0.5, 1], [np.nan, 2], [1, 3]], np.float32),
        "texts": np.array([["red"], [""], [""]], object),
    }
    expected = Predictor.load(bundle).features(inputs)
    assert found.schema.field("features").type == pa.list_(pa.float32(), expected.shape[1])
    np.testing.assert_allclose(found["features"].to_pylist(), expected, atol=1e-5)


def test_a_row_that_fails_is_left_out_and_listed(run, bundle, scans, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    (scans / "07.png").write_bytes(b"no image")
    output = tmp_path / "features.npy"
    status, printed, error = run(
        "predict", bundle, "--input", scans / "*.png", "-o", output, "--features"
    )
    errors = tmp_path / "features.errors.jsonl"
    assert (status, error) == (1, "")
    assert printed == f"features:  11 rows in {output}\nfailed:    1 row or file: {errors}\n"
    assert len(np.load(output)) == 11
    names = [Path(one["file"]).stem for one in read_keys(tmp_path / "features.keys.csv")]
    assert names == [f"{number:02}" for number in range(12) if number != 7]
    assert json.loads(errors.read_text())["file"] == str(scans / "07.png")


@pytest.mark.usefixtures("few_images_in_a_part")
def test_an_interrupted_job_resumes_and_keeps_the_order(bundle, scans, tmp_path):
    output, seen = tmp_path / "features.parquet", []

    def breaks(work, parts):
        yield from list(predict_here(work, [parts[1], parts[0]]))
        raise KeyboardInterrupt

    def watched(work, parts):
        seen.extend(name for part in parts for name in part.files)
        yield from predict_here(work, parts)

    with pytest.raises(KeyboardInterrupt):
        extract(bundle, scans / "*.png", output, pool=breaks)
    assert not output.exists()
    shutil.copy(scans / "00.png", scans / "06b.png")  # in the middle of what is done
    assert extract(bundle, scans / "*.png", output, pool=watched) == Summary(1, 13, 0)
    assert len(seen) == 8
    files = sorted(map(str, scans.iterdir()))
    found = pq.read_table(output)
    assert found["file"].to_pylist() == files
    expected = Predictor.load(bundle).predict_images(files).features
    np.testing.assert_allclose(found["features"].to_pylist(), expected, atol=1e-5)
    assert not (tmp_path / "features.parquet.parts").exists()


def test_a_job_that_failed_while_it_wrote_the_file_resumes(bundle, scans, tmp_path):
    output = tmp_path / "features.npy"
    (scans / "07.png").write_bytes(b"no image")
    (tmp_path / "features.keys.csv.new").mkdir()  # in the way
    with pytest.raises(BatchError, match="features.npy cannot be written: is a directory. Finish"):
        extract(bundle, scans / "*.png", output)
    (tmp_path / "features.keys.csv.new").rmdir()
    assert (tmp_path / "features.errors.jsonl").exists()
    assert not output.exists()
    assert extract(bundle, scans / "*.png", output) == Summary(1, 11, 1)
    assert len(read_keys(tmp_path / "features.keys.csv")) == len(np.load(output)) == 11


def test_a_file_of_errors_of_another_job_is_named(bundle, scans, tmp_path):
    (tmp_path / "features.errors.jsonl").write_text("")
    message = "Received: .*features.errors.jsonl, which exists. It is of another job. Remove it"
    with pytest.raises(BatchError, match=message):
        extract(bundle, scans / "*.png", tmp_path / "features.npy")


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_file_names_may_be_any_bytes(kind, bundle, scans, tmp_path):
    odd = scans / os.fsdecode(b"caf\xe9, 1.png")
    (scans / "00.png").rename(odd)
    output = tmp_path / f"features.{kind}"
    extract(bundle, odd, output)
    if kind == "npy":
        assert read_keys(tmp_path / "features.keys.csv")[0]["file"] == str(odd)
    else:
        (name,) = pq.read_table(output)["file"].to_pylist()
        assert name == f"{scans}/caf\\udce9, 1.png"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.usefixtures("few_images_in_a_part")
def test_ray_and_a_single_process_write_the_same_features(bundle, scans, tmp_path):
    from app.batch.ray_pool import RayPool

    pools = {"here": predict_here, "ray": RayPool(actors=2)}
    for name, pool in pools.items():
        extract(bundle, scans / "*.png", tmp_path / f"{name}.npy", pool=pool)
    assert read_keys(tmp_path / "ray.keys.csv") == read_keys(tmp_path / "here.keys.csv")
    here, ray = (np.load(tmp_path / f"{name}.npy") for name in pools)
    np.testing.assert_allclose(here, ray, atol=1e-5)


@pytest.fixture
def place(committed_models, scans, tmp_path, monkeypatch):
    """The working directory, with bundles, scans and files that are in the way."""
    (tmp_path / "dist").symlink_to(committed_models)
    (tmp_path / "old.npy").touch()
    (tmp_path / "other.keys.csv").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("bundle_name", "arguments", "message"),
    [
        (
            "digits",
            ["--input", "scans/*.png", "-o", "features"],
            "--output must be a file that ends in .parquet or .npy. Received: features.",
        ),
        (
            "digits",
            ["--input", "scans/*.png", "-o", "old.npy"],
            "--output must be a new file. Received: old.npy, which exists.",
        ),
        (
            "digits",
            ["--input", "scans/*.png", "-o", "other.npy"],
            "--output must be a new file. Received: other.keys.csv, which exists.",
        ),
        (
            "digits",
            ["--input", "scans/*.png", "-o", "none/a.npy"],
            "--output must be in a folder that exists. Received: none/a.npy, in none.",
        ),
        ("digits", ["--input", "scans/*.png"], "'--output', the file for the features: --input"),
        ("softmax", ["--input", "scans/*.png", "-o", "a.npy"], "of shape [batch, dimension]. Rec"),
        ("softmax", ["scans/00.png"], "--features needs a model with an output features of shape"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_changes_nothing(
    bundle_name, arguments, message, run, place
):
    before = sorted(Path().rglob("*"))
    status, output, error = run("predict", f"dist/{bundle_name}", *arguments, "--features")
    assert (status, output) == (2, "")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(Path().rglob("*")) == before


def test_a_parquet_file_needs_pyarrow(run, bundle, scans, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    output = tmp_path / "features.parquet"
    arguments = ["--input", scans / "*.png", "-o", output, "--features"]
    status, _, error = run("predict", bundle, *arguments)
    assert status == 2
    assert "This command needs the package pyarrow." in error


def test_a_model_without_labels_has_features_and_no_predictions(bundle, scans):
    manifest = Predictor.load(bundle).manifest
    manifest = dataclasses.replace(manifest, task="unknown", prediction_output=None, labels=())
    assert choose_output(manifest, features=True) == "features"
    assert len(read_inputs([scans / "00.png"], manifest)[0]) == 1
    with pytest.raises(RequestError, match="The model must take"):  # the page shows predictions
        require_images(manifest)
    with pytest.raises(InputError, match="Received: digits, which has none. Export it with --labe"):
        choose_output(manifest, features=False)
    assert takes_files(manifest)
    spec = dataclasses.replace(manifest.inputs[0], dtype="float32", shape=("batch", 40, 40, 3))
    assert not takes_files(dataclasses.replace(manifest, inputs=(spec,)))


def test_the_features_of_files_are_printed(run, bundle, scans):
    files = [scans / "00.png", scans / "01.png"]
    expected = Predictor.load(bundle).predict_images(files).features
    status, output, _ = run("predict", bundle, *files, "--features")
    assert status == 0
    header, first, _ = output.splitlines()
    assert header.split() == ["file", str(expected.shape[1]), "features"]
    assert first.split()[0] == str(files[0])
    assert float(first.split()[1]) == pytest.approx(expected[0, 0], rel=1e-3)
    status, output, _ = run("predict", bundle, *files, "--features", "--json")
    printed = [json.loads(line) for line in output.splitlines()]
    assert [one["file"] for one in printed] == list(map(str, files))
    np.testing.assert_allclose([one["features"] for one in printed], expected, atol=1e-5)
