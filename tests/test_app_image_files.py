"""Image files as they come: bad ones, many of them, and more than fit on the disk."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from app.config.reading_config import ReadingConfig
from app.config.run_facts import describe_data
from app.data.arrays import ComputedArray, DiskArray, rows_at
from app.data.image_files import choose_shape
from app.data.reading_progress import observed_reading
from app.data.shown_progress import ReadingProgress
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.data.summary import report_data
from app.errors import DataError

HEIC = b"\0\0\0\x18ftypheic"


@pytest.fixture
def folder(tmp_path):
    """Six different images of 20x20 in each of the classes `a` and `b`."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def read(source, **reading):
    return load_dataset(str(source), ReadingConfig(**reading), has_digits=False)


def move_into(folder, *names):
    """Move the classes of a folder into subfolders of it."""
    for name in names:
        shutil.copytree(folder, folder.parent / "copy", ignore=shutil.ignore_patterns(*names))
        shutil.move(folder.parent / "copy", folder / name)
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path)


def write(name, content):
    return lambda folder: (folder / "a" / name).write_bytes(content)


BAD_FOLDERS = {
    "one class": (lambda f: shutil.rmtree(f / "b"), "two or more classes. Received: 1 subfolder"),
    "an empty class": (lambda f: (f / "c").mkdir(), "must have images. Received: .*/c, which has"),
    "only empty classes": (
        lambda f: [path.unlink() for path in f.rglob("*.png")],
        "must have images. Received: .*/a, which has none",
    ),
    "folders in folders": (
        lambda f: move_into(f, "x", "y"),
        "must hold images, not folders. Received: .*/x/a. .* --data .*/x",
    ),
    "train without test": (
        lambda f: move_into(f, "train"),
        "with train must also have a folder test or validation. .* --data .*/train",
    ),
    "no train": (
        lambda f: move_into(f, "val", "test"),
        "with val must also have a folder train",
    ),
    "a folder that holds itself": (
        lambda f: (f / "c").symlink_to(f),
        "must hold images, not folders. Received: .*/c/a",
    ),
    "a link to itself": (
        lambda f: (f / "a" / "x.png").symlink_to(f / "a" / "x.png"),
        "1 unreadable: .*x.png cannot be read: too many levels of symbolic links",
    ),
    "an empty file": (write("x.jpg", b""), "1 unreadable: .*x.jpg cannot be read .*: it is empty"),
    "a text": (write("x.jpg", b"some text"), "1 unreadable: .*x.jpg cannot be read as an image"),
    "a truncated file": (
        lambda f: write("x.png", (f / "b" / "0.png").read_bytes()[:600])(f),
        "1 unreadable: .*x.png cannot be read as an image, .*: its end is missing",
    ),
    "HEIC": (write("图 片.heic", HEIC), "图 片.heic .*HEIC and AVIF are not supported: convert"),
    "over 50 million pixels": (
        lambda f: Image.new("1", (7100, 7100)).save(f / "a" / "x.png"),
        "1 unreadable: .*x.png, 50,410,000 pixels",
    ),
    "more pixels than Pillow opens": (
        lambda f: Image.new("1", (20000, 18000)).save(f / "a" / "x.png", compress_level=1),
        "1 unreadable: .*x.png, 360,000,000 pixels",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_a_bad_folder_is_refused_in_a_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_that_is_gone_is_told_as_such(folder):
    with pytest.raises(DataError, match="The data source does not exist. Received: .*/elsewhere"):
        read(folder / "elsewhere")


def test_the_limit_of_an_image_is_told_with_it(folder):
    Image.new("1", (70_000, 1)).save(folder / "a" / "long.png")
    message = r"long.png, 70,000 x 1 pixels \(An image must have at most 65,535 pixels on each side"
    with pytest.raises(DataError, match=message):
        read(folder)


def test_thousands_of_unreadable_files_are_counted(folder):
    for number in range(1000):
        (folder / "a" / f"x{number}.jpg").touch()
    with pytest.raises(DataError, match="Received: 1,000 unreadable: .*; and 997 more. Skip"):
        read(folder)
    for path in folder.rglob("?.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="and 1,009 more.$"):  # skipping all would leave none
        read(folder, unreadable="skip")


def test_unusual_images_are_read(folder):
    Image.new("L", (1, 1), 7).save(folder / "a" / "one pixel.png")
    Image.new("L", (7000, 7142), 60).save(folder / "b" / "50\nmillion.jpg")
    Image.new("CMYK", (20, 20)).save(folder / "a" / "中文.jpg")
    images = read(folder).inputs
    assert images.shape == (15, 20, 20, 3)
    assert [set(image.ravel()) for image in images[:][[6, 7, 14]]] == [{7}, {255}, {60}]


def test_a_single_image_in_color_among_many_gray_ones_keeps_its_color(tmp_path):
    paths = []
    for name, mode, count in (("gray", "L", 2000), ("color", "RGB", 1), ("last", "L", 1000)):
        first = tmp_path / f"{name}.png"
        Image.new(mode, (20, 20), 200 if mode == "L" else (200, 40, 50)).save(first)
        for number in range(count):
            paths.append(tmp_path / f"{name}{number}.png")
            os.link(first, paths[-1])
    assert choose_shape(paths) == (20, 20, 3)
    assert choose_shape(paths[:2000]) == (20, 20, 1)


BAD_PATHS = {
    "backslashes": ("a\\\\0.png", r"must be separated by /. Received: a\\0.png in line 2"),
    "no path": ("12", "'file' of .* must hold paths of images, .* no path that exists, such as"),
    "an address": ("https://x.y/a.png", "must hold paths of images"),
    "a folder": ("a/../a", "2 unreadable: .* is a directory"),
    "a long text": ("x" * 300, "must hold paths of images"),
    "blank": ("  ", "Each line must name an image. Received: an empty 'file' in line 2"),
    "a zero byte": ("a/\0.png", "A path must be text. Received: 'a/.x00.png' in line 2"),
}


@pytest.mark.parametrize(("cell", "message"), BAD_PATHS.values(), ids=BAD_PATHS)
def test_a_bad_path_in_a_csv_is_refused(folder, cell, message):
    cell = cell.replace("\\\\", "\\")
    (folder / "table.csv").write_text(f"file,kind\n{cell},rose\n{cell},leaf\n")
    with pytest.raises(DataError, match=message):
        read(folder / "table.csv", image_column="file", target=("kind",))


def test_a_path_that_is_too_long_is_left_out_on_request(folder):
    lines = "".join(f"a/{n}.png,rose\nb/{n}.png,leaf\n" for n in range(6))
    (folder / "table.csv").write_text(f"file,kind\n{lines}{'x' * 300},rose\n{'y' * 300}\\z,rose\n")
    options = {"image_column": "file", "target": ("kind",)}
    with pytest.raises(DataError, match="2 unreadable: .*File name too long|file name too long"):
        read(folder / "table.csv", **options)
    assert len(read(folder / "table.csv", **options, unreadable="skip").inputs) == 12


def test_all_bad_paths_of_a_csv_are_counted_and_the_first_are_named(folder):
    lines = "".join(f"{cell},rose\n" for cell in ("a\\0.png", '""', "a\\1.png", "a\0", '""'))
    (folder / "table.csv").write_text(f"file,kind\nb/0.png,leaf\n{lines}")
    message = "There are 5 problems: .* line 3 .*; .* line 4 .*; .* line 5 .*; and 2 more."
    with pytest.raises(DataError, match=message):
        read(folder / "table.csv", image_column="file", target=("kind",))


def test_paths_in_a_csv_may_be_absolute_or_lead_out_of_its_folder(folder):
    (folder / "a" / "table.csv").write_text(
        f"file,kind\n{folder}/b/0.png,leaf\n../b/1.png,rose\n  2.png  ,rose\n"
    )
    images = read(folder / "a" / "table.csv", image_column="file", target=("kind",)).inputs
    for image, name in zip(images[:], ("b/0.png", "b/1.png", "a/2.png"), strict=True):
        np.testing.assert_array_equal(image, Image.open(folder / name))


def test_the_classes_of_a_folder_are_checked_before_tensorflow_is_loaded(folder, tmp_path):
    (folder / "c").mkdir()
    program = (
        "import sys; sys.modules |= {'tensorflow': None, 'keras': None}\n"
        "from app.commands.cli import main; raise SystemExit(main())"
    )
    command = [sys.executable, "-c", program, "train", "features", "--data", folder]
    command += ["--output", tmp_path / "runs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("hornbill: Each class must have images. Received: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


class Notes(list):
    """An observer of reading that keeps what it is told."""

    def advance(self, done, total, activity):
        self.append((done, total))

    def begin(self, step):
        pass

    def note(self, line):
        self.append(line)


@pytest.fixture
def full_disk(monkeypatch):
    """A temporary folder without room."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))


@pytest.fixture
def pair(folder, request):
    """The same images, on disk and decoded when they are read; and what was noted."""
    notes = Notes()
    on_disk = read(folder)
    request.getfixturevalue("full_disk")
    with observed_reading(notes):
        computed = read(folder)
    return on_disk, computed, notes


def test_images_that_do_not_fit_on_the_disk_are_decoded_when_they_are_read(pair):
    on_disk, computed, notes = pair
    assert isinstance(on_disk.inputs, DiskArray)
    assert isinstance(computed.inputs, ComputedArray)
    assert computed.inputs.shape == on_disk.inputs.shape
    for index in (slice(2, 9, 3), np.array([11, 0, 4, 4])):
        np.testing.assert_array_equal(computed.inputs[index], on_disk.inputs[index])
    with pytest.raises(IndexError, match="Rows must be from 0 to 11"):
        computed.inputs[np.array([12])]
    assert "decoded again in each epoch. Set TMPDIR" in notes[0]
    assert notes[-1] == (12, 12)


def test_both_kinds_of_images_have_the_same_report_but_for_that(pair):
    on_disk, computed, _ = pair
    splits = split_dataset(on_disk, 0, validation=0.25)
    reports = [report_data(dataset, splits) for dataset in (on_disk, computed)]
    assert [report.pop("is_decoded_each_epoch") for report in reports] == [False, True]
    assert reports[0] == reports[1]
    assert describe_data(report_data(computed, splits)).endswith("decoded in each epoch")


def test_a_part_of_either_kind_of_images_is_of_that_kind(pair):
    chosen = np.array([5, 1])
    for dataset in pair[:2]:
        part = rows_at(dataset.inputs, chosen)
        assert type(part) is type(dataset.inputs)
        np.testing.assert_array_equal(part[:], dataset.inputs[chosen])
        np.testing.assert_array_equal(part.fingerprints, dataset.inputs.fingerprints[chosen])


def test_unreadable_files_are_left_out_where_images_are_decoded_later(folder, full_disk):
    (folder / "a" / "x.jpg").touch()
    dataset = read(folder, unreadable="skip")
    assert isinstance(dataset.inputs, ComputedArray)
    assert len(dataset.inputs[:]) == 12


def test_reading_is_shown_as_a_bar_or_as_lines_of_a_log():
    for is_terminal in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=is_terminal, width=100)
        with ReadingProgress(console, patience_s=0, log_every_s=0) as progress:
            for done in (1, 2, 1500, 2000):
                progress.advance(done, 2000)
        assert ("reading images" in file.getvalue()) == is_terminal
        assert ("reading 1,500 of 2,000 images, " in file.getvalue()) == (not is_terminal)
        assert "images/s" in file.getvalue()


def test_the_features_of_a_frozen_backbone_are_shown_as_they_are_computed():
    file = io.StringIO()
    with ReadingProgress(Console(file=file, width=100), patience_s=0, log_every_s=0) as progress:
        for done in (1, 2, 0, 256):
            progress.advance(done, 512, "reading images" if 0 < done < 9 else "preparing rows")
    assert "\npreparing 256 of 512 rows, " in file.getvalue()
    assert "rows/s" in file.getvalue()


def test_what_is_read_fast_is_not_shown():
    file = io.StringIO()
    with ReadingProgress(Console(file=file, force_terminal=True)) as progress:
        progress.advance(1, 2)
        progress.advance(2, 2)
        progress.note("a line")
    assert file.getvalue() == "note: a line\n"


def test_a_note_is_shown_once():
    file = io.StringIO()
    with ReadingProgress(Console(file=file)) as progress:
        for line in ("a line", "another", "a line"):
            progress.note(line)
    assert file.getvalue() == "note: a line\nnote: another\n"


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from app.data import image_files

def read(path):
    print("reading", flush=True)
    time.sleep(0.05)
    return np.zeros((32, 32, 3), np.uint8)

image_files.rows_in_chunk = lambda _: 4
try:
    image_files.decode_files([Path(sys.argv[1])] * 10_000, (32, 32, 3), read)
except KeyboardInterrupt:
    raise SystemExit(130)
"""


def test_an_interruption_while_decoding_leaves_no_files(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        for _ in range(8):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 130
    assert not list(Path(tmp_path).iterdir())
