"""A softmax layer alone classifies iris: 4 inputs, 3 classes, 5-fold cross validation."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold

from app.data.sources import load_dataset
from app.evaluation.estimates import fraction_estimate
from app.studies.nets import configure, outputs, rows
from app.studies.panels import MAIN, panels
from app.studies.signs import above, every
from app.studies.study import Claim, Effort, Parts, Study
from app.training.replicas import fit_replicas

FOLDS = 5
# Smallest accuracy over all flowers, and in each species. If 95% are right, the 95% intervals
# over 150 and over 50 flowers reach down to about here.
ALL_RIGHT, SPECIES_RIGHT = 0.9, 0.8


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the only training: one net per fold of each seed's partition."""
    return {"cross validation": partial(_train, effort)}


def _train(effort: Effort) -> dict[str, Any]:
    iris = load_dataset("iris")
    samples, targets = np.asarray(iris.inputs[:], float), iris.targets
    folds = [
        fold
        for seed in range(effort.seeds)
        for fold in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(samples, targets)
    ]
    # Each net has its own copy of the samples, standardized by its training samples only.
    copies = [(samples - samples[a].mean(0)) / samples[a].std(0) for a, _ in folds]
    dataset = rows("iris", np.concatenate(copies), np.tile(targets, len(folds)), labels=iris.labels)
    starts = len(samples) * np.arange(len(folds))
    train = np.stack([start + a for start, (a, _) in zip(starts, folds, strict=True)], axis=1)
    config = configure(
        {
            "family": "softmax",
            "batch_size": 24,
            "epochs": 4,
            "repeat": effort.choose(50, 25),
            "optimizer.learning_rate": 0.05,
            "optimizer.schedule": "cosine",
        },
        len(folds),
    )
    model = fit_replicas(config, dataset, train).model
    predicted = np.empty((effort.seeds, len(samples)), int)
    # Each net predicts only its own test flowers: all nets on all copies would fill the memory.
    for net, (start, (_, test)) in enumerate(zip(starts, folds, strict=True)):
        probabilities = outputs(model, dataset.inputs[start + test])["probabilities"]
        predicted[net // FOLDS, test] = probabilities[:, net].argmax(axis=1)
    return {
        "accuracies": (predicted == targets).mean(axis=1),
        # All partitions contain the same flowers, so the intervals are over flowers.
        "right": (predicted == targets).mean(axis=0),
        "classes": targets,
        "confusion": sum(confusion_matrix(targets, row) for row in predicted),
        "labels": iris.labels,
    }


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on how often each flower is classified correctly."""
    numbers = found["cross validation"]
    right, classes = np.array(numbers["right"], float), np.array(numbers["classes"])
    accuracy = fraction_estimate(right)
    of_species = [fraction_estimate(right[classes == n]) for n in range(len(numbers["labels"]))]
    worst = min(range(len(of_species)), key=lambda number: of_species[number].value)
    return [
        Claim("accuracy", above(accuracy, ALL_RIGHT), {"accuracy": f"{accuracy:.1%}"}),
        Claim(
            "species",
            every([above(estimate, SPECIES_RIGHT) for estimate in of_species]),
            {"species": numbers["labels"][worst], "accuracy": f"{of_species[worst]:.1%}"},
        ),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the accuracies and the confusion matrix."""
    numbers = found["cross validation"]
    with panels(folder, 2) as (left, right):
        accuracy = fraction_estimate(numbers["right"])
        places = range(1, 1 + len(numbers["accuracies"]))
        left.axvspan(accuracy.low, accuracy.high, color=MAIN.color, alpha=0.15, linewidth=0)
        left.axvline(accuracy.value, color=MAIN.color)
        left.scatter(numbers["accuracies"], places, s=16, color=MAIN.color, alpha=0.5)
        left.set(xlabel="accuracy on unseen flowers", ylabel="seed")
        left.yaxis.set_major_locator(MaxNLocator(integer=True))
        fractions = np.array(numbers["confusion"]) / np.sum(numbers["confusion"], axis=1)[:, None]
        right.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        for (row, column), fraction in np.ndenumerate(fractions):
            right.text(
                column, row, f"{fraction:.1%}", ha="center", va="center",
                color="white" if fraction > 0.5 else "black",
            )  # fmt: skip
        names = numbers["labels"]
        right.set_xticks(range(len(names)), names)
        right.set_yticks(range(len(names)), names, rotation=90, va="center")
        right.set(xlabel="predicted species", ylabel="true species")


STUDY = Study(20, parts, judge, draw)
