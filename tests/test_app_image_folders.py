"""Folders of images, and data sources that are joined."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_app_resume import Notes

from app.config import make_config
from app.config.reading_config import ReadingConfig
from app.data.image_lists import list_image_folder
from app.data.reading_progress import observed_reading
from app.data.sources import absolute_source, bare_source, load_dataset
from app.data.splits import Splits, split_dataset
from app.data.summary import report_data
from app.errors import DataError
from app.runs.run_folder import report_run
from app.runs.train import load_run_data
from serving.photographs import find_digit


@pytest.fixture
def folder(images, tmp_path):
    """Twelve digits, those below six in `few`, the others in `many`."""
    place = tmp_path / "digits"
    for number, image in enumerate(images):
        label = place / ("few" if number < 6 else "many")
        label.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(label / f"{number:02}.png")
    return place


def test_a_subfolder_is_a_class(folder, images):
    dataset = load_dataset(str(folder))
    assert dataset.labels == ("few", "many")
    assert dataset.targets.tolist() == [0] * 6 + [1] * 6
    np.testing.assert_array_equal(dataset.inputs[:], images)


def test_a_digit_in_a_large_image_is_read_as_the_server_reads_it(folder, images):
    paper = np.full((300, 200), 230, np.uint8)
    paper[150:178, 40:68] = 255 - images[0]
    path = folder / "few" / "00.png"
    Image.fromarray(paper).save(path)
    served = find_digit(paper, (28, 28))
    assert (served == load_dataset(str(folder)).inputs[:][0]).all()
    whole = load_dataset(str(folder), has_digits=False).inputs[:][0]
    assert (served != whole[..., 0]).any()
    config = make_config("digits", data=str(folder))
    assert (served == load_run_data(config).inputs[:][0]).all()


def test_a_symbolic_link_keeps_its_name(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "9f8a12").write_text("x,kind\n1,a\n2,b\n")
    (tmp_path / "flowers.csv").symlink_to(tmp_path / "cache" / "9f8a12")
    monkeypatch.chdir(tmp_path)
    assert absolute_source("flowers.csv") == str(tmp_path / "flowers.csv")


def test_hidden_files_are_ignored(folder):
    (folder / "few" / ".DS_Store").write_bytes(b"x")
    (folder / "many" / "Thumbs.db").write_bytes(b"x")
    (folder / "desktop.ini").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / "__MACOSX").mkdir()
    assert len(load_dataset(str(folder)).inputs) == 12


def test_files_that_are_no_images_by_their_names_are_passed_over_and_told(folder):
    for name in ("notes.txt", "LABELS.XML", "old.tar.gz", "clip.mp4"):
        (folder / "few" / name).write_bytes(b"x")
    notes = Notes()
    with observed_reading(notes):
        assert len(load_dataset(str(folder)).inputs) == 12
    assert notes.lines == [
        f"4 files passed over in {folder}, whose names are not those of images: few/LABELS.XML, "
        "few/clip.mp4, few/notes.txt, and 1 more."
    ]
    for name in ("photo", "photo.heic", "photo.0001"):  # each may be an image
        (folder / "few" / name).write_bytes(b"x")
    with pytest.raises(DataError, match="Received: 3 unreadable"):
        load_dataset(str(folder))


def test_splits_without_classes_are_taken_for_classes_and_that_is_said(folder, tmp_path):
    notes = Notes()
    for number, name in enumerate(("few", "many")):
        shutil.copytree(folder / name, tmp_path / "photos" / ("Train", "test")[number])
    with observed_reading(notes):
        assert load_dataset(str(tmp_path / "photos")).labels == ("Train", "test")
        assert [note.partition(",")[0] for note in notes.lines] == [
            f"Train and test of {tmp_path / 'photos'} are taken for classes"
        ]
        load_dataset(str(folder))
    assert len(notes.lines) == 1


def test_two_folders_of_a_split_are_refused(folder, tmp_path):
    for split in ("train", "val", "valid"):
        shutil.copytree(folder, tmp_path / "photos" / split)
    with pytest.raises(DataError, match="Each split must have one folder. Received: val and valid"):
        load_dataset(str(tmp_path / "photos"))


def test_two_folders_whose_names_differ_in_case_are_two_of_one_split(folder, tmp_path):
    for split in ("train", "Test", "test"):
        shutil.copytree(folder, tmp_path / "photos" / split)
    with pytest.raises(DataError, match="Each split must have one folder. Received: Test and test"):
        load_dataset(str(tmp_path / "photos"))


def test_a_link_to_a_class_or_a_split_that_is_gone_is_refused(folder, tmp_path):
    (folder / "more").symlink_to(tmp_path / "gone")
    with pytest.raises(
        DataError, match=r"must lead to something\. Received: .*more, .*/gone\. Mend"
    ):
        load_dataset(str(folder))
    (folder / "more").unlink()
    photos = tmp_path / "photos"
    for split in ("train", "validation"):
        shutil.copytree(folder, photos / split)
    (photos / "test").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="must lead to something. Received: .*photos/test"):
        load_dataset(str(photos))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_split_without_an_image_that_can_be_read_is_refused(folder, tmp_path, split):
    photos = tmp_path / "photos"
    for name in ("train", split):
        shutil.copytree(folder, photos / name)
    for path in (photos / split).rglob("*.png"):
        path.write_bytes(b"no image")
    message = f"Each split must have images. Received: the {split} split of .*, of which none can"
    with pytest.raises(DataError, match=message):
        load_dataset(str(photos), ReadingConfig(unreadable="skip"))
    for path in (photos / split).rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match=f"Each split must have images. Received: .*photos/{split}"):
        list_image_folder(photos)


def test_unreadable_images_are_named_and_counted(folder):
    for number in range(5):
        (folder / "many" / f"broken{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"Received: 5 unreadable: .*broken0.*; and 2 more"):
        load_dataset(str(folder))
    with pytest.raises(DataError, match="unreadable=skip"):
        load_dataset(str(folder))


@pytest.mark.parametrize("has_digits", [True, False])
def test_a_pipe_is_refused_without_waiting(folder, has_digits):
    os.mkfifo(folder / "many" / "pipe.png")
    with pytest.raises(DataError, match=r"Received: 1 unreadable: .*pipe.png, a pipe"):
        load_dataset(str(folder), has_digits=has_digits)


def test_unreadable_images_are_skipped_on_request(folder):
    (folder / "few" / "broken.png").write_bytes(b"no image")
    dataset = load_dataset(str(folder), ReadingConfig(unreadable="skip"))
    assert len(dataset.inputs) == 12
    assert len(dataset.skipped) == 1
    assert "broken.png" in dataset.skipped[0]


def test_an_empty_class_is_refused(folder):
    (folder / "none").mkdir()
    (folder / "none" / "README.txt").touch()
    with pytest.raises(DataError, match="Each class must have images. Received: .*none"):
        load_dataset(str(folder))


def test_a_folder_beside_the_images_of_a_class_is_refused(folder):
    (folder / "few" / "more").mkdir()
    message = (
        "must hold images, not folders. Received: .*few/more. Move its images beside the others"
    )
    with pytest.raises(DataError, match=message):
        list_image_folder(folder)


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(DataError, match="subfolder of images for each.*Received: 0 subfolders"):
        load_dataset(str(tmp_path))


def test_an_image_outside_the_folders_of_the_classes_is_refused(folder):
    shutil.copy(next((folder / "few").iterdir()), folder / "one.PNG")
    (folder / "LICENSE").touch()
    with pytest.raises(DataError, match=r"its class\. Received: one.PNG in .*digits itself\."):
        load_dataset(str(folder))


def test_joined_sources_keep_their_labels_and_their_test_splits(folder, tmp_path):
    random = np.random.default_rng(0)
    arrays = {f"x_{p}": random.integers(0, 256, (20, 28, 28), np.uint8) for p in ("train", "test")}
    arrays |= {f"y_{p}": np.arange(20) % 10 for p in ("train", "test")}
    np.savez(tmp_path / "own.npz", **arrays)
    joined = load_dataset(f"{tmp_path / 'own.npz'}+{folder}+digits8x8")
    assert joined.labels == (*map(str, range(10)), "few", "many")
    assert joined.test_start == 20 + 12 + 1797
    np.testing.assert_array_equal(
        joined.inputs[np.arange(joined.test_start, 1849)], arrays["x_test"]
    )
    assert joined.targets[20:32].tolist() == [10] * 6 + [11] * 6
    assert joined.targets[32] == load_dataset("digits8x8").targets[0]


def test_sources_of_different_kinds_cannot_be_joined():
    with pytest.raises(DataError, match="must have the same kind. .*digits8x8, images; iris, rows"):
        load_dataset("digits8x8+iris")
    with pytest.raises(DataError, match="must have the same columns"):
        load_dataset("iris+wine")
    with pytest.raises(DataError, match="must have the same task"):
        load_dataset("breast_cancer+diabetes")


def test_a_source_is_found_from_any_folder_and_shown_without_its_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_source("nowhere.npz+digits8x8") == f"{tmp_path}/nowhere.npz+digits8x8"
    assert bare_source(f"{tmp_path}/nowhere.npz+digits8x8") == "nowhere.npz+digits8x8"


def test_the_data_report_counts_samples_by_class_and_duplicates(folder, images):
    Image.fromarray(images[0]).save(folder / "many" / "twice.png")
    dataset = load_dataset(str(folder))
    last = len(dataset.inputs) - 1
    splits = Splits(np.arange(0, 10), np.array([10, 11]), np.array([last]))
    report = report_data(dataset, splits)
    assert report["counts"]["train"] == {"few": 6, "many": 4}
    assert report["duplicates"] == {"validation": 0, "test": 1}
    assert report["samples"] == {"train": 10, "validation": 2, "test": 1}
    assert report["duplicate_files"] == [["many/twice.png", "few/00.png"]]


def test_equal_images_with_different_targets_are_noted(folder, images, tmp_path):
    splits = Splits(np.arange(10), np.array([10]), np.array([11]))
    assert report_data(load_dataset(str(folder)), splits)["notes"] == []
    Image.fromarray(images[0]).save(folder / "many" / "one.png")
    Image.fromarray(images[0]).save(folder / "many" / "two.png")
    (line,) = report_data(load_dataset(str(folder)), splits)["notes"]
    assert line == (
        "3 images are equal to others with another target (such as few/00.png and many/one.png)."
    )
    config = make_config("digits", data=str(folder))
    notes = Notes()
    with observed_reading(notes):
        report_run(tmp_path / "run", config, load_dataset(str(folder)), splits)
    assert line in notes.lines


def test_no_more_than_three_pairs_of_equal_files_are_named(folder, images, tmp_path):
    for number in range(5):
        Image.fromarray(images[number]).save(folder / "many" / f"{number}.png")
    dataset = load_dataset(str(folder))
    twice = [dataset.files.index(f"many/{number}.png") for number in range(5)]
    kept = np.setdiff1d(np.arange(len(dataset.inputs)), twice)
    splits = Splits(kept, np.array(twice[:2]), np.array(twice[2:]))
    (line,) = report_data(dataset, splits)["notes"]
    assert line == (
        "10 images are equal to others with another target (such as few/00.png and many/0.png; "
        "few/01.png and many/1.png; few/02.png and many/2.png)."
    )
    notes = Notes()
    with observed_reading(notes):
        report_run(tmp_path / "run", make_config("digits", data=str(folder)), dataset, splits)
    assert (
        "5 samples of validation or test are also in training (such as many/0.png and few/00.png; "
        "many/1.png and few/01.png; many/2.png and few/02.png), which makes scores look better "
        "than they are."
    ) in notes.lines


def test_equal_images_without_file_names_are_counted(images, tmp_path):
    twice = np.concatenate([images, images[:2]])
    np.savez(tmp_path / "x.npz", x_train=twice, y_train=[*[0, 1] * 6, 1, 0])
    dataset = load_dataset(str(tmp_path / "x.npz"))
    report = report_data(dataset, Splits(np.arange(10), np.array([10, 11]), np.array([12, 13])))
    assert report["duplicates"] == {"validation": 0, "test": 2}
    assert report["duplicate_files"] == []
    assert report["notes"][-1] == "4 images are equal to others with another target."


def test_rows_are_duplicates_only_with_the_same_target(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("x,y\n1,a\n2,b\n1,a\n2,a\n")
    dataset = load_dataset(str(table), ReadingConfig(target=("y",)))
    splits = Splits(np.array([0, 1]), np.array([2]), np.array([3]))
    assert report_data(dataset, splits)["duplicates"] == {"validation": 1, "test": 0}


def test_a_class_without_samples_is_refused(folder):
    dataset = load_dataset(str(folder))
    object.__setattr__(dataset, "labels", ("few", "many", "none"))
    with pytest.raises(DataError, match="must have samples. Received: none of 'none'"):
        split_dataset(dataset, 0)


def test_a_class_that_training_never_sees_is_refused(tmp_path):
    arrays = {f"x_{p}": np.zeros((40, 28, 28), "uint8") for p in ("train", "test")}
    arrays |= {"y_train": np.arange(40) % 4, "y_test": np.arange(40) % 5}
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match="must have training samples. Received: none of '4'"):
        split_dataset(load_dataset(str(tmp_path / "own.npz")), 0)


def test_a_class_whose_name_is_not_utf8_is_refused(folder):
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9")).mkdir()
    with pytest.raises(DataError, match=r"Names must be UTF-8. Received: 'caf\\udce9'"):
        load_dataset(str(folder))
