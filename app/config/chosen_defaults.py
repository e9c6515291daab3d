"""Chooses settings from the data, where the user has not set them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.errors import ConfigError

from .run_config import RunConfig, change_config, flat_config, make_config

# Settings that apply to images only.
_OF_IMAGES = ("backbone", "width", "depth", "augmentation.")
# Number of epochs times the square root of the number of training images, and limits of the number
# of epochs. Small data sets need more epochs, since each has few steps.
_EPOCHS = 2500
_MIN_EPOCHS, _MAX_EPOCHS = 8, 100
# Smallest number of training images for a width of `residual`.
_WIDTHS = {20_000: 48, 0: 32}
# Smallest number of training images for a batch size.
_BATCH_SIZES = {20_000: 256, 8_000: 128, 2_000: 64, 0: 32}


def choose_defaults(config: RunConfig, samples: int, shape: Sequence[int]) -> RunConfig:
    """Return the configuration with the defaults that suit the data.

    Settings that the user has given stay as they are. Only the family `features` has such defaults,
    for images; see `image_defaults`.

    Args:
        config: the configuration of a run.
        samples: number of training samples.
        shape: shape of a sample.

    Raises:
        ConfigError: a setting of images is given, but the samples are rows.
    """
    if config.family != "features":
        return config
    if len(shape) < 3:
        settings, defaults = flat_config(config), flat_config(make_config(config.family))
        # A complete configuration, such as that of a run, gives them all.
        wrong = [k for k in settings if k.startswith(_OF_IMAGES) and settings[k] != defaults[k]]
        if wrong:
            raise ConfigError(
                f"{wrong[0]} applies to images only. Received: {config.data}, which holds rows."
            )
        return config
    defaults = image_defaults(config, samples, shape)
    chosen = {key: value for key, value in defaults.items() if key not in config.given}
    return replace(change_config(config, chosen), chosen=frozenset(chosen))


def image_defaults(config: RunConfig, samples: int, shape: Sequence[int]) -> dict[str, Any]:
    """Return the settings that suit images, by flat key.

    Args:
        config: the configuration of a run.
        samples: number of training images.
        shape: `(height, width, channels)` of an image.
    """
    is_color = shape[2] == 3
    settings = flat_config(config)
    defaults: dict[str, Any] = {
        "image_size": tuple(shape[:2]),
        "epochs": min(max(round(_EPOCHS / math.sqrt(samples)), _MIN_EPOCHS), _MAX_EPOCHS),
        "batch_size": _for_samples(_BATCH_SIZES, samples),
        # Gray images are often of writing, which nobody reads in a mirror.
        "augmentation.flip": is_color,
        "augmentation.shift": 0.0625,
        "optimizer.name": "adamw",
        "optimizer.weight_decay": 0.05,
        "optimizer.warmup": 0.2,
    }
    if settings["head"] != "linear" and settings["loss"] in ("auto", "cross_entropy"):
        defaults["label_smoothing"] = 0.1
    if settings["backbone"] != "mlp":
        # A larger rate would spoil weights that were learned before.
        defaults |= {"hidden": (), "dropout": 0.0, "optimizer.learning_rate": 1e-3}
    if settings["backbone"] == "residual":
        defaults |= {
            "width": _for_samples(_WIDTHS, samples),
            "optimizer.name": "muon",
            "optimizer.learning_rate": 0.01,
            "optimizer.weight_decay": 0.2,
            "augmentation.erase": 0.25,
        }
    return defaults


def _for_samples(choices: Mapping[int, int], samples: int) -> int:
    return next(value for least, value in choices.items() if samples >= least)
