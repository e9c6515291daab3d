"""Figures of a run. They avoid pyplot, which looks for a screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.data.datasets import Dataset
from serving.decisions import decide
from serving.written_numbers import metric_name

from .classification_figures import (
    draw_confusion_matrix,
    draw_precision_recall,
    draw_reliability,
    draw_roc_curves,
    ranked_labels,
)
from .mistake_figures import draw_mistakes
from .plotting import BLUE, GRAY, ORANGE, panel_grid, save, style
from .value_figures import draw_predicted_and_true

_NO_METRICS = ("epoch", "loss", "learning_rate")
# What `draw_predictions` draws of classes and labels.
DECISION_FIGURES = (
    "confusion_matrix", "mistakes", "precision_recall", "reliability_diagram", "roc",
)  # fmt: skip
# With more epochs, markers would hide the line.
_MARKED_EPOCHS = 30


def draw_figures(  # noqa: PLR0913 - most have a default
    folder: Path,
    history: Sequence[dict[str, float]],
    dataset: Dataset,
    test: np.ndarray,
    predictions: np.ndarray,
    thresholds: Sequence[float] | None = None,
    *,
    smaller_epochs: int = 0,
) -> None:
    """Write the figures that suit the task of a run.

    Args:
        folder: folder of the PNGs; it is created if it does not exist.
        history: one row for each epoch: epoch, loss, a metric, and both on the validation split.
        dataset: the samples of the run.
        test: indices of the test split, int64 `(samples,)`.
        predictions: probabilities or values for the test split, `(samples, outputs)`.
        thresholds: threshold of each class or label; None for the default.
        smaller_epochs: number of epochs at the beginning that had smaller images.
    """
    folder.mkdir(exist_ok=True)
    with style():
        _draw_learning_curves(history, smaller_epochs, folder / "learning_curves.png")
    draw_predictions(folder, dataset, test, predictions, thresholds)


def draw_predictions(
    folder: Path,
    dataset: Dataset,
    test: np.ndarray,
    predictions: np.ndarray,
    thresholds: Sequence[float] | None = None,
) -> None:
    """Write the figures of predictions that suit their task.

    Args:
        folder: folder of the PNGs.
        dataset: the samples.
        test: indices of those that were predicted, int64 `(samples,)`.
        predictions: probabilities or values for them, `(samples, outputs)`.
        thresholds: threshold of each class or label; None for the default.
    """
    with style():
        if dataset.task == "multiclass":
            _draw_classes(folder, dataset, test, predictions, thresholds)
        elif dataset.task == "multilabel":
            _draw_ranking(folder, dataset, test, predictions, thresholds)
        else:
            path = folder / "predicted_and_true.png"
            draw_predicted_and_true(dataset.targets[test], predictions, dataset.labels, path)
        if dataset.kind == "images":
            draw_mistakes(dataset, test, predictions, thresholds, folder / "mistakes.png")


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


def _draw_learning_curves(
    history: Sequence[dict[str, float]], smaller_epochs: int, path: Path
) -> None:
    epochs = [row["epoch"] for row in history]
    metrics = list(dict.fromkeys(["loss", *(k for row in history for k in row if _is_metric(k))]))
    figure, panels = panel_grid(len(metrics), 4.5, 3.6)
    for axes, metric in zip(panels, metrics, strict=True):
        # A callback may log a value in some epochs only, and of training only.
        pair = ([row.get(k, np.nan) for row in history] for k in (metric, f"val_{metric}"))
        if smaller_epochs:
            span = (epochs[0], smaller_epochs + 0.5)
            axes.axvspan(*span, color=GRAY, alpha=0.2, linewidth=0, label="smaller images")
        _plot_pair(axes, epochs, *pair)
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
    if not np.isnan(validation).all():
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
    folder: Path,
    dataset: Dataset,
    test: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | None,
) -> None:
    targets = dataset.targets[test]
    predicted = decide("multiclass", probabilities, thresholds)
    draw_confusion_matrix(targets, predicted, dataset.labels, folder / "confusion_matrix.png")
    draw_reliability(targets, probabilities, folder / "reliability_diagram.png")
    if dataset.positive is not None:
        _draw_ranking(folder, dataset, test, probabilities, thresholds)


def _draw_ranking(
    folder: Path,
    dataset: Dataset,
    test: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | None,
) -> None:
    """Draw the curves of the positive one of two classes, or of labels."""
    ranked = ranked_labels(dataset, test, probabilities, thresholds)
    draw_roc_curves(ranked.targets, ranked.probabilities, ranked.labels, folder / "roc.png")
    draw_precision_recall(ranked, folder / "precision_recall.png")
