"""Six optimisers on the same net from the same start, each at its best learning rate."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .estimates import difference, mean_estimate
from .nets import (
    StartFrom,
    build_nets,
    configure,
    digit_rows,
    learning_weights,
    losses,
    train_nets,
)
from .panels import curve, panels
from .study import Check, Effort, Parts, Study

# Each with the grid of its learning rates.
OPTIMISERS: dict[str, tuple[float, ...]] = {
    "gradient_descent": (0.03, 0.1, 0.3, 1.0, 3.0),
    "sgd": (0.003, 0.01, 0.03, 0.1, 0.3),
    "momentum": (0.003, 0.01, 0.03, 0.1, 0.3),
    "adagrad": (0.003, 0.01, 0.03, 0.1, 0.3),
    "rmsprop": (0.0003, 0.001, 0.003, 0.01, 0.03),
    "adam": (0.0003, 0.001, 0.003, 0.01, 0.03),
}
REACHED = 0.05  # training loss, in nats
TRAIN = 1000


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training with each optimiser at all its learning rates side by side."""
    return {name: partial(_train, name, effort) for name in OPTIMISERS}


def _train(name: str, effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    rates = OPTIMISERS[name]
    train = np.random.default_rng(0).permutation(len(digits.targets))[:TRAIN]
    settings = {
        "hidden": [32],
        "batch_size": 50,
        "epochs": effort.of(30, 8),
        "optimizer.name": name,
    }
    config = configure(settings, seeds * len(rates), np.repeat(rates, seeds).tolist())
    starts = learning_weights(build_nets(configure(settings, seeds), digits, train))
    weights = [np.concatenate([weight] * len(rates)) for weight in starts]
    fitted = train_nets(config, digits, train, train[:500], [StartFrom(weights)])
    return {"losses": losses(fitted, "val_").reshape(-1, len(rates), seeds)}


def _at_best_rate(name: str, numbers: Mapping[str, Any]) -> tuple[float, np.ndarray]:
    """Return the learning rate with the lowest mean loss over all epochs, and its curves."""
    curves = np.array(numbers["losses"], float)  # epochs, rates, seeds
    mean = np.where(np.isfinite(curves), curves, np.inf).mean(axis=(0, 2))
    best = int(mean.argmin())
    return OPTIMISERS[name][best], curves[:, best]


def _epochs_to(curves: np.ndarray) -> np.ndarray:
    """Return the first epoch with `REACHED`, or one more than there are, `(seeds,)`."""
    is_there = curves <= REACHED
    first: np.ndarray = np.where(is_there.any(axis=0), 1 + is_there.argmax(axis=0), 1 + len(curves))
    return first


def judge(found: Parts) -> Sequence[Check]:
    """Return what follows from the epochs that each optimiser needs to the same loss."""
    needed = {name: _epochs_to(_at_best_rate(name, found[name])[1]) for name in OPTIMISERS}
    means = {name: mean_estimate(epochs).value for name, epochs in needed.items()}
    order = sorted(means, key=means.__getitem__)
    apart = [
        pair
        for pair in combinations(OPTIMISERS, 2)
        if not difference(needed[pair[0]], needed[pair[1]]).low
        <= 0
        <= difference(needed[pair[0]], needed[pair[1]]).high
    ]
    slowest = order[-1]
    batch = difference(needed["gradient_descent"], needed["sgd"])
    momentum = difference(needed["sgd"], needed["momentum"])
    adam = difference(needed["sgd"], needed["adam"])
    return [
        Check(
            "differ",
            len(apart) > 15 / 2,
            {"apart": f"{len(apart)}/15", "fastest": order[0].replace("_", " "),
             "fast": f"{means[order[0]]:.1f}", "slowest": slowest.replace("_", " "),
             "slow": f"{means[slowest]:.1f}"},
        ),
        Check("batch", batch.low > 0, {"more": f"{batch:.1f}"}),
        Check("momentum", momentum.low > 0, {"fewer": f"{momentum:.1f}"}),
        Check("adam", adam.low > 0, {"fewer": f"{adam:.1f}"}),
    ]  # fmt: skip


def draw(found: Parts, path: Path) -> None:
    """Draw the losses at each optimiser's best learning rate, and by learning rate."""
    with panels(path, 2, width=5.2) as (left, right):
        for number, (name, rates) in enumerate(OPTIMISERS.items()):
            rate, curves = _at_best_rate(name, found[name])
            label = name.replace("_", " ")
            places = np.arange(1, len(curves) + 1)
            curve(left, places, np.log10(curves), f"{label}, {rate:g}", number)
            last = np.log10(np.array(found[name]["losses"], float)[-1])
            curve(right, rates, last, label, number)
        left.axhline(np.log10(REACHED), color="#999999", linestyle=":")
        left.set(xlabel="epoch", ylabel="training loss (log₁₀ nats)")
        right.set(xlabel="learning rate", ylabel="last training loss (log₁₀ nats)", xscale="log")
        left.legend(fontsize=8)


STUDY = Study(10, parts, judge, draw)
