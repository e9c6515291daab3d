"""The optimizer Muon, for the kernels of convolutions as well."""

import math
from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Makes the step of each kernel orthogonal, so that all its directions learn equally fast.

    Keras' optimizer does so for kernels of fully connected layers only; here, the kernel of a
    convolution is a matrix whose rows are its inputs. Biases, scales, embeddings and the kernels of
    excluded layers take the steps of AdamW. Both kinds of steps have the same scale, so one
    learning rate and one weight decay suit both (Jordan et al., 2024, "Muon: An optimizer for
    hidden layers in neural networks"; Liu et al., 2025, arXiv 2502.16982).
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        if len(variable.shape) != 4:
            return bool(super()._should_use_adamw(variable))
        # Each channel of a depthwise convolution has its own kernel: they form no matrix.
        return bool(variable.shape[-1] == 1)

    def lr_adjust(self, x: Any) -> Any:
        """Return a step scaled to the size of a step of AdamW."""
        rows = math.prod(x.shape[:-1])
        return x * (math.sqrt(max(rows, x.shape[-1])) * self.rms_rate)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Return the orthogonal matrix that is nearest to a kernel, in the kernel's shape."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)
