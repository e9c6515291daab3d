"""OR and XOR: the representation of the input decides what the network itself must learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import count_text, difference, is_more_often, mean_estimate
from app.studies.nets import configure, learning_weights, outputs, predictions, rows
from app.studies.panels import arms, bars, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.replicas import fit_replicas

BITS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], float)
NUMBER = np.arange(4.0)[:, np.newaxis]
GATES = {"OR": np.array([0, 1, 1, 1]), "XOR": np.array([0, 1, 1, 0])}
# An active unit moves the output by at least this fraction of what the strongest unit moves it by.
ACTIVE = 0.1


@dataclass(frozen=True)
class Arm:
    """The input and the architecture of a network."""

    inputs: np.ndarray
    hidden: tuple[int, ...] = ()
    l2: float = 0.0


ARMS = {
    "number": Arm(NUMBER),
    "bits": Arm(BITS),
    "hidden 2": Arm(BITS, (2,)),
    "hidden 4": Arm(BITS, (4,)),
    "hidden 4, L2": Arm(BITS, (4,), l2=3e-3),
}


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm, on OR and XOR at once."""
    return {name: partial(_train, arm, effort) for name, arm in ARMS.items()}


def _train(arm: Arm, effort: Effort) -> dict[str, Any]:
    # The first four samples are OR, the other four XOR; half of the nets train on each.
    samples = rows(
        "gates", np.concatenate([arm.inputs, arm.inputs]), np.concatenate([*GATES.values()])
    )
    seeds = effort.seeds
    indices = {gate: np.arange(4) + 4 * place for place, gate in enumerate(GATES)}
    train = np.concatenate(
        [np.repeat(i[:, np.newaxis], seeds, 1) for i in indices.values()], axis=1
    )
    settings = {
        "head": "sigmoid",
        "hidden": list(arm.hidden),
        "activation": "tanh",
        "initializer": "xavier_uniform",
        "l2": arm.l2,
        "batch_size": 4,
        "epochs": 2,
        "repeat": effort.choose(1500, 200),
        "optimizer.learning_rate": 0.02,
    }
    fitted = fit_replicas(configure(settings, 2 * seeds), samples, train)
    predicted = predictions(fitted, samples).argmax(axis=2)
    right = np.take_along_axis(predicted == samples.targets[:, np.newaxis], train, axis=0)
    solved = np.asarray(right.all(axis=0))
    numbers: dict[str, Any] = {"OR": solved[:seeds], "XOR": solved[seeds:]}
    if arm.hidden:
        numbers |= _units(fitted, samples, seeds)
    return numbers


def _units(fitted: Any, samples: Any, seeds: int) -> dict[str, Any]:
    """Return how many units of each XOR net are active, and the norm of its weights."""
    model = keras.Model(fitted.model.input, fitted.model.output["features"])
    features = outputs(model, samples.inputs[:4])[:, seeds:]  # (4, nets, units)
    weights = [weight[seeds:] for weight in learning_weights(fitted.model)]
    contributions = np.ptp(features, axis=0) * np.abs(weights[2][..., 0])
    largest = contributions.max(axis=1, keepdims=True)
    return {
        "active": (contributions > ACTIVE * largest).sum(axis=1),
        "weights": np.sqrt(sum((w**2).reshape(seeds, -1).sum(axis=1) for w in weights[::2])),
    }


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on the seeds that get all four inputs right, and on active units."""

    def solved(arm: str, gate: str) -> np.ndarray:
        return np.array(found[arm][gate], bool)

    fewer = difference(found["hidden 4"]["active"], found["hidden 4, L2"]["active"])
    weights = difference(found["hidden 4"]["weights"], found["hidden 4, L2"]["weights"])
    ors = [solved("number", "OR"), solved("bits", "OR")]
    xors = [solved("number", "XOR"), solved("bits", "XOR")]
    return [
        Check("or", bool(np.all(ors)), {"number": count_text(ors[0]), "bits": count_text(ors[1])}),
        Check(
            "xor",
            not np.any(xors),
            {"number": count_text(xors[0]), "bits": count_text(xors[1])},
            is_fact=True,
        ),
        Check(
            "hidden",
            is_more_often(solved("hidden 4", "XOR"), solved("hidden 2", "XOR")),
            {
                "two": count_text(solved("hidden 2", "XOR")),
                "four": count_text(solved("hidden 4", "XOR")),
            },
        ),
        Check(
            "l2",
            fewer.low > 0,
            {
                "without": f"{mean_estimate(found['hidden 4']['active']):.1f}",
                "with": f"{mean_estimate(found['hidden 4, L2']['active']):.1f}",
            },
        ),
        Check("weights", weights.low > 0, {"smaller": f"{weights:.2f}"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw the fractions of seeds that learn each gate, and the active units."""
    with panels(path, 3) as (left, middle, right):
        for axes, gate in ((left, "OR"), (middle, "XOR")):
            counts = [(int(np.sum(found[arm][gate])), len(found[arm][gate])) for arm in ARMS]
            bars(axes, list(ARMS), counts, f"fraction of seeds that learn {gate}")
        units = {arm: found[arm]["active"] for arm in ARMS if "active" in found[arm]}
        arms(right, units, "active hidden units on XOR")


STUDY = Study(20, parts, judge, draw)
