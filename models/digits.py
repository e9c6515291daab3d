"""The handwritten-digit net: one contract, several variants behind it."""

from dataclasses import dataclass
from typing import Any

import keras

from .blocks import HiddenConfig, classify, conv_block, feature_stack
from .checks import check_at_least, check_choice, check_sizes
from .ink import Binarise, FitInk, InkLevel

IMAGE_SIDE = 28
VARIANTS = ("mlp", "cnn")


@dataclass(frozen=True, kw_only=True)
class DigitNetConfig(HiddenConfig):
    """Configures `digit_net`.

    Attributes:
        variant: `mlp` (16x16 ink or no ink, fully connected) or `cnn` (28x28, convolutions).
        filters: channels of the convolution blocks of `cnn`; each block halves the image.
        hidden: units of the fully connected layers; the last is the dimension of the features.
        num_classes: classes, at least 2.
        dropout: share of the features that a training step drops.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    variant: str = "cnn"
    filters: tuple[int, ...] = (16, 32, 64)
    hidden: tuple[int, ...] = (256,)
    num_classes: int = 10
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_choice("variant", self.variant, VARIANTS)
        check_sizes("filters", self.filters)
        if len(self.filters) > 4:
            raise ValueError(
                f"filters must name at most 4 blocks, since each halves the {IMAGE_SIDE} pixels "
                f"of a side. Received: filters={self.filters!r}."
            )
        check_sizes("hidden", self.hidden)
        check_at_least("num_classes", self.num_classes, 2)


def _mlp_pixels(ink: Any) -> Any:
    # The box fills the whole 16x16, as in the Semeion digits.
    ink = FitInk(size=16, ink_size=16, centre="box", name="fit_ink")(ink)
    ink = Binarise(name="binarise")(ink)
    return keras.layers.Flatten(name="pixels")(ink)


def _cnn_maps(ink: Any, config: DigitNetConfig) -> Any:
    x = FitInk(size=IMAGE_SIDE, ink_size=20, name="fit_ink")(ink)
    x = keras.layers.Reshape((IMAGE_SIDE, IMAGE_SIDE, 1), name="channel")(x)
    for number, filters in enumerate(config.filters, start=1):
        x = conv_block(x, filters, config, f"block{number}")
    return keras.layers.Flatten(name="maps")(x)


def digit_net(config: DigitNetConfig) -> keras.Model:
    """Build a classifier of handwritten digits.

    The image may be dark on light or light on dark, of any contrast, the digit of any size and at
    any place: the graph brings it to one polarity, size and place before the variant's layers.

    Args:
        config: the model's configuration.

    Returns:
        A model from `image` uint8 `(batch, 28, 28)` to a dict with `probabilities` float32
        `(batch, num_classes)` and `features` float32 `(batch, hidden[-1])`.

    Example:
        >>> model = digit_net(DigitNetConfig(variant="mlp"))
        >>> model.output_shape
        {'probabilities': (None, 10), 'features': (None, 256)}
    """
    image = keras.Input((IMAGE_SIDE, IMAGE_SIDE), dtype="uint8", name="image")
    ink = InkLevel(name="ink_level")(image)
    x = _mlp_pixels(ink) if config.variant == "mlp" else _cnn_maps(ink, config)
    features = feature_stack(x, config.hidden, config)
    probabilities = classify(features, config.num_classes, config, config.dropout)
    outputs = {"probabilities": probabilities, "features": features}
    return keras.Model(image, outputs, name=f"digit_net_{config.variant}")
