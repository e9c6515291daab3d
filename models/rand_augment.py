"""RandAugment: two random operations on each image (Cubuk et al., 2020, arXiv 1909.13719)."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .random_layer import RandomLayer, mirror, take_pixels

OPERATIONS = (
    "identity",
    "rotate",
    "shear_rows",
    "shear_columns",
    "shift_rows",
    "shift_columns",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
)
# Changes at full magnitude, as in the reference implementation: an angle in radians, a slope, a
# fraction of the side, a change of a factor, and bits of the eight.
_ANGLE, _SLOPE, _SHIFT, _FACTOR, _BITS = np.deg2rad(30), 0.3, 0.45, 0.9, 4
_NUM_DRAWN = 2


class RandAugment(RandomLayer):
    """Applies two operations to each image, drawn from `OPERATIONS` with a random direction.

    Keras' layer draws operations for a whole batch, computes all of them on all images, and turns
    images by up to 180 degrees at its default strength. Here both operations are applied together:
    first those that move pixels, by a single lookup of the nearest pixels, then those that change
    colors. Of the operations in the paper, `equalize` is left out, which needs a histogram of each
    image. What a move uncovers mirrors the image.

    Input shape: float32 `(batch, height, width, channels)`, levels from 0 to 255.
    Output shape: same as the input.
    """

    def change(self, images: Any) -> Any:
        """Return `images` with two operations applied to each."""
        change, drawn = self._draw(images)
        return _recolored(_moved(images, change), change, drawn, self.config.randaugment)

    def _draw(self, images: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return by operation how far to change each image, and whether, both `(batch, 1, 1)`.

        Changes are from -2 to 2 times the magnitude; 2 if both operations are the same.
        """
        shape = (ops.shape(images)[0], _NUM_DRAWN)
        seed = self.seed_generator
        chosen = ops.one_hot(
            keras.random.randint(shape, 0, len(OPERATIONS), seed=seed), len(OPERATIONS)
        )
        signs = ops.cast(2 * keras.random.randint(shape, 0, 2, seed=seed) - 1, "float32")
        change = self.config.randaugment * ops.einsum("bk,bko->ob", signs, chosen)
        drawn = ops.transpose(ops.max(chosen, axis=1)) > 0
        return tuple(  # type: ignore[return-value]
            {name: each[i][:, np.newaxis, np.newaxis] for i, name in enumerate(OPERATIONS)}
            for each in (change, drawn)
        )


def _moved(images: Any, change: dict[str, Any]) -> Any:
    """Return `images` rotated, sheared and shifted."""
    height, width = images.shape[1:3]
    row, column = (  # of each pixel of the result, relative to the center
        ops.reshape(np.arange(side, dtype="float32") - (side - 1) / 2, shape)
        for side, shape in ((height, (1, -1, 1)), (width, (1, 1, -1)))
    )
    angle = _ANGLE * change["rotate"]
    rows = ops.cos(angle) * row - ops.sin(angle) * column
    columns = ops.sin(angle) * row + ops.cos(angle) * column
    rows = rows + _SLOPE * change["shear_rows"] * column + _SHIFT * height * change["shift_rows"]
    columns = columns + _SLOPE * change["shear_columns"] * row
    columns = columns + _SHIFT * width * change["shift_columns"]
    return take_pixels(images, _mirrored(rows, height), _mirrored(columns, width))


def _mirrored(places: Any, side: int) -> Any:
    """Return the pixels at places relative to the center, int32; mirrored outside of the image."""
    places = mirror(ops.round(places + (side - 1) / 2), side)
    return ops.cast(ops.clip(places, 0, side - 1), "int32")


def _recolored(images: Any, change: dict[str, Any], drawn: dict[str, Any], magnitude: float) -> Any:
    """Return `images` in other colors."""
    change = {name: _FACTOR * value[..., np.newaxis] for name, value in change.items()}
    drawn = {name: value[..., np.newaxis] for name, value in drawn.items()}
    gray = ops.mean(images, axis=-1, keepdims=True)
    blurred = ops.average_pool(images, 3, 1, "same", "channels_last")
    # Each of four operations moves an image away from black, gray, its mean or its blurred version.
    names = ("brightness", "saturation", "contrast", "sharpness")
    _, saturation, contrast, sharpness = changes = [change[name] for name in names]
    levels = saturation * gray + contrast * ops.mean(gray, axis=(1, 2), keepdims=True)
    images = (1 + sum(changes)) * images - levels - sharpness * blurred
    images = ops.clip(images, 0, 255)
    # Sums and products: TensorFlow's `where` takes twice as long on a CPU.
    step = 2.0 ** round(_BITS * magnitude)
    is_coarse = ops.cast(drawn["posterize"], "float32")
    images = images - is_coarse * (images - step * ops.floor(images / step))
    darkest = ops.where(drawn["solarize"], 255 * (1 - magnitude), np.inf)
    images = images + ops.cast(images > darkest, "float32") * (255 - 2 * images)
    low, high = (find(images, axis=(1, 2), keepdims=True) for find in (ops.min, ops.max))
    is_stretched = ops.logical_and(drawn["autocontrast"], high > low)
    scale = ops.where(is_stretched, 255 / ops.maximum(high - low, 1.0), 1.0)
    return (images - ops.where(is_stretched, low, 0.0)) * scale
