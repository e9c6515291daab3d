"""Initial weights compared: zeros, a small normal, Xavier and Kaiming, on tanh and on ReLU."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import Estimate, difference, mean_estimate, power_estimate, scientific
from app.studies.gradients import gradients
from app.studies.nets import (
    StartFrom,
    build_replicas,
    configure,
    digit_rows,
    learning_weights,
    losses,
    prepared,
)
from app.studies.panels import ACTIVATIONS, AMBER, MAIN, PINK, PLAIN, curve, panels
from app.studies.signs import above, below, every, proved, within
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

ARMS = ("tanh", "relu")
# How the figure writes the names of the initializers.
INITIALIZERS = {
    "normal": "N(0, 0.01²)",
    "zeros": "zeros",
    "xavier_normal": "Xavier",
    "kaiming_normal": "Kaiming",
}
LOOKS = dict(zip(INITIALIZERS, (PLAIN, PINK, MAIN, AMBER), strict=True))
# For each activation, the initializer that is said to suit it, and the other one.
SUITS = {
    "tanh": ("xavier_normal", "kaiming_normal"),
    "relu": ("kaiming_normal", "xavier_normal"),
}
# The depth is the same in quick mode: what is left of a signal depends on it, and so does what a
# bound on that means.
WIDTH, DEPTH = 64, 10
WATCHED = 300  # samples on which activations and gradients are measured
# A signal has vanished if the last layer's mean square is less than STARVED times that of the first
# layer. A loss is stuck above STUCK nats; guessing has a loss of ln 10 = 2.3.
STARVED, STUCK = 1e-3, 2.0
# Passes over the data in an epoch of training.
PASSES = 3


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each activation, with all initializers at once."""
    return {activation: partial(_train, activation, effort) for activation in ARMS}


def _train(activation: str, effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    train = np.arange(1200)
    settings = {
        "hidden": [WIDTH] * DEPTH,
        "activation": activation,
        "batch_size": 60,
        "epochs": effort.choose(10, 3),
        "repeat": PASSES,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.05,
    }
    nets = build_replicas(configure(settings, len(INITIALIZERS) * seeds), digits, train)
    starts = [
        learning_weights(
            build_replicas(configure({**settings, "initializer": name}, seeds), digits, train)
        )
        for name in INITIALIZERS
    ]
    weights = [np.concatenate(group) for group in zip(*starts, strict=True)]
    for variable, value in zip(nets.trainable_variables, weights, strict=True):
        variable.assign(value)
    variances = _variances(nets, digits)
    config = configure(settings, len(INITIALIZERS) * seeds)
    fitted = fit_replicas(config, digits, train, callbacks=[StartFrom(weights)])
    kernels = [w for w in learning_weights(fitted.model) if w.ndim == 3][:-1]
    apart = np.max([np.ptp(kernel, axis=2).max(axis=1) for kernel in kernels], axis=0)
    curves = losses(fitted)
    return {
        name: {
            **{what: values[:, own] for what, values in variances.items()},
            "losses": curves[:, own],
            "apart": apart[own],
        }
        for number, name in enumerate(INITIALIZERS)
        for own in [slice(number * seeds, (number + 1) * seeds)]
    }


def _variances(nets: keras.Model, digits: Any) -> dict[str, np.ndarray]:
    """Return the mean square of each hidden layer's activations and of its gradient."""
    names = [*(f"hidden{number}" for number in range(1, DEPTH)), "features"]
    layers = keras.Model(nets.inputs, [nets.get_layer(name).output for name in names])
    given = layers(keras.ops.convert_to_tensor(digits.inputs[:WATCHED]))
    one_hot = np.eye(10, dtype="float32")[digits.targets[:WATCHED]]
    found = gradients(nets, prepared(nets, digits, np.arange(WATCHED)), one_hot)
    kernels = [found[f"{name}_dense/kernel"] for name in names]
    squares = [(keras.ops.convert_to_numpy(values) ** 2).mean(axis=(0, 2)) for values in given]
    return {
        "activations": np.stack(squares),  # (layers, nets)
        "gradients": np.stack([(kernel**2).mean(axis=(1, 2)) for kernel in kernels]),
    }


def _kept(numbers: Mapping[str, Any]) -> np.ndarray:
    """Return the activations' mean square in the last hidden layer over that in the first."""
    squares = np.array(numbers["activations"], float)
    ratio: np.ndarray = np.divide(squares[-1], squares[0])
    return ratio


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on symmetry, on mean squares before training, and on losses."""

    def last(activation: str, name: str) -> np.ndarray:
        curves = np.array(found[activation][name]["losses"], float)
        return np.asarray(curves[-1])

    def kept(activation: str, name: str) -> Estimate:
        return power_estimate(np.log10(_kept(found[activation][name])))

    apart = max(max(found[activation]["zeros"]["apart"]) for activation in ARMS)
    starved = {activation: kept(activation, "normal") for activation in ARMS}
    stuck = {activation: mean_estimate(last(activation, "normal")) for activation in ARMS}
    claims = [
        Claim("zeros", proved(apart == 0), {"apart": f"{apart:.1g}"}, is_theorem=True),
        Claim(
            "starved",
            every([below(estimate, STARVED) for estimate in starved.values()]),
            {activation: scientific(estimate.value) for activation, estimate in starved.items()},
        ),
        Claim(
            "stuck",
            every([above(estimate, STUCK) for estimate in stuck.values()]),
            {activation: f"{estimate:.2f}" for activation, estimate in stuck.items()},
        ),
    ]
    for activation, (own, other) in SUITS.items():
        ratio = kept(activation, own)
        gained = difference(last(activation, other), last(activation, own))
        names = {"name": ACTIVATIONS[activation], "own": INITIALIZERS[own]}
        names["other"] = INITIALIZERS[other]
        claims += [
            Claim("kept", within(ratio, 0.1, 10), {**names, "kept": f"{ratio:.2f}"}),
            compared("gained", gained, 3, **names),
        ]
    return claims


def draw(found: Parts, folder: Path) -> None:
    """Draw the mean squares of activations and gradients by layer, and the training losses."""
    with panels(folder, 6) as axes:
        for column, activation in enumerate(ARMS):
            forward, backward, learning = axes[column::2]
            for name, label in INITIALIZERS.items():
                numbers, look = found[activation][name], LOOKS[name]
                squares = np.array(numbers["activations"], float)
                layers = np.arange(1, len(squares) + 1)
                if name != "zeros":  # they have no logarithm
                    curve(forward, layers, np.log10(squares), label, look)
                    curve(backward, layers, np.log10(numbers["gradients"]), label, look)
                epochs = PASSES * np.arange(1, len(numbers["losses"]) + 1)
                curve(learning, epochs, numbers["losses"], label, look)
            for panel in (forward, backward, learning):
                panel.set_title(ACTIVATIONS[activation], fontsize=10)
            forward.set(xlabel="layer", ylabel="mean square of\nactivations (log₁₀)")
            backward.set(xlabel="layer", ylabel="mean square of\ngradients (log₁₀)")
            learning.set(xlabel="epoch", ylabel="training loss (nats)")
            learning.legend()


STUDY = Study(20, parts, judge, draw)
