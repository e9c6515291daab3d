"""Pictures of a run. matplotlib without pyplot, so that nothing looks for a screen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix

# Okabe & Ito (2008): told apart by colour-blind readers too.
BLUE, ORANGE = "#0072B2", "#D55E00"


def draw_learning_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Write a PNG of loss and accuracy by epoch, training against validation."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[metric] for row in history], color=BLUE, label="training")
        axes.plot(
            epochs,
            [row[f"val_{metric}"] for row in history],
            color=ORANGE,
            linestyle="--",
            label="validation",
        )
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def draw_confusion_matrix(
    targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str], path: Path
) -> None:
    """Write a PNG of how many samples of each class were taken for which.

    Args:
        targets: int64 `(samples,)`.
        predicted: int64 `(samples,)`.
        labels: name of each class.
        path: the file to write.
    """
    counts = confusion_matrix(targets, predicted, labels=np.arange(len(labels)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.42 * len(labels)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)
    long_names = max(map(len, labels)) > 3
    axes.set_xticks(range(len(labels)), labels, rotation=45 if long_names else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(f"{np.trace(counts):,} of {counts.sum():,} test samples right", fontsize=10)
    figure.savefig(path, dpi=120)
