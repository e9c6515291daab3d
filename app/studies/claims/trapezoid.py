"""The area of a trapezoid: what a linear model can do depends on its features."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import configure, predictions, rows
from app.studies.panels import BY_HAND, LIMIT, MAIN, PLAIN, panels
from app.studies.signs import above, below
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

SAMPLES, TESTS = 200, 500
# For each arm: whether products of the inputs are features too, and the hidden layers.
ARMS: dict[str, tuple[bool, list[int]]] = {
    "raw": (False, []),
    "products": (True, []),
    "hidden": (False, [32]),
}
LOOKS = {"raw": PLAIN, "products": BY_HAND, "hidden": MAIN}
# R² below which a part of the area is missed, and above which nearly nothing is.
MISSES, EXACT = 0.99, 0.999


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm."""
    return {arm: partial(_train, arm, effort) for arm in ARMS}


def _train(arm: str, effort: Effort) -> dict[str, Any]:
    with_products, hidden = ARMS[arm]
    nets = effort.seeds
    sides = np.random.default_rng(0).uniform(0.1, 2.0, (nets * SAMPLES + TESTS, 3))
    first, second, height = sides.T
    area = (first + second) * height / 2
    products = [first * second, first * height, second * height]
    inputs = np.column_stack([sides, *products]) if with_products else sides
    dataset = rows("trapezoids", inputs, area[:, np.newaxis], "regression")
    config = configure(
        {
            "head": "linear",
            "hidden": hidden,
            "activation": "tanh",
            "initializer": "xavier_uniform",
            "optimizer.learning_rate": 0.02,
            "optimizer.schedule": "cosine",
            "batch_size": 20,
            "epochs": effort.choose(8, 3),
            "repeat": 40,
        },
        nets,
    )
    train = np.arange(nets * SAMPLES).reshape(nets, SAMPLES).T  # separate samples for each net
    fitted = fit_replicas(config, dataset, train)
    tests = np.arange(nets * SAMPLES, len(area))
    found = predictions(fitted, dataset)[tests, :, 0]  # (tests, nets)
    errors = ((found - area[tests, np.newaxis]) ** 2).mean(axis=0)
    return {
        "r2": 1 - errors / area[tests].var(),
        "area": area[tests][:200],
        "predicted": found[:200, 0],
    }


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on R² on trapezoids that no net has seen."""
    raw, products, hidden = (found[arm]["r2"] for arm in ARMS)
    linear, exact = mean_estimate(raw), mean_estimate(products)
    return [
        Claim("raw", below(linear, MISSES), {"r2": f"{linear:.4f}"}),
        Claim("products", above(exact, EXACT), {"r2": f"{exact:.5f}"}),
        compared(
            "hidden",
            difference(hidden, raw),
            4,
            r2=f"{mean_estimate(hidden):.4f}",
            linear=f"{linear:.4f}",
        ),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw predicted against true areas, for one net of each arm."""
    names = {"raw": "raw inputs", "products": "with products", "hidden": "a hidden layer"}
    with panels(folder, 3) as axes:
        for panel, (arm, name) in zip(axes, names.items(), strict=True):
            area = found[arm]["area"]
            panel.plot([0, 4], [0, 4], **LIMIT)
            panel.scatter(area, found[arm]["predicted"], s=8, alpha=0.6, color=LOOKS[arm].color)
            panel.set(xlabel="true area", ylabel="predicted area")
            panel.set_title(f"{name}: R² {np.mean(found[arm]['r2']):.4f}", fontsize=10)
            panel.grid(alpha=0.3)


STUDY = Study(20, parts, judge, draw)
