"""Digits read from 256 inputs of ink or no ink by one fully connected net."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from app.data.sources import load_dataset
from app.evaluation.estimates import fraction_estimate, points
from app.studies.nets import configure, predictions, split_for_replicas
from app.studies.panels import PLAIN, arms, panels
from app.studies.signs import above
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

SHAPES = ((16,), (64,), (256,), (64, 64), (256, 256))
SMALL, LARGE = "16", "256"
READS = 0.95  # accuracy
TRAIN, TEST = 1437, 360  # 80% and 20% of digits8x8
CONFUSED = 3  # pairs of digits that the text names


def _name(hidden: Sequence[int]) -> str:
    return "-".join(map(str, hidden))


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each net."""
    shapes = SHAPES if not effort.quick else SHAPES[0:3:2]
    return {_name(hidden): partial(_train, hidden, effort) for hidden in shapes}


def _train(hidden: Sequence[int], effort: Effort) -> dict[str, Any]:
    digits, seeds = load_dataset("digits8x8"), effort.seeds
    train, test = split_for_replicas(digits, seeds, TRAIN, TEST)
    settings = {
        "family": "digits",
        "variant": "mlp",
        "hidden": list(hidden),
        "normalization": "batch",
        "dropout": 0.2,
        "epochs": 2,
        "repeat": effort.choose(10, 4),
        "optimizer.schedule": "cosine",
    }
    fitted = fit_replicas(configure(settings, seeds), digits, train)
    predicted = predictions(fitted, digits).argmax(axis=2)
    targets = digits.targets
    found = np.take_along_axis(predicted, test, axis=0)
    counts = [confusion_matrix(targets[test[:, n]], found[:, n]) for n in range(seeds)]
    is_right = found == targets[test]
    # The seeds share their digits, so the interval of the accuracy is over digits, of which each is
    # tested by some of the seeds.
    tested = np.bincount(test.ravel(), minlength=len(targets))
    times_right = np.bincount(test.ravel(), is_right.ravel(), minlength=len(targets))
    return {
        "accuracies": is_right.mean(axis=0),
        "right": times_right[tested > 0] / tested[tested > 0],
        "confusion": np.sum(counts, axis=0),
    }


def _most_confused(confusion: Any) -> list[tuple[int, int, int]]:
    """Return the pairs of digits that are most often mistaken for each other, with counts."""
    both = np.array(confusion) + np.transpose(confusion)
    pairs = [(first, second) for first in range(10) for second in range(first + 1, 10)]
    order = sorted(pairs, key=lambda pair: -both[pair])[:CONFUSED]
    return [(*pair, int(both[pair])) for pair in order]


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the accuracies on unseen digits."""
    accuracy = fraction_estimate(found[LARGE]["right"])
    gained = points(found[LARGE]["accuracies"], found[SMALL]["accuracies"])
    pairs = ", ".join(f"{a}/{b} ({n})" for a, b, n in _most_confused(found[LARGE]["confusion"]))
    return [
        Claim("reads", above(accuracy, READS), {"accuracy": f"{accuracy:.1%}", "pairs": pairs}),
        compared("units", gained, 1),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the confusion matrix of the net of 256 units, and accuracies by architecture."""
    confusion = np.array(found[LARGE]["confusion"])
    with panels(folder, 2) as (left, right):
        wrong = confusion - np.diag(np.diag(confusion))
        left.imshow(wrong, cmap="Blues")
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                dark = row != column and count > wrong.max() / 2
                left.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        left.set(xlabel="predicted digit", ylabel="true digit")
        left.set_xticks(range(10))
        left.set_yticks(range(10))
        named = {name: numbers["accuracies"] for name, numbers in found.items()}
        arms(right, named, "test accuracy", {SMALL: PLAIN})
        right.set_ylabel("units of the hidden layers")


STUDY = Study(20, parts, judge, draw)
