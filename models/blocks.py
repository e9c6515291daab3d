"""Settings that the model families share, and the blocks of layers that they configure."""

from dataclasses import dataclass
from typing import Any

import keras

from .activations import ACTIVATIONS, activate
from .checks import check_above, check_at_least, check_choice, check_fraction, check_sizes
from .replicas import grouped_convolution, has_replicas, normalize_replicas, replicated_dense

NORMALIZATIONS = ("none", "batch", "layer", "instance", "group")
# Names in the literature, and Keras' names of the same distributions.
INITIALIZERS = {
    "zeros": "zeros",
    "normal": "random_normal",
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
}


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """How the weights of a layer are initialized and regularized.

    Attributes:
        initializer: initial distribution of the weights, one of `INITIALIZERS`. Xavier (Glorot &
            Bengio, 2010) suits tanh and sigmoid, Kaiming (He et al., 2015) suits ReLU and its
            variants; `normal` has mean 0.
        initializer_stddev: standard deviation of the initializer `normal`.
        l1: factor of the L1 penalty, the sum of absolute weights, in the loss.
        l2: factor of the L2 penalty, the sum of squared weights, in the loss.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    initializer: str = "xavier_uniform"
    initializer_stddev: float = 0.01
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("initializer", self.initializer, INITIALIZERS)
        check_above("initializer_stddev", self.initializer_stddev, 0)
        check_at_least("l1", self.l1, 0)
        check_at_least("l2", self.l2, 0)

    def kernel_arguments(self) -> dict[str, Any]:
        """Return the Keras arguments of a layer's kernel."""
        initializer: Any = INITIALIZERS[self.initializer]
        if self.initializer == "normal":
            initializer = keras.initializers.RandomNormal(stddev=self.initializer_stddev)
        return {
            "kernel_initializer": initializer,
            "kernel_regularizer": keras.regularizers.L1L2(l1=self.l1, l2=self.l2),
        }


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
    arguments |= config.kernel_arguments()
    if has_replicas(x):
        return replicated_dense(x, units, name, **arguments)
    return keras.layers.Dense(units, name=name, **arguments)(x)


@dataclass(frozen=True, kw_only=True)
class HiddenConfig(KernelConfig):
    """Settings of hidden layers.

    Attributes:
        activation: activation function, one of `ACTIVATIONS`.
        normalization: normalization in front of each activation: `batch` (Ioffe & Szegedy, 2015),
            `layer` (Ba et al., 2016), `instance` (Ulyanov et al., 2016), `group` (Wu & He, 2018)
            or `none`. In fully connected layers, where each channel is a single value, `instance`
            is the same as `layer`.
        groups: number of channel groups of the normalization `group`; every width must be a
            multiple of it.
        dropout: fraction of the features that dropout zeroes in front of the head in training
            (Srivastava et al., 2014).

    Raises:
        ValueError: a value is unknown or out of range.
    """

    initializer: str = "kaiming_uniform"
    activation: str = "relu"
    normalization: str = "batch"
    groups: int = 4
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("normalization", self.normalization, NORMALIZATIONS)
        check_at_least("groups", self.groups, 1)
        check_fraction("dropout", self.dropout)

    def check_widths(self, name: str, widths: tuple[int, ...]) -> None:
        """Raise `ValueError` unless the setting `name` can have these widths."""
        check_sizes(name, widths)
        if self.normalization == "group" and any(width % self.groups for width in widths):
            raise ValueError(
                f"With normalization=group, {name} must be multiples of groups={self.groups}. "
                f"Received: {name}={widths!r}."
            )
        # A channel has many values in an image, but only one in a fully connected layer.
        of_one = {"layer": 1, "instance": 1, "group": self.groups}
        of_many = {"layer": 1}
        least = 2 * (of_one if name == "hidden" else of_many).get(self.normalization, 0)
        if any(width < least for width in widths):
            raise ValueError(
                f"With normalization={self.normalization}, {name} must be at least {least}: a "
                f"single normalized value is constant. Received: {name}={widths!r}."
            )


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
        **config.kernel_arguments(),
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
