"""HORNBILL_DATA: where data with short names is looked for."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from app.batch.files import find_files
from app.config.reading_config import ReadingConfig
from app.data.sources import absolute_source, load_dataset
from app.errors import BatchError, DataError
from app.system.data_folders import find_data, require_data

TABLE = "x,kind\n" + "".join(f"{number},{'ab'[number % 2]}\n" for number in range(40))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty working folder, and two folders that HORNBILL_DATA names: `first`, `second`."""
    for name in ("work", "first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    names = map(str, (tmp_path / "first", tmp_path / "second"))
    monkeypatch.setenv("HORNBILL_DATA", os.pathsep.join(names))
    return tmp_path


def write_table(path, text=TABLE):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def write_digits(path):
    arrays = {"x_train": 40, "x_test": 20}
    images = {name: np.zeros((count, 28, 28), np.uint8) for name, count in arrays.items()}
    images["x_train"][0] = 9
    labels = {f"y_{name[2:]}": np.arange(count) % 2 for name, count in arrays.items()}
    np.savez(path, **images, **labels)


def test_data_is_found_in_the_working_folder_and_then_in_each_data_folder(folders):
    write_table(folders / "second" / "tables" / "x.csv")
    assert find_data("tables/x.csv") == str(folders / "second" / "tables" / "x.csv")
    write_table(folders / "first" / "tables" / "x.csv")
    assert find_data("tables/x.csv") == str(folders / "first" / "tables" / "x.csv")
    write_table(folders / "work" / "tables" / "x.csv")
    assert find_data("tables/x.csv") == "tables/x.csv"
    assert find_data("tables") == "tables"


def test_a_data_folder_may_begin_with_a_tilde(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(folders))
    monkeypatch.setenv("HORNBILL_DATA", "~/first")
    write_table(folders / "first" / "x.csv")
    assert find_data("x.csv") == str(folders / "first" / "x.csv")


def test_a_source_may_be_a_file_a_folder_or_several_in_data_folders(folders):
    write_table(folders / "second" / "x.csv")
    for kind in ("a", "b"):
        (folders / "first" / "shapes" / kind).mkdir(parents=True)
        Image.new("L", (20, 20), ord(kind)).save(folders / "first" / "shapes" / kind / "1.png")
    for number in (1, 2):
        write_digits(folders / "second" / f"d{number}.npz")
    reading = ReadingConfig(target=("kind",))
    assert load_dataset("x.csv", reading).source == str(folders / "second" / "x.csv")
    assert load_dataset("shapes", has_digits=False).kind == "images"
    joined = load_dataset("d1.npz+digits8x8+d2.npz")
    assert len(joined.targets) == 2 * 60 + 1797
    # A run keeps absolute paths, so that it can be resumed without the variable.
    second = folders / "second"
    assert absolute_source("d1.npz+digits8x8") == f"{second / 'd1.npz'}+digits8x8"


def test_mnist_by_name_is_taken_from_a_data_folder(folders):
    write_digits(folders / "first" / "mnist.npz")
    dataset = load_dataset("mnist")
    assert (dataset.source, len(dataset.targets)) == ("mnist", 60)


def test_a_name_of_a_data_set_is_not_looked_for(folders, run):
    (folders / "first" / "iris").mkdir()
    assert load_dataset("iris").kind == "rows"
    settings = ("--set", "epochs=0")  # so that only the checks before it are made
    status, _, error = run("train", "softmax", "--data", "iris", *settings, "-o", folders / "runs")
    assert status == 2
    assert "epochs" in error


def test_an_error_says_where_it_was_looked_for(folders, monkeypatch):
    work, first, second = (folders / name for name in ("work", "first", "second"))
    places = f"Looked in {work} and, by HORNBILL_DATA, in {first}; {second}."
    for name, reason in (("no.csv", "Received: no.csv."), ("photos", "Received: 'photos'.")):
        with pytest.raises(DataError, match=f"{reason}.* {places}$"):
            load_dataset(name, ReadingConfig(target=("y",)) if "csv" in name else None)
    with pytest.raises(DataError, match=f"^no.npz does not exist. {places}$"):
        require_data("no.npz")
    with pytest.raises(BatchError, match=f"'a/\\*.npy', which matches none. {places}$"):
        find_files("a/*.npy")
    with pytest.raises(BatchError, match=f"Received: a.npy. {places}$"):
        find_files(["a.npy"])
    with pytest.raises(DataError, match="^/no/no.npz does not exist.$"):  # an absolute path
        require_data("/no/no.npz")
    shutil.rmtree(second)
    with pytest.raises(DataError, match=f"in {first}; {second}, which does not exist.$"):
        require_data("no.npz")
    monkeypatch.delenv("HORNBILL_DATA")
    with pytest.raises(DataError, match=f"Looked in {work}; HORNBILL_DATA names no other folder."):
        require_data("no.npz")


def test_files_of_a_batch_job_are_found_in_data_folders(folders):
    table = write_table(folders / "second" / "[rows]" / "x.csv")
    assert find_files("[[]rows]/*.csv") == [str(table)]
    assert find_files(["[rows]/x.csv"]) == [str(table)]
    other = write_table(folders / "work" / "[rows]" / "y.csv")
    assert find_files("[[]rows]/*.csv") == [str(other.relative_to(folders / "work"))]


def test_files_to_predict_are_found_in_data_folders(folders, run, raw_bundle):
    bundle, table = raw_bundle
    shutil.copy(table, folders / "first" / "rows.csv")
    status, output, _ = run("predict", bundle, "rows.csv")
    assert status == 0
    assert f"{folders / 'first' / 'rows.csv'}:2 " in output
    status, _, error = run("predict", bundle, "no.csv")
    assert status == 2
    assert error.startswith("hornbill: no.csv does not exist. Looked in ")
