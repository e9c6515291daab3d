"""Chooses settings from the data, where the user has not set them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from app.errors import ConfigError
from models.config import ColumnsConfig

from .run_config import RunConfig, change_config, flat_config, make_config
from .training_config import SMOOTHED

_Number = TypeVar("_Number", int, float)
# Settings that apply to images only, and to rows only.
_OF_IMAGES = ("backbone", "width", "depth", "progressive_resizing", "augmentation.")
_OF_ROWS = (*(field.name for field in fields(ColumnsConfig)), "members", "wide")
# Number of epochs times the square root of the number of training images, since small data sets
# need more epochs, each of few steps; images that a training reads at most, which two cores do in
# less than 20 minutes for images of 32x32 pixels; and limits of the number of epochs.
EPOCHS = 2500
IMAGES_READ = 375_000
MIN_EPOCHS, MAX_EPOCHS = 8, 100
# Smallest side of images that grow in a training, and what an epoch of it then takes of the time of
# another, in the mean of all epochs.
LEAST_SIDE, GROWING_TIME = 64, 0.65
# Smallest number of training images for a width of `residual`. Processors multiply matrices fastest
# whose sides are powers of two.
WIDTHS = {20_000: 64, 0: 32}
# Magnitude of RandAugment for a number of training images. Few images are soon known by heart.
RANDAUGMENT = {20_000: 0.0, 0: 0.3}
# Smallest number of training images for a batch size.
BATCH_SIZES = {20_000: 256, 8_000: 128, 2_000: 64, 0: 32}
# Rows that a training reads, counted in each pass, which takes two cores less than a minute; and
# limits of the number of passes.
ROWS_READ, MIN_PASSES, MAX_PASSES = 800_000, 8, 64
# Smallest number of training rows for a number of passes in an epoch. An epoch of few steps takes
# less time than its evaluation.
REPEATS = {1_000: 1, 0: 2}
# Smallest number of training rows for a batch size and for the units of a hidden layer.
ROW_BATCH_SIZES = {20_000: 256, 5_000: 128, 1_000: 64, 0: 32}
ROW_UNITS = {5_000: 128, 0: 64}
# The same for the bins of numbers, and for the learning rate of classes.
ROW_BINS = {10_000: 48, 0: 16}
ROW_RATES = {20_000: 0.002, 0: 0.001}
# Smallest number of training rows for the dropout of classes, and for the weight decay of values,
# which tell more than classes and are learned by heart later.
ROW_DROPOUT = {20_000: 0.2, 0: 0.3}
VALUE_WEIGHT_DECAY = {10_000: 0.1, 2_000: 0.3, 0: 0.1}
# Largest number of columns for a number of members; and for numerical embeddings.
MEMBERS = {64: 8, 256: 4}
MOST_EMBEDDED = 256
# Epochs without a lower validation loss after which training stops, as a fraction of all.
PATIENCE = 0.5
# Epochs of a head on features that are computed once, and its steps if there are few samples.
HEAD_EPOCHS, HEAD_STEPS, FEW_SAMPLES = 20, 1500, 2000
# Such a head for classes or labels has, below this number of samples, an L2 penalty of this sum for
# all samples together, as scikit-learn's logistic regression with C=0.01 has. On features of
# CIFAR-10, it is 2.9 points better than weight decay with 100 images, and 0.4 points with 600. The
# loss of labels is the mean of theirs, so the penalty is divided by their number too.
FEWEST_SAMPLES, HEAD_PENALTY = 800, 50.0
# A quarter of the epochs of a backbone that was trained before are for the head alone.
PARTS_OF_HEAD = 4


def choose_defaults(
    config: RunConfig, samples: int, shape: Sequence[int], labels: int = 1
) -> RunConfig:
    """Return the configuration with the defaults that suit the data.

    Settings that the user has given stay as they are. Only the family `features` has such defaults,
    for images and for heads on the features of rows; see `image_defaults` and `row_defaults`.

    Args:
        config: the configuration of a run.
        samples: number of training samples.
        shape: shape of a sample, see `app.data.datasets.Dataset.sample_shape`.
        labels: number of labels that the loss averages over.

    Raises:
        ConfigError: a setting of images is given, but the samples are rows, or the other way
            round; or a backbone of rows is not frozen.
    """
    if config.family != "features":
        return config
    if len(shape) > 2:
        defaults = image_defaults(config, samples, shape, labels)
    else:
        defaults = row_defaults(config, samples, shape[0], labels)
    if config.training.optimizer.is_own:  # which has its own settings
        defaults = {k: v for k, v in defaults.items() if not k.startswith("optimizer.")}
    settings = flat_config(config)
    # A configuration that repeats what the data decides, such as that of a run, changes nothing.
    overridden = {
        key: value
        for key, value in defaults.items()
        if key in config.given and settings[key] != value
    }
    chosen = {key: value for key, value in defaults.items() if key not in overridden}
    return replace(change_config(config, chosen), chosen=frozenset(chosen), overridden=overridden)


def row_defaults(config: RunConfig, samples: int, columns: int, labels: int) -> dict[str, Any]:
    """Return the settings that suit rows, by flat key.

    Args:
        config: the configuration of a run.
        samples: number of training samples.
        columns: number of columns.
        labels: number of labels that the loss averages over.

    Raises:
        ConfigError: a setting of images is given, or a backbone is not frozen.
    """
    model: Any = config.model
    wrong = _changed(config, _OF_IMAGES)
    if wrong and not (model.is_trained and wrong == ["backbone"]):
        raise ConfigError(
            f"{wrong[0]} applies to images only. Received: {config.data}, which holds rows."
        )
    if not model.is_trained:
        return table_defaults(config, samples, columns)
    if "freeze" in config.given and model.freeze != "all":
        raise ConfigError(
            f"A backbone of rows must be frozen. Received: freeze={model.freeze}. Set freeze=all."
        )
    return {"freeze": "all", **head_defaults(config, samples, labels)}


def table_defaults(config: RunConfig, samples: int, columns: int) -> dict[str, Any]:
    """Return the settings of a net that learns from the columns of a table, by flat key.

    They were chosen on tables of scikit-learn and of R's packages, and on splits of the training
    rows of four tables of `benchmarks.tables`. The test rows of that split were left out, but not
    those of the other splits that the benchmark averages over.

    Args:
        config: the configuration of a run.
        samples: number of training rows.
        columns: number of columns.
    """
    model: Any = config.model
    repeat = _for_samples(REPEATS, samples)
    epochs = min(max(ROWS_READ // samples, MIN_PASSES), MAX_PASSES) // repeat
    defaults: dict[str, Any] = {
        "epochs": epochs,
        "repeat": repeat,
        "batch_size": _for_samples(ROW_BATCH_SIZES, samples),
        "patience": math.ceil(epochs * PATIENCE),
        "restore_best_weights": True,
        "validation_window": 5,
        "precision": "float32",  # matrices are too small to gain from fewer bits
        "optimizer.name": "adamw",
        "optimizer.learning_rate": _for_samples(ROW_RATES, samples),
        "optimizer.weight_decay": 0.5,
        "optimizer.warmup": 0.05,
    }
    if model.head == "linear":
        defaults |= {
            "clip_values": True,
            "optimizer.learning_rate": 0.005,
            "optimizer.weight_decay": _for_samples(VALUE_WEIGHT_DECAY, samples),
            "optimizer.beta_2": 0.95,
        }
    if not model.hidden:  # a linear model
        return defaults | {"optimizer.learning_rate": 0.01, "optimizer.weight_decay": 0.0}
    units = _for_samples(ROW_UNITS, samples)
    dropout = 0.1 if model.head == "linear" else _for_samples(ROW_DROPOUT, samples)
    return {
        **defaults,
        "scaling": "robust",
        "numeric_embedding": "piecewise" if columns <= MOST_EMBEDDED else "none",
        "num_bins": _for_samples(ROW_BINS, samples),
        "drop_binary": True,
        "max_one_hot": 32,
        "normalization": "none",
        "hidden": (units, units),
        "dropout": dropout,
        "hidden_dropout": dropout,
        "members": next((count for most, count in MEMBERS.items() if columns <= most), 1),
        "wide": True,
    }


def head_defaults(config: RunConfig, samples: int, labels: int) -> dict[str, Any]:
    """Return the settings that suit a head on features that are computed once, by flat key.

    A step takes less than a millisecond, so that even a few samples are seen often. The weight
    decay and the penalty of small data sets are those of the best logistic regression on such
    features.

    Args:
        config: the configuration of a run.
        samples: number of training samples.
        labels: number of labels that the loss averages over.
    """
    batch_size = _for_samples(BATCH_SIZES, samples)
    # More epochs than are chosen train longer, so passes depend on the batch size alone.
    is_given = "batch_size" in config.given
    steps = -(-samples // (config.training.batch_size if is_given else batch_size))
    model: Any = config.model
    has_layers = model.hidden and "hidden" in config.given
    few = {}
    if samples < FEWEST_SAMPLES and not has_layers and model.head != "linear":
        penalty = float(f"{HEAD_PENALTY / samples / labels:.3g}")
        few = {"l2": penalty, "optimizer.weight_decay": 0.0, "label_smoothing": 0.0}
    return {
        "epochs": HEAD_EPOCHS,
        "repeat": -(-HEAD_STEPS // (HEAD_EPOCHS * steps)),
        "batch_size": batch_size,
        "hidden": (),
        "dropout": 0.0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 0.01,
        "optimizer.weight_decay": 0.5 if samples < FEW_SAMPLES else 0.05,
        "optimizer.warmup": 0.2,
        **_label_smoothing(config),
        **few,
    }


def image_defaults(
    config: RunConfig, samples: int, shape: Sequence[int], labels: int
) -> dict[str, Any]:
    """Return the settings that suit images, by flat key.

    Args:
        config: the configuration of a run.
        samples: number of training images.
        shape: `(height, width, channels)` of an image.
        labels: number of labels that the loss averages over.

    Raises:
        ConfigError: a setting of rows is given.
    """
    if wrong := _changed(config, _OF_ROWS):
        raise ConfigError(
            f"{wrong[0]} applies to rows only. Received: {config.data}, which holds images."
        )
    model: Any = config.model
    # Images have been read at a size that is given.
    size = {} if "image_size" in config.given else {"image_size": tuple(shape[:2])}
    grows = _grows(config, shape)
    settings = flat_config(config)
    if settings["head_epochs"] and not model.is_pretrained:
        raise ConfigError(
            "head_epochs applies to a backbone that was trained before. "
            f"Received: head_epochs={settings['head_epochs']}, backbone={model.backbone} with "
            "random weights."
        )
    if config.learns_head_only:
        return size | head_defaults(config, samples, labels)
    is_color = shape[2] == 3
    # Values such as positions, angles and counts change with the image.
    keeps_targets = model.head != "linear"
    passes = min(EPOCHS / math.sqrt(samples), IMAGES_READ / samples)
    epochs = round(min(max(passes, MIN_EPOCHS), MAX_EPOCHS) / (GROWING_TIME if grows else 1))
    defaults: dict[str, Any] = {
        **size,
        "epochs": epochs,
        "progressive_resizing": grows,
        "batch_size": _for_samples(BATCH_SIZES, samples),
        # Gray images are often of writing, which nobody reads in a mirror.
        "augmentation.flip": is_color and keeps_targets,
        "augmentation.shift": 0.0625 if keeps_targets else 0.0,
        "optimizer.name": "adamw",
        "optimizer.weight_decay": 0.05,
        "optimizer.warmup": 0.2,
        **_label_smoothing(config),
    }
    if model.has_two_phases:
        epochs = settings["epochs"] if "epochs" in config.given else epochs
        defaults["head_epochs"] = head_epochs_of(epochs)
        if "head_epochs" in config.given:
            check_head_epochs(settings["head_epochs"], epochs)
    if settings["backbone"] != "mlp":
        # A larger rate would spoil the nets of `keras.applications`.
        rate = 5e-3 if model.is_trained else 1e-3
        defaults |= {"hidden": (), "dropout": 0.0, "optimizer.learning_rate": rate}
    if settings["backbone"] == "residual":
        defaults |= {
            "width": _for_samples(WIDTHS, samples),
            "optimizer.name": "muon",
            "optimizer.learning_rate": 0.01,
            "optimizer.weight_decay": 0.2,
        }
    if settings["backbone"] == "residual" and keeps_targets:
        defaults |= {
            "augmentation.erase": 0.25,
            "augmentation.randaugment": _for_samples(RANDAUGMENT, samples),
        }
    return defaults


def head_epochs_of(epochs: int) -> int:
    """Return the number of the epochs in which only the head of a trained backbone learns."""
    return min(max(1, epochs // PARTS_OF_HEAD), epochs - 1)


def check_head_epochs(head_epochs: int, epochs: int) -> None:
    """Raise `ConfigError` if a run has fewer epochs than those of its head."""
    if head_epochs > epochs:
        raise ConfigError(
            f"head_epochs must be at most {epochs}, the epochs of the run. "
            f"Received: head_epochs={head_epochs}."
        )


def _grows(config: RunConfig, shape: Sequence[int]) -> bool:
    """Return whether images grow in a training."""
    model: Any = config.model
    training: Any = config.training
    if "progressive_resizing" not in config.given:
        is_small = min(shape[:2]) < LEAST_SIDE
        return model.backbone == "residual" and not (is_small or model.is_frozen)
    if training.progressive_resizing and model.is_frozen:
        raise ConfigError(
            "progressive_resizing applies to a backbone that learns. Received: freeze=all."
        )
    if training.progressive_resizing and model.backbone != "residual":
        raise ConfigError(
            "progressive_resizing applies to backbone=residual only. "
            f"Received: backbone={model.backbone}."
        )
    return bool(training.progressive_resizing)


def _changed(config: RunConfig, keys: tuple[str, ...]) -> list[str]:
    """Return the keys that begin like one of `keys` and differ from the family's defaults.

    A complete configuration, such as that of a run, gives them all.
    """
    settings, defaults = flat_config(config), flat_config(make_config(config.family))
    return [k for k in settings if k.startswith(keys) and settings[k] != defaults[k]]


def _for_samples(choices: Mapping[int, _Number], samples: int) -> _Number:
    return next(value for least, value in choices.items() if samples >= least)


def _label_smoothing(config: RunConfig) -> dict[str, float]:
    is_for_labels = getattr(config.model, "head", "") != "linear"
    return (
        {"label_smoothing": 0.1}
        if is_for_labels and config.training.loss in ("auto", *SMOOTHED)
        else {}
    )
