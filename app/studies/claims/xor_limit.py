"""XOR, which logistic regression cannot separate, and two ways to change its features."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.evaluation.estimates import count_text, is_more_often, proportion_estimate
from app.studies.nets import accuracies, configure, losses, outputs, rows
from app.studies.panels import bars, panels
from app.studies.study import Check, Effort, Parts, Study
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


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on how many seeds get all four points right."""
    solved = {arm: np.array(found[arm]["right"]) == 1 for arm in ARMS}
    most = max(found["logistic"]["right"])
    learned = proportion_estimate(int(solved["cascade"].sum()), len(solved["cascade"]))
    return [
        Check(
            "logistic",
            not solved["logistic"].any(),
            {"solved": count_text(solved["logistic"]), "most": f"{4 * most:.0f}"},
            is_fact=True,
        ),
        Check("distances", solved["distances"].all(), {"solved": count_text(solved["distances"])}),
        Check(
            "cascade",
            is_more_often(solved["cascade"], solved["logistic"]),
            {"solved": count_text(solved["cascade"]), "fraction": f"{learned:.0%}"},
        ),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw the features set by hand, the learned ones, and how many seeds solve XOR."""
    cascade = found["cascade"]
    with panels(path, 3) as (by_hand, learned, counts):
        _draw_points(by_hand, distances(POINTS))
        by_hand.plot([0.5, 1.2], [1.2, 0.5], color="#000000", linestyle="--")
        by_hand.set(xlabel="distance to (0, 0)", ylabel="distance to (1, 1)")
        by_hand.set_title("features set by hand", fontsize=10)
        if "features" in cascade:
            _draw_points(learned, np.array(cascade["features"]))
        learned.set(xlabel="first hidden unit", ylabel="second hidden unit")
        learned.set_title("features learned by a cascade", fontsize=10)
        seeds = [_count(found[arm]["right"]) for arm in ARMS]
        names = ["logistic\nregression", "on distances", "cascade 2+1"]
        bars(counts, names, seeds, "fraction of seeds that get all points right")


def _count(right: Sequence[float]) -> tuple[int, int]:
    return sum(accuracy == 1 for accuracy in right), len(right)


def _draw_points(axes: Any, places: np.ndarray) -> None:
    # Some features map two points to the same place: the later marker is smaller and on top.
    for number, (place, target) in enumerate(zip(places, TARGETS, strict=True)):
        marker, color = ("o", "#0072B2") if target else ("s", "#D55E00")
        axes.scatter(*place, s=160 - 30 * number, marker=marker, color=color, edgecolors="white")
        name = f"({POINTS[number, 0]:.0f}, {POINTS[number, 1]:.0f})"
        axes.annotate(name, place, xytext=(8, 5 if number < 2 else -11), textcoords="offset points")
    axes.margins(0.25)
    axes.grid(alpha=0.3)


STUDY = Study(20, parts, judge, draw)
