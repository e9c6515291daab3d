"""Progressive resizing: the first epochs of a training have smaller images, and take less time.

The net learns coarse features first, for which small images suffice (Tan & Le, 2021, arXiv
2104.00298).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from app.data.reading_progress import tell
from serving.written_numbers import describe_size

# Fraction of the sides of images, but for the last third of the epochs, which has whole images.
_FRACTION, _PARTS = 2 / 3, 3
# Images do not become smaller than this.
_LEAST_SIDE = 16


class Shrink(keras.layers.Layer):
    """Makes images smaller; at first, their size stays.

    Validation has the size of training, so that the scores of an epoch can be compared.

    Input shape: uint8 `(batch, height, width, channels)`.
    Output shape: uint8 `(batch, *sides, channels)`.
    """

    def __init__(self) -> None:
        super().__init__(dtype="float32")
        self.fraction = 1.0

    def call(self, images: Any) -> Any:
        """Return `images`, with a fraction of their sides."""
        sides = sides_of(images.shape[1:3], self.fraction)
        if sides == tuple(images.shape[1:3]):
            return images
        levels = ops.image.resize(ops.cast(images, "float32"), sides, "bilinear")
        return ops.cast(ops.round(levels), images.dtype)

    def compute_output_spec(self, images: Any) -> Any:
        """Return the shape, with sides of any size."""
        batch, _height, _width, channels = images.shape
        return keras.KerasTensor((batch, None, None, channels), dtype=images.dtype)


class GrowingImages(keras.callbacks.Callback):
    """Sets the size of the images of each epoch.

    It tells other callbacks the relative work of each epoch, `params["work"]`, and the user which
    epochs have which size.

    Args:
        layer: makes images smaller.
        shape: `(height, width, channels)` of the images.
        epochs: number of epochs of the whole training.
        trained: number of epochs that are trained already.
        known: the first epoch with whole images as it was planned then, counted from 0; None if
            nothing is trained. A run that has had whole images goes on with them.
    """

    def __init__(
        self,
        layer: Shrink,
        shape: Sequence[int],
        epochs: int,
        trained: int = 0,
        known: int | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self._trained = trained
        smaller = epochs - math.ceil(epochs / _PARTS)
        if known is not None and known < trained:
            smaller = known
        self.fractions = [_FRACTION] * smaller + [1.0] * (epochs - smaller)
        self.sides = [sides_of(shape[:2], fraction) for fraction in self.fractions]
        self.work = [height * width / (shape[0] * shape[1]) for height, width in self.sides]

    @property
    def first_whole(self) -> int:
        """The first epoch whose images have the size of the last, counted from 0."""
        return self.sides.index(self.sides[-1])

    def set_params(self, params: dict[str, Any]) -> None:
        """Add the work of each epoch to the parameters, which all callbacks share."""
        super().set_params(params)
        params["work"] = self.work

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Tell which epochs have images of which size, unless all have the same."""
        (height, width), (last_height, last_width) = self.sides[0], self.sides[-1]
        if self._trained < self.first_whole:
            tell(
                f"Images are reduced to {describe_size(height, width)} pixels up to epoch "
                f"{self.first_whole} of {len(self.sides)} (progressive_resizing), and have "
                f"{describe_size(last_height, last_width)} from then on."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the size; steps are traced again for another one."""
        if self.fractions[epoch] != self.layer.fraction:
            self.layer.fraction = self.fractions[epoch]
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)


def work_of(params: Mapping[str, Any], start: int, end: int) -> float:
    """Return the work of the epochs from `start` to before `end`, relative to that of full size.

    Args:
        params: parameters of a training, see `keras.callbacks.Callback.params`.
        start: the first epoch, counted from 0.
        end: the epoch after the last.
    """
    return float(sum(params.get("work", [1] * params["epochs"])[start:end]))


def first_of_size(params: Mapping[str, Any], epoch: int) -> int:
    """Return the first of the epochs up to this one whose images have its size, from 0 on.

    Args:
        params: parameters of a training.
        epoch: an epoch, counted from 0.
    """
    work = params.get("work", [1] * params["epochs"])
    others = [before for before in range(epoch) if work[before] != work[epoch]]
    return others[-1] + 1 if others else 0


def sides_of(sides: Sequence[int], fraction: float) -> tuple[int, int]:
    """Return a fraction of two sides, in whole pixels."""
    height, width = (max(round(side * fraction), min(side, _LEAST_SIDE)) for side in sides)
    return height, width


def for_any_size(model: keras.Model) -> keras.Model:
    """Return a functional model of the same layers that takes images of any size.

    Args:
        model: a functional model of images whose layers do not depend on their size.
    """
    (image,) = model.inputs
    inputs = keras.Input((None, None, image.shape[-1]), dtype=image.dtype)
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda layer: layer)
