"""Images that cannot be meant: scenes for the family of digits, and images that are all equal."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from app.config import make_config
from app.data.constant_inputs import require_variation
from app.data.reading_progress import observed_reading
from app.data.sources import load_dataset
from app.errors import DataError
from app.runs import train
from serving.images import read_pixels
from serving.photographs import shows_ink


class Notes(list):
    """Keeps what the reading says."""

    def advance(self, done, total, activity):
        pass

    def note(self, line):
        self.append(line)


def scenes(side, count=40):
    """Return parts of two photographs, of a temple and of a flower, uint8 `(side, side, 3)`."""
    random = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        pixels = photographs[number % 2]
        top, left = (random.integers(0, size - side) for size in pixels.shape[:2])
        yield pixels[top : top + side, left : left + side]


def pages(digits, count=20):
    """Return photographs of digits on a page in uneven light, uint8 `(400, 300)`."""
    random = np.random.default_rng(0)
    for number in range(count):
        light = np.add.outer(np.linspace(220, 250, 400), np.linspace(-40, 0, 300))
        ink = Image.fromarray(digits[number % len(digits)]).resize((140, 140))
        top, left = random.integers(20, 240), random.integers(20, 140)
        light[top : top + 140, left : left + 140] *= 1 - np.asarray(ink) / 400
        yield np.clip(light + random.normal(0, 3, light.shape), 0, 255).astype(np.uint8)


def write(images, folder):
    """Write images into two classes, in turns."""
    for number, pixels in enumerate(images):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.mark.parametrize("side", [48, 200])
def test_photographs_of_scenes_are_noted_by_the_family_of_digits(side, tmp_path):
    notes = Notes()
    folder = write(scenes(side), tmp_path / "photos")
    with observed_reading(notes):
        dataset = load_dataset(str(folder))
        assert not load_dataset(str(folder), has_digits=False).notes
    assert notes == list(dataset.notes)
    assert notes[0].startswith(f"{folder} seems to hold no digits: ")
    assert notes[0].endswith("for photographs, use the family features.")


def test_the_family_of_digits_notes_that_colors_become_gray(tmp_path, images):
    ink = [np.stack([pixels // 2, pixels, pixels], axis=-1) for pixels in images]
    source = str(write([*ink, *ink], tmp_path / "colored"))
    (note,) = load_dataset(source).notes
    assert note.startswith(f"{source} holds images in color, which the family digits sees as 28x28")
    assert not load_dataset(source, has_digits=False).notes


def test_digits_are_not_taken_for_scenes(tmp_path, images):
    assert not load_dataset(str(write(pages(images), tmp_path / "pages"))).notes
    assert not load_dataset(str(write([*images, *images], tmp_path / "scans"))).notes
    assert not load_dataset("digits8x8").notes
    assert all(shows_ink(np.full((side, side), 9, np.uint8)) for side in (1, 8, 100))


def test_arrays_of_scenes_are_noted_too(tmp_path):
    grays = np.stack([pixels @ [0.3, 0.6, 0.1] for pixels in scenes(32)]).astype(np.uint8)
    labels = np.arange(20) % 2
    arrays = {"x_train": grays[:20], "x_test": grays[20:], "y_train": labels, "y_test": labels}
    np.savez(tmp_path / "scenes.npz", **arrays)
    source = str(tmp_path / "scenes.npz")
    assert "seems to hold no digits" in load_dataset(source).notes[0]
    assert "seems to hold no digits" in load_dataset(f"{source}+digits8x8").notes[0]


def test_a_scene_to_predict_as_a_digit_is_noted(tmp_path, run, bundle, images):
    Image.fromarray(next(scenes(300))).save(tmp_path / "scene.png")
    Image.fromarray(images[0]).save(tmp_path / "digit.png")
    status, _, error = run("predict", bundle, tmp_path / "scene.png", tmp_path / "digit.png")
    assert status == 0
    assert (
        f"1 image shows no ink on even paper, so that predictions of digits may mean nothing: "
        f"{tmp_path / 'scene.png'}." in error
    )


def test_each_file_to_predict_is_opened_once(tmp_path, run, bundle, images, monkeypatch):
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **k: opened.append(file) or original(file, **k))
    Image.fromarray(images[0]).save(tmp_path / "digit.png")
    assert run("predict", bundle, tmp_path / "digit.png")[0] == 0
    assert opened == [str(tmp_path / "digit.png")]


def test_equal_images_are_refused_before_training(tmp_path):
    equal = np.zeros((40, 20, 20), np.uint8)
    folder = write(equal, tmp_path / "black")
    with pytest.raises(DataError, match="images to learn from must differ. Received: 28 images of"):
        train(make_config("features", {"epochs": 1}, data=folder), tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("*.*"))
    equal[7, 0, 0] = 1
    dataset = load_dataset(str(write(equal, tmp_path / "black")), has_digits=False)
    require_variation(dataset, np.arange(40))


def test_rows_that_differ_only_outside_the_training_split_are_refused(tmp_path):
    (tmp_path / "x.csv").write_text(
        "x,y,kind\n" + "".join(f"1,,{n % 2}\n" for n in range(20)) + "2,3,0\n"
    )
    from app.config.reading_config import ReadingConfig

    dataset = load_dataset(str(tmp_path / "x.csv"), ReadingConfig(target=("kind",)))
    with pytest.raises(DataError, match="The rows to learn from must differ. Received: 20 rows of"):
        require_variation(dataset, np.arange(20))
    require_variation(dataset, np.arange(21))


def test_a_16_bit_folder_gives_the_same_images_as_one_of_8_bits(tmp_path):
    random = np.random.default_rng(0)
    plain = random.integers(0, 256, (8, 20, 20), np.uint8)
    plain[:, 0, 0] = 255
    folders = {kind: write(plain.astype(kind), tmp_path / kind) for kind in ("uint8", "uint16")}
    for has_digits in (False, True):
        eight, sixteen = (
            load_dataset(str(folder), has_digits=has_digits).inputs[:]
            for folder in folders.values()
        )
        np.testing.assert_array_equal(eight, sixteen)
    assert read_pixels(folders["uint16"] / "a" / "0.png").max() == 255
