"""Backbones: what turns an image into features, in front of the head."""

import math
from typing import Any

import keras
import numpy as np

from .activations import activate
from .blocks import HiddenConfig, conv_block, convolve, normalize

BACKBONES = ("residual", "mlp")
# Larger maps than this are made smaller by the stem: details of a pixel seldom tell classes apart,
# and a step takes as long as its maps are large.
_LARGEST_MAP = 48
# The last maps have sides of at least this: in smaller ones, most pixels would border on padding.
_SMALLEST_MAP = 4
# Widths of the stages, in multiples of `width`.
_WIDTHS = (1, 4, 8)
# Added to the variances of patches: directions with less than this are noise.
_LEAST_VARIANCE = 5e-4


def image_input(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the input of a model of images, and the standardized images.

    The layer `normalize` holds mean and variance of each channel. Adapt it to the training data;
    until then it returns its input.

    Args:
        shape: `(height, width, channels)`.

    Returns:
        `image` uint8 `(batch, height, width, channels)`, and float32 of the same shape.
    """
    image = keras.Input(shape, dtype="uint8", name="image")
    return image, keras.layers.Normalization(name="normalize", dtype="float32")(image)


def residual_backbone(x: Any, width: int, depth: int, config: HiddenConfig) -> Any:
    """Apply a small residual net that adapts to the size of its input.

    The stem `whiten` turns small patches into uncorrelated directions of equal variance, of both
    signs; see `whitening_kernel`. Up to three stages follow. Each halves the maps by a convolution
    and a max pool, and continues with residual blocks of a single convolution (He et al., 2016).
    Stem and stages follow the fast nets for CIFAR-10 of Jordan (2024, arXiv 2404.00498).

    Args:
        x: float32 `(batch, height, width, channels)`, standardized.
        width: channels of the first stage; the last has eight times as many.
        depth: residual blocks in each stage; 0 leaves them out.
        config: settings of the hidden layers.

    Returns:
        float `(batch, 8 * width)`, the means of the last maps, named `pooled_maps`.
    """
    x = activate(_whiten(x), config.activation, "stem")
    stages = int(math.log2(max(2, min(x.shape[1:3]) / _SMALLEST_MAP)))
    for stage, factor in enumerate(_WIDTHS[-stages:], start=1):
        name = f"stage{stage}"
        x = convolve(x, factor * width, config, f"{name}_conv")
        x = keras.layers.MaxPooling2D(data_format="channels_last", name=f"{name}_pool")(x)
        x = activate(normalize(x, config, f"{name}_norm"), config.activation, name)
        for number in range(1, depth + 1):
            block = conv_block(x, factor * width, config, f"{name}_residual{number}")
            x = keras.layers.Add(name=f"{name}_block{number}")([x, block])
    return keras.layers.GlobalAveragePooling2D("channels_last", name="pooled_maps")(x)


def _whiten(x: Any) -> Any:
    """Apply the frozen convolution `whiten`, whose stride brings large images to 48 pixels."""
    stride = 1
    while max(x.shape[1:3]) // stride > _LARGEST_MAP:
        stride *= 2
    size = max(2, stride)
    layer = keras.layers.Conv2D(
        2 * size * size * x.shape[-1],
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        data_format="channels_last",
        trainable=False,
        dtype="float32",
        name="whiten",
    )
    return layer(x)


def whitening_kernel(patches: np.ndarray) -> np.ndarray:
    """Return the kernel of a convolution that whitens patches, once with each sign.

    Args:
        patches: float `(patches, height, width, channels)`, standardized.

    Returns:
        float32 `(height, width, channels, 2 * height * width * channels)`. The first half of the
        outputs are the principal components of the patches, each divided by its standard
        deviation; the second half are their negatives.
    """
    rows = patches.reshape(len(patches), -1).astype(np.float64)
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    components = directions / np.sqrt(variances + _LEAST_VARIANCE)  # (pixels, components)
    kernel = components.reshape(*patches.shape[1:], -1)
    return np.concatenate([kernel, -kernel], axis=-1).astype(np.float32)
