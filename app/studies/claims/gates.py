"""OR and XOR: the representation of the input decides what the network itself must learn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import count_text, difference, proportion_estimate
from app.studies.nets import configure, learning_weights, outputs, predictions, rows
from app.studies.panels import AMBER, MAIN, PLAIN, SKY, arms, bars, panels
from app.studies.signs import above, every, more_often, proved
from app.studies.study import Claim, Effort, Parts, Study, compared
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
# The names in figures, and their looks.
NAMES = {
    "number": "one number",
    "bits": "two bits",
    "hidden 2": "2 hidden units",
    "hidden 4": "4 hidden units",
    "hidden 4, L2": "4 with L2",
}
LOOKS = dict(zip(NAMES.values(), (PLAIN, PLAIN, SKY, MAIN, AMBER), strict=True))


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


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the seeds that get all four inputs right, and on active units."""

    def solved(arm: str, gate: str) -> np.ndarray:
        return np.array(found[arm][gate], bool)

    fewer = difference(found["hidden 4"]["active"], found["hidden 4, L2"]["active"])
    smaller = difference(found["hidden 4"]["weights"], found["hidden 4, L2"]["weights"])
    ors = [solved("number", "OR"), solved("bits", "OR")]
    xors = [solved("number", "XOR"), solved("bits", "XOR")]
    most = [above(proportion_estimate(int(each.sum()), len(each)), 0.5) for each in ors]
    two, four = solved("hidden 2", "XOR"), solved("hidden 4", "XOR")
    return [
        Claim("or", every(most), {"number": count_text(ors[0]), "bits": count_text(ors[1])}),
        Claim(
            "xor",
            proved(not np.any(xors)),
            {"number": count_text(xors[0]), "bits": count_text(xors[1])},
            is_theorem=True,
        ),
        Claim(
            "hidden",
            more_often(four, two),
            {"two": count_text(two), "four": count_text(four)},
            is_reversed=bool(two.sum() > four.sum()),
        ),
        compared(
            "l2",
            fewer,
            1,
            **{
                "without": f"{np.mean(found['hidden 4']['active']):.1f}",
                "with": f"{np.mean(found['hidden 4, L2']['active']):.1f}",
            },
        ),
        compared("weights", smaller, 2),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the fractions of seeds that learn each gate, and the active units."""
    with panels(folder, 3) as (left, middle, right):
        for axes, gate in ((left, "OR"), (middle, "XOR")):
            counts = {arm: (int(np.sum(found[arm][gate])), len(found[arm][gate])) for arm in ARMS}
            named = {NAMES[arm]: count for arm, count in counts.items()}
            bars(axes, named, f"fraction of seeds that learn {gate}", LOOKS)
        units = {NAMES[arm]: found[arm]["active"] for arm in ARMS if "active" in found[arm]}
        arms(right, units, "active hidden units on XOR", LOOKS)


STUDY = Study(20, parts, judge, draw, quick_seeds=20)
