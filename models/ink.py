"""Preprocessing of digit images inside the graph: polarity, contrast, size and position.

Each decision (which polarity, which bounding box) compares numbers that every runtime computes
exactly. Everything else is continuous: a rounding difference between runtimes stays a rounding
difference, so exported graphs match Keras.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from .checks import check_choice
from .precision import Float32Layer

# In gray levels. With less contrast, the noise of a blank scan would be stretched into strokes.
MINIMUM_CONTRAST = 16.0
# Ink is a ratio k/r of whole numbers below 256. Every such ratio is at least 3.8e-6 away from
# 257/1024, so rounding cannot move a pixel across the threshold.
INK_THRESHOLD = 257 / 1024
# A steep ramp instead of a step, which would turn a rounding error of 1e-7 into a whole pixel.
BINARIZING_SLOPE = 8.0


@keras.saving.register_keras_serializable(package="hornbill")
class InkLevel(Float32Layer):
    """Turns an image of either polarity and any contrast into ink: 0 for paper, 1 for full ink.

    Most of an image is paper, especially at its border. With the darkest pixel as 0 and the
    lightest as 1, the ink is dark on light paper if the mean of the border plus the mean of the
    image is above 1. The border alone gives the wrong polarity where ink touches it, as in 30 of
    Semeion's 1593 digits; with the mean of the image only 2 are wrong. All sums are whole numbers
    below 2**24 and therefore exact in float32.

    Input shape: uint8 `(batch, height, width)`.
    Output shape: float32 `(batch, height, width)` in [0, 1]; a uniform image becomes 0.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Compute whole-number weights by which the border and the image count equally."""
        height, width = input_shape[1:]
        pixels, border = height * width, 2 * (height + width) - 4
        common = math.gcd(pixels, border)
        self._weights = np.full((height, width), (pixels + border) // common, "float32")
        self._weights[1:-1, 1:-1] = border // common
        super().build(input_shape)

    def call(self, image: Any) -> Any:
        """Return the ink of `image`."""
        gray = ops.cast(image, "float32")
        darkest = ops.min(gray, axis=(1, 2), keepdims=True)
        lightest = ops.max(gray, axis=(1, 2), keepdims=True)
        weighted_sum = ops.sum(gray * self._weights, axis=(1, 2), keepdims=True)
        is_light = weighted_sum > 0.5 * float(self._weights.sum()) * (darkest + lightest)
        contrast = lightest - darkest
        paper = darkest + ops.cast(is_light, "float32") * contrast
        return ops.abs(gray - paper) / ops.maximum(contrast, MINIMUM_CONTRAST)


@keras.saving.register_keras_serializable(package="hornbill")
class Denoise(Float32Layer):
    """Removes specks: no pixel stays darker than the darkest of its eight neighbors.

    Strokes are wider than a pixel and stay. Specks of a single pixel, which would enlarge the
    bounding box of the ink, disappear.

    Input shape: float32 `(batch, height, width)`, ink in [0, 1].
    Output shape: the same.
    """

    def call(self, ink: Any) -> Any:
        """Return `ink` without specks."""
        padded = ops.pad(ink, ((0, 0), (1, 1), (1, 1)))
        height, width = ink.shape[1:]
        # First the three neighbors above and the three below, then the two in the same row.
        threes = ops.maximum(
            ops.maximum(padded[:, :, :width], padded[:, :, 2:]), padded[:, :, 1 : width + 1]
        )
        sides = ops.maximum(padded[:, 1:-1, :width], padded[:, 1:-1, 2:])
        around = ops.maximum(ops.maximum(threes[:, :height], threes[:, 2:]), sides)
        return ops.minimum(ink, around)


@keras.saving.register_keras_serializable(package="hornbill")
class FitInk(Float32Layer):
    """Scales the bounding box of the ink to `ink_size` and centers the ink.

    A digit of any size and position then looks like a training sample. MNIST was made in this way
    (LeCun et al., 1998): the ink is scaled to a box of 20x20 pixels, keeping its aspect ratio, and
    centered by mass in 28x28. Resampling takes two matrix products for each sample; each output
    pixel is a weighted average of the source pixels that it covers.

    Input shape: float32 `(batch, side, side)`, ink in [0, 1].
    Output shape: float32 `(batch, size, size)`.

    Args:
        size: pixels along each side of the output.
        ink_size: pixels along the longer side of the ink's bounding box in the output.
        center: the point that is moved to the middle of the output: the center of `mass`, or the
            center of the `box`, so that the box can fill the output.
    """

    def __init__(self, size: int, ink_size: int, center: str = "mass", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_choice("center", center, ("mass", "box"))
        self.size = size
        self.ink_size = ink_size
        self.center = center

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        own = {"size": self.size, "ink_size": self.ink_size, "center": self.center}
        return {**super().get_config(), **own}

    def call(self, ink: Any) -> Any:
        """Return `ink` scaled and centered."""
        side = ink.shape[1]
        index = np.arange(side, dtype="float32")
        first, end = ink_box(ink)
        longest = ops.max(end - first, axis=1, keepdims=True)  # (batch, 1), below 0 if blank
        center = 0.5 * (first + end) if self.center == "box" else _center_of_mass(ink, index)
        # Source pixels per output pixel, (batch, 1, 1).
        step = ops.expand_dims(ops.maximum(longest, 1.0) / self.ink_size, 2)

        offset = np.arange(self.size, dtype="float32") + 0.5 - self.size / 2
        position = ops.expand_dims(center, 2) + step * offset  # (batch, 2, size)
        width = ops.expand_dims(ops.maximum(step, 1.0), 3)
        distance = ops.abs(ops.expand_dims(position, 3) - (index + 0.5))
        # (batch, 2, size, side); the weights of each output pixel sum to 1, so uniform ink stays.
        kernel = ops.clip(0.5 * (width + 1.0) - distance, 0.0, 1.0) / width
        from_rows, from_columns = ops.unstack(kernel, axis=1)
        return ops.matmul(from_rows, ops.matmul(ink, ops.transpose(from_columns, (0, 2, 1))))


def _along_both_axes(reduce: Callable[..., Any], ink: Any) -> Any:
    """Reduce each row and each column, from `(batch, side, side)` to `(batch, 2, side)`."""
    return ops.stack([reduce(ink, axis=2), reduce(ink, axis=1)], axis=1)


def ink_box(ink: Any) -> tuple[Any, Any]:
    """Return the begin and the end of the ink, each float32 `(batch, 2)` for rows and columns.

    Args:
        ink: float32 `(batch, side, side)`, ink 1, paper 0.
    """
    index = np.arange(ink.shape[1], dtype="float32")
    inked = ops.cast(_along_both_axes(ops.max, ink) > INK_THRESHOLD, "float32")
    first = len(index) - ops.max(inked * (len(index) - index), axis=2)
    end = ops.max(inked * (index + 1), axis=2)
    return first, end


def _center_of_mass(ink: Any, index: np.ndarray) -> Any:
    """Return the center of the ink, `(batch, 2)` for rows and columns; 0 without ink."""
    mass = _along_both_axes(ops.sum, ink)
    total = ops.maximum(ops.sum(mass, axis=2), 1e-3)
    return ops.sum(mass * (index + 0.5), axis=2) / total


@keras.saving.register_keras_serializable(package="hornbill")
class Binarize(Float32Layer):
    """Turns gray ink into black (1) and white (0), with a short ramp around one half.

    Input shape: float32, any, in [0, 1].
    Output shape: the same.
    """

    def call(self, ink: Any) -> Any:
        """Return `ink` moved towards 0 and 1."""
        return ops.clip((ink - 0.5) * BINARIZING_SLOPE + 0.5, 0.0, 1.0)
