"""ReLU units that never fire again, and what leaky and parametric ones do instead."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import (
    AfterEachEpoch,
    StartFrom,
    accuracies,
    build_replicas,
    configure,
    digit_rows,
    learning_weights,
)
from app.studies.panels import curve, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.replicas import fit_replicas

ACTIVATIONS = ("relu", "leaky_relu", "prelu")
SUITABLE, LARGE = 0.01, 0.3  # learning rates of Adam
# Of the bad start: how small the first layer's weights are, and the most that any sample makes
# enter one of its units.
SMALL, MOST = 0.1, -1.0
# Of accuracy: less is no recovery.
RECOVERED = 0.1
# Of the units that are silent half-way: more of them that fire at the end are not dead for good.
WOKEN = 0.05
CASES = ("suitable", "large", "bad start")
UNITS, TRAIN, WATCHED = 32, 1000, 300


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each activation, all cases side by side."""
    return {activation: partial(_train, activation, effort) for activation in ACTIVATIONS}


def _train(activation: str, effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    order = np.random.default_rng(0).permutation(len(digits.targets))
    train, test, watched = order[:TRAIN], order[TRAIN:], order[:WATCHED]
    settings = {
        "hidden": [UNITS, UNITS],
        "activation": activation,
        "batch_size": 50,
        "epochs": effort.of(12, 5),
        "repeat": 3,
    }
    rates = np.repeat([SUITABLE, LARGE, SUITABLE], seeds)
    config = configure(settings, 3 * seeds, rates.tolist())
    nets = build_replicas(config, digits, train)
    layers = [nets.get_layer(name).output for name in ("hidden1_dense", "features_dense")]
    entering = keras.Model(nets.inputs, layers)
    most = keras.ops.max(entering(keras.ops.convert_to_tensor(digits.inputs))[0], axis=0)
    weights = _starts(learning_weights(nets), keras.ops.convert_to_numpy(most), seeds)
    inputs = keras.ops.convert_to_tensor(digits.inputs[watched])
    silent = AfterEachEpoch(nets, lambda: _silent(entering(inputs)))
    fitted = fit_replicas(config, digits, train, callbacks=[StartFrom(weights), silent])
    is_silent = np.array(silent.found)  # epochs, nets, units
    half = is_silent[len(is_silent) // 2]
    woken = (half & ~is_silent[-1]).sum(axis=1) / np.maximum(half.sum(axis=1), 1)
    right = accuracies(fitted, digits, test)
    found = {}
    for number, case in enumerate(CASES):
        own = slice(number * seeds, (number + 1) * seeds)
        # The bad start is that of the first layer: what the second does is its own affair.
        units = slice(UNITS) if case == "bad start" else slice(None)
        found[case] = {
            "silent": is_silent[:, own, units].mean(axis=2),
            "woken": woken[own],
            "accuracies": right[own],
        }
    return found


def _starts(weights: list[np.ndarray], most: np.ndarray, seeds: int) -> list[np.ndarray]:
    """Return the same start for each case, the last with a first layer that is silent.

    Args:
        weights: of the nets as they were built, biases 0.
        most: that any sample makes enter each unit of the first layer, `(nets, units)`.
        seeds: nets in each case.
    """
    same = [np.concatenate([weight[:seeds]] * 3) for weight in weights]
    same[0][2 * seeds :] *= SMALL
    same[1][2 * seeds :] = MOST - SMALL * most[:seeds]
    return same


def _silent(entering: Sequence[Any]) -> np.ndarray:
    """Return of each net's hidden units whether nothing above 0 enters them, `(nets, units)`.

    Args:
        entering: of each layer, what enters its units, `(samples, nets, units)`.
    """
    # What is no number fires no more either.
    is_silent = [~(keras.ops.convert_to_numpy(values).max(axis=0) > 0) for values in entering]
    return np.concatenate(is_silent, axis=1)


def judge(found: Parts) -> Sequence[Check]:
    """Return what follows from the shares of silent units and the accuracies."""
    relu = found["relu"]
    killed = difference(relu["large"]["silent"][-1], relu["suitable"]["silent"][-1])
    woken = mean_estimate(relu["large"]["woken"])
    bad = np.array(relu["bad start"]["silent"], float)
    stuck = bool((bad[-1] >= bad[0]).all())
    accuracy = mean_estimate(relu["bad start"]["accuracies"])
    checks = [
        Check(
            "large",
            killed.low > 0,
            {"killed": killed.points(".0f")},
        ),
        Check("for good", killed.low > 0 and woken.high < WOKEN, {"woken": f"{woken:.1%}"}),
        Check(
            "stuck",
            stuck,
            {"share": f"{bad[-1].mean():.0%}", "accuracy": f"{accuracy:.1%}"},
            is_fact=True,
        ),
    ]
    for name in ACTIVATIONS[1:]:
        case = found[name]["bad start"]
        fewer = difference(relu["large"]["silent"][-1], found[name]["large"]["silent"][-1])
        woken = difference(np.array(case["silent"])[0], np.array(case["silent"])[-1])
        gained = difference(case["accuracies"], relu["bad start"]["accuracies"])
        figures = {"woken": woken.points(".0f"), "gained": gained.points(".0f")}
        figures["fewer"] = fewer.points(".0f")
        recovers = woken.low > 0 and gained.low > RECOVERED and fewer.low > 0
        checks.append(Check(name, recovers, figures))
    return checks


def draw(found: Parts, path: Path) -> None:
    """Draw the share of silent units through training, a panel for each case."""
    titles = {
        "suitable": f"learning rate {SUITABLE}",
        "large": f"learning rate {LARGE}",
        "bad start": "first layer alone, silent at the start",
    }
    with panels(path, 3) as axes:
        for panel, case in zip(axes, CASES, strict=True):
            for number, activation in enumerate(ACTIVATIONS):
                shares = found[activation][case]["silent"]
                curve(panel, np.arange(len(shares)), shares, activation.replace("_", " "), number)
            panel.set(xlabel="epoch (three passes)", ylim=(-0.03, 1.03))
            panel.set_title(titles[case], fontsize=10)
        for panel in axes[::2]:
            panel.set_ylabel("units that are silent on all samples (share)")
        axes[0].legend()


STUDY = Study(10, parts, judge, draw)
