"""Augmentation: each training step sees every digit drawn a little differently.

These layers act in training alone and sit in front of the trained layers, outside the model that
is saved: they never reach an export.
"""

from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from .checks import check_fraction, check_range
from .ink import ink_box

# Points along each side at which an elastic field is drawn; between them it is smooth.
ELASTIC_POINTS = 6
# Between these, a hard edge lies inside the gray one.
THRESHOLDS = (0.25, 0.75)


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How far a training step bends its digits; every value is drawn anew for each sample.

    Attributes:
        shift: largest move along each axis, as a share of the image's side.
        rotation: largest turn either way, in degrees.
        scale: largest change of size: 0.1 gives 0.9 to 1.1 times.
        stretch: largest change of the width against the height: 0.1 gives 0.9 to 1.1 times.
        squareness: largest share of the way, in logarithms, on which the shorter side of the ink's
            box grows towards the longer one: 1 goes as far as a square, as in collections that
            stretch each digit over its box.
        shear: largest slant, as the tangent of its angle.
        elastic: standard deviation of a smooth random displacement, as a share of the side
            (Simard et al., 2003).
        sharpness: largest share of the way from gray edges of strokes to hard ones, as in
            collections of ink or no ink.
        thickness: largest share of a pixel by which strokes grow or shrink on each side.

    Raises:
        ValueError: a value is out of range.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    squareness: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    sharpness: float = 0.0
    thickness: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("shift", "scale", "stretch", "shear", "elastic"):
            check_fraction(f"augmentation.{name}", getattr(self, name))
        check_range("augmentation.squareness", self.squareness, 0, 1)
        check_range("augmentation.sharpness", self.sharpness, 0, 1)
        check_range("augmentation.rotation", self.rotation, 0, 180)
        check_range("augmentation.thickness", self.thickness, 0, 1)


def augment(ink: Any, config: AugmentationConfig) -> Any:
    """Apply the layers that `config` turns on.

    Args:
        ink: float32 `(batch, side, side)`, ink 1, paper 0.
        config: how far.

    Returns:
        float32 `(batch, side, side)`; outside training, `ink` as it is.
    """
    if config.thickness:
        ink = RandomThickness(config.thickness, name="random_thickness")(ink)
    if replace(config, thickness=0.0, sharpness=0.0) != AugmentationConfig():
        ink = RandomWarp(config, name="random_warp")(ink)
    if config.sharpness:
        ink = RandomSharpness(config.sharpness, name="random_sharpness")(ink)
    return ink


class RandomThickness(keras.layers.Layer):
    """Mixes each image with its dilation (thicker strokes) or its erosion (thinner ones).

    Input shape: float32 `(batch, side, side)`.
    Output shape: the same.

    Args:
        thickness: largest share of the dilated or eroded image.
    """

    def __init__(self, thickness: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thickness = thickness
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, ink: Any, training: bool = False) -> Any:
        """Return `ink` with strokes of other thickness."""
        if not training:
            return ink
        shape = (ops.shape(ink)[0], 1, 1)
        share = keras.random.uniform(
            shape, -self.thickness, self.thickness, seed=self.seed_generator
        )
        maps = ops.expand_dims(ink, 3)
        dilated = ops.squeeze(ops.max_pool(maps, 3, 1, "same", "channels_last"), 3)
        eroded = -ops.squeeze(ops.max_pool(-maps, 3, 1, "same", "channels_last"), 3)
        return ink + ops.abs(share) * (ops.where(share > 0, dilated, eroded) - ink)


class RandomSharpness(keras.layers.Layer):
    """Mixes each image with one whose edges are hard, at a threshold that is drawn too.

    Input shape: float32 `(batch, side, side)`.
    Output shape: the same.

    Args:
        sharpness: largest share of the hard image.
    """

    def __init__(self, sharpness: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sharpness = sharpness
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, ink: Any, training: bool = False) -> Any:
        """Return `ink` with harder edges."""
        if not training:
            return ink
        shape = (ops.shape(ink)[0], 1, 1)
        share = keras.random.uniform(shape, 0, self.sharpness, seed=self.seed_generator)
        threshold = keras.random.uniform(shape, *THRESHOLDS, seed=self.seed_generator)
        hard = ops.cast(ink > threshold, ink.dtype)
        return ink + share * (hard - ink)


class RandomWarp(keras.layers.Layer):
    """Moves, turns, scales, slants and bends each image, in one bilinear resampling.

    Keras has a layer for each of these; five in a row resample five times, which blurs strokes
    and takes the time of a small net.

    Input shape: float32 `(batch, side, side)`; 0 lies around it.
    Output shape: the same.

    Args:
        config: how far; `thickness` is not used here.
    """

    def __init__(self, config: AugmentationConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Lay out the grid of result pixels and the basis of elastic fields."""
        side = input_shape[1]
        self._side = side
        # Result pixels around the center, (2, side, side): row offsets, column offsets.
        self._grid = (np.indices((side, side)) - (side - 1) / 2).astype("float32")
        points = np.linspace(0, side - 1, ELASTIC_POINTS)
        spacing = points[1]
        basis = np.exp(-0.5 * ((np.arange(side)[:, np.newaxis] - points) / spacing) ** 2)
        # Each pixel's displacement then has the standard deviation of the drawn points.
        self._basis = (basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype("float32")
        super().build(input_shape)

    def call(self, ink: Any, training: bool = False) -> Any:
        """Return `ink` warped."""
        if not training:
            return ink
        batch = ops.shape(ink)[0]
        rows, columns = self._affine(ink)
        if self.config.elastic:
            noise = keras.random.normal(
                (batch, 2, ELASTIC_POINTS, ELASTIC_POINTS),
                stddev=self.config.elastic * self._side,
                seed=self.seed_generator,
            )
            field = ops.matmul(ops.matmul(self._basis, noise), self._basis.T)
            rows, columns = rows + field[:, 0], columns + field[:, 1]
        return sample_bilinearly(ink, rows, columns)

    def _affine(self, ink: Any) -> tuple[Any, Any]:
        """Return the place in the source of each result pixel, each `(batch, side, side)`."""
        config = self.config
        batch = ops.shape(ink)[0]
        angle = self._uniform(batch, np.deg2rad(config.rotation))
        size = 1 + self._uniform(batch, config.scale)
        stretch = ops.sqrt(1 + self._uniform(batch, config.stretch))
        slant = self._uniform(batch, config.shear)
        center = (self._side - 1) / 2
        row_shift = center + self._uniform(batch, config.shift * self._side)
        column_shift = center + self._uniform(batch, config.shift * self._side)
        row, column = self._grid[0] * stretch / size, self._grid[1] / stretch / size
        if config.squareness:
            row, column = self._squared(ink, row, column)
        column = column + slant * row
        rows = ops.cos(angle) * row - ops.sin(angle) * column + row_shift
        columns = ops.sin(angle) * row + ops.cos(angle) * column + column_shift
        return rows, columns

    def _squared(self, ink: Any, row: Any, column: Any) -> tuple[Any, Any]:
        first, end = ink_box(ink)
        sides = ops.maximum(end - first, 1.0)  # (batch, 2)
        share = keras.random.uniform(
            (ops.shape(ink)[0], 1), 0, self.config.squareness, seed=self.seed_generator
        )
        growth = (ops.max(sides, axis=1, keepdims=True) / sides) ** share
        growth = ops.reshape(growth, (-1, 2, 1, 1))
        return row / growth[:, 0], column / growth[:, 1]

    def _uniform(self, batch: Any, largest: float) -> Any:
        return keras.random.uniform((batch, 1, 1), -largest, largest, seed=self.seed_generator)


def sample_bilinearly(images: Any, rows: Any, columns: Any) -> Any:
    """Read images at fractional places; outside lies 0.

    Args:
        images: float32 `(batch, height, width)`.
        rows: float32 `(batch, m, n)`, 0 is the center of the first row.
        columns: float32 `(batch, m, n)`.

    Returns:
        float32 `(batch, m, n)`.
    """
    height, width = images.shape[1:]
    # One row and column of 0 around each image, in which all places outside end.
    flat = ops.reshape(ops.pad(images, ((0, 0), (1, 1), (1, 1))), (-1,))
    rows = ops.clip(rows + 1, 0, height + 0.999)
    columns = ops.clip(columns + 1, 0, width + 0.999)
    top, left = ops.floor(rows), ops.floor(columns)
    down, right = rows - top, columns - left
    batch = ops.shape(images)[0]
    first = ops.reshape(ops.arange(batch, dtype="int32") * (height + 2) * (width + 2), (-1, 1, 1))
    index = first + ops.cast(top, "int32") * (width + 2) + ops.cast(left, "int32")
    upper = ops.take(flat, index) * (1 - right) + ops.take(flat, index + 1) * right
    lower = ops.take(flat, index + width + 2) * (1 - right)
    lower = lower + ops.take(flat, index + width + 3) * right
    return upper * (1 - down) + lower * down
