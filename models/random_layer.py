"""The base of layers that change images at random, and the step back to pixels."""

from typing import Any

import keras
import numpy as np
from keras import ops


class RandomLayer(keras.layers.Layer):
    """A layer that draws numbers for each image and acts in training only.

    Input shape: `(batch, height, width, channels)`, levels from 0 to 255.
    Output shape: same as the input.

    Args:
        config: how much to change.
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.seed_generator = keras.random.SeedGenerator()

    def uniform(self, images: Any, low: float, high: float) -> Any:
        """Return a number for each image, float32 `(batch, 1, 1)`."""
        return keras.random.uniform(
            (ops.shape(images)[0], 1, 1), low, high, seed=self.seed_generator
        )

    def covered(self, images: Any, side: int, length: Any) -> Any:
        """Return which pixels of a side a random segment covers, bool `(batch, 1, side)`.

        Its middle is inside the image; its ends may be outside.

        Args:
            images: the images.
            side: number of pixels.
            length: length of the segment as a fraction of the side; it may be `(batch, 1, 1)`.
        """
        pixels = np.arange(side, dtype="float32") + 0.5
        return ops.abs(pixels - self.uniform(images, 0, side)) < length * side / 2

    def call(self, images: Any, training: bool = False) -> Any:
        """Return `images`, changed in training."""
        return self.change(images) if training else images

    def change(self, images: Any) -> Any:
        """Return `images`, changed."""
        raise NotImplementedError

    def compute_output_spec(self, images: Any, **_: Any) -> Any:
        """Return shape and dtype of the input."""
        return keras.KerasTensor(images.shape, dtype=images.dtype)


class ToPixels(keras.layers.Layer):
    """Rounds levels to pixels.

    Input shape: float32 `(…)`.
    Output shape: uint8, the same shape, from 0 to 255.
    """

    def call(self, levels: Any) -> Any:
        """Return the nearest pixels."""
        return to_pixels(levels)

    def compute_output_spec(self, levels: Any) -> keras.KerasTensor:
        """Return the shape and dtype of the pixels."""
        return keras.KerasTensor(levels.shape, dtype="uint8")


def to_pixels(levels: Any) -> Any:
    """Return the pixels nearest to float32 levels, uint8 from 0 to 255 of the same shape."""
    return ops.cast(ops.clip(ops.round(levels), 0, 255), "uint8")


def take_pixels(images: Any, rows: Any, columns: Any) -> Any:
    """Return the pixels of images at given places.

    Args:
        images: `(batch, height, width, channels)`, any dtype.
        rows: int32 `(batch, …)`, from 0 to height - 1.
        columns: int32 of the same rank, from 0 to width - 1. It is broadcast against `rows` to
            `(batch, m, n)`.

    Returns:
        `(batch, m, n, channels)` of the dtype of `images`.
    """
    height, width, channels = images.shape[1:]
    first = ops.reshape(ops.arange(ops.shape(images)[0], dtype="int32"), (-1, 1, 1)) * height
    return ops.take(ops.reshape(images, (-1, channels)), (first + rows) * width + columns, axis=0)


def mirror(places: Any, side: int) -> Any:
    """Return places on a side of an image, float32 from 0; those outside mirror those inside."""
    return (side - 1) - ops.abs((side - 1) - ops.abs(places))
