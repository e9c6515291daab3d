"""Very deep networks, 10 to 100 layers: plain or residual, with or without normalization."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.estimates import points
from app.studies.nets import accuracies, configure, digit_rows, split_for_replicas
from app.studies.panels import AMBER, LIMIT, MAIN, PLAIN, SKY, curve, legend_below, panels
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

WIDTH = 32
DEPTHS, QUICK_DEPTHS = (10, 30, 100), (5, 15)
ARMS = {
    "plain": (False, "none"),
    "plain, normalized": (False, "layer"),
    "residual": (True, "none"),
    "residual, normalized": (True, "layer"),
}
BOTH = "residual, normalized"
TRAIN, TEST = 1200, 500


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm at each depth; in quick mode, what the claims need."""
    depths = QUICK_DEPTHS if effort.quick else DEPTHS
    return {
        f"{arm}, {depth} layers": partial(_train, arm, depth, effort)
        for arm in ARMS
        for depth in depths
        if not effort.quick or arm == "plain" or depth == depths[-1]
    }


def _train(arm: str, depth: int, effort: Effort) -> dict[str, Any]:
    residual, normalization = ARMS[arm]
    digits = digit_rows()
    train, test = split_for_replicas(digits, effort.seeds, TRAIN, TEST)
    settings = {
        "hidden": [WIDTH] * depth,
        "residual": residual,
        "normalization": normalization,
        "batch_size": 60,
        "epochs": 1,
        "repeat": effort.choose(10, 5),
        "optimizer.learning_rate": 3e-3,
    }
    fitted = fit_replicas(configure(settings, effort.seeds), digits, train)
    return {"arm": arm, "depth": depth, "accuracies": accuracies(fitted, digits, test)}


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on test accuracies at the smallest and at the largest depth."""
    depths = sorted({numbers["depth"] for numbers in found.values()})
    least, most = depths[0], depths[-1]

    def accuracies_of(arm: str, depth: int = most) -> Any:
        return found[f"{arm}, {depth} layers"]["accuracies"]

    def percent(arm: str, depth: int = most) -> str:
        return f"{np.mean(accuracies_of(arm, depth)):.1%}"

    sizes = {"least": str(least), "most": str(most), "both": percent(BOTH)}
    lost = points(accuracies_of("plain", least), accuracies_of("plain"))
    claims = [
        compared("plain", lost, 1, **sizes, shallow=percent("plain", least), deep=percent("plain"))
    ]
    for arm in ("plain", "plain, normalized", "residual"):
        gained = points(accuracies_of(BOTH), accuracies_of(arm))
        name = {"plain": "both", "residual": "residual"}.get(arm, "normalized")
        claims.append(compared(name, gained, 1, **sizes, other=percent(arm)))
    return claims


def draw(found: Parts, folder: Path) -> None:
    """Draw test accuracy against depth, one curve per arm."""
    with panels(folder) as (axes,):
        for arm, look in zip(ARMS, (PLAIN, AMBER, SKY, MAIN), strict=True):
            own = [numbers for numbers in found.values() if numbers["arm"] == arm]
            places = [numbers["depth"] for numbers in own]
            curve(axes, places, [numbers["accuracies"] for numbers in own], arm, look)
        axes.axhline(0.1, label="guessing", **LIMIT)
        axes.set_xscale("log")
        depths = sorted({numbers["depth"] for numbers in found.values()})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.minorticks_off()
        axes.set(xlabel="number of hidden layers", ylabel="test accuracy", ylim=(0, 1.02))
        legend_below(axes)


STUDY = Study(10, parts, judge, draw)
