"""Augmentation of images: layers that change every image a little at each training step.

These layers act in training only. They sit in front of the trained layers, outside the model that
is saved, so no export contains them.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from .config.augmentation import ImageAugmentationConfig
from .image_mixing import RandomMix
from .rand_augment import RandAugment
from .random_layer import RandomLayer, ToPixels, mirror, take_pixels


def augment_images(images: Any, config: ImageAugmentationConfig) -> Any:
    """Return images, changed at random in training.

    Args:
        images: symbolic tensor, uint8 `(batch, height, width, channels)`.
        config: how much to change.

    Returns:
        A tensor of the same shape and dtype.
    """
    layers: list[keras.Layer] = []
    if config.scale or config.stretch:
        layers.append(RandomCrop(config))
    elif config.flip or config.shift:
        images = RandomShift(config)(images)
    if config.randaugment:
        layers.append(RandAugment(config))
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


def mix_images(images: Any, config: ImageAugmentationConfig) -> tuple[Any, Any]:
    """Return images, mixed with others of their batch in training, and the shares of the others.

    Args:
        images: symbolic tensor, uint8 `(batch, height, width, channels)`.
        config: how much to mix.

    Returns:
        A tensor of the same shape and dtype, and float32 `(batch, 1)`, see `RandomMix`; the images
        and None if the configuration mixes nothing.
    """
    return RandomMix(config)(images) if config.mixup or config.cutmix else (images, None)


class RandomShift(RandomLayer):
    """Mirrors each image and shifts it by whole pixels, which stay as they are."""

    def change(self, images: Any) -> Any:
        """Return `images`, mirrored and shifted."""
        height, width = images.shape[1:3]
        rows = self._places(images, height)
        columns = self._places(images, width)
        if self.config.flip:
            columns = ops.where(self.uniform(images, -1, 1) < 0, (width - 1) - columns, columns)
        return take_pixels(images, ops.transpose(rows, (0, 2, 1)), columns)

    def _places(self, images: Any, side: int) -> Any:
        """Return the old place of each new row or column, int32 `(batch, 1, side)`."""
        shift = float(np.floor(self.config.shift * side))
        offset = ops.floor(self.uniform(images, -shift, shift + 1))
        return ops.cast(mirror(np.arange(side, dtype="float32") + offset, side), "int32")


class RandomCrop(RandomLayer):
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
        sign = ops.sign(self.uniform(images, -1, 1)) if config.flip else 1.0
        rows = self._weights(images, height, stretch / size)
        columns = self._weights(images, width, sign / (stretch * size))
        lines = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
        lines = ops.reshape(lines, (-1, height, width, channels))
        return ops.einsum("bij,brjc->bric", columns, lines)

    def _weights(self, images: Any, side: int, step: Any) -> Any:
        """Return the weights of old pixels in new ones, float32 `(batch, side, side)`."""
        shift = float(np.floor(self.config.shift * side))
        offset = self.uniform(images, -shift, shift)
        pixels = np.arange(side, dtype="float32")
        center = (side - 1) / 2
        source = (pixels[:, np.newaxis] - center) * step + center + offset
        return ops.maximum(0.0, 1.0 - ops.abs(mirror(source, side) - pixels))


class RandomColor(RandomLayer):
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


class RandomErase(RandomLayer):
    """Sets a square of each image to its mean color; the square may reach over the border."""

    def change(self, images: Any) -> Any:
        """Return `images` with a square erased."""
        rows, columns = (
            self.covered(images, side, self.config.erase) for side in images.shape[1:3]
        )
        inside = ops.logical_and(ops.transpose(rows, (0, 2, 1)), columns)[..., np.newaxis]
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        return images + ops.cast(inside, "float32") * (mean - images)  # faster than `where`
