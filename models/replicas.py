"""Replicas: several models of one architecture that train side by side in one Keras model.

Each replica has separate weights, and one training step updates all of them. After the layer
`replicas`, every tensor has an axis for the replicas, right after the batch axis. Only fully
connected layers can be replicated. Studies train replicas; exported models never have them.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="hornbill")
class ReplicaInitializer(keras.initializers.Initializer):
    """Draws the kernel of each replica as for a single model.

    Args:
        initializer: initializer of a single kernel.
    """

    def __init__(self, initializer: Any) -> None:
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return kernels `(replicas, columns, units)`."""
        replicas, *kernel = shape
        return ops.stack([self.initializer.clone()(kernel, dtype) for _ in range(replicas)])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the initializer."""
        return {"initializer": keras.initializers.serialize(self.initializer)}


def replicate(x: Any, replicas: int) -> Any:
    """Give the same columns to every replica.

    Args:
        x: float `(batch, columns)`.
        replicas: number of replicas; 0 builds an ordinary model.

    Returns:
        float `(batch, replicas, columns)`, the layer `replicas`; `x` itself if there are none.
    """
    return keras.layers.RepeatVector(replicas, name="replicas")(x) if replicas else x


def has_replicas(x: Any) -> bool:
    """Return whether `x` has an axis of replicas, as every tensor after the layer `replicas`."""
    return len(x.shape) == 3


def replicated_dense(x: Any, units: int, name: str, **arguments: Any) -> Any:
    """Apply a fully connected layer with a kernel and a bias for each replica.

    Args:
        x: float `(batch, replicas, columns)`.
        units: width of the result.
        name: name of the layer.
        arguments: arguments of `keras.layers.Dense`.

    Returns:
        float `(batch, replicas, units)`.
    """
    arguments["kernel_initializer"] = ReplicaInitializer(arguments["kernel_initializer"])
    bias_axes = "no" if arguments.pop("use_bias", True) else None
    shape = (x.shape[1], units)
    layer = keras.layers.EinsumDense(
        "bni,nio->bno", shape, bias_axes=bias_axes, name=name, **arguments
    )
    return layer(x)


def normalize_replicas(x: Any, normalization: str, groups: int, name: str) -> Any:
    """Apply a normalization in which each unit of each replica is a separate channel.

    Args:
        x: float `(batch, replicas, units)`.
        normalization: `none`, `batch`, `layer`, `instance` or `group`.
        groups: groups of units for the normalization `group`.
        name: name of the layer.

    Returns:
        float of the same shape.
    """
    if normalization == "none":
        return x
    replicas, units = x.shape[1:]
    channels = keras.layers.Flatten(name=f"{name}_channels")(x)
    if normalization == "batch":
        channels = keras.layers.BatchNormalization(name=name)(channels)
    else:
        groups = replicas * (groups if normalization == "group" else 1)
        channels = keras.layers.GroupNormalization(groups, name=name)(channels)
    return keras.layers.Reshape((replicas, units), name=f"{name}_replicas")(channels)
