"""A softmax layer alone on iris: 4 inputs, 3 classes, 5-fold cross validation."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold

from app.data.sources import load_dataset
from app.evaluation.estimates import mean_estimate
from app.reports.plotting import COLORS, GRAY
from app.studies.nets import answers, configure, rows
from app.studies.panels import panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.replicas import fit_replicas

FOLDS = 5
# Of all flowers, and of each species: as far down as the 95 % intervals of 150 and of 50 flowers
# reach where 95 % of them are right.
ALL_RIGHT, SPECIES_RIGHT = 0.9, 0.8


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the one training: a net for each fold of each seed's partition."""
    return {"cross validation": partial(_train, effort)}


def _train(effort: Effort) -> dict[str, Any]:
    iris = load_dataset("iris")
    samples, targets = np.asarray(iris.inputs[:], float), iris.targets
    folds = [
        fold
        for seed in range(effort.seeds)
        for fold in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(samples, targets)
    ]
    # A copy of the samples for each net, standardized by what that net is trained on alone.
    copies = [(samples - samples[a].mean(0)) / samples[a].std(0) for a, _ in folds]
    dataset = rows("iris", np.concatenate(copies), np.tile(targets, len(folds)), labels=iris.labels)
    starts = len(samples) * np.arange(len(folds))
    train = np.stack([start + a for start, (a, _) in zip(starts, folds, strict=True)], axis=1)
    config = configure(
        {
            "family": "softmax",
            "batch_size": 24,
            "epochs": 4,
            "repeat": effort.of(50, 25),
            "optimizer.learning_rate": 0.05,
            "optimizer.schedule": "cosine",
        },
        len(folds),
    )
    found = answers(fit_replicas(config, dataset, train), dataset).argmax(axis=2)  # (rows, nets)
    predicted = np.empty((effort.seeds, len(samples)), int)
    for net, (start, (_, test)) in enumerate(zip(starts, folds, strict=True)):
        predicted[net // FOLDS, test] = found[start + test, net]
    return {
        "accuracies": (predicted == targets).mean(axis=1),
        # The flowers are the same in each partition: it is over them that an interval is.
        "right": (predicted == targets).mean(axis=0),
        "classes": targets,
        "confusion": sum(confusion_matrix(targets, row) for row in predicted),
        "labels": iris.labels,
    }


def judge(found: Parts) -> Sequence[Check]:
    """Return what follows from how often each flower is right."""
    numbers = found["cross validation"]
    right, classes = np.array(numbers["right"], float), np.array(numbers["classes"])
    accuracy = mean_estimate(right)
    of_species = [mean_estimate(right[classes == n]) for n in range(len(numbers["labels"]))]
    worst = min(range(len(of_species)), key=lambda number: of_species[number].value)
    return [
        Check("accuracy", accuracy.low > ALL_RIGHT, {"accuracy": f"{accuracy:.1%}"}),
        Check(
            "species",
            all(estimate.low > SPECIES_RIGHT for estimate in of_species),
            {"species": numbers["labels"][worst], "accuracy": f"{of_species[worst]:.1%}"},
        ),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw the accuracies, and which classes are mistaken for which."""
    numbers = found["cross validation"]
    with panels(path, 2) as (left, right):
        accuracy = mean_estimate(numbers["right"])
        places = range(1, 1 + len(numbers["accuracies"]))
        left.axvspan(accuracy.low, accuracy.high, color=COLORS[0], alpha=0.15, linewidth=0)
        left.axvline(accuracy.value, color=COLORS[0])
        left.scatter(numbers["accuracies"], places, s=16, color=GRAY)
        left.set(xlabel="accuracy of left-out folds (share)", ylabel="partition of the flowers")
        left.yaxis.set_major_locator(MaxNLocator(integer=True))
        shares = np.array(numbers["confusion"]) / np.sum(numbers["confusion"], axis=1)[:, None]
        right.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            right.text(
                column, row, f"{share:.1%}", ha="center", va="center",
                color="white" if share > 0.5 else "black",
            )  # fmt: skip
        names = numbers["labels"]
        right.set_xticks(range(len(names)), names)
        right.set_yticks(range(len(names)), names, rotation=90, va="center")
        right.set(xlabel="predicted class", ylabel="true class (shares of it)")


STUDY = Study(20, parts, judge, draw)
