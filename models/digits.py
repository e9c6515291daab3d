"""The handwritten-digit net: one contract, several variants behind it."""

from dataclasses import dataclass
from typing import Any

import keras

from .activations import activate
from .blocks import HiddenConfig, conv_block, convolve, feature_stack, normalize
from .checks import check_at_least, check_choice, check_sizes
from .heads import classify
from .ink import Binarize, Denoise, FitInk, InkLevel
from .replicas import replicate

IMAGE_SIDE = 28
VARIANTS = ("mlp", "cnn", "resnet")
# Of `cnn` and `resnet`: 28 pixels can be halved as often.
MAX_STAGES = 4


@dataclass(frozen=True, kw_only=True)
class DigitNetConfig(HiddenConfig):
    """Configures `digit_net`.

    Attributes:
        variant: `mlp` (16x16 ink or no ink, fully connected), `cnn` (28x28, stages of 3x3
            convolutions) or `resnet` (the same with residual blocks: He et al., 2016).
        stem: channels of a 5x5 convolution of stride 2 before the stages of `cnn`, which makes a
            step about four times as fast; 0 is none. (`resnet` always has one.)
        filters: channels of each stage of `cnn` and `resnet`; each stage halves the image.
        convolutions: 3x3 convolutions in each stage of `cnn`; one number stands for all.
        depth: layers with weights in the longest way through `resnet`, the features and the head
            not counted: a convolution, then two for each block; the blocks are spread over the
            stages.
        hidden: units of the fully connected layers; the last is the dimension of the features.
        num_classes: classes, at least 2.
        dropout: share of the features that a training step drops.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    variant: str = "cnn"
    stem: int = 0
    filters: tuple[int, ...] = (16, 32, 64)
    convolutions: tuple[int, ...] = (1,)
    depth: int = 13
    hidden: tuple[int, ...] = (256,)
    num_classes: int = 10
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_choice("variant", self.variant, VARIANTS)
        if self.variant != "mlp":
            self._check_stages()
        self.check_widths("hidden", self.hidden)
        check_at_least("num_classes", self.num_classes, 2)

    def _check_stages(self) -> None:
        self.check_widths("filters", self.filters)
        stem = self.stem if self.variant == "cnn" else 0
        check_at_least("stem", stem, 0)
        if stem:
            self.check_widths("stem", (stem,))
        if len(self.filters) + bool(stem) > MAX_STAGES:
            raise ValueError(
                f"filters must name at most {MAX_STAGES} stages, or {MAX_STAGES - 1} behind a "
                f"stem, since each halves the {IMAGE_SIDE} pixels of a side. "
                f"Received: filters={self.filters!r}, stem={stem}."
            )
        if self.variant == "cnn":
            check_sizes("convolutions", self.convolutions)
            if len(self.convolutions) not in (1, len(self.filters)):
                raise ValueError(
                    f"convolutions must be one number, or one for each of the {len(self.filters)} "
                    f"stages. Received: convolutions={self.convolutions!r}."
                )
            return
        check_at_least("depth", self.depth, 1 + 2 * len(self.filters))
        if self.depth % 2 == 0:
            raise ValueError(
                "depth must be odd: one convolution, then two a block. "
                f"Received: depth={self.depth}. Use {self.depth - 1} or {self.depth + 1}."
            )

    @property
    def prepared_layer(self) -> str:
        """Name of the layer up to which an image is prepared alike in each epoch.

        Augmentation acts on what it gives: for `mlp` before the ink is fitted into its box, since
        a box that is filled otherwise is never met again.
        """
        return "denoise" if self.variant == "mlp" else "fit_ink"

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output is compared with the targets."""
        return "probabilities"


def _mlp_pixels(ink: Any) -> Any:
    # The box fills the whole 16x16, as in the Semeion digits.
    ink = Denoise(name="denoise")(ink)
    ink = FitInk(size=16, ink_size=16, center="box", name="fit_ink")(ink)
    ink = Binarize(name="binarize")(ink)
    return keras.layers.Flatten(name="pixels")(ink)


def _image(ink: Any) -> Any:
    ink = FitInk(size=IMAGE_SIDE, ink_size=20, name="fit_ink")(ink)
    return keras.layers.Reshape((IMAGE_SIDE, IMAGE_SIDE, 1), name="channel")(ink)


def _cnn_maps(ink: Any, config: DigitNetConfig) -> Any:
    x = _image(ink)
    if config.stem:
        x = conv_block(x, config.stem, config, "stem", kernel_size=5, strides=2)
    counts = config.convolutions * (len(config.filters) // len(config.convolutions))
    for stage, (filters, count) in enumerate(zip(config.filters, counts, strict=True), start=1):
        for number in range(1, count + 1):
            name = f"block{stage}" if count == 1 else f"block{stage}_{number}"
            x = conv_block(x, filters, config, name)
        x = keras.layers.MaxPooling2D(data_format="channels_last", name=f"block{stage}_pool")(x)
    return keras.layers.Flatten(name="maps")(x)


def _resnet_maps(ink: Any, config: DigitNetConfig) -> Any:
    first, *_ = config.filters
    # Strokes are three pixels wide: half the side keeps them, at a quarter of the time.
    x = convolve(_image(ink), first, config, "stem", kernel_size=5, strides=2)
    stages = len(config.filters)
    blocks = (config.depth - 1) // 2
    for stage, filters in enumerate(config.filters):
        # As even as can be, the later stages first.
        count = (blocks + stage) // stages
        for number in range(1, count + 1):
            is_smaller = stage > 0 and number == 1
            x = _residual_block(x, filters, config, f"block{stage + 1}_{number}", is_smaller)
    x = activate(normalize(x, config, "maps_norm"), config.activation, "maps")
    return keras.layers.GlobalAveragePooling2D("channels_last", name="pooled_maps")(x)


def _residual_block(
    x: Any, filters: int, config: DigitNetConfig, name: str, is_smaller: bool
) -> Any:
    """Add to `x` what two convolutions make of it, normalized and activated first."""
    strides = 2 if is_smaller else 1
    residual = activate(normalize(x, config, f"{name}_norm1"), config.activation, f"{name}_act1")
    if is_smaller or x.shape[-1] != filters:
        x = residual
        if is_smaller:
            # Before the convolution and not by its strides: the gradient of such kernels, of few
            # channels, writes past its memory in oneDNN as TensorFlow 2.21 has it.
            pool = keras.layers.MaxPooling2D(
                1, strides=2, data_format="channels_last", name=f"{name}_smaller"
            )
            x = pool(x)
        x = convolve(x, filters, config, f"{name}_skip", kernel_size=1)
    residual = convolve(residual, filters, config, f"{name}_conv1", strides=strides)
    residual = normalize(residual, config, f"{name}_norm2")
    residual = activate(residual, config.activation, f"{name}_act2")
    residual = convolve(residual, filters, config, f"{name}_conv2")
    return keras.layers.Add(name=name)([x, residual])


_MAPS = {
    "mlp": lambda ink, _: _mlp_pixels(ink),
    "cnn": _cnn_maps,
    "resnet": _resnet_maps,
}


def digit_net(config: DigitNetConfig, replicas: int = 0) -> keras.Model:
    """Build a classifier of handwritten digits.

    The image may be dark on light or light on dark, of any contrast, the digit of any size and at
    any place: the graph brings it to one polarity, size and place before the variant's layers.

    Args:
        config: the model's configuration.
        replicas: number of replicas to build, see `models.replicas`; 0 builds an ordinary model.

    Returns:
        A model from `image` uint8 `(batch, 28, 28)` to a dict with `probabilities` float32
        `(batch, num_classes)` and `features` float32 `(batch, hidden[-1])`.

    Example:
        >>> model = digit_net(DigitNetConfig(variant="mlp"))
        >>> model.output_shape
        {'probabilities': (None, 10), 'features': (None, 256)}
    """
    if replicas and config.variant != "mlp":
        raise ValueError(
            "Only the variant 'mlp' can be replicated. "
            f"Received: replicas={replicas}, variant={config.variant!r}."
        )
    image = keras.Input((IMAGE_SIDE, IMAGE_SIDE), dtype="uint8", name="image")
    ink = InkLevel(name="ink_level")(image)
    maps = _MAPS[config.variant](ink, config)
    features = feature_stack(replicate(maps, replicas), config.hidden, config)
    x = features
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, name="features_dropout")(x)
    probabilities = classify(x, config.num_classes, config)
    outputs = {"probabilities": probabilities, "features": features}
    return keras.Model(image, outputs, name=f"digit_net_{config.variant}")
