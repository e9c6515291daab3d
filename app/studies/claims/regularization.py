"""Overfitting on a small training set, and what L1, L2, dropout and normalization do to it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.evaluation.estimates import difference, mean_estimate, points
from app.studies.nets import (
    configure,
    digit_rows,
    learning_weights,
    predictions,
    split_for_replicas,
)
from app.studies.panels import PLAIN, arms, panels
from app.studies.signs import HOLDS, below, every
from app.studies.study import Claim, Effort, Parts, Study, compared, provided
from app.training.fit import FitResult
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
# The names in figures, where they differ.
LABELS = {
    "batch": "batch\nnormalization",
    "layer": "layer\nnormalization",
    "group": "group\nnormalization",
    "none, images": "images, none",
    "instance, images": "images, instance\nnormalization",
}
LEARNED = 0.1  # training loss, in nats, below which a net has learned its samples
ZERO = 1e-3  # weights below this magnitude count as zero
_MIN_PROBABILITY = 1e-7  # as in the losses of Keras


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm."""
    return {
        **{name: partial(_train, settings, effort) for name, settings in ARMS.items()},
        **{name: partial(_train_images, norm, effort) for name, norm in IMAGE_ARMS.items()},
    }


def _train(settings: Mapping[str, Any], effort: Effort) -> dict[str, Any]:
    shared = {"hidden": [64, 64], "epochs": 5, "repeat": effort.choose(40, 15)}
    fitted, losses = _fit(digit_rows(), {**shared, **settings}, effort)
    kernels = np.concatenate(
        [w.reshape(effort.seeds, -1) for w in learning_weights(fitted.model) if w.ndim == 3], axis=1
    )
    return {
        **losses,
        "zeros": (np.abs(kernels) < ZERO).mean(axis=1),
        "size": np.sqrt((kernels**2).mean(axis=1)),
    }


def _train_images(normalization: str, effort: Effort) -> dict[str, Any]:
    """Train small convolutional nets."""
    settings = {
        "family": "digits",
        "filters": [8] if effort.quick else [8, 16],
        "hidden": [32],
        "normalization": normalization,
        "epochs": 1,
        "repeat": effort.choose(100, 15),
    }
    return _fit(load_dataset("digits8x8"), settings, effort)[1]


def _fit(
    digits: Dataset, settings: Mapping[str, Any], effort: Effort
) -> tuple[FitResult, dict[str, Any]]:
    """Return the trained nets, and their losses on training and test samples."""
    train, test = split_for_replicas(digits, effort.seeds, TRAIN, TEST)
    shared = {"batch_size": 50, "optimizer.learning_rate": 3e-3}
    fitted = fit_replicas(configure({**shared, **settings}, effort.seeds), digits, train)
    found = predictions(fitted, digits)
    losses = {
        split: _cross_entropies(found, digits.targets, indices)
        for split, indices in (("train", train), ("test", test))
    }
    return fitted, losses


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


def _gap(numbers: Mapping[str, Any]) -> np.ndarray:
    gap: np.ndarray = np.array(numbers["test"], float) - np.array(numbers["train"], float)
    return gap


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the weights, and on the gaps between test and training."""
    none = found["none"]
    size = {arm: f"{np.mean(found[arm]['size']):.3f}" for arm in ("none", "L2")}
    zeros = {arm: f"{np.mean(found[arm]['zeros']):.1%}" for arm in ("none", "L1")}
    claims = [
        compared("l1", points(found["L1"]["zeros"], none["zeros"]), 0, **zeros),
        compared("l2", difference(none["size"], found["L2"]["size"]), 3, **size),
    ]
    for arm, other in (("dropout", "none"), *NORMALIZATIONS):
        smaller = difference(_gap(found[other]), _gap(found[arm]))
        name = "dropout" if arm == "dropout" else "normalization"
        trained = [mean_estimate(found[each]["train"]) for each in (arm, other)]
        figures = {"trained": f"{trained[0]:.3f}", "plain": f"{trained[1]:.3f}"}
        claim = compared(name, smaller, 3, arm=arm.removesuffix(", images"), **figures)
        # An arm that has not learned its samples has a small gap too.
        have_learned = every([below(each, LEARNED) for each in trained]) == HOLDS
        claims.append(provided(claim, have_learned))
    return claims


def draw(found: Parts, folder: Path) -> None:
    """Draw the gaps, the test losses, and the fraction of weights that are nearly zero."""
    looks = {"none": PLAIN, LABELS["none, images"]: PLAIN}
    named = {LABELS.get(arm, arm): numbers for arm, numbers in found.items()}
    with panels(folder, 3) as (left, middle, right):
        gaps = {label: _gap(numbers) for label, numbers in named.items()}
        arms(left, gaps, "test loss minus training loss (nats)", looks)
        arms(middle, {label: n["test"] for label, n in named.items()}, "test loss (nats)", looks)
        zeros = {label: n["zeros"] for label, n in named.items() if "zeros" in n}
        arms(right, zeros, f"fraction of weights smaller than {ZERO}", looks)


STUDY = Study(20, parts, judge, draw)
