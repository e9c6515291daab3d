"""Six optimizers on the same net from the same start, each at its best learning rate."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MultipleLocator

from app.studies.nets import (
    StartFrom,
    build_replicas,
    configure,
    digit_rows,
    learning_weights,
    losses,
)
from app.studies.panels import (
    AMBER,
    LIMIT,
    MAIN,
    ORANGE,
    PINK,
    PLAIN,
    SKY,
    curve,
    legend_below,
    panels,
)
from app.studies.rates import Pace, best_pace, faster
from app.studies.study import Claim, Effort, Parts, Study
from app.training.replicas import fit_replicas

# The grid of learning rates for each optimizer.
OPTIMIZERS: dict[str, tuple[float, ...]] = {
    "gradient_descent": (0.3, 1.0, 3.0, 5.0, 10.0, 30.0),
    "sgd": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "momentum": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "adagrad": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "rmsprop": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    "adam": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
}
# The names in texts and figures.
NAMES = {
    "gradient_descent": "batch gradient descent",
    "sgd": "SGD",
    "momentum": "momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "adam": "Adam",
}
LOOKS = dict(zip(NAMES, (PINK, PLAIN, AMBER, SKY, ORANGE, MAIN), strict=True))
# Each optimizer, and the one that it is said to be faster than.
PAIRS = (
    ("sgd", "gradient_descent"),
    ("momentum", "sgd"),
    ("adagrad", "sgd"),
    ("rmsprop", "sgd"),
    ("adam", "sgd"),
)
REACHED = 0.05  # training loss, in nats
TRAIN = 1000


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training with each optimizer, at all its learning rates at once."""
    return {name: partial(_train, name, effort) for name in OPTIMIZERS}


def _train(name: str, effort: Effort) -> dict[str, Any]:
    digits, seeds = digit_rows(), effort.seeds
    rates = OPTIMIZERS[name]
    train = np.random.default_rng(0).permutation(len(digits.targets))[:TRAIN]
    settings = {
        "hidden": [32],
        "batch_size": 50,
        "epochs": effort.choose(30, 8),
        "optimizer.name": name,
    }
    config = configure(settings, seeds * len(rates), np.repeat(rates, seeds).tolist())
    starts = learning_weights(build_replicas(configure(settings, seeds), digits, train))
    weights = [np.concatenate([weight] * len(rates)) for weight in starts]
    fitted = fit_replicas(config, digits, train, train, [StartFrom(weights)])
    return {"losses": losses(fitted, "val_").reshape(-1, len(rates), seeds)}


def _pace(name: str, numbers: Mapping[str, Any]) -> Pace:
    return best_pace(OPTIMIZERS[name], numbers["losses"], REACHED, first=1)


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the epochs that each optimizer needs to the same loss."""
    paces = {name: _pace(name, found[name]) for name in OPTIMIZERS}
    claims = []
    for name, than in PAIRS:
        figures = {"name": NAMES[name], "other": NAMES[than]}
        figures |= {"own": str(paces[name]), "others": str(paces[than])}
        claims.append(faster("faster", paces[name], paces[than], **figures))
    return claims


def draw(found: Parts, folder: Path) -> None:
    """Draw the losses at each optimizer's best learning rate, and the final ones by rate."""
    with panels(folder, 2) as (left, right):
        for name, rates in OPTIMIZERS.items():
            best, label, look = _pace(name, found[name]), NAMES[name], LOOKS[name]
            places = np.arange(1, len(best.curves) + 1)
            curve(left, places, np.log10(best.curves), f"{label}, {best.rate:g}", look)
            last = np.array(found[name]["losses"], float)[-1]
            last = np.log10(np.where(last > 0, last, np.nan))  # a loss of 0 has no logarithm
            curve(right, rates, last, label, look)
        left.axhline(np.log10(REACHED), label="goal", **LIMIT)
        # Ticks whose width changed with the height would move the labels out of the figure.
        left.yaxis.set_major_locator(MultipleLocator(1))
        left.set(xlabel="epoch", ylabel="training loss (log₁₀ nats)")
        right.set(xlabel="learning rate", ylabel="final training loss (log₁₀ nats)", xscale="log")
        right.set_ylim(top=1)  # runs above have diverged
        legend_below(left)


STUDY = Study(20, parts, judge, draw)
