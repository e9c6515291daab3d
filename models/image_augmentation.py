"""Augmentation of images: layers that change every image a little at each training step.

These layers act in training only. They sit in front of the trained layers, outside the model that
is saved, so no export contains them.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from .checks import check_fraction

_FRACTIONS = ("shift", "scale", "stretch", "brightness", "contrast", "saturation", "erase")


@dataclass(frozen=True, kw_only=True)
class ImageAugmentationConfig:
    """How much augmentation changes images. All values are drawn at random for each image.

    Attributes:
        flip: whether half of the images are mirrored, left to right.
        shift: largest shift along each axis, as a fraction of the side; what it uncovers mirrors
            the image.
        scale: largest change of size: 0.1 scales by a factor of 0.9 to 1.1.
        stretch: largest change of the ratio of width to height: 0.1 changes it by a factor of 0.9
            to 1.1.
        brightness: largest change of brightness, as a fraction of the range from black to white.
        contrast: largest change of contrast: 0.1 multiplies it by 0.9 to 1.1.
        saturation: largest change of the distance of colors from gray: 0.1 multiplies it by 0.9
            to 1.1.
        erase: side of a square that is set to the image's mean color, as a fraction of the image's
            side (cutout: DeVries & Taylor, 2017).

    Raises:
        ValueError: a value is out of range.
    """

    flip: bool = False
    shift: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in _FRACTIONS:
            check_fraction(f"augmentation.{name}", getattr(self, name))


def augment_images(images: Any, config: ImageAugmentationConfig) -> Any:
    """Return images, changed at random in training.

    Args:
        images: symbolic tensor, uint8 `(batch, height, width, channels)`.
        config: how much to change.

    Returns:
        A tensor of the same shape and dtype.
    """
    layers: list[keras.Layer] = []
    if config.flip or config.shift or config.scale or config.stretch:
        layers.append(RandomCrop(config))
    if config.brightness or config.contrast or config.saturation:
        layers.append(RandomColor(config))
    if config.erase:
        layers.append(RandomErase(config))
    if not layers:
        return images
    x = keras.layers.Rescaling(1.0, dtype="float32")(images)
    for layer in layers:
        x = layer(x)
    return ToPixels()(x)


class ToPixels(keras.layers.Layer):
    """Rounds levels to pixels.

    Input shape: float32 `(…)`.
    Output shape: uint8, the same shape, from 0 to 255.
    """

    def call(self, levels: Any) -> Any:
        """Return the nearest pixels."""
        return ops.cast(ops.clip(ops.round(levels), 0, 255), "uint8")

    def compute_output_spec(self, levels: Any) -> keras.KerasTensor:
        """Return the shape and dtype of the pixels."""
        return keras.KerasTensor(levels.shape, dtype="uint8")


class _RandomLayer(keras.layers.Layer):
    """A layer that draws numbers and acts in training only.

    Input shape: float32 `(batch, height, width, channels)`, levels from 0 to 255.
    Output shape: same as the input.

    Args:
        config: how much to change.
    """

    def __init__(self, config: ImageAugmentationConfig, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        self.seed_generator = keras.random.SeedGenerator()

    def uniform(self, images: Any, low: float, high: float) -> Any:
        """Return a number for each image, float32 `(batch, 1, 1)`."""
        return keras.random.uniform(
            (ops.shape(images)[0], 1, 1), low, high, seed=self.seed_generator
        )

    def call(self, images: Any, training: bool = False) -> Any:
        """Return `images`, changed in training."""
        return self.change(images) if training else images

    def change(self, images: Any) -> Any:
        """Return `images`, changed."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return input_shape


class RandomCrop(_RandomLayer):
    """Mirrors, shifts and scales each image in a single bilinear resampling.

    None of this turns the image, so columns and rows are resampled one after the other, each by a
    product with a matrix of weights. That takes less time than reading pixels one by one.
    """

    def change(self, images: Any) -> Any:
        """Return `images`, resampled."""
        config = self.config
        height, width, channels = images.shape[1:]
        size = 1 + self.uniform(images, -config.scale, config.scale)
        stretch = ops.sqrt(1 + self.uniform(images, -config.stretch, config.stretch))
        mirror = ops.sign(self.uniform(images, -1, 1)) if config.flip else 1.0
        rows = self._weights(images, height, stretch / size)
        columns = self._weights(images, width, mirror / (stretch * size))
        lines = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
        lines = ops.reshape(lines, (-1, height, width, channels))
        return ops.einsum("bij,brjc->bric", columns, lines)

    def _weights(self, images: Any, side: int, step: Any) -> Any:
        """Return the weights of old pixels in new ones, float32 `(batch, side, side)`."""
        shift = float(np.floor(self.config.shift * side))
        if self.config.scale or self.config.stretch:
            offset = self.uniform(images, -shift, shift)
        else:  # whole pixels stay sharp
            offset = ops.floor(self.uniform(images, -shift, shift + 1))
        pixels = np.arange(side, dtype="float32")
        center = (side - 1) / 2
        source = (pixels[:, np.newaxis] - center) * step + center + offset
        source = (side - 1) - ops.abs((side - 1) - ops.abs(source))  # mirrored at the borders
        return ops.maximum(0.0, 1.0 - ops.abs(source - pixels))


class RandomColor(_RandomLayer):
    """Changes brightness, contrast and saturation of each image."""

    def change(self, images: Any) -> Any:
        """Return `images` in other colors."""
        config = self.config
        if config.saturation:
            gray = ops.mean(images, axis=-1, keepdims=True)
            images = gray + (images - gray) * (1 + self._change(images, config.saturation))
        if config.contrast:
            mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
            images = mean + (images - mean) * (1 + self._change(images, config.contrast))
        if config.brightness:
            images = images + 255 * self._change(images, config.brightness)
        return images

    def _change(self, images: Any, largest: float) -> Any:
        return self.uniform(images, -largest, largest)[..., np.newaxis]


class RandomErase(_RandomLayer):
    """Sets a square of each image to its mean color; the square may reach over the border."""

    def change(self, images: Any) -> Any:
        """Return `images` with a square erased."""
        rows, columns = (self._inside(images, side) for side in images.shape[1:3])
        inside = ops.logical_and(rows, ops.transpose(columns, (0, 2, 1)))[..., np.newaxis]
        return ops.where(inside, ops.mean(images, axis=(1, 2), keepdims=True), images)

    def _inside(self, images: Any, side: int) -> Any:
        """Return which rows or columns the square covers, bool `(batch, side, 1)`."""
        pixels = np.arange(side, dtype="float32")[:, np.newaxis] + 0.5
        middle = self.uniform(images, 0, side)
        return ops.abs(pixels - middle) < self.config.erase * side / 2
