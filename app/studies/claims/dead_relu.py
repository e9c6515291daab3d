"""ReLU units that never fire again, and leaky and parametric ones that recover."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import mean_estimate, points
from app.studies.nets import (
    AfterEachEpoch,
    StartFrom,
    accuracies,
    build_replicas,
    configure,
    digit_rows,
    learning_weights,
)
from app.studies.panels import ACTIVATIONS, MAIN, PLAIN, SKY, curve, panels
from app.studies.signs import NOT_SHOWN, below, proved
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

ARMS = ("relu", "leaky_relu", "prelu")
SUITABLE, LARGE = 0.01, 0.3  # learning rates of Adam
# The bad start scales the first layer's weights by SMALL, and shifts its biases so that the largest
# input of each of its units on any sample is LARGEST_INPUT.
SMALL, LARGEST_INPUT = 0.1, -1.0
# Units count as dead for good if at most this fraction of those silent halfway fire at the end.
WOKEN = 0.05
# Passes over the data in an epoch of training.
PASSES = 3
CASES = ("suitable", "large", "bad start")
UNITS, TRAIN, WATCHED = 32, 1000, 300


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each activation, in all cases at once."""
    return {activation: partial(_train, activation, effort) for activation in ARMS}


def _train(activation: str, effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    order = np.random.default_rng(0).permutation(len(digits.targets))
    train, test, watched = order[:TRAIN], order[TRAIN:], order[:WATCHED]
    settings = {
        "hidden": [UNITS, UNITS],
        "activation": activation,
        "batch_size": 50,
        "epochs": effort.choose(12, 4),
        "repeat": PASSES,
    }
    rates = np.repeat([SUITABLE, LARGE, SUITABLE], seeds)
    config = configure(settings, 3 * seeds, rates.tolist())
    nets = build_replicas(config, digits, train)
    layers = [nets.get_layer(name).output for name in ("hidden1_dense", "features_dense")]
    preactivations = keras.Model(nets.inputs, layers)
    largest = keras.ops.max(preactivations(keras.ops.convert_to_tensor(digits.inputs))[0], axis=0)
    weights = _starts(learning_weights(nets), keras.ops.convert_to_numpy(largest), seeds)
    inputs = keras.ops.convert_to_tensor(digits.inputs[watched])
    silent = AfterEachEpoch(nets, lambda: _silent(preactivations(inputs)))
    fitted = fit_replicas(config, digits, train, callbacks=[StartFrom(weights), silent])
    is_silent = np.array(silent.found)  # epochs, nets, units
    half = is_silent[len(is_silent) // 2]
    with np.errstate(invalid="ignore"):  # NaN for a net without silent units
        woken = (half & ~is_silent[-1]).sum(axis=1) / half.sum(axis=1)
    right = accuracies(fitted, digits, test)
    found = {}
    for number, case in enumerate(CASES):
        own = slice(number * seeds, (number + 1) * seeds)
        # The bad start concerns the first layer only, so the second one is not counted.
        units = slice(UNITS) if case == "bad start" else slice(None)
        found[case] = {
            "silent": is_silent[:, own, units].mean(axis=2),
            "woken": woken[own],
            "accuracies": right[own],
        }
    return found


def _starts(weights: list[np.ndarray], largest: np.ndarray, seeds: int) -> list[np.ndarray]:
    """Return the same initial weights for each case, but with a silent first layer in the last.

    Args:
        weights: weights of the nets as they were built, with biases of 0.
        largest: largest input of each unit of the first layer on any sample, `(nets, units)`.
        seeds: number of nets in each case.
    """
    same = [np.concatenate([weight[:seeds]] * 3) for weight in weights]
    same[0][2 * seeds :] *= SMALL
    same[1][2 * seeds :] = LARGEST_INPUT - SMALL * largest[:seeds]
    return same


def _silent(preactivations: Sequence[Any]) -> np.ndarray:
    """Return which hidden units have no input above 0 on any sample, bool `(nets, units)`.

    Args:
        preactivations: the inputs of each layer's units, `(samples, nets, units)`.
    """
    # A unit whose input is NaN is silent too.
    is_silent = [~(keras.ops.convert_to_numpy(each).max(axis=0) > 0) for each in preactivations]
    return np.concatenate(is_silent, axis=1)


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the fractions of silent units and on the accuracies."""
    relu = found["relu"]
    killed = points(relu["large"]["silent"][-1], relu["suitable"]["silent"][-1])
    bad = np.array(relu["bad start"]["silent"], float)
    accuracy = mean_estimate(relu["bad start"]["accuracies"])
    claims = [
        compared("large", killed, 0),
        _for_good(np.array(relu["large"]["woken"], float)),
        Claim(
            "stuck",
            proved(bool((bad == 1).all())),
            {"fraction": f"{bad[-1].mean():.0%}", "accuracy": f"{accuracy:.1%}"},
            is_theorem=True,
        ),
    ]
    for name in ARMS[1:]:
        other, label = found[name], {"name": ACTIVATIONS[name]}
        gained = points(other["bad start"]["accuracies"], relu["bad start"]["accuracies"])
        fewer = points(relu["large"]["silent"][-1], other["large"]["silent"][-1])
        claims += [
            compared("recovers", gained, 0, **label),
            compared("survives", fewer, 0, **label),
        ]
    return claims


def _for_good(woken: np.ndarray) -> Claim:
    """Return the claim on the fraction of silent units that fire again.

    Args:
        woken: the fraction in each seed, `(seeds,)`; NaN in seeds that had no silent units.
    """
    of_seeds = woken[~np.isnan(woken)]
    seeds = f"{len(of_seeds)}/{len(woken)}"
    if not len(of_seeds):
        return Claim("for good", NOT_SHOWN, {"woken": "none", "seeds": seeds})
    estimate = mean_estimate(of_seeds)
    return Claim("for good", below(estimate, WOKEN), {"woken": f"{estimate:.1%}", "seeds": seeds})


def draw(found: Parts, folder: Path) -> None:
    """Draw the fraction of silent units during training, one panel per case."""
    titles = {
        "suitable": f"learning rate {SUITABLE}",
        "large": f"learning rate {LARGE}",
        "bad start": "silent first layer at the start",
    }
    with panels(folder, 3) as axes:
        for panel, case in zip(axes, CASES, strict=True):
            for activation, look in zip(ARMS, (PLAIN, MAIN, SKY), strict=True):
                silent = found[activation][case]["silent"]
                epochs = PASSES * np.arange(len(silent))
                curve(panel, epochs, silent, ACTIVATIONS[activation], look)
            panel.set(xlabel="epoch", ylabel="fraction of silent units", ylim=(-0.03, 1.03))
            panel.set_title(titles[case], fontsize=10)
        axes[0].legend()


STUDY = Study(10, parts, judge, draw)
