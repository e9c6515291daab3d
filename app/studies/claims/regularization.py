"""Overfitting on a small training set, and what L1, L2, dropout and normalization do to it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.data.sources import load_dataset
from app.data.splits import Splits
from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import (
    NONE,
    configure,
    digit_rows,
    learning_weights,
    plain_config,
    predictions,
    split_for_replicas,
)
from app.studies.panels import arms, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.fit import fit
from app.training.replicas import fit_replicas

TRAIN, TEST = 100, 500
# Common strengths that a practitioner would try first; none was chosen by its result.
ARMS: dict[str, dict[str, Any]] = {
    "none": {},
    "L1": {"l1": 1e-3},
    "L2": {"l2": 1e-3},
    "dropout": {"dropout": 0.5},
    "batch": {"normalization": "batch"},
    "layer": {"normalization": "layer"},
    "group": {"normalization": "group", "groups": 8},
}
# Instance normalization needs images: in a fully connected layer a channel has only one value.
IMAGE_ARMS = {"none, images": "none", "instance, images": "instance"}
NORMALIZATIONS = (("batch", "none"), ("layer", "none"), ("group", "none"),
                  ("instance, images", "none, images"))  # fmt: skip
ZERO = 1e-3  # weights below this magnitude count as zero
_MIN_PROBABILITY = 1e-7  # as in the losses of Keras


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm."""
    return {
        **{name: partial(_train, settings, effort) for name, settings in ARMS.items()},
        **{name: partial(_train_images, norm, effort) for name, norm in IMAGE_ARMS.items()},
    }


def _train(settings: Mapping[str, Any], effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    train, test = split_for_replicas(digits, seeds, TRAIN, TEST)
    shared = {"hidden": [64, 64], "batch_size": 50, "epochs": 5, "repeat": effort.choose(40, 15)}
    rate = {"optimizer.learning_rate": 3e-3}
    fitted = fit_replicas(configure({**shared, **rate, **settings}, seeds), digits, train)
    kernels = np.concatenate(
        [w.reshape(seeds, -1) for w in learning_weights(fitted.model) if w.ndim == 3], axis=1
    )
    found = predictions(fitted, digits)
    return {
        "train": _cross_entropies(found, digits.targets, train),
        "test": _cross_entropies(found, digits.targets, test),
        "zeros": (np.abs(kernels) < ZERO).mean(axis=1),
        "size": np.sqrt((kernels**2).mean(axis=1)),
    }


def _cross_entropies(found: np.ndarray, targets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the mean cross entropy of each net on its samples, in nats.

    Args:
        found: predicted probabilities, `(samples, nets, classes)`.
        targets: true class of each sample.
        indices: indices of the samples of each net, `(chosen, nets)`.
    """
    nets = np.arange(found.shape[1])
    right = found[indices, nets, targets[indices]]
    means: np.ndarray = -np.log(np.maximum(right, _MIN_PROBABILITY)).mean(axis=0)
    return means


def _train_images(normalization: str, effort: Effort) -> dict[str, Any]:
    """Train one small convolutional net after another."""
    digits = load_dataset("digits8x8")
    seeds = effort.seeds
    train, test = split_for_replicas(digits, seeds, TRAIN, TEST)
    settings = {
        "family": "digits",
        "filters": [8] if effort.quick else [8, 16],
        "hidden": [32],
        "normalization": normalization,
        "batch_size": 50,
        "epochs": 1,
        "repeat": effort.choose(100, 15),
        "optimizer.learning_rate": 3e-3,
    }
    config = plain_config(settings)
    found = []
    for seed in range(seeds):
        own = Splits(train[:, seed], NONE, NONE)
        found.append(predictions(fit(replace(config, seed=seed), digits, own), digits))
    probabilities = np.stack(found, axis=1)
    return {
        "train": _cross_entropies(probabilities, digits.targets, train),
        "test": _cross_entropies(probabilities, digits.targets, test),
    }


def _gap(numbers: Mapping[str, Any]) -> np.ndarray:
    gap: np.ndarray = np.array(numbers["test"], float) - np.array(numbers["train"], float)
    return gap


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on the weights, and on the gaps between test and training."""
    none = found["none"]
    zeros = difference(found["L1"]["zeros"], none["zeros"])
    size = difference(none["size"], found["L2"]["size"])
    checks = [
        Check(
            "l1",
            zeros.low > 0.1,
            {"fraction": f"{mean_estimate(found['L1']['zeros']):.0%}",
             "without": f"{np.mean(none['zeros']):.1%}"},
        ),
        Check(
            "l2",
            size.low > 0,
            {
                "size": f"{np.mean(found['L2']['size']):.3f}",
                "without": f"{np.mean(none['size']):.3f}",
            },
        ),
    ]  # fmt: skip
    for arm, other in (("dropout", "none"), *NORMALIZATIONS):
        smaller = difference(_gap(found[other]), _gap(found[arm]))
        figures = {"arm": arm.removesuffix(", images"), "smaller": f"{smaller:.3f}"}
        checks.append(
            Check("dropout" if arm == "dropout" else "normalization", smaller.low > 0, figures)
        )
    return checks


def draw(found: Parts, path: Path) -> None:
    """Draw the gaps, the test losses, and the fraction of weights that are nearly zero."""
    with panels(path, 3) as (left, middle, right):
        arms(
            left,
            {arm: _gap(numbers) for arm, numbers in found.items()},
            "generalization gap (nats)",
        )
        arms(middle, {arm: n["test"] for arm, n in found.items()}, "test cross entropy (nats)")
        weighed = {arm: n for arm, n in found.items() if "zeros" in n}
        arms(
            right,
            {arm: n["zeros"] for arm, n in weighed.items()},
            f"fraction of weights below {ZERO} in magnitude",
        )


STUDY = Study(10, parts, judge, draw)
