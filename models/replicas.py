"""Replicas: several models of one architecture that train side by side in one Keras model.

Each replica has separate weights, and one training step updates all of them. After the layer
`replicas`, every tensor has an axis for the replicas, right after the batch axis; in images, the
channels of all replicas lie side by side. Studies train replicas; exported models never have them.
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


@keras.saving.register_keras_serializable(package="hornbill")
class GroupedInitializer(keras.initializers.Initializer):
    """Draws the kernel of a grouped convolution as for one convolution in each group.

    Args:
        initializer: initializer of the kernel of a group.
        groups: number of groups.
    """

    def __init__(self, initializer: Any, groups: int) -> None:
        self.initializer = keras.initializers.get(initializer)
        self.groups = groups

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return a kernel `(height, width, channels, groups * filters)`."""
        *window, filters = shape
        one = (*window, filters // self.groups)
        kernels = [self.initializer.clone()(one, dtype) for _ in range(self.groups)]
        return ops.concatenate(kernels, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the initializer."""
        initializer = keras.initializers.serialize(self.initializer)
        return {"initializer": initializer, "groups": self.groups}


def replicate(x: Any, replicas: int) -> Any:
    """Give the same columns to every replica.

    Args:
        x: float `(batch, columns)`.
        replicas: number of replicas; 0 builds an ordinary model.

    Returns:
        float `(batch, replicas, columns)`, the layer `replicas`; `x` itself if there are none.
    """
    return keras.layers.RepeatVector(replicas, name="replicas")(x) if replicas else x


def replicate_image(x: Any, replicas: int) -> Any:
    """Give the same image to every replica, as a channel of one image.

    Args:
        x: float `(batch, height, width)`.
        replicas: number of replicas; 0 builds an ordinary model.

    Returns:
        float `(batch, height, width, channels)` with a channel for each replica; with a single one
        if there are none.
    """
    height, width = x.shape[1:]
    if replicas:
        x = replicate(keras.layers.Flatten(name="pixels")(x), replicas)
        x = keras.layers.Permute((2, 1), name="pixels_first")(x)
    return keras.layers.Reshape((height, width, max(replicas, 1)), name="channel")(x)


def flatten_image(x: Any, replicas: int, name: str) -> Any:
    """Return the columns of an image.

    Args:
        x: float `(batch, height, width, channels)`; the channels of a replica lie side by side.
        replicas: number of replicas; 0 if there are none.
        name: name of the layer.

    Returns:
        float `(batch, replicas, columns)`; `(batch, columns)` if there are no replicas.
    """
    if not replicas:
        return keras.layers.Flatten(name=name)(x)
    height, width, channels = x.shape[1:]
    x = keras.layers.Reshape((height * width, replicas, channels // replicas))(x)
    x = keras.layers.Permute((2, 1, 3))(x)
    return keras.layers.Reshape((replicas, height * width * channels // replicas), name=name)(x)


@keras.saving.register_keras_serializable(package="hornbill")
class GroupedConv2D(keras.layers.Conv2D):
    """A grouped convolution as one convolution for each group.

    With TensorFlow, Keras compiles a grouped convolution by XLA, whose gradient takes ten times as
    long on a CPU.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Return the convolution of each group of channels with its part of the kernel."""
        parts = [ops.split(tensor, self.groups, axis=-1) for tensor in (inputs, kernel)]
        convolve = super().convolution_op
        return ops.concatenate([convolve(*pair) for pair in zip(*parts, strict=True)], axis=-1)


def grouped_convolution(filters: int, replicas: int, **arguments: Any) -> keras.layers.Layer:
    """Return a convolution in which each replica has a kernel for its own channels.

    Args:
        filters: channels of the result, for each replica.
        replicas: number of replicas.
        arguments: arguments of `keras.layers.Conv2D`.
    """
    arguments["kernel_initializer"] = GroupedInitializer(arguments["kernel_initializer"], replicas)
    return GroupedConv2D(filters * replicas, groups=replicas, **arguments)


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
