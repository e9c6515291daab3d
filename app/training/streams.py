"""Training on the batches of a user's pipeline, whose targets are turned in the step itself."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops


@dataclass(frozen=True)
class TargetForm:
    """How targets of a pipeline become those that the loss takes, float32 `(batch, units)`.

    Attributes:
        task: `multiclass`, `multilabel` or `regression`.
        units: number of units of the model.
        mean: mean of each value, which is subtracted, float32 `(units,)`; None for none.
        deviation: standard deviation of each value, which divides, float32 `(units,)`, above 0.
    """

    task: str
    units: int
    mean: Any = None
    deviation: Any = None

    def turn(self, targets: Any) -> Any:
        """Return the targets of a batch: class numbers become one-hot, values standardized."""
        is_single = len(targets.shape) == 1 or targets.shape[1] == 1
        if self.task == "multiclass" and is_single and self.units > 1:
            numbers = ops.reshape(ops.cast(targets, "int32"), (-1,))
            return ops.one_hot(numbers, self.units)
        if self.task == "multiclass" and self.units == 1 and not is_single:
            return ops.cast(targets[:, 1:], "float32")
        shaped = ops.reshape(ops.cast(targets, "float32"), (-1, self.units))
        if self.mean is None:
            return shaped
        return (shaped - self.mean) / self.deviation


class StreamModel(keras.Model):
    """A functional model whose training steps turn targets into those that the loss takes.

    Attributes:
        form: how.
    """

    form: TargetForm

    def train_step(self, *arguments: Any) -> Any:
        """Train on a batch."""
        *state, data = arguments
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        turned = keras.utils.pack_x_y_sample_weight(x, self.form.turn(y), weights)
        return super().train_step(*state, turned)

    def build_losses(self) -> None:
        """Build loss and metrics, for which JAX' `fit` would take targets as they come."""
        inputs = keras.tree.map_structure(
            lambda tensor: np.zeros((1, *tensor.shape[1:]), tensor.dtype), self.input
        )
        self._symbolic_build(data_batch=(inputs, np.zeros((1, self.form.units), np.float32)))
