"""Figures of a run. They avoid pyplot, which looks for a screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.data.datasets import Dataset
from app.data.splits import some
from app.evaluation.metrics import metric_name

from .classification_figures import (
    draw_confusion_matrix,
    draw_mistakes,
    draw_reliability,
    draw_roc_curves,
)
from .plotting import BLUE, GRAY, ORANGE, save, short, style

_NO_METRICS = ("epoch", "loss", "learning_rate")
# With more epochs, markers would hide the line.
_MARKED_EPOCHS = 30
_PANELS, _POINTS = 6, 5000


def draw_figures(
    folder: Path,
    history: Sequence[dict[str, float]],
    dataset: Dataset,
    test: np.ndarray,
    predictions: np.ndarray,
) -> None:
    """Write the figures that suit the task of a run.

    Args:
        folder: folder of the PNGs; it is created if it does not exist.
        history: one row for each epoch: epoch, loss, a metric, and both on the validation split.
        dataset: the samples of the run.
        test: indices of the test split, int64 `(samples,)`.
        predictions: probabilities or values for the test split, `(samples, outputs)`.
    """
    folder.mkdir(exist_ok=True)
    draw = {"multiclass": _draw_classes, "multilabel": _draw_labels, "regression": _draw_values}
    with style():
        _draw_learning_curves(history, folder / "learning_curves.png")
        draw[dataset.task](folder, dataset, test, predictions)


def draw_training_sizes(
    sizes: Sequence[dict[str, Any]], left_out: Sequence[dict[str, Any]], metric: str, path: Path
) -> None:
    """Write a PNG of the score by number of training samples.

    Args:
        sizes: rows with `samples` and the scores `train` and `validation`.
        left_out: rows with `samples`, too few to train on.
        metric: name of the score.
        path: the file to write.
    """
    samples = [row["samples"] for row in sizes]
    with style():
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        _plot_pair(axes, samples, *([row[k] for row in sizes] for k in ("train", "validation")))
        axes.set_xscale("log")
        axes.set_xticks(samples, [f"{count:,.0f}" for count in samples], rotation=45)
        axes.minorticks_off()
        axes.set_xlabel("training samples (logarithmic scale)")
        if left_out:
            counts = ", ".join(f"{row['samples']:,}" for row in left_out)
            axes.set_title(f"too few to train on: {counts}", fontsize=10)
        axes.set_ylabel(metric_name(metric))
        save(figure, path)


def _draw_learning_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    epochs = [row["epoch"] for row in history]
    metrics = ["loss", *(key for key in history[0] if _is_metric(key))]
    figure = Figure(figsize=(4.5 * len(metrics), 3.6), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _plot_pair(axes, epochs, *([row[k] for row in history] for k in (metric, f"val_{metric}")))
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric_name(metric))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    save(figure, path)


def _is_metric(key: str) -> bool:
    return key not in _NO_METRICS and not key.startswith("val_")


def _plot_pair(
    axes: Any, places: Sequence[float], training: Sequence[float], validation: Sequence[float]
) -> None:
    marker = "o" if len(places) <= _MARKED_EPOCHS else None
    axes.plot(places, training, color=BLUE, marker=marker, markersize=4, label="training")
    axes.plot(
        places,
        validation,
        color=ORANGE,
        linestyle="--",
        marker=marker,
        markersize=4,
        label="validation",
    )
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_classes(
    folder: Path, dataset: Dataset, test: np.ndarray, probabilities: np.ndarray
) -> None:
    targets = dataset.targets[test]
    predicted = probabilities.argmax(axis=1)
    draw_confusion_matrix(targets, predicted, dataset.labels, folder / "confusion_matrix.png")
    draw_reliability(targets, probabilities, folder / "reliability_diagram.png")
    if len(dataset.labels) == 2:
        second = (targets == 1)[:, np.newaxis]
        draw_roc_curves(second, probabilities[:, 1:], dataset.labels[1:], folder / "roc.png")
    if dataset.kind == "images":
        draw_mistakes(dataset, test, probabilities, folder / "mistakes.png")


def _draw_labels(
    folder: Path, dataset: Dataset, test: np.ndarray, probabilities: np.ndarray
) -> None:
    draw_roc_curves(dataset.targets[test], probabilities, dataset.labels, folder / "roc.png")


def _draw_values(folder: Path, dataset: Dataset, test: np.ndarray, values: np.ndarray) -> None:
    targets = dataset.targets[test]
    count = min(len(dataset.labels), _PANELS)
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.8 * columns, 4.1 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, axes in enumerate(panels[:count]):
        _plot_values(axes, targets[:, number], values[:, number], dataset.labels[number])
    for axes in panels[count:]:
        axes.remove()
    if len(dataset.labels) > count:
        figure.suptitle(f"first {count} of {len(dataset.labels)} values")
    save(figure, folder / "predicted_and_true.png")


def _plot_values(axes: Any, targets: np.ndarray, values: np.ndarray, name: str) -> None:
    shown = some(len(targets), _POINTS)
    both = np.concatenate([targets, values])
    lowest, highest = float(both.min()), float(both.max())
    margin = 0.05 * (highest - lowest) or 1.0
    limits = (lowest - margin, highest + margin)
    axes.plot(limits, limits, color=GRAY, linestyle="--")
    axes.scatter(targets[shown], values[shown], s=12, alpha=0.6, color=BLUE, linewidths=0)
    axes.set(
        xlim=limits, ylim=limits, aspect="equal", xlabel="true value", ylabel="predicted value"
    )
    axes.set_title(
        f"{short(name)}\nmean absolute error {np.abs(values - targets).mean():.3g}", fontsize=10
    )
    axes.grid(alpha=0.3)
