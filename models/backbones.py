"""Backbones: what turns an image into features, in front of the head."""

import math
import re
import sys
import traceback
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import keras
import numpy as np

from .activations import activate
from .blocks import conv_block, convolve, normalize
from .config.features import WEIGHTS
from .config.layers import HiddenConfig
from .errors import BackboneError

# Larger maps than this are made smaller by the stem: details of a pixel seldom tell classes apart,
# and a step takes as long as its maps are large.
_LARGEST_MAP = 48
# The last maps have sides of at least this: in smaller ones, most pixels would border on padding.
_SMALLEST_MAP = 4
# Name of the first layer of `residual`, which does not learn.
WHITEN = "whiten"
# Widths of the stages, in multiples of `width`.
_WIDTHS = (1, 4, 4)
# Added to the variances of patches: directions with less than this are noise.
_LEAST_VARIANCE = 5e-4


def standardize(image: Any) -> Any:
    """Apply the layer `normalize`, which holds mean and variance of each channel.

    Adapt it to the training data; until then it returns its input.

    Args:
        image: uint8 `(batch, height, width, channels)`.

    Returns:
        float32 of the same shape.
    """
    return keras.layers.Normalization(name="normalize", dtype="float32")(image)


def residual_backbone(x: Any, width: int, depth: int, config: HiddenConfig) -> Any:
    """Apply a small residual net that adapts to the size of its input.

    The stem `whiten` turns small patches into uncorrelated directions of equal variance, of both
    signs; see `whitening_kernel`. Up to three stages follow. Each halves the maps by a convolution
    and a max pool, and continues with residual blocks of a single convolution (He et al., 2016).
    Stem and stages follow the fast nets for CIFAR-10 of Jordan (2024, arXiv 2404.00498).

    The features are those of all stages. The last stage alone tells learned classes apart as well,
    but keeps little else, so that its features serve other classes worse: training gathers each
    class at a point (Papyan et al., 2020, arXiv 2008.08186).

    Args:
        x: float32 `(batch, height, width, channels)`, standardized.
        width: channels of the first stage; the others have four times as many.
        depth: residual blocks in each stage; 0 leaves them out.
        config: settings of the hidden layers.

    Returns:
        float `(batch, features)`, the means of the last maps of each stage, named `pooled_maps`;
        9 times `width` for three stages.
    """
    x = activate(_whiten(x), config.activation, "stem")
    pooled = []
    stages = int(math.log2(max(2, min(x.shape[1:3]) / _SMALLEST_MAP)))
    for stage, factor in enumerate(_WIDTHS[-stages:], start=1):
        name = f"stage{stage}"
        x = convolve(x, factor * width, config, f"{name}_conv")
        padding = "same" if min(x.shape[1:3]) == 1 else "valid"
        x = keras.layers.MaxPooling2D(
            padding=padding, data_format="channels_last", name=f"{name}_pool"
        )(x)
        x = activate(normalize(x, config, f"{name}_norm"), config.activation, name)
        for number in range(1, depth + 1):
            block = conv_block(x, factor * width, config, f"{name}_residual{number}")
            x = keras.layers.Add(name=f"{name}_block{number}")([x, block])
        pooled.append(keras.layers.GlobalAveragePooling2D("channels_last", name=f"{name}_means")(x))
    return keras.layers.Concatenate(name="pooled_maps")(pooled)


def one_line(error: Exception) -> str:
    """Return the message of an error on one line, without the colors of a terminal."""
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())


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
        name=WHITEN,
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


def application_backbone(image: Any, name: str, weights: str) -> Any:
    """Apply a model of `keras.applications` without its head.

    Args:
        image: uint8 `(batch, height, width, channels)`; gray images become three equal channels.
        name: name of the function in `keras.applications`.
        weights: `random`, `imagenet`, or the path of a `.weights.h5` file of that model, whose head
            is ignored.

    Returns:
        float `(batch, channels)`, the means of the last maps.

    Raises:
        BackboneError: the images are too small; or the weights cannot be found, downloaded or used.
    """
    if weights not in WEIGHTS and not Path(weights).is_file():
        raise BackboneError(
            f"weights must be {' or '.join(WEIGHTS)}, or an existing file. Received: {weights}."
        )
    build = getattr(keras.applications, name)
    x = keras.layers.Rescaling(1.0, dtype="float32", name="levels")(image)
    if image.shape[-1] == 1:
        x = keras.layers.Concatenate(name="three_channels")([x, x, x])
    x = sys.modules[build.__module__].preprocess_input(x)
    try:
        with warnings.catch_warnings():  # about images of another size than that of the weights
            warnings.simplefilter("ignore")
            model = build(
                include_top=False,
                weights="imagenet" if weights == "imagenet" else None,
                input_tensor=x,
                input_shape=tuple(x.shape[1:]),
            )
    except Exception as error:  # Keras, h5py and the download each raise their own
        raise _application_error(name, weights, image.shape, error) from None
    if weights not in WEIGHTS:
        try:
            with warnings.catch_warnings():  # about each layer that does not fit
                warnings.simplefilter("ignore")
                model.load_weights(weights)
        except Exception as error:
            raise BackboneError(
                f"weights must be those of {name}. "
                f"Received: {weights}: {one_line(error).partition('. ')[0]:.200}."
            ) from None
    return keras.layers.GlobalAveragePooling2D("channels_last", name="pooled_maps")(model.output)


def _local(error: Exception, name: str) -> Any:
    """Return a local variable of the function of Keras that raised an error; None without it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((frame.f_locals[name] for frame in frames if name in frame.f_locals), None)


def _application_error(
    name: str, weights: str, shape: tuple[int, ...], error: Exception
) -> BackboneError:
    reason = one_line(error)
    if folder := _local(error, "datadir"):
        file, address = _local(error, "fname"), _local(error, "origin")  # names that may differ
        received = shorten(reason, 200, placeholder=" …")
        return BackboneError(
            f"The weights of {name} cannot be downloaded. Received: {received}. Download "
            f"{address} elsewhere, and put it into {folder} as {file}."
        )
    if place := _local(error, "weights_path"):
        return BackboneError(
            f"The weights of {name} must be a file that Keras can read. "
            f"Received: {place}: {reason:.200}. Remove it, so that Keras downloads it again."
        )
    return BackboneError(
        f"{name} cannot be built with weights={weights} for images of {shape[1]}x{shape[2]}. "
        f"Received: {reason:.200}. Set image_size to larger images, or choose another backbone."
    )
