"""Draws the learned features on their first two principal components."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA

from app.data.datasets import Dataset

from .plotting import MARKERS, distinct, save, short, short_names, style

# More dots would hide each other.
MAX_SAMPLES = 2000
# Colors and markers can distinguish this many classes; with more, a color scale is used.
_NAMED_CLASSES = 20
_NAMES_AT_BAR = 10
_DOTS = {"s": 14, "alpha": 0.8, "linewidths": 0}


def draw_projection(
    dataset: Dataset, indices: np.ndarray, features: np.ndarray, path: Path
) -> None:
    """Write a PNG of the features' first two principal components, colored by target.

    Nothing is written if there are fewer than two features or three samples, or if all samples
    have the same features.

    Args:
        dataset: the data set of the samples.
        indices: indices of the samples, int64 `(samples,)`; at most `MAX_SAMPLES` are useful.
        features: features of the samples, float `(samples, dimension)`.
        path: the file to write.
    """
    features = features.astype(np.float64)
    if len(features) < 3 or features.shape[1] < 2 or not np.ptp(features, axis=0).any():
        return
    analysis = PCA(n_components=2, random_state=0)
    points = analysis.fit_transform(features)
    with style():
        figure = Figure(figsize=(7.5, 5.5), layout="constrained")
        axes = figure.subplots()
        draw = {"multiclass": _draw_classes, "multilabel": _draw_labels, "regression": _draw_values}
        draw[dataset.task](axes, points, dataset.targets[indices], dataset.labels)
        first, second = analysis.explained_variance_ratio_
        axes.set_xlabel(f"first principal component ({first:.1%} of the variance)")
        axes.set_ylabel(f"second principal component ({second:.1%} of the variance)")
        axes.grid(alpha=0.3)
        save(figure, path)


def _draw_classes(
    axes: Any, points: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]
) -> None:
    if len(labels) > _NAMED_CLASSES:
        _draw_many_classes(axes, points, targets, labels)
        return
    styles = distinct(len(labels), MARKERS)
    for number, (title, (color, marker)) in enumerate(
        zip(short_names(labels), styles, strict=True)
    ):
        own = points[targets == number]
        if len(own):
            # matplotlib leaves out names with a leading underscore; the blank prevents that.
            name = f" {title}"
            axes.scatter(*own.T, color=color, marker=marker, label=name, **_DOTS)
    axes.figure.legend(loc="outside right upper", fontsize=8)


def _draw_many_classes(
    axes: Any, points: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]
) -> None:
    dots = axes.scatter(*points.T, c=targets, cmap="viridis", vmin=0, vmax=len(labels) - 1, **_DOTS)
    bar = axes.figure.colorbar(dots, label="class")
    ticks = range(0, len(labels), -(-len(labels) // _NAMES_AT_BAR))
    bar.set_ticks(ticks, labels=short_names([labels[tick] for tick in ticks]))


def _draw_labels(axes: Any, points: np.ndarray, targets: np.ndarray, _: tuple[str, ...]) -> None:
    counts = targets.sum(axis=1)
    lowest, highest = int(counts.min()), int(counts.max())
    steps = mpl.colormaps["viridis"].resampled(highest - lowest + 1)
    limits = {"vmin": lowest - 0.5, "vmax": highest + 0.5}
    dots = axes.scatter(*points.T, c=counts, cmap=steps, **limits, **_DOTS)
    ticks = MaxNLocator(integer=True)
    axes.figure.colorbar(dots, label="number of labels set", ticks=ticks)


def _draw_values(
    axes: Any, points: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]
) -> None:
    dots = axes.scatter(*points.T, c=targets[:, 0], cmap="viridis", **_DOTS)
    axes.figure.colorbar(dots, label=short(labels[0]))
