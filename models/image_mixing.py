"""Mixing of images and their targets: mixup and CutMix."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .random_layer import RandomLayer, to_pixels

# Shares of images in mixtures come from a sample of this size, since XLA draws no gamma numbers.
_SAMPLE = 4096


class RandomMix(RandomLayer):
    """Mixes each image of a batch with its partner, the one before it.

    mixup (Zhang et al., 2018, arXiv 1710.09412) takes the weighted mean of both images, CutMix (Yun
    et al., 2019, arXiv 1905.04899) pastes a box of the partner. If both are on, each image gets one
    of them.

    Input shape: uint8 `(batch, height, width, channels)`.
    Output shape: a tuple of the images, like the input, and the share of the partner in each,
    float32 `(batch, 1)`; outside of training it is 0.
    """

    def call(self, images: Any, training: bool = False) -> tuple[Any, Any]:
        """Return mixed images, and the share of the partner in each."""
        if not training:
            return images, ops.zeros((ops.shape(images)[0], 1))
        share = self._shares(images)  # of the partner in each pixel, (batch, height, width)
        levels = ops.cast(images, "float32")
        levels = levels + share[..., np.newaxis] * (ops.roll(levels, 1, axis=0) - levels)
        return to_pixels(levels), ops.mean(share, axis=(1, 2))[:, np.newaxis]

    def compute_output_spec(self, images: Any, **_: Any) -> tuple[Any, Any]:
        """Return shapes and dtypes of images and shares."""
        share = keras.KerasTensor((images.shape[0], 1), dtype="float32")
        return keras.KerasTensor(images.shape, dtype=images.dtype), share

    def _shares(self, images: Any) -> Any:
        mixup, cutmix = self.config.mixup, self.config.cutmix
        if not cutmix:
            return ops.broadcast_to(self._beta(images, mixup), ops.shape(images)[:3])
        box = self._box(images, ops.sqrt(self._beta(images, cutmix)))
        if not mixup:
            return box
        return ops.where(self.uniform(images, 0, 1) < 0.5, self._beta(images, mixup), box)

    def _box(self, images: Any, length: Any) -> Any:
        """Return 1 inside and 0 outside of a box, whose sides are fractions of the image's."""
        height, width = images.shape[1:3]
        rows = self.covered(images, height, length)
        columns = self.covered(images, width, length)
        return ops.cast(ops.logical_and(ops.transpose(rows, (0, 2, 1)), columns), "float32")

    def _beta(self, images: Any, concentration: float) -> Any:
        """Return a number of Beta(a, a) for each image, float32 `(batch, 1, 1)`."""
        sample = np.random.default_rng(0).beta(concentration, concentration, _SAMPLE)
        index = ops.cast(self.uniform(images, 0, _SAMPLE), "int32")
        return ops.take(sample.astype("float32"), index)


class MixingModel(keras.Model):
    """A functional model that learns from mixed images: it mixes their targets in the same way.

    Its output is that of a model, float32 `(batch, outputs)`, with the share of the partner of
    `RandomMix` as one more column.
    """

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss for mixed targets."""
        outputs, share = y_pred[:, :-1], y_pred[:, -1:]
        targets, weights = mix_targets(y, share, sample_weight)
        return super().compute_loss(x, targets, outputs, weights, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics for mixed targets."""
        outputs, share = y_pred[:, :-1], y_pred[:, -1:]
        targets, weights = mix_targets(y, share, sample_weight)
        return super().compute_metrics(x, targets, outputs, weights)


def mix_targets(targets: Any, share: Any, weights: Any = None) -> tuple[Any, Any]:
    """Return targets and weights of images that `RandomMix` has mixed.

    A weighted loss that is linear in the targets, as cross entropy is, becomes the mean of the
    losses with both targets and their weights.

    Args:
        targets: float32 `(batch, outputs)`.
        share: share of the partner, float32 `(batch, 1)`.
        weights: sample weights, float32 `(batch,)`; None if all are equal.
    """
    if weights is None:
        return targets + share * (ops.roll(targets, 1, axis=0) - targets), None
    weights = ops.reshape(weights, (-1, 1))
    own, other = (1 - share) * weights, share * ops.roll(weights, 1, axis=0)
    total = own + other
    mixed = (own * targets + other * ops.roll(targets, 1, axis=0)) / total
    return mixed, ops.squeeze(total, axis=1)
