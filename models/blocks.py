"""The knobs that the families share, and the blocks of layers that they turn."""

from dataclasses import dataclass
from typing import Any

import keras

from .checks import check_at_least, check_choice, check_fraction

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu")
NORMALIZATIONS = ("none", "batch", "layer")
# The literature's names, and Keras' for the same distributions.
INITIALIZERS = {
    "zeros": "zeros",
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
}


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """How the weights of a layer start and how they are kept small.

    Attributes:
        initializer: one of `INITIALIZERS`: zeros; Xavier (Glorot & Bengio, 2010), which suits
            tanh and sigmoid; Kaiming (He et al., 2015), which suits ReLU and its kin.
        l1: weight of the sum of absolute weights in the loss.
        l2: weight of the sum of squared weights in the loss.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    initializer: str = "xavier_uniform"
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("initializer", self.initializer, INITIALIZERS)
        check_at_least("l1", self.l1, 0)
        check_at_least("l2", self.l2, 0)

    def kernel_arguments(self) -> dict[str, Any]:
        """Return the Keras arguments of a layer's kernel."""
        return {
            "kernel_initializer": INITIALIZERS[self.initializer],
            "kernel_regularizer": keras.regularizers.L1L2(l1=self.l1, l2=self.l2),
        }


@dataclass(frozen=True, kw_only=True)
class HiddenConfig(KernelConfig):
    """The knobs of hidden layers.

    Attributes:
        activation: one of `ACTIVATIONS`, Keras' functions of these names.
        normalization: `batch` (Ioffe & Szegedy, 2015), `layer` (Ba et al., 2016) or `none`,
            between each layer's product and its activation.
        dropout: share of the features that a training step drops before the head
            (Srivastava et al., 2014).

    Raises:
        ValueError: a value is unknown or out of range.
    """

    initializer: str = "kaiming_uniform"
    activation: str = "relu"
    normalization: str = "batch"
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("normalization", self.normalization, NORMALIZATIONS)
        check_fraction("dropout", self.dropout)


def _normalize_and_activate(x: Any, config: HiddenConfig, role: str, name: str) -> Any:
    if config.normalization == "batch":
        x = keras.layers.BatchNormalization(name=f"{name}_{role}_norm")(x)
    elif config.normalization == "layer":
        x = keras.layers.LayerNormalization(name=f"{name}_{role}_norm")(x)
    return keras.layers.Activation(config.activation, name=name)(x)


def dense_block(x: Any, units: int, config: HiddenConfig, name: str) -> Any:
    """Apply a fully connected layer, its normalisation and its activation.

    Args:
        x: float32 `(batch, columns)`.
        units: width of the result.
        config: the knobs.
        name: name of the activation, the block's output.

    Returns:
        float32 `(batch, units)`.
    """
    dense = keras.layers.Dense(
        units,
        use_bias=config.normalization == "none",  # a normalisation brings its own
        name=f"{name}_dense",
        **config.kernel_arguments(),
    )
    return _normalize_and_activate(dense(x), config, "dense", name)


def conv_block(x: Any, filters: int, config: HiddenConfig, name: str) -> Any:
    """Apply a 3x3 convolution, its normalisation and activation, and halve the image.

    Args:
        x: float32 `(batch, height, width, channels)`.
        filters: channels of the result.
        config: the knobs.
        name: name of the activation; the pooling that follows is `<name>_pool`.

    Returns:
        float32 `(batch, height // 2, width // 2, filters)`.
    """
    convolution = keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=config.normalization == "none",
        name=f"{name}_conv",
        **config.kernel_arguments(),
    )
    x = _normalize_and_activate(convolution(x), config, "conv", name)
    return keras.layers.MaxPooling2D(name=f"{name}_pool")(x)


def feature_stack(x: Any, hidden: tuple[int, ...], config: HiddenConfig) -> Any:
    """Apply one dense block for each of `hidden`; the last is named `features`.

    Args:
        x: float32 `(batch, columns)`.
        hidden: units of each layer.
        config: the knobs.

    Returns:
        float32 `(batch, hidden[-1])`.
    """
    for number, units in enumerate(hidden[:-1], start=1):
        x = dense_block(x, units, config, f"hidden{number}")
    return dense_block(x, hidden[-1], config, "features")


def classify(features: Any, num_classes: int, config: KernelConfig, dropout: float = 0.0) -> Any:
    """Apply the softmax classifier that sits on top of every family.

    Args:
        features: float32 `(batch, dimension)`.
        num_classes: classes.
        config: how the weights start and are kept small.
        dropout: share of the features that a training step drops.

    Returns:
        float32 `(batch, num_classes)`, named `probabilities`, each row summing to 1.
    """
    if dropout:
        features = keras.layers.Dropout(dropout, name="features_dropout")(features)
    head = keras.layers.Dense(
        num_classes, activation="softmax", name="probabilities", **config.kernel_arguments()
    )
    return head(features)
