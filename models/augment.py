"""Augmentation: layers that change every digit a little at each training step.

These layers act in training only. They sit in front of the trained layers, outside the model that
is saved, so no export contains them.
"""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from .config.augmentation import AugmentationConfig
from .ink import ink_box

# Number of points along each side at which an elastic field is drawn; it is smooth between them.
ELASTIC_POINTS = 6
# Range of the threshold that turns gray strokes into hard ones.
THRESHOLDS = (0.25, 0.75)


def augment(ink: Any, config: AugmentationConfig) -> Any:
    """Apply the layers that `config` turns on.

    Args:
        ink: float32 `(batch, side, side)`, ink 1, paper 0.
        config: how much to change the digits.

    Returns:
        float32 `(batch, side, side)`; outside of training, `ink` itself.
    """
    if config.thickness:
        ink = RandomThickness(config.thickness, name="random_thickness")(ink)
    if replace(config, thickness=0.0, sharpness=0.0) != AugmentationConfig():
        ink = RandomWarp(config, name="random_warp")(ink)
    if config.sharpness:
        ink = RandomSharpness(config.sharpness, name="random_sharpness")(ink)
    return ink


class RandomThickness(keras.layers.Layer):
    """Mixes each image with its dilation (thicker strokes) or its erosion (thinner strokes).

    Input shape: float32 `(batch, side, side)`.
    Output shape: the same.

    Args:
        thickness: largest fraction of the dilated or eroded image in the mixture.
    """

    def __init__(self, thickness: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thickness = thickness
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, ink: Any, training: bool = False) -> Any:
        """Return `ink` with thicker or thinner strokes."""
        if not training:
            return ink
        shape = (ops.shape(ink)[0], 1, 1)
        fraction = keras.random.uniform(
            shape, -self.thickness, self.thickness, seed=self.seed_generator
        )
        maps = ops.expand_dims(ink, 3)
        dilated = ops.squeeze(ops.max_pool(maps, 3, 1, "same", "channels_last"), 3)
        eroded = -ops.squeeze(ops.max_pool(-maps, 3, 1, "same", "channels_last"), 3)
        return ink + ops.abs(fraction) * (ops.where(fraction > 0, dilated, eroded) - ink)


class RandomSharpness(keras.layers.Layer):
    """Mixes each image with its black and white version, cut at a random threshold.

    Input shape: float32 `(batch, side, side)`.
    Output shape: the same.

    Args:
        sharpness: largest fraction of the black and white image in the mixture.
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
        fraction = keras.random.uniform(shape, 0, self.sharpness, seed=self.seed_generator)
        threshold = keras.random.uniform(shape, *THRESHOLDS, seed=self.seed_generator)
        hard = ops.cast(ink > threshold, ink.dtype)
        return ink + fraction * (hard - ink)


class RandomWarp(keras.layers.Layer):
    """Shifts, rotates, scales, shears and bends each image in a single bilinear resampling.

    Keras has a layer for each of these, but five in a row resample five times, which blurs the
    strokes and takes as long as a small model.

    Input shape: float32 `(batch, side, side)`; everything outside the image counts as 0.
    Output shape: same as the input.

    Args:
        config: how much to change; `thickness` and `sharpness` are not used here.
    """

    def __init__(self, config: AugmentationConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the grid of output pixels and the basis of elastic fields."""
        side = input_shape[1]
        self._side = side
        # Output pixels relative to the center, (2, side, side): row offsets, column offsets.
        self._grid = (np.indices((side, side)) - (side - 1) / 2).astype("float32")
        points = np.linspace(0, side - 1, ELASTIC_POINTS)
        spacing = points[1]
        basis = np.exp(-0.5 * ((np.arange(side)[:, np.newaxis] - points) / spacing) ** 2)
        # Normalized, so that the displacements have the standard deviation of the drawn points.
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
        """Return source row and column of each output pixel, both `(batch, side, side)`."""
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
        """Stretch the shorter side of the ink's bounding box towards the longer one."""
        first, end = ink_box(ink)
        sides = ops.maximum(end - first, 1.0)  # (batch, 2)
        exponent = keras.random.uniform(
            (ops.shape(ink)[0], 1), 0, self.config.squareness, seed=self.seed_generator
        )
        growth = (ops.max(sides, axis=1, keepdims=True) / sides) ** exponent
        growth = ops.reshape(growth, (-1, 2, 1, 1))
        return row / growth[:, 0], column / growth[:, 1]

    def _uniform(self, batch: Any, largest: float) -> Any:
        return keras.random.uniform((batch, 1, 1), -largest, largest, seed=self.seed_generator)


def sample_bilinearly(images: Any, rows: Any, columns: Any) -> Any:
    """Sample images at fractional positions; everything outside an image counts as 0.

    Args:
        images: float32 `(batch, height, width)`.
        rows: float32 `(batch, m, n)`; 0 is the center of the first row.
        columns: float32 `(batch, m, n)`; 0 is the center of the first column.

    Returns:
        float32 `(batch, m, n)`.
    """
    height, width = images.shape[1:]
    # A border of zeros around each image, to which all positions outside are clipped.
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
