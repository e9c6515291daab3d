"""The handwritten-digit net: several variants with the same input and outputs."""

from typing import Any

import keras

from .activations import activate
from .blocks import conv_block, convolve, feature_stack, normalize
from .config.digits import IMAGE_SIDE, DigitNetConfig
from .heads import classify
from .ink import Binarize, Denoise, FitInk, InkLevel
from .replicas import flatten_image, replicate, replicate_image


def _mlp_pixels(ink: Any, _config: DigitNetConfig, replicas: int) -> Any:
    # The bounding box fills the 16x16 pixels, as in the Semeion data set.
    ink = Denoise(name="denoise")(ink)
    ink = FitInk(size=16, ink_size=16, center="box", name="fit_ink")(ink)
    ink = Binarize(name="binarize")(ink)
    return replicate(keras.layers.Flatten(name="pixels")(ink), replicas)


def _image(ink: Any, replicas: int = 0) -> Any:
    return replicate_image(FitInk(size=IMAGE_SIDE, ink_size=20, name="fit_ink")(ink), replicas)


def _cnn_maps(ink: Any, config: DigitNetConfig, replicas: int) -> Any:
    x = _image(ink, replicas)
    if config.stem:
        x = conv_block(x, config.stem, config, "stem", kernel_size=5, strides=2, replicas=replicas)
    counts = config.convolutions * (len(config.filters) // len(config.convolutions))
    for stage, (filters, count) in enumerate(zip(config.filters, counts, strict=True), start=1):
        for number in range(1, count + 1):
            name = f"block{stage}" if count == 1 else f"block{stage}_{number}"
            x = conv_block(x, filters, config, name, replicas=replicas)
        x = keras.layers.MaxPooling2D(data_format="channels_last", name=f"block{stage}_pool")(x)
    return flatten_image(x, replicas, "maps")


def _resnet_maps(ink: Any, config: DigitNetConfig, _replicas: int) -> Any:
    first, *_ = config.filters
    # Strokes are three pixels wide: they survive at half the resolution, in a quarter of the time.
    x = convolve(_image(ink), first, config, "stem", kernel_size=5, strides=2)
    stages = len(config.filters)
    blocks = (config.depth - 1) // 2
    for stage, filters in enumerate(config.filters):
        # Spread evenly; later stages get the remaining blocks.
        count = (blocks + stage) // stages
        for number in range(1, count + 1):
            is_smaller = stage > 0 and number == 1
            x = _residual_block(x, filters, config, f"block{stage + 1}_{number}", is_smaller)
    x = activate(normalize(x, config, "maps_norm"), config.activation, "maps")
    return keras.layers.GlobalAveragePooling2D("channels_last", name="pooled_maps")(x)


def _residual_block(
    x: Any, filters: int, config: DigitNetConfig, name: str, is_smaller: bool
) -> Any:
    """Add two convolutions of `x`, each after a normalization and an activation, to `x`."""
    strides = 2 if is_smaller else 1
    residual = activate(normalize(x, config, f"{name}_norm1"), config.activation, f"{name}_act1")
    if is_smaller or x.shape[-1] != filters:
        x = residual
        if is_smaller:
            # A pool instead of a convolution with strides: in TensorFlow 2.21, oneDNN writes past
            # its memory in the gradient of such small kernels.
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


_MAPS = {"mlp": _mlp_pixels, "cnn": _cnn_maps, "resnet": _resnet_maps}
# With these, channels that lie side by side do not mix.
_REPLICATED = ("none", "batch", "instance")


def digit_net(config: DigitNetConfig, replicas: int = 0) -> keras.Model:
    """Build a classifier of handwritten digits.

    The digit may be dark on light or light on dark, of any contrast and size, and anywhere in the
    image: the graph normalizes polarity, size and position before the layers of the variant.

    Args:
        config: the model's configuration.
        replicas: number of replicas to build, see `models.replicas`; 0 builds an ordinary model.

    Returns:
        A model from `image` uint8 `(batch, 28, 28)` to a dict with `probabilities` float32
        `(batch, num_classes)` and `features` float32 `(batch, hidden[-1])`.

    Examples:
        >>> model = digit_net(DigitNetConfig(variant="mlp"))
        >>> model.output_shape
        {'probabilities': (None, 10), 'features': (None, 256)}
    """
    can_mix = config.variant != "mlp" and config.normalization not in _REPLICATED
    if replicas and (can_mix or config.variant == "resnet"):
        raise ValueError(
            "Only the variants 'mlp', and 'cnn' with a normalization of "
            f"{', '.join(_REPLICATED)}, can be replicated. Received: replicas={replicas}, "
            f"variant={config.variant!r}, normalization={config.normalization!r}."
        )
    image = keras.Input((IMAGE_SIDE, IMAGE_SIDE), dtype="uint8", name="image")
    ink = InkLevel(name="ink_level")(image)
    maps = _MAPS[config.variant](ink, config, replicas)
    features = feature_stack(maps, config.hidden, config)
    x = features
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, name="features_dropout")(x)
    probabilities = classify(x, config.num_classes, config)
    outputs = {"probabilities": probabilities, "features": features}
    return keras.Model(image, outputs, name=f"digit_net_{config.variant}")
