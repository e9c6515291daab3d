"""XOR, which logistic regression cannot separate, and two ways to change its features."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import count_text, proportion_estimate
from app.studies.nets import accuracies, configure, losses, outputs, rows
from app.studies.panels import BY_HAND, LIMIT, MAIN, PLAIN, bars, panels
from app.studies.signs import above, proved
from app.studies.study import Claim, Effort, Parts, Study
from app.training.replicas import fit_replicas

POINTS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], float)
TARGETS = np.array([0, 1, 1, 0])
ARMS: dict[str, list[int]] = {"logistic": [], "distances": [], "cascade": [2]}


def distances(points: np.ndarray) -> np.ndarray:
    """Return the distances of points to (0, 0) and to (1, 1), `(points, 2)`."""
    return np.stack([np.hypot(*points.T), np.hypot(*(points - 1).T)], axis=1)


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each arm."""
    return {arm: partial(_train, arm, effort) for arm in ARMS}


def _train(arm: str, effort: Effort) -> dict[str, Any]:
    inputs = distances(POINTS) if arm == "distances" else POINTS
    points = rows("XOR", inputs, TARGETS)
    settings = {
        "head": "sigmoid",
        "hidden": ARMS[arm],
        "activation": "sigmoid",
        "initializer": "xavier_uniform",
        "batch_size": 4,
        "epochs": 3,
        "repeat": effort.choose(1000, 250),
        "optimizer.learning_rate": 0.03,
    }
    everything = np.arange(len(points.targets))
    fitted = fit_replicas(configure(settings, effort.seeds), points, everything)
    right = accuracies(fitted, points, everything)
    numbers = {"right": right, "losses": losses(fitted)[-1]}
    if arm == "cascade" and (right == 1).any():
        best = int(np.argmin(np.where(right == 1, numbers["losses"], np.inf)))
        numbers["features"] = _features(fitted, points, best)
    return numbers


def _features(fitted: Any, points: Any, net: int) -> np.ndarray:
    model = keras.Model(fitted.model.input, fitted.model.output["features"])
    features: np.ndarray = outputs(model, points.inputs)[:, net]
    return features


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on how many seeds get all four points right."""
    solved = {arm: np.array(found[arm]["right"]) == 1 for arm in ARMS}
    most = max(found["logistic"]["right"])
    logistic = {"solved": count_text(solved["logistic"]), "most": f"{4 * most:.0f}"}
    return [
        Claim("logistic", proved(not solved["logistic"].any()), logistic, is_theorem=True),
        *(
            Claim(
                arm,
                above(proportion_estimate(int(solved[arm].sum()), len(solved[arm])), 0.5),
                {"solved": count_text(solved[arm])},
            )
            for arm in ("distances", "cascade")
        ),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw the features set by hand, the learned ones, and how many seeds solve XOR."""
    cascade = found["cascade"]
    with panels(folder, 4) as (bits, by_hand, learned, counts):
        _draw_points(bits, POINTS)
        bits.set(xlabel="first bit", ylabel="second bit")
        bits.set_title("the bits: no line separates the classes", fontsize=10)
        _draw_points(by_hand, distances(POINTS))
        by_hand.plot([0.5, 1.2], [1.2, 0.5], **LIMIT)
        by_hand.set(xlabel="distance to (0, 0)", ylabel="distance to (1, 1)")
        by_hand.set_title("features made by hand", fontsize=10)
        if "features" in cascade:
            _draw_points(learned, np.array(cascade["features"]))
        learned.set(xlabel="first hidden unit", ylabel="second hidden unit")
        learned.set_title("features that a network learned", fontsize=10)
        names = {
            "logistic": "on the bits",
            "distances": "on distances",
            "cascade": "two units + one",
        }
        seeds = {names[arm]: _count(found[arm]["right"]) for arm in ARMS}
        bars(
            counts,
            seeds,
            "fraction of seeds with all four right",
            dict(zip(seeds, (PLAIN, BY_HAND, MAIN), strict=True)),
        )


def _count(right: Sequence[float]) -> tuple[int, int]:
    return sum(accuracy == 1 for accuracy in right), len(right)


def _draw_points(axes: Any, places: np.ndarray) -> None:
    # Some features map two points to the same place: the later marker is smaller and on top.
    for number, (place, target) in enumerate(zip(places, TARGETS, strict=True)):
        marker, color = ("o", "black") if target else ("s", "white")
        axes.scatter(*place, s=160 - 30 * number, marker=marker, color=color, edgecolors="black")
        name = f"({POINTS[number, 0]:.0f}, {POINTS[number, 1]:.0f})"
        axes.annotate(name, place, xytext=(9, 6 if number < 2 else -12), textcoords="offset points")
    axes.margins(0.3)
    axes.grid(alpha=0.3)


STUDY = Study(20, parts, judge, draw, quick_seeds=20)
