"""The blocks of layers that the model families share."""

from typing import Any

import keras

from .activations import activate
from .config.layers import INITIALIZERS, HiddenConfig, KernelConfig
from .replicas import grouped_convolution, has_replicas, normalize_replicas, replicated_dense


def dense(x: Any, units: int, config: KernelConfig, name: str, **arguments: Any) -> Any:
    """Apply a fully connected layer; each replica has separate weights.

    Args:
        x: float `(batch, columns)`, or `(batch, replicas, columns)`.
        units: width of the result.
        config: how the weights are initialized and regularized.
        name: name of the layer.
        arguments: further arguments of `keras.layers.Dense`.

    Returns:
        float `(batch, units)`, or `(batch, replicas, units)`.
    """
    arguments |= _kernel_arguments(config)
    if has_replicas(x):
        return replicated_dense(x, units, name, **arguments)
    return keras.layers.Dense(units, name=name, **arguments)(x)


def normalize(x: Any, config: HiddenConfig, name: str) -> Any:
    """Apply the normalization of `config` as the layer `name`.

    Args:
        x: float `(batch, columns)`, `(batch, replicas, columns)` or
            `(batch, height, width, channels)`.
        config: settings of the hidden layers.
        name: name of the layer.

    Returns:
        float of the same shape; `x` itself for `none`.
    """
    if has_replicas(x):
        return normalize_replicas(x, config.normalization, config.groups, name)
    is_dense = len(x.shape) == 2
    if config.normalization == "batch":
        return keras.layers.BatchNormalization(name=name)(x)
    if config.normalization == "layer" or (config.normalization == "instance" and is_dense):
        return keras.layers.LayerNormalization(name=name)(x)
    if config.normalization in ("instance", "group"):
        groups = -1 if config.normalization == "instance" else config.groups
        return keras.layers.GroupNormalization(groups, name=name)(x)
    return x


def dense_block(x: Any, units: int, config: HiddenConfig, name: str) -> Any:
    """Apply a fully connected layer, its normalization and its activation.

    Args:
        x: float32 `(batch, columns)`, or `(batch, replicas, columns)`.
        units: width of the result.
        config: settings of the hidden layers.
        name: name of the activation, the block's output.

    Returns:
        float32 `(batch, units)`, or `(batch, replicas, units)`.
    """
    has_bias = config.normalization == "none"  # a normalization has its own bias
    x = dense(x, units, config, f"{name}_dense", use_bias=has_bias)
    return activate(normalize(x, config, f"{name}_norm"), config.activation, name)


def convolve(x: Any, filters: int, config: HiddenConfig, name: str, **arguments: Any) -> Any:
    """Apply a padded convolution: only its stride changes the size.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: channels of the result, for each replica if there are any.
        config: settings of the hidden layers.
        name: name of the layer.
        arguments: further arguments of `keras.layers.Conv2D`; `kernel_size` is 3 by default.
            `replicas` is the number of replicas whose channels `x` has, see `models.replicas`.

    Returns:
        float `(batch, height, width, filters)`, with height and width divided by the stride.
    """
    arguments = {
        "kernel_size": 3,
        "padding": "same",
        "use_bias": config.normalization == "none",
        "data_format": "channels_last",
        "name": name,
        **_kernel_arguments(config),
        **arguments,
    }
    if replicas := arguments.pop("replicas", 0):
        return grouped_convolution(filters, replicas, **arguments)(x)
    return keras.layers.Conv2D(filters, **arguments)(x)


def conv_block(x: Any, filters: int, config: HiddenConfig, name: str, **arguments: Any) -> Any:
    """Apply a 3x3 convolution, its normalization and its activation.

    Args:
        x: float `(batch, height, width, channels)`.
        filters: channels of the result.
        config: settings of the hidden layers.
        name: name of the activation, the block's output.
        arguments: see `convolve`.

    Returns:
        float `(batch, height, width, filters)`.
    """
    x = convolve(x, filters, config, f"{name}_conv", **arguments)
    x = normalize(x, config, f"{name}_norm")
    return activate(x, config.activation, name)


def feature_stack(
    x: Any,
    hidden: tuple[int, ...],
    config: HiddenConfig,
    residual: bool = False,
    dropout: float = 0.0,
) -> Any:
    """Apply a dense block for each of `hidden`; the last one is named `features`.

    Args:
        x: float32 `(batch, columns)`, or `(batch, replicas, columns)`.
        hidden: units of each layer; if empty, `x` itself is returned.
        config: settings of the hidden layers.
        residual: whether blocks that keep the width add their input to their output (He et al.,
            2016).
        dropout: fraction of the units that dropout zeroes between two blocks in training.

    Returns:
        float32 `(batch, hidden[-1])`, or `(batch, replicas, hidden[-1])`.
    """
    for number, units in enumerate(hidden, start=1):
        name = "features" if number == len(hidden) else f"hidden{number}"
        if dropout and number > 1:
            x = keras.layers.Dropout(dropout, name=f"hidden{number - 1}_dropout")(x)
        if residual and x.shape[-1] == units:
            x = keras.layers.Add(name=name)([x, dense_block(x, units, config, f"{name}_residual")])
        else:
            x = dense_block(x, units, config, name)
    return x


def _kernel_arguments(config: KernelConfig) -> dict[str, Any]:
    """Return the Keras arguments of a layer's kernel."""
    initializer: Any = INITIALIZERS[config.initializer]
    if config.initializer == "normal":
        initializer = keras.initializers.RandomNormal(stddev=config.initializer_stddev)
    return {
        "kernel_initializer": initializer,
        "kernel_regularizer": keras.regularizers.L1L2(l1=config.l1, l2=config.l2),
    }
