"""The example of images and the examples of docs/features.md run as they stand."""

import contextlib
import importlib.util
import io
import json
import re
import runpy
import shlex
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app.bundles.export_run import export_run
from app.commands.cli import main
from app.runs import train
from export import ExportOptions

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "features.md").read_text()


def draw(color, shape, seed):
    """Return a colored shape before a gray background, 16x16 pixels."""
    random = np.random.default_rng(seed)
    background = Image.fromarray(random.integers(50, 200, (3, 3), np.uint8))
    image = background.resize((16, 16), Image.Resampling.BICUBIC).convert("RGB")
    x, y = random.integers(0, 7, 2)
    outline = ImageDraw.Draw(image)
    (outline.ellipse if shape == "disc" else outline.rectangle)((x, y, x + 8, y + 8), fill=color)
    return image


def draw_folder(folder, colors, count):
    for color in colors:
        for shape in ("disc", "square"):
            (folder / f"{color} {shape}").mkdir(parents=True)
            for seed in range(count):
                image = draw(color, shape, seed)
                image.save(folder / f"{color} {shape}" / f"{seed:02}.jpg")


def run_example(folder):
    """Draw the images that the page names and run the example; return what it printed."""
    draw_folder(folder / "photos", ("red", "blue"), 30)
    draw_folder(folder / "animals", ("green", "yellow"), 10)
    draw("red", "disc", 99).save(folder / "holiday.jpg")
    photo = folder / "photos" / "blue square" / "07.jpg"
    Image.open(photo).save(photo.with_name("copy.jpg"), quality=70)
    printed = io.StringIO()
    script = str(ROOT / "docs" / "examples" / "train_images.py")
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", [script, "photos", "holiday.jpg"])
        # Figures and int8 would take most of the time.
        patch.setattr("app.runs.train", partial(train, figures=False))
        export = partial(export_run, options=ExportOptions(int8="never"))
        patch.setattr("app.bundles.export_run.export_run", export)
        runpy.run_path(script, run_name="__main__")
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def example(once):
    """The folder in which the example ran, and what it printed."""
    return once("example-of-images", run_example)


def test_the_example_trains_exports_and_predicts(example):
    _, printed = example
    accuracy, prediction = printed.splitlines()[-2:]
    assert accuracy.startswith("accuracy: ")
    assert prediction.startswith("['red disc'] [[0.")
    assert prediction.endswith("]] (1, 128)")


@pytest.fixture(scope="module")
def page(example):
    """What each example of the page printed, by its heading."""
    folder, _ = example
    printed, namespace = {}, {}
    find_spec = importlib.util.find_spec
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        # Ray would take seconds to start.
        patch.setattr(
            "importlib.util.find_spec", lambda n, *p: None if n == "ray" else find_spec(n, *p)
        )
        for section in PAGE.split("\n## ")[1:]:
            heading, _, text = section.partition("\n")
            with contextlib.redirect_stdout(io.StringIO()) as output:
                for language, block in re.findall(
                    r"```(console|python)\n(.*?)```", text, re.DOTALL
                ):
                    if language == "console":
                        run_commands(block)
                    else:
                        exec(block, namespace)  # noqa: S102
            printed[heading] = output.getvalue().splitlines()
    return printed


def run_commands(block):
    for line in block.splitlines():
        with pytest.raises(SystemExit) as caught:
            main(shlex.split(line.removeprefix("$ hornbill ")))
        assert not caught.value.code


def test_features_are_written_to_files_and_printed(page):
    array, table, line = page["From files to files"]
    assert array == "features:  121 rows in features.npy"
    assert table == "features:  121 rows in features.parquet"
    assert len(json.loads(line)["features"]) == 128
    assert page["In Python"] == ["(1, 128)"]


def test_similar_images_are_found(page):
    lines = page["Find similar images"]
    assert len(lines) == 3
    assert all("photos/red disc/" in line for line in lines)


def test_duplicates_are_found(page):
    copies = ["photos/blue square/07.jpg photos/blue square/copy.jpg"]
    assert page["Find duplicates"] == copies


def test_a_classifier_learns_other_classes_from_features(page):
    _, accuracy = page["Train a classifier"]
    assert float(accuracy) > 0.8
