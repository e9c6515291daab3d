"""An ensemble inside one net: members that share all weights but their input scales and heads.

Each member sees the columns multiplied by factors of its own. All go through the same hidden layers
and are trained together, each on its own loss; their mean is better than any of them (Gorishniy et
al., 2024, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling", arXiv
2410.24210, the variant TabM_mini).
"""

from typing import Any

import keras
from keras import ops

# Standard deviation of the initial factors, whose mean is 1.
_SPREAD = 0.5


class _LayerOfMembers(keras.layers.Layer):
    """A layer that knows the number of members.

    Args:
        members: number of members.
    """

    def __init__(self, members: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.members = members

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {**super().get_config(), "members": self.members}


@keras.saving.register_keras_serializable(package="hornbill")
class SplitMembers(_LayerOfMembers):
    """Gives each member the columns times its own factors, which are learned.

    Input shape: float `(batch, columns)`.
    Output shape: float `(batch * members, columns)`: the members of a sample follow each other.
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the factors."""
        self.factors = self.add_weight(
            shape=(self.members, input_shape[1]),
            initializer=keras.initializers.RandomNormal(1.0, _SPREAD),
            name="factors",
        )
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        """Return the scaled columns of each member."""
        scaled = ops.expand_dims(x, 1) * self.factors
        return ops.reshape(scaled, (-1, x.shape[1]))

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """Return shape and dtype of the output."""
        return keras.KerasTensor((None, x.shape[1]), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable(package="hornbill")
class JoinMembers(_LayerOfMembers):
    """Puts the members of each sample together again.

    Input shape: float `(batch * members, columns)`.
    Output shape: float `(batch, members, columns)`.
    """

    def call(self, x: Any) -> Any:
        """Return the members of each sample."""
        return ops.reshape(x, (-1, self.members, x.shape[1]))

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """Return shape and dtype of the output."""
        return keras.KerasTensor((None, self.members, x.shape[1]), dtype=self.compute_dtype)


def average_members(x: Any, name: str) -> Any:
    """Return the mean of the members.

    Args:
        x: float `(batch, members, columns)`.
        name: name of the layer.

    Returns:
        float32 `(batch, columns)`.
    """
    return keras.layers.GlobalAveragePooling1D(
        data_format="channels_last", dtype="float32", name=name
    )(x)


class MembersInTraining(keras.layers.Layer):
    """Applies a net with two outputs: those of the members in training, else their mean.

    Input shape: that of the net.
    Output shape: float `(batch, members, outputs)` in training, else `(batch, 1, outputs)`.

    Args:
        net: a model from an input to the outputs of the members, `(batch, members, outputs)`, and
            to their mean, `(batch, outputs)`.
    """

    def __init__(self, net: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.net = net

    def call(self, x: Any, training: bool = False) -> Any:
        """Return the outputs to compare with the targets."""
        each, mean = self.net(x, training=training)
        return each if training else ops.expand_dims(mean, 1)

    def compute_output_spec(self, x: Any, **_: Any) -> keras.KerasTensor:  # noqa: ARG002
        """Return shape and dtype of the output."""
        each, _mean = self.net.outputs
        return keras.KerasTensor((None, None, each.shape[2]), dtype=each.dtype)
