"""Very deep networks, 10 to 100 layers: plain or residual, with or without normalization."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import accuracies, configure, digit_rows, split_for_replicas
from app.studies.panels import curve, legend_beside, panels
from app.studies.study import Check, Effort, Parts, Study
from app.training.replicas import fit_replicas

WIDTH = 32
DEPTHS, QUICK_DEPTHS = (10, 30, 100), (5, 20)
ARMS = {
    "plain": (False, "none"),
    "plain, normalized": (False, "layer"),
    "residual": (True, "none"),
    "residual, normalized": (True, "layer"),
}
TRAIN, TEST = 1200, 500
TRAINS = 0.9  # test accuracy at which a net counts as trained


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm at each depth; in quick mode, what the verdict needs."""
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


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on test accuracies at the smallest and at the largest depth."""
    depths = sorted({numbers["depth"] for numbers in found.values()})
    least, most = depths[0], depths[-1]

    def accuracies_of(arm: str, depth: int) -> Any:
        return found[f"{arm}, {depth} layers"]["accuracies"]

    plain = {depth: mean_estimate(accuracies_of("plain", depth)) for depth in (least, most)}
    both = mean_estimate(accuracies_of("residual, normalized", most))
    gained = difference(accuracies_of("residual, normalized", most), accuracies_of("plain", most))
    alone = {
        arm: mean_estimate(accuracies_of(arm, most)) for arm in ("plain, normalized", "residual")
    }
    sizes = {"least": str(least), "most": str(most)}
    return [
        Check(
            "plain",
            plain[least].low > TRAINS > plain[most].high,
            {**sizes, "shallow": f"{plain[least]:.1%}", "deep": f"{plain[most]:.1%}"},
        ),
        Check(
            "both",
            both.low > TRAINS and gained.low > 0,
            {**sizes, "accuracy": f"{both:.1%}", "gained": f"{100 * gained.value:.0f}"},
        ),
        *(
            Check(
                "alone",
                estimate.high < TRAINS,
                {**sizes, "arm": arm, "accuracy": f"{estimate:.1%}"},
            )
            for arm, estimate in alone.items()
        ),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw test accuracy against depth, one curve per arm."""
    with panels(path, 1, width=6) as (axes,):
        for number, arm in enumerate(ARMS):
            own = [numbers for numbers in found.values() if numbers["arm"] == arm]
            places = [numbers["depth"] for numbers in own]
            curve(axes, places, [numbers["accuracies"] for numbers in own], arm, number)
        axes.axhline(0.1, color="#999999", linestyle=":", label="guessing")
        axes.set_xscale("log")
        depths = sorted({numbers["depth"] for numbers in found.values()})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.minorticks_off()
        axes.set(xlabel="hidden layers (logarithmic)", ylabel="test accuracy")
        legend_beside(axes)


STUDY = Study(5, parts, judge, draw)
