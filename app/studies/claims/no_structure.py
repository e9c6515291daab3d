"""Nothing to learn: random labels, and one input with two targets."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.estimates import mean_estimate, points
from app.studies.nets import configure, losses, predictions, rows
from app.studies.panels import LIMIT, arms, curve, panels
from app.studies.signs import below, every, proved, within
from app.studies.states import HIDDEN, LABELS, LOOKS, state_accuracies, subsets, train_on_states
from app.studies.study import Claim, Effort, Parts, Study
from app.training.replicas import fit_replicas

SIZES = (4, 6)
LABELINGS = 32  # per seed
EQUAL = 0.03  # largest difference of accuracies
# One input with two targets; the first is given one time in four.
TARGETS = np.array([0, 1, 1, 1])
FLOOR = float(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))  # nats
REACHED = 0.005  # largest distance from the floor, in nats
STEPS = 10  # per epoch of training on two targets


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each architecture on random labels, and on two targets."""
    return {
        **{f"random, {name}": partial(_random, h, effort) for name, h in HIDDEN.items()},
        **{f"two targets, {name}": partial(_two_targets, h, effort) for name, h in HIDDEN.items()},
    }


def _random(hidden: Sequence[int], effort: Effort) -> dict[str, Any]:
    random = np.random.default_rng(0)
    count = effort.seeds * LABELINGS
    labels = random.integers(0, 2, (count, 8))
    starts, sets = [], []
    for labeling in range(count):
        for size in SIZES:
            options = subsets([size])
            sets.append(options[random.integers(len(options))])
            starts.append(labeling)
    chosen = [np.add(states, 8 * start) for states, start in zip(sets, starts, strict=True)]
    fitted, samples = train_on_states(hidden, chosen, labels.ravel(), effort)
    # The states are the same for each labeling, so the first eight rows are enough.
    predicted = predictions(fitted, samples)[:8].argmax(axis=2)
    _, accuracies = state_accuracies(predicted, labels[starts].T, sets)
    by_size = accuracies.reshape(effort.seeds, LABELINGS, len(SIZES))
    return {"accuracies": by_size.mean(axis=(1, 2))}


def _two_targets(hidden: Sequence[int], effort: Effort) -> dict[str, Any]:
    samples = rows("two targets", np.ones((4, 1)), TARGETS)
    settings = {
        "hidden": list(hidden),
        "activation": "tanh",
        "initializer": "xavier_uniform",
        "batch_size": 4,
        "epochs": 15,
        "repeat": STEPS,  # the batch holds all samples
        "optimizer.learning_rate": 0.02,
    }
    fitted = fit_replicas(configure(settings, effort.seeds), samples, np.arange(4), np.arange(4))
    return {"losses": losses(fitted, "val_")}


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on accuracies on unseen states, and on the losses."""
    shallow, deep = (found[f"random, {name}"]["accuracies"] for name in HIDDEN)
    apart = points(deep, shallow)
    guesses = list(map(mean_estimate, (shallow, deep)))
    better = max(guesses, key=lambda estimate: estimate.value)
    curves = [np.array(found[f"two targets, {name}"]["losses"], float) for name in HIDDEN]
    least = min(values.min() for values in curves)
    ends = [mean_estimate(values[-1]) for values in curves]
    farther = max(ends, key=lambda estimate: estimate.value)
    # Rounding in float32 may bring a loss below its floor by some 1e-7.
    is_bounded = least >= FLOOR - 1e-6
    floor = {"least": f"{least:.6f}", "floor": f"{FLOOR:.6f}"}
    return [
        Claim("apart", within(apart, -100 * EQUAL, 100 * EQUAL), {"apart": f"{abs(apart):.1f}"}),
        Claim(
            "guess",
            every([below(guess, 0.5 + EQUAL) for guess in guesses]),
            {"accuracy": f"{better:.1%}"},
        ),
        Claim("floor", proved(is_bounded), floor, is_theorem=True),
        Claim(
            "reached",
            every([below(end, FLOOR + REACHED) for end in ends]),
            {"last": f"{farther:.4f}", "floor": f"{FLOOR:.4f}"},
        ),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw accuracy on unseen states, and how the loss on two targets nears its floor."""
    with panels(folder, 2) as (left, right):
        accuracies = {LABELS[n]: found[f"random, {n}"]["accuracies"] for n in HIDDEN}
        looks = {LABELS[name]: look for name, look in LOOKS.items()}
        arms(left, accuracies, "accuracy on the states left out,\nrandom labels", looks)
        left.axvline(0.5, **LIMIT)
        for name, label in LABELS.items():
            values = found[f"two targets, {name}"]["losses"]
            steps = STEPS * np.arange(1, len(values) + 1)
            curve(right, steps, values, label, LOOKS[name])
        right.axhline(FLOOR, label="smallest possible loss", **LIMIT)
        right.set(xlabel="training step", ylabel="loss with two targets (nats)")
        right.legend()


STUDY = Study(20, parts, judge, draw)
