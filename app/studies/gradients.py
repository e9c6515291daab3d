"""Gradients of the loss with respect to the weights, before training."""

from typing import Any

import keras
import numpy as np


class _Recorder(keras.optimizers.Optimizer):
    """An optimizer that stores the gradients and leaves the weights unchanged."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0)

    def build(self, variables: Any) -> None:
        super().build(variables)
        self.gradients = [self.add_variable_from_reference(v, "gradient") for v in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: ARG002
        self.gradients[self._get_variable_index(variable)].assign(gradient)


def gradients(model: keras.Model, inputs: Any, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradient of the cross entropy with respect to each weight, by the weight's path.

    Args:
        model: several nets with a softmax head, from `build_replicas`.
        inputs: the output of `prepared`, `(samples, nets, columns)`.
        targets: one-hot `(samples, classes)`; the loss of each net is the mean over samples.
    """
    learning = keras.Model(
        model.get_layer("replicas").output, model.get_layer("probabilities").output
    )
    nets = inputs.shape[1]
    recorder = _Recorder()
    loss = keras.losses.CategoricalCrossentropy()
    learning.compile(recorder, loss, loss_weights=[float(nets)], run_eagerly=True)
    learning.train_on_batch(inputs, np.repeat(targets[:, np.newaxis], nets, axis=1))
    variables = learning.trainable_variables
    return {
        variable.path: keras.ops.convert_to_numpy(gradient)
        for variable, gradient in zip(variables, recorder.gradients, strict=True)
    }
