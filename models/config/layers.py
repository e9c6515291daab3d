"""Settings that the families share: initialization, penalties, hidden layers."""

from dataclasses import dataclass
from typing import Annotated

from models.checks import check_sizes

from .limits import Above, AtLeast, Fraction, OneOf, check_limits

ACTIVATIONS = (
    "linear",
    "step",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "rrelu",
    "elu",
    "selu",
    "gelu",
    "silu",
)
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

    initializer: Annotated[str, OneOf(INITIALIZERS)] = "xavier_uniform"
    initializer_stddev: Annotated[float, Above(0)] = 0.01
    l1: Annotated[float, AtLeast(0)] = 0.0
    l2: Annotated[float, AtLeast(0)] = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self)


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

    initializer: Annotated[str, OneOf(INITIALIZERS)] = "kaiming_uniform"
    activation: Annotated[str, OneOf(ACTIVATIONS)] = "relu"
    normalization: Annotated[str, OneOf(NORMALIZATIONS)] = "batch"
    groups: Annotated[int, AtLeast(1)] = 4
    dropout: Annotated[float, Fraction()] = 0.2

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
