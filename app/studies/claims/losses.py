"""Cross entropy: its textbook figures, its parts, and training a softmax with it or with MSE."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import scientific
from app.studies.nets import (
    AfterEachEpoch,
    StartFrom,
    build_replicas,
    configure,
    digit_rows,
    learning_weights,
)
from app.studies.panels import LIMIT, MAIN, PLAIN, curve, panels
from app.studies.rates import Pace, best_pace, faster
from app.studies.signs import proved
from app.studies.study import Claim, Effort, Parts, Study
from app.training.replicas import fit_replicas

LOSSES = ("cross_entropy", "mse")
LOOKS = {"mse": PLAIN, "cross_entropy": MAIN}
# After a softmax, the gradient of MSE is about ten times smaller, so it needs larger rates.
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
LOGITS, SOFTMAX = (3.0, 1.0, -3.0), (0.879, 0.119, 0.002)
OUTPUT, CLASS = (0.2, 0.7, 0.1), 1
FIGURES = {"nats": 0.357, "bits": 0.515, "log10": 0.155}
REACHED = 0.9  # validation accuracy
TRAIN, VALIDATION = 1000, 300


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the figures, and the training with each loss at all learning rates at once."""
    return {"figures": _figures, **{loss: partial(_train, loss, effort) for loss in LOSSES}}


def _figures() -> dict[str, Any]:
    softmax = keras.ops.convert_to_numpy(keras.ops.softmax(np.array([LOGITS], "float32")))[0]
    target = np.eye(3, dtype="float32")[[CLASS]]
    nats = float(keras.losses.categorical_crossentropy(target, np.array([OUTPUT], "float32"))[0])
    random = np.random.default_rng(0)
    true, given = random.dirichlet(np.ones(5), (2, 1000))
    cross = keras.ops.convert_to_numpy(keras.losses.categorical_crossentropy(true, given))
    divergence = keras.ops.convert_to_numpy(keras.losses.kl_divergence(true, given))
    entropy = -(true * np.log(true)).sum(axis=1)
    return {
        "softmax": softmax,
        "nats": nats,
        "bits": nats / np.log(2),
        "log10": nats / np.log(10),
        "apart": float(np.abs(cross - entropy - divergence).max()),
    }


def _train(loss: str, effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    order = np.random.default_rng(0).permutation(len(digits.targets))
    train, validation = order[:TRAIN], order[TRAIN : TRAIN + VALIDATION]
    settings = {
        "hidden": [],
        "loss": loss,
        "epochs": effort.choose(60, 15),
        "optimizer.name": "gradient_descent",  # one step per epoch
    }
    config = configure(settings, seeds * len(RATES), np.repeat(RATES, seeds).tolist())
    nets = build_replicas(config, digits, train)
    weights = [np.concatenate([w[:seeds]] * len(RATES)) for w in learning_weights(nets)]
    inputs = keras.ops.convert_to_tensor(digits.inputs[validation])
    targets = digits.targets[validation, np.newaxis]

    def accuracy() -> np.ndarray:
        found = keras.ops.convert_to_numpy(nets(inputs)["probabilities"]).argmax(axis=2)
        fractions: np.ndarray = (found == targets).mean(axis=0)
        return fractions

    watch = AfterEachEpoch(nets, accuracy)
    fit_replicas(config, digits, train, callbacks=[StartFrom(weights), watch])
    accuracies = np.array(watch.found).reshape(-1, len(RATES), seeds)  # (epochs, rates, seeds)
    return {"accuracies": accuracies}


def _pace(numbers: Mapping[str, Any]) -> Pace:
    return best_pace(RATES, 1 - np.array(numbers["accuracies"], float), 1 - REACHED)


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the figures, and on the steps that each loss needs."""
    figures = found["figures"]
    given = ", ".join(f"{value:.3f}" for value in figures["softmax"])
    is_right = bool(np.allclose(figures["softmax"], SOFTMAX, rtol=0, atol=5e-4))
    is_right &= all(abs(figures[name] - value) < 5e-4 for name, value in FIGURES.items())
    shown = {"given": given, **{name: f"{figures[name]:.3f}" for name in FIGURES}}
    apart = {"apart": scientific(figures["apart"])}
    paces = {loss: _pace(found[loss]) for loss in LOSSES}
    return [
        Claim("figures", proved(is_right), shown, is_theorem=True),
        Claim("parts", proved(figures["apart"] < 1e-5), apart, is_theorem=True),
        faster(
            "sooner",
            paces["cross_entropy"],
            paces["mse"],
            **{f"{loss}_rate": f"{paces[loss].rate:g}" for loss in LOSSES},
            **{loss: str(paces[loss]) for loss in LOSSES},
        ),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw validation accuracy with each loss, at its best learning rate and at all rates."""
    with panels(folder, 2) as (left, right):
        for loss, look in LOOKS.items():
            best = _pace(found[loss])
            curves = 1 - best.curves
            name = {"cross_entropy": "cross entropy", "mse": "MSE"}[loss]
            label = f"{name}, learning rate {best.rate:g}"
            curve(left, np.arange(len(curves)), curves, label, look)
            means = np.array(found[loss]["accuracies"], float).mean(axis=0)
            curve(right, RATES, means, name, look)
        left.axhline(REACHED, label="goal", **LIMIT)
        left.set(xlabel="training step", ylabel="validation accuracy")
        right.set(
            xlabel="learning rate",
            ylabel="mean validation accuracy\nover training",
            xscale="log",
        )
        left.legend()
        right.legend()


STUDY = Study(20, parts, judge, draw, quick_seeds=20)
