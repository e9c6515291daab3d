"""Layers that bring numbers to a common scale: by quartiles of the data, and by learning."""

from typing import Any

import keras
import numpy as np
from keras import ops

from .precision import Float32Layer

# Where smooth clipping levels off.
_LIMIT = 3.0
# The square of a larger number would not be finite in float32.
_LARGEST = 1e15
# How far values may lie beyond the targets of a range, as a fraction of the range.
_BEYOND = np.float32(0.25)


@keras.saving.register_keras_serializable(package="hornbill")
class RobustScale(Float32Layer):
    """Subtracts the median of each column and divides by its interquartile range.

    Where the quartiles coincide, half of the range takes the place of the interquartile range; a
    column with a single value is only shifted to 0. Outliers do not change the scale of the others
    (Holzmüller et al., 2024, "Better by Default", arXiv 2407.04491).

    Input shape: float32 `(batch, columns)`, NaN for missing values.
    Output shape: the same.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create median and scale, which change nothing until `adapt` sets them."""
        shape = (input_shape[1],)
        self.median = self.add_weight(
            shape=shape, initializer="zeros", trainable=False, name="median"
        )
        self.scale = self.add_weight(shape=shape, initializer="ones", trainable=False, name="scale")
        super().build(input_shape)

    def adapt(self, rows: np.ndarray) -> None:
        """Set median and scale to those of rows, float32 `(rows, columns)`; NaN does not count."""
        medians, scales = zip(*map(_median_and_scale, rows.T), strict=True)
        self.set_weights([np.array(medians), np.array(scales)])

    def call(self, x: Any) -> Any:
        """Return `x` centered and scaled."""
        return (x - self.median) * self.scale


def _median_and_scale(column: np.ndarray) -> tuple[float, float]:
    present = column[~np.isnan(column)].astype(np.float64)
    if not len(present):
        return 0.0, 1.0
    least, low, median, high, largest = np.quantile(present, (0, 0.25, 0.5, 0.75, 1))
    spread = high - low if high > low else (largest - least) / 2
    return median, 1 / spread if spread > 0 else 1.0


@keras.saving.register_keras_serializable(package="hornbill")
class SmoothClip(Float32Layer):
    """Clips outliers smoothly to (-3, 3): `z` becomes `z / √(1 + (z / 3)²)`.

    Outliers keep their order, but cannot dominate (Holzmüller et al., 2024).

    Input shape: float32 `(batch, columns)`, scaled, without NaN.
    Output shape: the same.
    """

    def call(self, z: Any) -> Any:
        """Return `z`, clipped."""
        z = ops.clip(z, -_LARGEST, _LARGEST)
        return z / ops.sqrt(1.0 + ops.square(z) * (1 / _LIMIT**2))


@keras.saving.register_keras_serializable(package="hornbill")
class ScaleColumns(keras.layers.Layer):
    """Multiplies each column by a factor that is learned and begins with 1.

    Useless columns get small factors, which the first fully connected layer alone learns slowly
    (Holzmüller et al., 2024).

    Input shape: float `(batch, columns)`.
    Output shape: the same.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the factors."""
        self.factors = self.add_weight(shape=(input_shape[1],), initializer="ones", name="factors")
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        """Return `x` times the factors."""
        return x * self.factors


@keras.saving.register_keras_serializable(package="hornbill")
class ClipToRange(Float32Layer):
    """Clips values to the range of the targets in the training data.

    An end of the range that several samples share is a limit, such as 0 or a cap. One of a single
    sample is chance: there, the range is a quarter longer.

    Input shape: float32 `(batch, values)`.
    Output shape: the same.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the bounds, which clip nothing until `adapt` sets them."""
        shape, largest = (input_shape[1],), float(np.finfo(np.float32).max)
        bounds = {"lowest": -largest, "highest": largest}
        self.lowest, self.highest = (
            self.add_weight(
                shape=shape,
                initializer=keras.initializers.Constant(bound),
                trainable=False,
                name=name,
            )
            for name, bound in bounds.items()
        )
        super().build(input_shape)

    def adapt(self, targets: np.ndarray) -> None:
        """Set the bounds to the range of targets, float32 `(samples, values)`."""
        lowest, highest = targets.min(axis=0), targets.max(axis=0)
        reach = _BEYOND * (highest - lowest)
        below, above = (reach * ((targets == end).sum(axis=0) == 1) for end in (lowest, highest))
        self.set_weights([lowest - below, highest + above])

    def call(self, x: Any) -> Any:
        """Return `x` within the bounds."""
        return ops.minimum(ops.maximum(x, self.lowest), self.highest)
