"""Batch jobs: each row is predicted once or listed with a reason, and a killed job resumes."""

import dataclasses
import io
import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live import free_port
from PIL import Image

from app.batch import Job, Summary, run_job
from app.batch.arrays import read_array
from app.batch.files import find_files
from app.batch.ledger import open_ledger
from app.batch.parts import Part, plan_parts
from app.batch.pools import predict_here
from app.batch.ray_address import check_address
from app.batch.reading import read_files, read_rows
from app.errors import BatchError
from serving import Predictor
from serving.errors import InputError

ROOT = Path(__file__).parent.parent
WITHOUT_RAY = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in {blocked!r} else find(name, *a)
from app.commands.cli import main
main(sys.argv[1:])
"""


def start(*arguments, blocked=("ray", "pyarrow", "tensorflow", "keras"), cwd=ROOT):
    code = WITHOUT_RAY.format(blocked=blocked)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def test_a_file_that_a_pattern_matches_twice_is_listed_once(tmp_path):
    (tmp_path / "x" / "x").mkdir(parents=True)
    file = tmp_path / "x" / "x" / "a.npy"
    file.touch()
    assert find_files(f"{tmp_path}/**/x/**/*.npy") == [str(file)]


def test_a_folder_stands_for_the_files_in_it_and_a_broken_link_is_not_lost(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    files = [tmp_path / "x" / name for name in ("a.png", "b[1].png", "y/c.png", "y/link.png")]
    for file in files[:3]:
        file.touch()
    files[3].symlink_to(tmp_path / "gone")
    (tmp_path / "x" / "Thumbs.db").touch()
    assert find_files(str(tmp_path / "x")) == [str(file) for file in files]
    assert find_files(f"{tmp_path}/x/*") == [str(file) for file in files[:2]]


def test_files_of_a_folder_that_the_model_cannot_read_are_passed_over_and_told(bundle, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    Image.new("L", (28, 28)).save(folder / "a.png")
    (folder / "list.txt").write_text("a.png\n")
    command = ["predict", bundle, "--input", folder, "--output"]
    status, output, error = finish(start(*command, tmp_path / "p.csv"))
    assert (status, output) == (0, f"predicted: 1 row in {tmp_path / 'p.csv'}\n")
    note = f"note: 1 file passed over beside those that the model reads: {folder / 'list.txt'}\n"
    assert error == note
    _, output, _ = finish(start(*command, tmp_path / "q.csv", "--json"))
    assert json.loads(output)["passed_over"] == [str(folder / "list.txt")]
    (folder / "a.png").unlink()
    with pytest.raises(BatchError, match="must end in .png"):
        predict(bundle, folder, tmp_path / "r.csv")


def test_files_are_images_by_their_content_where_their_names_do_not_tell(bundle, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    Image.new("L", (28, 28)).save(folder / "a.jfif", "JPEG")
    Image.new("L", (28, 28)).save(folder / "b", "PNG")
    (folder / "LICENSE").write_text("free\n")
    summary = predict(bundle, folder, tmp_path / "p.csv")
    assert (summary.rows, summary.failed) == (2, 0)
    assert summary.passed_over == (str(folder / "LICENSE"),)
    names = [line.split(",")[0] for line in (tmp_path / "p.csv").read_text().splitlines()]
    assert sorted(names[1:]) == [str(folder / name) for name in ("a.jfif", "b")]


def test_rows_with_a_variable_axis_are_read_in_pieces_that_fit_into_memory(tmp_path, row_bundle):
    np.save(tmp_path / "wide.npy", np.zeros((9, 500_000), "float32"))
    manifest = Predictor.load(row_bundle).manifest
    (spec,) = manifest.inputs
    spec = dataclasses.replace(spec, shape=("batch", "steps"))
    manifest = dataclasses.replace(manifest, inputs=(spec,), columns=(), nullable_columns=())
    parts = list(read_array(str(tmp_path / "wide.npy"), manifest))
    assert [len(rows.ids) for rows in parts] == [4, 4, 1]


def finish(process):
    output, error = process.communicate(timeout=120)
    return process.returncode, output, error


def predict(bundle, pattern, output, key=None, pool=predict_here):
    return run_job(Job(bundle, str(pattern), output, key), pool, lambda *_: None)


def lines(output, kind="part"):
    paths = sorted(output.glob(f"{kind}-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def ids(found):
    return sorted((one["file"], one.get("row")) for one in found)


def array_with_wrong_header(rows):
    """Return the bytes of an array of two images whose header says `rows`."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 28, 28)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(2 * 28 * 28)


@pytest.fixture
def arrays(tmp_path, images):
    """A folder of three files of images, 12 in each."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"{number}.npy", np.roll(images, number, axis=0))
    return folder


def write_table(path, columns, **more):
    pq.write_table(pa.table({**columns, **more}), path)


def flowers(row_bundle, rows):
    names = json.loads((row_bundle / "manifest.json").read_text())["columns"]
    random = np.random.default_rng(0)
    return {name: random.uniform(1, 5, rows) for name in names}


def test_each_row_of_an_array_gets_the_predictors_output_once(bundle, arrays, images, tmp_path):
    summary = predict(bundle, arrays / "*.npy", tmp_path / "out")
    assert summary == Summary(parts=3, rows=36, failed=0)
    found = lines(tmp_path / "out")
    assert ids(found) == [(str(arrays / f"{n}.npy"), row) for n in range(3) for row in range(12)]
    first = [one for one in found if one["file"].endswith("/0.npy")]
    expected = Predictor.load(bundle).predict(images)
    assert [one["label"] for one in first] == expected.labels
    received = [list(one["probabilities"].values()) for one in first]
    np.testing.assert_allclose(received, expected.probabilities, atol=1e-6)
    assert not list((tmp_path / "out").glob("errors-*"))


def test_images_share_a_part_and_a_broken_image_fails_alone(bundle, images, tmp_path):
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "07.png").write_bytes(b"no image")
    summary = predict(bundle, tmp_path / "*.png", tmp_path / "out")
    assert summary == Summary(parts=1, rows=11, failed=1)
    (failed,) = lines(tmp_path / "out", "errors")
    assert failed == {
        "file": str(tmp_path / "07.png"),
        "row": 0,
        "reason": f"{tmp_path / '07.png'} cannot be read as an image, such as PNG or JPEG.",
    }


def write_images(folder, images, paths):
    """Write images as `folder / path`, and return the paths."""
    for path, image in zip(paths, images, strict=False):
        (folder / path).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / path)
    return paths


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_names_images_beside_it_and_keys_for_them(bundle, images, tmp_path, suffix):
    names = write_images(tmp_path, images, ["sub/a.png", "sub/b c.PNG", "sub/d.png"])
    (tmp_path / "sub" / "broken.png").write_bytes(b"no image")
    table = tmp_path / f"list{suffix}"
    paths = [*names, "sub/broken.png", "gone.png", "", str(tmp_path / names[0])]
    ids = [f"x{row}" for row in range(len(paths))]
    if suffix == ".parquet":
        paths[5] = None
        write_table(table, {"id": ids, "image": paths, "size": range(7)})
    else:
        mark = {".csv": ",", ".tsv": "\t"}[suffix]
        rows = [("id", "image", "size"), *zip(ids, paths, map(str, range(7)), strict=True)]
        table.write_text("".join(mark.join(row) + "\n" for row in rows))
    assert predict(bundle, table, tmp_path / "out", "id") == Summary(1, 4, 3)
    found = lines(tmp_path / "out")
    files = [str(tmp_path / name) for name in (*names, names[0])]
    assert [(one["file"], one["row"], one["key"]) for one in found] == [
        *zip(files, (0, 1, 2, 6), ("x0", "x1", "x2", "x6"), strict=True)
    ]
    labels = Predictor.load(bundle).predict(images[[0, 1, 2, 0]]).labels
    assert [one["label"] for one in found] == labels
    failed = [(one["file"], one["row"], one["key"]) for one in lines(tmp_path / "out", "errors")]
    broken = (str(tmp_path / "sub" / "broken.png"), 3, "x3")
    assert failed == [broken, (str(tmp_path / "gone.png"), 4, "x4"), (str(table), 5, "x5")]


def test_the_command_prints_the_images_that_a_table_names(run, bundle, images, tmp_path):
    first, second = write_images(tmp_path, images, ["a.png", "b.png"])
    table = tmp_path / "list.csv"
    table.write_text(f"id,image\n1,{second}\n2,{first}\n")
    status, output, error = run("predict", bundle, table, "--json")
    found = [json.loads(line)["file"] for line in output.splitlines()]
    assert (status, found, error) == (0, [str(tmp_path / name) for name in (second, first)], "")
    table.write_text("id,image\n1,gone.png\n")
    status, output, error = run("predict", bundle, table)
    assert (status, output) == (2, "")
    assert error == f"hornbill: {tmp_path / 'gone.png'} does not exist.\n"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_image_that_a_table_lacks_or_holds_damaged_is_named_and_the_others_predicted(
    kind, run, bundle, images, tmp_path
):
    first, second, alone = write_images(tmp_path, images, ["a.png", "b.png", "c.png"])
    table = tmp_path / f"list.{kind}"
    if kind == "csv":
        table.write_text(f"id,image\n1,{first}\n2,\n3,{second}\n")
        names = [str(tmp_path / name) for name in (first, second, alone)]
        wrong = [f"an empty 'image' in line 3 of {table}"]
    else:
        good = (tmp_path / first).read_bytes()
        write_table(table, {"image": [good, b"no image", None, good]})
        names = [f"{table}:0", f"{table}:3", str(tmp_path / alone)]
        wrong = [f"{table}:1 cannot be read as an image", f"row 2 of {table}"]
    status, output, error = run("predict", bundle, table, tmp_path / alone, "--json")
    assert (status, [json.loads(line)["file"] for line in output.splitlines()]) == (1, names)
    for line, reason in zip(error.splitlines(), wrong, strict=True):
        assert line.startswith("failed: ")
        assert reason in line


def test_a_comparison_leaves_out_images_that_cannot_be_read(run, bundle, images, tmp_path):
    (first,) = write_images(tmp_path, images, ["a.png"])
    content = (tmp_path / first).read_bytes()
    table = tmp_path / "list.parquet"
    write_table(table, {"image": [content, b"no image", content]})
    status, output, error = run("compare", bundle, bundle, "--input", table)
    assert (status, error) == (0, "")
    assert f"2 samples of {table}" in output
    assert f"note:        1 file left out: {table}:1 cannot be read as an image" in output


def test_the_column_of_the_training_names_the_images_of_a_table(bundle, images, tmp_path):
    first, second = write_images(tmp_path, images, ["a.png", "b.png"])
    (tmp_path / "list.csv").write_text(f"mask,photo\n{first},{second}\n")
    write_table(tmp_path / "list.parquet", {"mask": [first], "photo": [second]})
    manifest = Predictor.load(bundle).manifest
    trained = dataclasses.replace(manifest, config={"image_column": "photo"})
    for table in (tmp_path / "list.csv", tmp_path / "list.parquet"):
        assert read_files(str(table), trained).names == [str(tmp_path / second)]
        message = "one column of names of image files.* Received: several, mask, photo. Choose one"
        with pytest.raises(InputError, match=message):
            read_files(str(table), manifest)
    write_table(tmp_path / "none.parquet", {"x": [1], "y": ["a"]})
    with pytest.raises(InputError, match="Received: none among the columns x, y"):
        read_files(str(tmp_path / "none.parquet"), manifest)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_without_rows_is_no_error_in_the_terminal_nor_in_a_file(
    suffix, row_bundle, tmp_path, run
):
    table, output = tmp_path / f"none{suffix}", tmp_path / "out.csv"
    names = Predictor.load(row_bundle).manifest.columns
    table.write_text(("\t" if suffix == ".tsv" else ",").join(names) + "\n")
    if suffix == ".parquet":
        pq.write_table(pa.table({name: pa.array([], pa.float64()) for name in names}), table)
    assert run("predict", row_bundle, table, "--json") == (0, "", f"note: no rows in {table}\n")
    assert run("predict", row_bundle, table, "--output", output)[0] == 0
    assert len(output.read_text().splitlines()) == 1


def test_images_that_parquet_holds_are_predicted_like_files(bundle, images, tmp_path, run):
    names = write_images(tmp_path, images[:3], ["a.png", "b.png", "c.png"])
    contents = [(tmp_path / name).read_bytes() for name in names]
    path = tmp_path / "photos.parquet"
    expected = Predictor.load(bundle).predict(images[:3]).labels
    stored = [{"bytes": content, "path": "x.png"} for content in contents]
    for column in (contents, stored):
        write_table(path, {"id": ["x", "y", "z"], "image": column, "label": [0, 1, 2]})
        assert predict(bundle, path, tmp_path / "out", "id") == Summary(1, 3, 0)
        found = lines(tmp_path / "out")
        assert ids(found) == [(str(path), row) for row in range(3)]
        assert [one["label"] for one in found] == expected
        assert [one["key"] for one in found] == ["x", "y", "z"]
        shutil.rmtree(tmp_path / "out")
    status, output, _ = run("predict", bundle, path, "--json")
    assert status == 0
    assert [json.loads(line)["file"] for line in output.splitlines()] == [
        f"{path}:{row}" for row in range(3)
    ]
    write_table(path, {"image": [contents[0], b"no image", None]})
    assert predict(bundle, path, tmp_path / "out") == Summary(1, 1, 2)
    reasons = [one["reason"] for one in lines(tmp_path / "out", "errors")]
    assert "photos.parquet:1 cannot be read as an image" in reasons[0]
    assert "an empty 'image' in row 2 of" in reasons[1]
    named = [{"bytes": None, "path": names[1]}, {"bytes": contents[0], "path": "gone.png"}]
    write_table(path, {"image": named})
    assert read_files(str(path), Predictor.load(bundle).manifest).names == [
        str(tmp_path / names[1]),
        f"{path}:1",
    ]


def test_one_of_several_columns_of_images_is_chosen_by_its_name(bundle, images, tmp_path, run):
    names = write_images(tmp_path, images[:2], ["a.png", "b.png"])
    contents = [(tmp_path / name).read_bytes() for name in names]
    held, named = tmp_path / "photos.parquet", tmp_path / "photos.csv"
    write_table(held, {"left": contents, "right": contents[::-1], "label": [0, 1]})
    named.write_text("left,right\n" + "".join(f"{a},{b}\n" for a, b in (names, names[::-1])))
    for table in (held, named):
        status, _, error = run("predict", bundle, table)
        assert status == 2
        assert "Received: several, left, right. Choose one: --image-column left." in error
        status, _, error = run("predict", bundle, table, "--image-column", "top")
        assert status == 2
        assert "must have one column 'top'. Received: no such column." in error
        status, output, _ = run("predict", bundle, table, "--image-column", "right", "--json")
        labels = [json.loads(line)["label"] for line in output.splitlines()]
        expected = Predictor.load(bundle).predict(images[[1, 0]]).labels
        assert (status, labels) == (0, expected)
        _, output, _ = run("predict", bundle, table, "--image-column", "right")
        assert f"{table} --image-column right --json" in output
        out = tmp_path / f"{table.suffix[1:]}.jsonl"
        assert run("predict", bundle, table, "--image-column", "right", "-o", out)[0] == 0
        assert [json.loads(line)["label"] for line in out.read_text().splitlines()] == expected
        compared = ("compare", bundle, bundle, "--input", table, "--image-column")
        assert run(*compared, "right")[0] == 0
        assert "no such column" in run(*compared, "top")[2]


def test_a_column_of_images_is_refused_where_no_table_has_one(
    bundle, row_bundle, images, tmp_path, run
):
    (name,) = write_images(tmp_path, images[:1], ["a.png"])
    for options in ((), ("--output", tmp_path / "out")):
        image = ("--image-column", "image", *options)
        status, _, error = run("predict", bundle, tmp_path / name, *image)
        assert (status, "--image-column needs a table" in error) == (2, True)
        write_table(tmp_path / "a.parquet", flowers(row_bundle, 1))
        status, _, error = run("predict", row_bundle, tmp_path / "a.parquet", *image)
        assert (status, "--image-column needs a model of images" in error) == (2, True)


def test_a_table_in_a_folder_of_images_is_passed_over(bundle, images, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (first,) = write_images(folder, images, ["a.png"])
    (folder / "list.csv").write_text(f"image\n{first}\n")
    summary = predict(bundle, folder, tmp_path / "out")
    assert (summary.rows, summary.passed_over) == (1, (str(folder / "list.csv"),))
    (folder / first).unlink()
    assert predict(bundle, folder, tmp_path / "other") == Summary(1, 0, 1)


def test_archives_of_arrays_are_predicted_like_arrays(bundle, images, tmp_path):
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", image=images)
    np.savez(tmp_path / "c.npz", anything=images.astype(np.int64))  # whose numbers fit
    np.savez(tmp_path / "d.npz", image=images, other=images)
    np.savez(tmp_path / "e.npz", one=images, other=images)
    assert predict(bundle, tmp_path / "*.np?", tmp_path / "out") == Summary(5, 48, 1)
    rows = {}
    for line in lines(tmp_path / "out"):
        rows.setdefault(line["file"][-5:-4], []).append(line["probabilities"])
    assert rows["a"] == rows["b"] == rows["c"] == rows["d"]
    (error,) = lines(tmp_path / "out", "errors")
    assert "e.npz must hold an array for each input of digits" in error["reason"]


def test_parquet_columns_are_found_by_name_and_lines_contain_the_key(row_bundle, tmp_path):
    columns = flowers(row_bundle, 5)
    name = next(iter(columns))
    columns[name][2] = np.nan
    shuffled = dict(reversed(columns.items()))
    write_table(tmp_path / "a.parquet", shuffled, id=["a", "b", "c", "d", None], other=[0] * 5)
    summary = predict(row_bundle, tmp_path / "*.parquet", tmp_path / "out", "id")
    assert summary == Summary(parts=1, rows=3, failed=2)
    assert [(one["row"], one["key"]) for one in lines(tmp_path / "out")] == [
        (0, "a"), (1, "b"), (3, "d"),
    ]  # fmt: skip
    missing, keyless = lines(tmp_path / "out", "errors")
    assert (missing["row"], missing["key"]) == (2, "c")
    assert f"Received: {name}=nan in row 2 of {tmp_path / 'a.parquet'}. " in missing["reason"]
    assert missing["reason"].endswith("had no missing values in this column.")
    assert keyless["reason"] == "A key must not be missing. Received: null in column 'id'."


def test_missing_values_and_texts_are_read_from_parquet_as_from_csv(raw_bundle, tmp_path):
    bundle, _ = raw_bundle
    table = {"size": [0.5, None, 1], "color": ["red", None, "?"], "weight": [1.0, 2.0, None]}
    write_table(tmp_path / "a.parquet", table)
    summary = predict(bundle, tmp_path / "a.parquet", tmp_path / "out")
    assert summary.rows + summary.failed == 3
    expected = Predictor.load(bundle).predict(
        {
            "inputs": np.array([[0.5, 1], [np.nan, 2]], np.float32),
            "texts": np.array([["red"], [""]], object),
        }
    )
    assert [one["label"] for one in lines(tmp_path / "out")][:2] == expected.labels


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.npy", b"", "a.npy cannot be read as an .npy file: "),
        ("a.npy", b"\x93NUMPY\x01\x00", "a.npy cannot be read as an .npy file: "),
        ("a.npy", np.zeros((3, 9, 9), np.uint8), "image must have shape (batch, 28, 28)."),
        ("a.npy", np.zeros((3, 28, 28)), "image must be a numpy array of uint8. Received: float64"),
        ("a.npy", np.zeros((28, 28), np.uint8), "Add the batch axis with array[np.newaxis]."),
        ("a.npy", np.zeros((), np.uint8), "image must have shape (batch, 28, 28)."),
        ("a.npy", array_with_wrong_header(-1), "a.npy cannot be read as an .npy file: "),
        ("a.npy", b"PK\x05\x06" + bytes(18), "a.npy cannot be read as an .npy file: "),
        (
            "a.npy",
            np.array(["x", None], object),
            "a.npy cannot be read as an .npy file: ",
        ),
    ],
)
def test_an_unusable_file_is_reported_and_the_job_continues(
    name, content, reason, bundle, arrays, tmp_path
):
    if isinstance(content, bytes):
        (arrays / name).write_bytes(content)
    else:
        np.save(arrays / name, content)
    assert predict(bundle, arrays / "*.npy", tmp_path / "out") == Summary(4, 36, 1)
    (failed,) = lines(tmp_path / "out", "errors")
    assert failed["file"] == str(arrays / name)
    assert reason in failed["reason"]


def test_an_array_that_is_cut_off_fails_and_an_empty_one_has_no_rows(bundle, arrays, tmp_path):
    content = (arrays / "0.npy").read_bytes()
    (arrays / "0.npy").write_bytes(content[:-100])
    np.save(arrays / "1.npy", np.zeros((0, 28, 28), np.uint8))
    assert predict(bundle, arrays / "*.npy", tmp_path / "out") == Summary(3, 12, 1)


def test_one_row_group_of_parquet_at_a_time_is_in_memory(row_bundle, tmp_path):
    columns = {name: np.zeros(200_000) for name in flowers(row_bundle, 1)}
    path, plain = str(tmp_path / "a.parquet"), {"compression": "none", "use_dictionary": False}
    pq.write_table(pa.table(columns), path, row_group_size=10_000, **plain)
    manifest = Predictor.load(row_bundle).manifest
    before, most = pa.total_allocated_bytes(), 0
    for _ in read_rows([path], manifest, None, 1):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < Path(path).stat().st_size / 4


def test_unusable_tables_are_reported(row_bundle, tmp_path):
    columns = flowers(row_bundle, 4)
    name = next(iter(columns))
    write_table(tmp_path / "good.parquet", columns)
    write_table(tmp_path / "less.parquet", {k: columns[k] for k in list(columns)[1:3]})
    write_table(tmp_path / "list.parquet", {**columns, name: [[1.0]] * 4})
    write_table(tmp_path / "text.parquet", {**columns, name: ["1", "x", "1", "y"]})
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:-9])
    plain = {"write_page_checksum": True, "compression": "none", "use_dictionary": False}
    plain["write_statistics"] = False  # else they hold the same bytes
    pq.write_table(pa.table(columns), tmp_path / "rot.parquet", **plain)
    content = bytearray((tmp_path / "rot.parquet").read_bytes())
    content[content.index(struct.pack("<d", columns[name][0]))] ^= 1  # still a number
    (tmp_path / "rot.parquet").write_bytes(content)
    assert predict(row_bundle, tmp_path / "*.parquet", tmp_path / "out") == Summary(6, 6, 6)
    reasons = {Path(one["file"]).name: one["reason"] for one in lines(tmp_path / "out", "errors")}
    less = f"petal width (cm). Received: no {name!r}, 'petal width (cm)'."
    assert less in reasons["less.parquet"]
    assert "must contain cells. Received: list<" in reasons["list.parquet"]
    assert f"Received: {name}='y' in row 3 of" in reasons["text.parquet"]
    assert "cut.parquet cannot be read as parquet from row " in reasons["cut.parquet"]
    assert "from row 0 on" in reasons["cut.parquet"]
    assert "CRC checksum verification failed" in reasons["rot.parquet"]


def test_texts_that_are_not_utf8_fail(raw_bundle, tmp_path):
    bundle, _ = raw_bundle
    letters = pa.array([b"\xff"] * 2, pa.binary())
    columns = {"size": [1.0, 2.0], "weight": [1.0, 2.0], "color": letters.view(pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert predict(bundle, tmp_path / "*.parquet", tmp_path / "out") == Summary(1, 0, 1)
    (error,) = lines(tmp_path / "out", "errors")
    assert "cannot be read as parquet" in error["reason"]


def test_dates_beyond_those_of_python_fail(raw_bundle, tmp_path):
    bundle, _ = raw_bundle
    late = pa.array([253402300799999999], pa.timestamp("us", "Asia/Tokyo"))
    write_table(tmp_path / "a.parquet", {"size": [1.0], "weight": [1.0], "color": late})
    assert predict(bundle, tmp_path / "*.parquet", tmp_path / "out") == Summary(1, 0, 1)
    (error,) = lines(tmp_path / "out", "errors")
    assert "date value out of range" in error["reason"]


@given(st.lists(st.lists(st.floats(width=32), min_size=4, max_size=4), min_size=1, max_size=20))
def test_any_row_of_numbers_is_either_predicted_or_reported(row_bundle, tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("wild")
    array = np.array(rows, np.float32)
    np.save(folder / "a.npy", array)
    predict(row_bundle, folder / "a.npy", folder / "out")
    predicted, failed = lines(folder / "out"), lines(folder / "out", "errors")
    assert sorted(one["row"] for one in [*predicted, *failed]) == list(range(len(rows)))
    assert {one["row"] for one in predicted} <= set(np.flatnonzero(np.isfinite(array).all(axis=1)))


@given(st.lists(st.sampled_from(["a.npy", "b.PNG", "c.jpg", "d.parquet"]), max_size=9))
def test_every_file_is_in_one_part_and_in_the_order_of_the_files(names):
    files = [f"{number}-{name}" for number, name in enumerate(names)]
    parts = plan_parts(files)
    assert [name for part in parts for name in part.files] == files
    assert len({part.name for part in parts}) == len(parts)


def test_a_job_resumes_with_unfinished_and_new_files(bundle, arrays, tmp_path):
    output, seen = tmp_path / "out", []

    def breaks(work, parts):
        yield from list(predict_here(work, parts[:1]))
        raise KeyboardInterrupt

    def watched(work, parts):
        seen.extend(part.files for part in parts)
        yield from predict_here(work, parts)

    with pytest.raises(KeyboardInterrupt):
        predict(bundle, arrays / "*.npy", output, pool=breaks)
    assert len(lines(output)) == 12
    shutil.copy(arrays / "0.npy", arrays / "3.npy")
    assert predict(bundle, arrays / "*.npy", output, pool=watched) == Summary(4, 48, 0)
    assert len(seen) == 3
    assert len(set(ids(lines(output)))) == 48
    assert not (output / "_unfinished").exists()


def test_leftovers_of_a_killed_job_are_removed(bundle, arrays, tmp_path):
    output = tmp_path / "out"
    predict(bundle, arrays / "*.npy", output)
    whole = sorted(ids(lines(output)))
    recorded = (output / "_done.jsonl").read_bytes()
    (output / "_done.jsonl").write_bytes(recorded[:-20])  # killed while recording
    (output / "_unfinished" / "x").mkdir(parents=True)
    (output / "errors-0123456789abcdef.jsonl").write_text("{}\n")  # moved but not recorded
    assert predict(bundle, arrays / "*.npy", output) == Summary(3, 36, 0)
    assert sorted(ids(lines(output))) == whole
    assert not lines(output, "errors")
    next(output.glob("part-*")).unlink()  # so that it is predicted again
    assert predict(bundle, arrays / "*.npy", output) == Summary(3, 36, 0)
    assert sorted(ids(lines(output))) == whole


def write_arrays(folder, images, files, copies):
    folder.mkdir()
    for number in range(files):
        np.save(folder / f"{number:03}.npy", np.tile(images, (copies, 1, 1)))


def signal_midway(process, output, ending):
    """Send a signal once three parts are published, and return how the process finished."""
    until = time.monotonic() + 60
    while len(list(output.glob("part-*"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(ending)
    return finish(process)


def test_the_same_command_finishes_a_killed_job(bundle, images, tmp_path):
    folder, output = tmp_path / "many", tmp_path / "out"
    write_arrays(folder, images, files=60, copies=60)
    arguments = ["predict", bundle, "--input", folder / "*.npy", "-o", output, "--json"]
    signal_midway(start(*arguments), output, signal.SIGKILL)
    assert 3 <= len(list(output.glob("part-*"))) < 60
    status, printed, error = finish(start(*arguments))
    assert (status, error) == (0, "")
    summary = {"parts": 60, "rows": 43200, "failed": 0, "passed_over": []}
    assert json.loads(printed) == {"output": str(output), **summary}
    found = ids(lines(output))
    assert len(set(found)) == len(found) == 43200


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("blocked", "size"),
    [
        (("ray", "pyarrow", "tensorflow", "keras"), {"files": 60, "copies": 60}),
        pytest.param((), {"files": 300, "copies": 200}, marks=pytest.mark.slow, id="ray"),
    ],
)
def test_an_interrupted_job_prints_only_how_to_resume(
    ending, blocked, size, bundle, images, tmp_path
):
    folder, output = tmp_path / "many", tmp_path / "out"
    write_arrays(folder, images, **size)
    arguments = ["predict", bundle, "--input", folder / "*.npy", "-o", output, "--json"]
    assert signal_midway(start(*arguments, blocked=blocked), output, ending) == (
        130,
        "",
        "hornbill: Interrupted. Finished parts are kept; run the same command to resume.\n",
    )
    assert 3 <= len(list(output.glob("part-*"))) < size["files"]


@pytest.mark.slow
def test_ray_and_a_single_process_write_the_same_predictions(bundle, arrays, tmp_path):
    (arrays / "broken.npy").write_bytes(b"")
    both = {}
    for name, blocked in {"ray": (), "alone": ("ray", "pyarrow")}.items():
        output = tmp_path / name
        process = start("predict", bundle, "--input", arrays / "*.npy", "-o", output, "--json",
                        blocked=blocked)  # fmt: skip
        status, printed, error = finish(process)
        assert (status, error) == (1, "")
        summary = {"parts": 4, "rows": 36, "failed": 1, "passed_over": []}
        assert json.loads(printed) == {"output": str(output), **summary}
        both[name] = {path.name for path in output.glob("*-*.jsonl")}
    assert both["ray"] == both["alone"]
    predictions = [sorted(lines(tmp_path / n), key=lambda o: (o["file"], o["row"])) for n in both]
    for ray, alone in zip(*predictions, strict=True):
        assert ray.pop("probabilities") == pytest.approx(alone.pop("probabilities"), abs=1e-6)
        assert ray == alone


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The address of a Ray cluster that was started in another folder."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    options = ["--head", "--block", "--num-cpus=1", f"--port={free_port()}",
               "--include-dashboard=false", "--object-store-memory=100000000"]  # fmt: skip
    code = "from ray.scripts.scripts import main; main()"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "start", *options], cwd=folder, stdout=log, stderr=log
        )
    while not (found := re.search(r"--address='(.+)'", (folder / "log").read_text())):
        assert process.poll() is None
        time.sleep(0.1)
    yield found[1]
    process.terminate()
    process.wait()


@pytest.mark.slow
def test_a_cluster_reads_relative_files_in_the_folder_of_the_command(
    bundle, arrays, tmp_path, cluster
):
    np.save(tmp_path / "elsewhere" / "0.npy", np.zeros((1, 28, 28), np.uint8))
    process = start("predict", bundle.absolute(), "--input", "*.npy", "-o", tmp_path / "out",
                    "--ray-address", cluster, "--json", blocked=(), cwd=arrays)  # fmt: skip
    status, _, error = finish(process)
    assert (status, error) == (0, "")
    found = ids(lines(tmp_path / "out"))
    assert sorted(found) == [(f"{n}.npy", row) for n in range(3) for row in range(12)]


def test_a_missing_package_is_named_for_parquet_and_for_a_cluster(row_bundle, tmp_path):
    write_table(tmp_path / "a.parquet", flowers(row_bundle, 1))
    arguments = ["predict", row_bundle, "--input", tmp_path / "*.parquet", "-o", tmp_path / "out"]
    for more, package in ((["--ray-address", "127.0.0.1:1"], "ray"), ([], "pyarrow")):
        status, _, error = finish(start(*arguments, "--quiet", *more))
        assert status == 2
        assert error == (
            f"hornbill: This command needs the package {package}. "
            "Install it in the clone of Hornbill with: pip install '.[ray]'.\n"
        )


def test_an_address_without_a_cluster_is_refused_at_once():
    with pytest.raises(
        BatchError, match="No Ray cluster responds at --ray-address. Received: 127.0.0.1:1: Connec"
    ):
        check_address("127.0.0.1:1")


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:10001", "host:", "host:99999"])
def test_an_address_must_be_a_host_and_a_port(address):
    with pytest.raises(BatchError, match="must be HOST:PORT of a cluster that this machine is"):
        check_address(address)


def test_an_address_of_another_server_is_refused(monkeypatch):
    import socket

    monkeypatch.setattr("app.batch.ray_address._JOIN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            BatchError, match=f"Received: {address}: no response from Ray within 0.3 s"
        ):
            check_address(address)


def test_the_same_relative_pattern_in_another_folder_is_another_job(
    bundle, arrays, tmp_path, monkeypatch
):
    other = tmp_path / "tuesday"
    shutil.copytree(arrays, other)
    monkeypatch.chdir(arrays)
    job = Job(bundle, "*.npy", tmp_path / "out")
    run_job(job, predict_here, lambda *_: None)
    assert run_job(job, predict_here, lambda *_: None).rows > 0
    monkeypatch.chdir(other)
    with pytest.raises(
        BatchError, match="of the same job. Received: .*, a job with folder='.*arrays' instead"
    ):
        run_job(job, predict_here, lambda *_: None)


def test_the_command_counts_and_names_the_file_of_failures(run, bundle, arrays, tmp_path):
    (arrays / "broken.npy").write_bytes(b"")
    status, output, error = finish(
        start("predict", bundle, "--input", arrays / "*.npy", "-o", tmp_path / "out")
    )
    assert status == 1
    assert f"predicted: 36 rows, in 4 files in {tmp_path / 'out'}" in output
    assert f"failed:    1 row or file: {tmp_path / 'out'}/errors-*.jsonl" in output
    assert error == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "none/*.npy", "-o", "out"], "must match at least one file. Received: 'none/*"),
        (["--input", "*.txt", "-o", "out"], "Files for digits must end in .png, .jpg, .jpeg, .bmp"),
        (["--input", "*.npy", "-o", "out", "--key", "id"], "--key needs files with columns"),
        (
            ["--input", "*.npy", "-o", "a.txt"],
            "must be a file that ends in .csv, .tsv, .parquet or .jsonl, or a folder. Received: a",
        ),
        (["--input", "*.npy", "-o", "new.xlsx"], "or .jsonl, or a folder. Received: new.xlsx."),
        (["--input", "*.npy", "-o", "file"], "--output must be a folder. Received: file, a file."),
        (
            ["--input", "*.npy", "-o", "a.csv"],
            "--output must be a new file. Received: a.csv, which exists. Remove it, or choose",
        ),
        (["--input", "*.npy", "-o", "strange"], "--output must be an empty folder, or one of the"),
        (
            ["--input", "*.npy", "-o", "other"],
            "a job with model='other' instead of 'digits'. Choose another",
        ),
        (["--input", "*.npy", "-o", "torn"], "_job.json cannot be read as JSON: "),
        (["--input", "*.npy", "-o", "none/a.csv"], "must be in a folder that exists. Received: no"),
        (["--input", "*.npy"], "Missing option '--output', the file for the predictions: --input"),
        (["a.npy", "--key", "id"], "Missing option '--output', the file for the predictions: --ke"),
        (
            ["a.png", "--input", "*.npy", "-o", "out"],
            "either FILE… or --input GLOB. Received: both",
        ),
        (["-o", "out"], "either FILE… or --input GLOB. Received: neither."),
        (["a.csv", "b.npy", "-o", "out"], "Each FILE must be a file that exists. Received: b.npy."),
    ],
)
def test_a_job_that_cannot_start_prints_one_line_and_changes_nothing(
    arguments, message, run, bundle, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    for name in ("a.csv", "a.txt", "file"):
        (tmp_path / name).write_text("a\n1\n")
    np.save(tmp_path / "a.npy", np.zeros((1, 28, 28), np.uint8))
    for name, content in (("other", '{"model": "other"}'), ("torn", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_job.json").write_text(content)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "report.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    status, output, error = run("predict", bundle, "--quiet", *arguments)
    assert (status, output) == (2, "")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before


def test_one_job_at_a_time_writes_into_a_folder(tmp_path):
    with (
        open_ledger(tmp_path / "out", {"model": "a"}),
        pytest.raises(BatchError, match="Another job is writing into this folder."),
        open_ledger(tmp_path / "out", {"model": "a"}),
    ):
        pass


def test_an_output_folder_of_another_version_is_refused_and_unchanged(bundle, arrays, tmp_path):
    output = tmp_path / "out"
    predict(bundle, arrays / "*.npy", output)
    done = output / "_done.jsonl"
    done.write_text(done.read_text().replace('"failed"', '"bad"'))
    before = {path: path.read_bytes() for path in output.rglob("*")}
    message = "was changed, or written by another version of Hornbill. .* Choose another --output"
    with pytest.raises(BatchError, match=message) as caught:
        predict(bundle, arrays / "*.npy", output)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in output.rglob("*")} == before


def test_a_changed_list_of_finished_parts_is_refused(bundle, arrays, tmp_path):
    predict(bundle, arrays / "*.npy", tmp_path / "out")
    (tmp_path / "out" / "_done.jsonl").write_text('{"part": "x"}\n')
    with pytest.raises(
        BatchError, match="_done.jsonl was changed, or written by another version of Hornbill."
    ):
        predict(bundle, arrays / "*.npy", tmp_path / "out")


def test_a_part_has_a_name_even_if_its_file_names_are_not_utf8():
    assert Part(("a\udcff.png",)).name != Part(("a.png",)).name


def test_a_folder_may_have_a_dot_in_its_name(bundle, arrays, tmp_path):
    (tmp_path / "out.v1").mkdir()
    for name in ("2026.01", "out.v1"):
        assert predict(bundle, arrays / "*.npy", tmp_path / name).rows > 0
        assert (tmp_path / name).is_dir()


def test_progress_counts_files_and_rows_as_they_are_read(raw_bundle, tmp_path):
    bundle, table = raw_bundle
    head, *rows = table.read_text().splitlines()
    (tmp_path / "long.csv").write_text("\n".join([head, *(rows * 30)]))
    (tmp_path / "short.csv").write_text("\n".join([head, *rows[:5]]))
    told = []
    job = Job(bundle, str(tmp_path / "*.csv"), tmp_path / "out")
    summary = run_job(job, predict_here, lambda *counts: told.append(counts))
    assert told[0] == (0, 2, 0)
    assert told[-1] == (2, 2, summary.rows)
    assert any(done == 0 and 0 < count < summary.rows for done, _, count in told)
    assert told == sorted(told)
