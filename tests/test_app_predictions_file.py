"""Predictions of a job in one file: a table or lines of JSON, in the order of the input."""

import csv
import dataclasses
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.batch import Job, Summary, predict_here, run_job
from app.batch.parts import Part
from app.batch.predictions_file import table_columns
from app.errors import BatchError
from serving import Predictor

KINDS = ("csv", "tsv", "parquet", "jsonl")


def write_predictions(bundle, files, output, key=None, pool=predict_here):
    return run_job(Job(bundle, files, output, key), pool, lambda *_: None)


def read_table(path):
    """Return the columns of a table by name, all as they are written."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pydict()
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="," if path.suffix == ".csv" else "\t"))
    return {name: [row[name] for row in rows] for name in rows[0]}


def write_rows(path, names, rows, **more):
    """Write a CSV file with the columns `names`, and those of `more`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*more, *names])
        extra = zip(*more.values(), strict=True) if more else [()] * len(rows)
        table.writerows([*first, *row] for first, row in zip(extra, rows, strict=True))


@pytest.fixture
def flowers(row_bundle, tmp_path):
    """A CSV file of five flowers with an id each, and the predictions for them."""
    predictor = Predictor.load(row_bundle)
    rows = np.random.default_rng(0).uniform(1, 5, (5, 4)).astype("float32")
    path = tmp_path / "flowers.csv"
    ids = ["007", "b,c", 'd"', "é", "x\ny"]
    write_rows(path, predictor.manifest.columns, rows.tolist(), id=ids)
    return path, ids, predictor.predict(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_csv_becomes_a_table_with_key_label_and_every_probability(
    kind, row_bundle, flowers, tmp_path
):
    path, ids, expected = flowers
    output = tmp_path / f"predictions.{kind}"
    assert write_predictions(row_bundle, (str(path),), output, "id") == Summary(1, 5, 0)
    assert sorted(tmp_path.iterdir()) == [path, output]
    labels = expected.manifest.labels
    if kind == "jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert [line["key"] for line in lines] == ids
        probabilities = [list(line["probabilities"].values()) for line in lines]
    else:
        table = read_table(output)
        assert list(table) == ["file", "row", "id", "label", *labels]
        assert table["file"] == [str(path)] * 5
        assert list(map(int, table["row"])) == list(range(5))
        assert (table["id"], table["label"]) == (ids, expected.labels)
        probabilities = np.array([table[label] for label in labels], float).T
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-6)


def test_images_among_arrays_keep_their_place_also_after_an_earlier_version(
    bundle, images, tmp_path
):
    files = tuple(str(tmp_path / name) for name in ("a.png", "b.npy", "c.png"))
    for name in files:
        np.save(name, images[:2]) if name.endswith(".npy") else Image.fromarray(images[0]).save(
            name
        )

    def all_images_together(work, _):
        yield from list(predict_here(work, [Part(files[::2])]))
        raise KeyboardInterrupt

    output = tmp_path / "predictions.csv"
    with pytest.raises(KeyboardInterrupt):
        write_predictions(bundle, files, output, pool=all_images_together)
    assert write_predictions(bundle, files, output) == Summary(1, 4, 0)
    assert read_table(output)["file"] == [files[0], files[1], files[1], files[2]]


def test_a_parquet_table_has_types(row_bundle, flowers, tmp_path):
    path, _, expected = flowers
    write_predictions(row_bundle, (str(path),), tmp_path / "predictions.parquet")
    schema = pq.read_schema(tmp_path / "predictions.parquet")
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "file": pa.string(), "row": pa.int64(), "label": pa.string(),
        **dict.fromkeys(expected.manifest.labels, pa.float32()),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "key", "names"),
    [
        (
            {"labels": ("label", "row", "c")},
            "file",
            ["file", "row", "key.file", "label", "probabilities.label", "probabilities.row", "c"],
        ),
        ({"task": "multilabel"}, None, ["file", "row", "labels", "a", "b", "c"]),
        (
            {"task": "regression", "prediction_output": "values"},
            "id",
            ["file", "row", "id", "a", "b", "c"],
        ),
    ],
)
def test_columns_are_named_by_key_class_label_and_value(changes, key, names, row_bundle):
    manifest = Predictor.load(row_bundle).manifest
    manifest = dataclasses.replace(manifest, **{"labels": ("a", "b", "c"), **changes})
    assert [column.name for column in table_columns(manifest, key)] == names


def test_missing_values_and_texts_of_a_csv_are_read_as_without_a_job(raw_bundle, run, tmp_path):
    bundle, table = raw_bundle
    output = tmp_path / "predictions.csv"
    status, printed, error = run("predict", bundle, table, "-o", output)
    assert (status, error) == (0, "")
    found = read_table(output)
    assert printed == f"predicted: {len(found['row']):,} rows in {output}\n"
    status, printed, _ = run("predict", bundle, table, "--json")
    lines = [json.loads(line) for line in printed.splitlines()]
    assert found["label"] == [line["label"] for line in lines]


def test_a_row_that_cannot_be_read_is_listed_with_its_line(row_bundle, flowers, run, tmp_path):
    path, *_ = flowers
    path.write_text(path.read_text() + "z,1,2,x,4\n,1,2,3,4\nq,1,2,3,4\n")
    output, errors = tmp_path / "p.csv", tmp_path / "p.errors.jsonl"
    status, printed, _ = run("predict", row_bundle, path, "-o", output, "--key", "id")
    assert status == 1
    assert printed.splitlines() == [
        f"predicted: 6 rows in {output}",
        f"failed:    2 rows or files: {errors}",
    ]
    assert read_table(output)["row"] == ["0", "1", "2", "3", "4", "7"]
    wrong, keyless = map(json.loads, errors.read_text().splitlines())
    assert (wrong["row"], wrong["key"], keyless["row"]) == (5, "z", 6)
    assert f"petal length (cm)='x' in line 8 of {path}" in wrong["reason"]
    assert keyless["reason"] == (
        "A key must not be missing. Received: an empty cell in column 'id'."
    )


def test_the_rows_before_a_damaged_line_are_predicted(row_bundle, flowers, tmp_path):
    path, *_ = flowers
    path.write_text(path.read_text() + "z,1,2\nq,1,2,3,4\n")
    assert write_predictions(row_bundle, str(path), tmp_path / "out") == Summary(1, 5, 1)
    (errors,) = (tmp_path / "out").glob("errors-*")
    assert json.loads(errors.read_text())["reason"] == (
        f"Each line of {path} must have 5 cells like its header. Received: 3 in line 8. "
        f"The rows of {path} from row 5 on were not predicted."
    )


def test_lines_are_read_a_few_at_a_time(row_bundle, flowers, tmp_path, monkeypatch):
    monkeypatch.setattr("app.batch.csv_tables.rows_of", lambda _: 2)
    path, ids, expected = flowers
    output = tmp_path / "p.csv"
    assert write_predictions(row_bundle, str(path), output, "id") == Summary(1, 5, 0)
    assert read_table(output)["id"] == ids
    assert read_table(output)["label"] == expected.labels


def test_files_of_tabs_and_of_semicolons_are_read_as_in_training(raw_bundle, tmp_path):
    bundle, table = raw_bundle
    with table.open(newline="") as file:
        header, *rows = csv.reader(file)
    for path, separator in ((tmp_path / "a.tsv", "\t"), (tmp_path / "b.CSV", ";")):
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=separator).writerows([header, *rows])
    output = tmp_path / "p.csv"
    files = tuple(map(str, (table, tmp_path / "a.tsv", tmp_path / "b.CSV")))
    assert write_predictions(bundle, files, output) == Summary(1, 3 * len(rows), 0)
    labels = read_table(output)["label"]
    assert labels == labels[: len(rows)] * 3


def test_a_table_without_rows_becomes_one_without_rows(row_bundle, tmp_path):
    write_rows(tmp_path / "none.csv", Predictor.load(row_bundle).manifest.columns, [])
    for kind in KINDS:
        output = tmp_path / f"p.{kind}"
        assert write_predictions(row_bundle, str(tmp_path / "none.csv"), output) == Summary(1, 0, 0)
        assert output.exists()
    assert (tmp_path / "p.csv").read_text().startswith("file,row,label,setosa")


@pytest.mark.parametrize("extra", [(), ("other.csv",)])
def test_where_no_row_can_be_predicted_the_reason_is_printed_and_nothing_written(
    extra, row_bundle, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", *extra):
        (tmp_path / name).write_text("sepal length (cm),petal length (cm)\n1,2\n")
    before = sorted(tmp_path.iterdir())
    status, output, error = run("predict", row_bundle, "a.csv", *extra, "-o", "predictions.csv")
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert "Received: no 'sepal width (cm)', 'petal width (cm)'." in error
    assert ("Received: 2 failures, the first: a.csv must have" in error) == bool(extra)
    assert sorted(tmp_path.iterdir()) == before


def test_files_keep_their_order_and_a_repeated_one_is_predicted_once(bundle, images, tmp_path):
    for name in ("b", "a"):
        np.save(tmp_path / f"{name}.npy", images[:2])
    files = tuple(str(tmp_path / f"{name}.npy") for name in "bab")
    assert write_predictions(bundle, files, tmp_path / "p.csv") == Summary(1, 4, 0)
    assert read_table(tmp_path / "p.csv")["file"] == [files[0]] * 2 + [files[1]] * 2


def test_an_interrupted_job_resumes_and_the_file_appears_whole(bundle, images, tmp_path):
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", images)
    output, seen = tmp_path / "p.parquet", []

    def breaks(work, parts):
        yield from list(predict_here(work, [parts[1]]))
        raise KeyboardInterrupt

    def watched(work, parts):
        seen.extend(name for part in parts for name in part.files)
        yield from predict_here(work, parts)

    with pytest.raises(KeyboardInterrupt):
        write_predictions(bundle, str(tmp_path / "*.npy"), output, pool=breaks)
    assert not output.exists()
    summary = write_predictions(bundle, str(tmp_path / "*.npy"), output, pool=watched)
    assert summary == Summary(1, 36, 0)
    assert [name[-5:] for name in seen] == ["0.npy", "2.npy"]
    assert read_table(output)["row"] == [*range(12)] * 3
    assert not list(tmp_path.glob("*.parts"))


def test_neither_an_input_nor_another_file_is_overwritten(row_bundle, flowers, tmp_path):
    path, *_ = flowers
    before = path.read_bytes()
    with pytest.raises(BatchError, match="must be a new file. Received: .*flowers.csv, which exis"):
        write_predictions(row_bundle, (str(path),), path)
    (tmp_path / "p.errors.jsonl").touch()
    with pytest.raises(BatchError, match="Received: .*p.errors.jsonl, which exists"):
        write_predictions(row_bundle, (str(path),), tmp_path / "p.csv")
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "p.errors.jsonl"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_file_names_may_be_any_bytes(kind, bundle, images, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9, 1.png")
    Image.fromarray(images[0]).save(odd)
    write_predictions(bundle, (str(odd),), tmp_path / f"p.{kind}")
    (name,) = read_table(tmp_path / f"p.{kind}")["file"]
    assert name == (str(odd) if kind == "csv" else f"{tmp_path}/caf\\udce9, 1.png")


@settings(max_examples=10)  # each runs two jobs
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=9), max_size=9))
def test_any_keys_come_back_from_a_csv(row_bundle, tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("keys")
    names = Predictor.load(row_bundle).manifest.columns
    write_rows(folder / "a.csv", names, [[1, 2, 3, 4]] * len(keys), id=keys)
    summary = write_predictions(row_bundle, str(folder / "a.csv"), folder / "out", "id")
    kept = [key.strip() for key in keys if key.strip()]
    assert (summary.rows, summary.failed) == (len(kept), len(keys) - len(kept))
    if kept:
        write_predictions(row_bundle, str(folder / "a.csv"), folder / "p.csv", "id")
        assert read_table(folder / "p.csv")["id"] == kept


def test_the_missing_key_column_is_named(row_bundle, flowers, tmp_path):
    path, *_ = flowers
    with pytest.raises(BatchError, match="must have one column 'nr'. Received: no such column."):
        write_predictions(row_bundle, (str(path),), tmp_path / "p.csv", "nr")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_and_a_single_process_write_the_same_table(row_bundle, flowers, tmp_path):
    from app.batch.ray_pool import RayPool

    path, *_ = flowers
    (tmp_path / "more.csv").write_bytes(path.read_bytes())
    pools = {"here": predict_here, "ray": RayPool(actors=2)}
    for name, pool in pools.items():
        output = tmp_path / f"{name}.parquet"
        write_predictions(row_bundle, str(tmp_path / "*.csv"), output, "id", pool)
    here, ray = (read_table(tmp_path / f"{name}.parquet") for name in pools)
    assert (here["file"], here["id"], here["label"]) == (ray["file"], ray["id"], ray["label"])


def test_a_file_that_is_given_twice_is_predicted_once_and_noted(row_bundle, flowers, run, tmp_path):
    path, output = flowers[0], tmp_path / "predictions.jsonl"
    status, _, error = run("predict", row_bundle, path, path, "-o", output)
    assert (status, len(output.read_text().splitlines())) == (0, 5)
    assert error == f"note: Given more than once, and predicted once: {path}.\n"
