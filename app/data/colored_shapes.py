"""Draws images of colored shapes, whose five classes only color and shape together tell apart."""

import colorsys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from app.errors import DataError
from serving.errors import cannot_write

# The hue and the number of corners of each class; a ball has none.
CLASSES = {
    "blue triangle": (0.61, 3),
    "green ball": (0.36, 0),
    "green square": (0.36, 4),
    "red ball": (0.99, 0),
    "red square": (0.99, 4),
}
SIDE = 64
# Images of each class.
TRAIN, TEST = 200, 40


def write_shapes(folder: Path, train: int = TRAIN, test: int = TEST, seed: int = 0) -> None:
    """Write `<folder>/train/<class>/<number>.png` and the same for `test`.

    A folder that was drawn before stays as it is. After an error nothing remains.

    Args:
        folder: folder to write.
        train: number of training images of each class.
        test: number of test images of each class.
        seed: the same seed draws the same images.

    Raises:
        DataError: the folder cannot be written, or exists with other content.
    """
    counts = {Path(s, name): n for s, n in (("train", train), ("test", test)) for name in CLASSES}
    if folder.exists():
        missing = [path for path in counts if not (folder / path).is_dir()]
        if missing:
            raise DataError(
                f"{folder} must hold images that were drawn before, or not exist. "
                f"Received: a folder without {missing[0]}."
            )
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            complete = Path(place) / folder.name
            _draw(complete, counts, np.random.default_rng(seed))
            complete.replace(folder)
    except OSError as error:
        raise DataError(cannot_write(folder, error)) from None


def _draw(folder: Path, counts: Mapping[Path, int], random: np.random.Generator) -> None:
    for path, count in counts.items():
        (folder / path).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(draw_shape(path.name, random))
            image.save(folder / path / f"{number:04}.png")


def draw_shape(name: str, random: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """Draw a shape of any size, place and angle, in varying light on a varying background.

    Args:
        name: class of the shape, see `CLASSES`.
        random: source of all that varies.
        side: height and width in pixels.

    Returns:
        uint8 `(side, side, 3)`, RGB.
    """
    hue, corners = CLASSES[name]
    y, x = (np.mgrid[:side, :side] + 0.5) / side  # 0 to 1
    radius = random.uniform(0.14, 0.32)
    center_x, center_y = random.uniform(radius, 1 - radius, 2)
    right, down = (x - center_x) / radius, (y - center_y) / radius
    # How far each pixel is inside the outline, in pixels: a fraction smooths the edge.
    inside = _depth(right, down, corners, random.uniform(0, 2 * np.pi)) * radius * side
    cover = np.clip(inside + 0.5, 0, 1)[..., np.newaxis]
    color = _color(hue + random.normal(0, 0.015), random.uniform(0.65, 1), random.uniform(0.6, 1))
    shape = color * (1 + 0.35 * _slope(right, down, random))
    image = cover * shape + (1 - cover) * _background(x, y, random)
    light = random.uniform(0.55, 1.1) * (1 + 0.3 * _slope(x - 0.5, y - 0.5, random))
    noise = random.normal(0, random.uniform(0.01, 0.06), image.shape)
    return np.asarray(255 * np.clip(image * light + noise, 0, 1), np.uint8)


def _depth(right: np.ndarray, down: np.ndarray, corners: int, angle: float) -> np.ndarray:
    """Return the distance from the outline, negative outside; the radius to a corner is 1."""
    if not corners:
        return np.asarray(1 - np.hypot(right, down))
    turns = angle + 2 * np.pi * np.arange(corners) / corners
    distances = [np.cos(turn) * right + np.sin(turn) * down for turn in turns]
    return np.asarray(np.cos(np.pi / corners) - np.max(distances, axis=0))


def _background(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return stripes that blend two colors, or a gradient where a stripe is wider than the image.

    Float `(side, side, 3)`, 0 to 1.
    """
    wave = np.sin(random.uniform(1, 25) * _slope(x, y, random) + random.uniform(0, 2 * np.pi))
    blend = (1 + wave) / 2
    one, other = (_color(*random.uniform((0, 0, 0.2), (1, 0.6, 1))) for _ in range(2))
    return np.asarray(blend * one + (1 - blend) * other)


def _slope(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the place of each pixel in a random direction, `(side, side, 1)`."""
    angle = random.uniform(0, 2 * np.pi)
    return np.asarray(np.cos(angle) * x + np.sin(angle) * y)[..., np.newaxis]


def _color(hue: float, saturation: float, value: float) -> np.ndarray:
    """Return red, green and blue, from 0 to 1."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))
