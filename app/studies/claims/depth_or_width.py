"""More layers against more units in one layer, with about the same number of weights."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from app.evaluation.estimates import points
from app.studies.nets import accuracies, configure, digit_rows, split_for_replicas
from app.studies.panels import MAIN, PLAIN, SKY, curve, panels
from app.studies.study import Claim, Effort, Parts, Study, compared
from app.training.replicas import fit_replicas

INPUTS, CLASSES = 64, 10
WIDTHS = (5, 10, 20, 40)  # of the single layer whose weights set the budget
DEPTHS = (1, 2, 3)
TRAIN, TEST = 1200, 500


def count_weights(hidden: Sequence[int]) -> int:
    """Return the number of weights of a fully connected net with these hidden layers."""
    sizes = [INPUTS, *hidden, CLASSES]
    return sum((before + 1) * after for before, after in pairwise(sizes))


def shape_for(budget: int, depth: int) -> list[int]:
    """Return the hidden layers whose number of weights is nearest to the budget.

    No layer is wider than the one before, and the last has at least half the units of the first.
    Among shapes that are equally near, the most even one is returned.
    """
    limit = max(WIDTHS) + 1
    shapes = [
        list(shape)
        for shape in product(range(2, limit), repeat=depth)
        if all(a >= b for a, b in pairwise(shape)) and 2 * shape[-1] >= shape[0]
    ]
    return min(shapes, key=lambda shape: _miss(shape, budget))


def _miss(shape: Sequence[int], budget: int) -> tuple[int, int]:
    return abs(count_weights(shape) - budget), shape[0] - shape[-1]


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each depth with each budget."""
    widths = WIDTHS[:: effort.choose(1, 2)]
    return {
        f"{width} units, {depth} layers": partial(_train, width, depth, effort)
        for width, depth in product(widths, DEPTHS[: effort.choose(3, 2)])
    }


def _train(width: int, depth: int, effort: Effort) -> dict[str, Any]:
    hidden = shape_for(count_weights([width]), depth)
    digits = digit_rows()
    train, test = split_for_replicas(digits, effort.seeds, TRAIN, TEST)
    settings = {
        "hidden": hidden,
        "epochs": 5,
        "repeat": effort.choose(12, 4),
        "batch_size": 50,
        "optimizer.learning_rate": 5e-3,
        "optimizer.schedule": "cosine",
    }
    fitted = fit_replicas(configure(settings, effort.seeds), digits, train)
    return {
        "width": width,
        "depth": depth,
        "hidden": hidden,
        "weights": count_weights(hidden),
        "accuracies": accuracies(fitted, digits, test),
    }


def judge(found: Parts) -> Sequence[Claim]:
    """Return for each budget and depth whether the deep net is better than the wide one."""
    by_width: dict[int, dict[int, Any]] = {}
    for numbers in found.values():
        by_width.setdefault(numbers["width"], {})[numbers["depth"]] = numbers
    claims = []
    for width, depths in by_width.items():
        wide = depths[1]
        for depth in sorted(depths)[1:]:
            deep = depths[depth]
            gained = points(deep["accuracies"], wide["accuracies"])
            figures = {
                "width": str(width),
                "depth": str(depth),
                "shape": "-".join(map(str, deep["hidden"])),
                "wide_weights": f"{wide['weights']:,}",
                "deep_weights": f"{deep['weights']:,}",
            }
            claims.append(compared("deeper", gained, 1, **figures))
    return claims


def draw(found: Parts, folder: Path) -> None:
    """Draw test accuracy against the number of weights, one curve per depth."""
    with panels(folder) as (axes,):
        for depth, look in zip(DEPTHS, (PLAIN, MAIN, SKY), strict=True):
            chosen = [n for n in found.values() if n["depth"] == depth]
            if chosen:
                label = f"{depth} hidden layer{'s' if depth > 1 else ''}"
                weights = [n["weights"] for n in chosen]
                curve(axes, weights, [n["accuracies"] for n in chosen], label, look)
        axes.set(xlabel="number of weights", ylabel="test accuracy", xscale="log")
        weights = sorted({n["weights"] for n in found.values() if n["depth"] == 1})
        axes.set_xticks(weights, [f"{count:,}" for count in weights])
        axes.minorticks_off()
        axes.legend()


STUDY = Study(20, parts, judge, draw, quick_seeds=20)
