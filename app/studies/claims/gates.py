"""OR and XOR: the representation that a network is given decides what it must learn by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import count_text, difference, is_more_often, mean_estimate
from app.studies.nets import answers, configure, learning_weights, outputs, rows
from app.studies.panels import arms, bars, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.replicas import fit_replicas

BITS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], float)
NUMBER = np.arange(4.0)[:, np.newaxis]
GATES = {"OR": np.array([0, 1, 1, 1]), "XOR": np.array([0, 1, 1, 0])}
# Of the largest contribution of a unit to the output, over the four inputs.
AT_WORK = 0.1


@dataclass(frozen=True)
class Arm:
    """What a network is given and made of."""

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
    """Return the training of each arm, OR and XOR side by side."""
    return {name: partial(_train, arm, effort) for name, arm in ARMS.items()}


def _train(arm: Arm, effort: Effort) -> dict[str, Any]:
    # The first four samples are OR, the others XOR; half of the nets are trained on each.
    samples = rows(
        "gates", np.concatenate([arm.inputs, arm.inputs]), np.concatenate([*GATES.values()])
    )
    seeds = effort.seeds
    of_gate = {gate: np.arange(4) + 4 * place for place, gate in enumerate(GATES)}
    train = np.concatenate(
        [np.repeat(i[:, np.newaxis], seeds, 1) for i in of_gate.values()], axis=1
    )
    settings = {
        "head": "sigmoid",
        "hidden": list(arm.hidden),
        "activation": "tanh",
        "initializer": "xavier_uniform",
        "l2": arm.l2,
        "batch_size": 4,
        "epochs": 2,
        "repeat": effort.of(1500, 200),
        "optimizer.learning_rate": 0.02,
    }
    fitted = fit_replicas(configure(settings, 2 * seeds), samples, train)
    predicted = answers(fitted, samples).argmax(axis=2)
    right = np.take_along_axis(predicted == samples.targets[:, np.newaxis], train, axis=0)
    solved = np.asarray(right.all(axis=0))
    numbers: dict[str, Any] = {"OR": solved[:seeds], "XOR": solved[seeds:]}
    if arm.hidden:
        numbers |= _units(fitted, samples, seeds)
    return numbers


def _units(fitted: Any, samples: Any, seeds: int) -> dict[str, Any]:
    """Return of the nets of XOR how many units are at work, and how large the weights are."""
    model = keras.Model(fitted.model.input, fitted.model.output["features"])
    features = outputs(model, samples.inputs[:4])[:, seeds:]  # (4, nets, units)
    weights = [weight[seeds:] for weight in learning_weights(fitted.model)]
    contributions = np.ptp(features, axis=0) * np.abs(weights[2][..., 0])
    largest = contributions.max(axis=1, keepdims=True)
    return {
        "at work": (contributions > AT_WORK * largest).sum(axis=1),
        "weights": np.sqrt(sum((w**2).reshape(seeds, -1).sum(axis=1) for w in weights[::2])),
    }


def judge(found: Parts) -> Sequence[Check]:
    """Return what follows from which seeds get all four inputs right."""

    def solved(arm: str, gate: str) -> np.ndarray:
        return np.array(found[arm][gate], bool)

    fewer = difference(found["hidden 4"]["at work"], found["hidden 4, L2"]["at work"])
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
                "without": f"{mean_estimate(found['hidden 4']['at work']):.1f}",
                "with": f"{mean_estimate(found['hidden 4, L2']['at work']):.1f}",
            },
        ),
        Check("weights", weights.low > 0, {"smaller": f"{weights:.2f}"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw the shares of seeds that learn each gate, and the units at work."""
    with panels(path, 3) as (left, middle, right):
        for axes, gate in ((left, "OR"), (middle, "XOR")):
            shares = [(int(np.sum(found[arm][gate])), len(found[arm][gate])) for arm in ARMS]
            bars(axes, list(ARMS), shares, f"seeds that learn {gate} (share)")
        units = {arm: found[arm]["at work"] for arm in ARMS if "at work" in found[arm]}
        arms(right, units, "hidden units at work on XOR (count)")


STUDY = Study(20, parts, judge, draw)
