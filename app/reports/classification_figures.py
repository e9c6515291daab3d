"""Figures for classification: confusion matrix, reliability, ROC and precision-recall."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import (
    auc,
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)

from app.data.datasets import Dataset
from app.evaluation.calibration import (
    BINS,
    calibration_error,
    chance_calibration_errors,
    confidence_and_truth,
    reliability,
)
from app.evaluation.estimates import proportion_estimate
from serving.written_numbers import write_percent, write_probability, write_score

from .plotting import BLUE, GRAY, LINES, distinct, save, short_names

# Larger matrices have no space for a number in each cell or a name at each row.
_COUNTED_CLASSES = 30
# Inches of a cell with a number, and of all cells without.
_CELL, _CELLS = 0.42, 6.0
_CURVES = 10


def draw_confusion_matrix(
    targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str], path: Path
) -> None:
    """Write a PNG of the samples by true and predicted class.

    Args:
        targets: int64 `(samples,)`.
        predicted: int64 `(samples,)`.
        labels: name of each class.
        path: the file to write.
    """
    counts = confusion_matrix(targets, predicted, labels=np.arange(len(labels)))
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = short_names(labels)
    is_counted = len(labels) <= _COUNTED_CLASSES
    cells = _CELL * len(labels) if is_counted else _CELLS
    side = 2.2 + cells + 0.05 * max(map(len, names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if is_counted:
        _write_counts(axes, counts, fractions)
    else:
        figure.colorbar(image, label="fraction of the true class", shrink=0.7)
    _name_classes(axes, names)
    axes.set_title(
        f"{np.trace(counts):,} of {counts.sum():,} samples\nare classified correctly",
        fontsize=10,
    )
    save(figure, path)


def _write_counts(axes: Any, counts: np.ndarray, fractions: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=shade, fontsize=8)


def _name_classes(axes: Any, names: Sequence[str]) -> None:
    ticks = range(0, len(names), -(-len(names) // _COUNTED_CLASSES))
    shown = [names[tick] for tick in ticks]
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, shown, **(slanted if max(map(len, shown)) > 3 else {}))
    axes.set_yticks(ticks, shown)
    axes.tick_params(labelsize=8 if len(shown) > 10 else 10)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def draw_reliability(
    targets: np.ndarray, probabilities: np.ndarray, path: Path, before: np.ndarray | None = None
) -> None:
    """Write a PNG of the accuracy of predictions by their confidence.

    It shows the expected calibration error over bins of equal width (Guo et al., 2017), that of a
    calibrated model, and the 95% interval of each bin's accuracy (Clopper & Pearson, 1934).

    Args:
        targets: classes `(samples,)`, or labels 0 and 1 `(samples, labels)`.
        probabilities: `(samples, classes)` or `(samples, labels)`.
        path: the file to write.
        before: the probabilities before calibration, if they were calibrated.
    """
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), color=GRAY, linestyle="--", label="perfectly calibrated")
    if before is not None:
        confidence, accuracy, _ = reliability(before, targets)
        error = calibration_error(before, targets)
        label = f"before calibration, ECE {error:.3f}"
        above.plot(confidence, accuracy, color=GRAY, marker="s", linestyle="", label=label)
    confidence, accuracy, counts = reliability(probabilities, targets)
    error = calibration_error(probabilities, targets)
    label = f"model with 95% intervals, ECE {error:.3f}"
    reach = _interval_lengths(accuracy, counts)
    above.errorbar(confidence, accuracy, reach, fmt="o", color=BLUE, capsize=3, label=label)
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
    figure.legend(loc="outside upper left", frameon=False)  # inside it would hide points
    confidences, _ = confidence_and_truth(probabilities, targets)
    chance = chance_calibration_errors(confidences, draws=50).mean()
    above.set_title(
        f"ECE: expected calibration error.\nA calibrated model would have {chance:.3f} by chance.",
        fontsize=10,
        loc="left",
    )
    below.hist(confidences, bins=BINS, range=(0, 1), color=BLUE, rwidth=0.9)
    below.set(xlabel="confidence (probability of the prediction)", ylabel="predictions")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    save(figure, path)


def _interval_lengths(fractions: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the lengths of intervals below and above fractions, `(2, fractions)`."""
    found = np.rint(fractions * counts).astype(int).tolist()
    estimates = map(proportion_estimate, found, counts.tolist())
    return np.transpose([(e.value - e.low, e.high - e.value) for e in estimates])


def draw_roc_curves(
    targets: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], path: Path
) -> None:
    """Write a PNG of the ROC curve of each label.

    A label that is always or never set has no curve. If no label has one, nothing is written.

    Args:
        targets: 0 or 1, `(samples, labels)`.
        probabilities: `(samples, labels)`.
        labels: name of each label.
        path: the file to write.
    """
    varying = np.flatnonzero((targets == 1).any(axis=0) & (targets != 1).any(axis=0))
    drawn = varying[:_CURVES]
    if not drawn.size:
        return
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=GRAY, linewidth=1, label="chance")
    names = short_names([labels[label] for label in drawn])
    styles = distinct(len(drawn), LINES)
    for label, title, (color, line) in zip(drawn, names, styles, strict=True):
        false_positives, true_positives, _ = roc_curve(targets[:, label], probabilities[:, label])
        name = f"AUC {write_score('auc', auc(false_positives, true_positives))}  {title}"
        axes.plot(false_positives, true_positives, color=color, linestyle=line, label=name)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    if len(varying) > len(drawn):
        axes.set_title(f"first {len(drawn)} of {len(labels)} labels", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    save(figure, path)


@dataclass(frozen=True)
class RankedLabels:
    """Labels whose samples are ranked by probability: the positive one of two classes, or all.

    Attributes:
        targets: 0 or 1, `(samples, labels)`.
        probabilities: `(samples, labels)`.
        labels: name of each label.
        thresholds: threshold of each label; None for the default of 0.5.
    """

    targets: np.ndarray
    probabilities: np.ndarray
    labels: Sequence[str]
    thresholds: Sequence[float] | None


def ranked_labels(
    dataset: Dataset,
    indices: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | None,
) -> RankedLabels:
    """Return the labels of a model of two classes, or of labels.

    Args:
        dataset: the samples.
        indices: those that were predicted, int64 `(samples,)`.
        probabilities: their predictions, `(samples, labels)`.
        thresholds: threshold of each class or label; None for the default.
    """
    targets, place = dataset.targets[indices], dataset.positive
    if place is None:
        return RankedLabels(targets, probabilities, dataset.labels, thresholds)
    return RankedLabels(
        (targets == place)[:, np.newaxis],
        probabilities[:, [place]],
        dataset.labels[place : place + 1],
        None if thresholds is None else thresholds[place : place + 1],
    )


def draw_precision_recall(ranked: RankedLabels, path: Path) -> None:
    """Write a PNG of the precision by recall of each label, with its threshold as a point.

    A label that is always or never set has no curve. If no label has one, nothing is written.
    """
    targets, probabilities = ranked.targets == 1, ranked.probabilities
    varying = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    drawn = varying[:_CURVES]
    if not drawn.size:
        return
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    if len(drawn) == 1:
        share = float(targets[:, drawn[0]].mean())
        axes.axhline(
            share, color=GRAY, linewidth=1, label=f"precision {write_percent(share)} by chance"
        )
    names = short_names([ranked.labels[label] for label in drawn])
    styles = distinct(len(drawn), LINES)
    for label, title, (color, line) in zip(drawn, names, styles, strict=True):
        is_true, scores = targets[:, label], probabilities[:, label]
        precision, recall, _ = precision_recall_curve(is_true, scores)
        average = average_precision_score(is_true, scores)
        name = f"AP {write_score('average_precision', average)}  {title}"
        axes.plot(recall, precision, color=color, linestyle=line, label=name)
        chosen = 0.5 if ranked.thresholds is None else ranked.thresholds[label]
        for threshold, face in {0.5: "white", chosen: color}.items():
            _mark_threshold(axes, is_true, scores >= np.float64(threshold), color, face)
            if len(drawn) == 1:
                axes.lines[-1].set_label(f"threshold {write_probability(threshold)}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    if len(varying) > len(drawn):
        axes.set_title(f"first {len(drawn)} of {len(ranked.labels)} labels", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=8)
    save(figure, path)


def _mark_threshold(
    axes: Any, is_true: np.ndarray, is_set: np.ndarray, color: str, face: str
) -> None:
    """Draw the precision and recall of predictions as a point; nothing is drawn without any."""
    found = int((is_true & is_set).sum())
    places = [(found / is_true.sum(), found / is_set.sum())] if is_set.any() else []
    recall, precision = zip(*places, strict=True) if places else ((), ())
    axes.plot(
        recall, precision, color=color, marker="o", markersize=8, linestyle="",
        markerfacecolor=face, zorder=3,
    )  # fmt: skip
