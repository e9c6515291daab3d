"""Figures of the columns of a table: their importance, and what the model makes of their values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from app.data.datasets import Dataset
from serving.manifest import TASKS
from serving.written_numbers import metric_name

from .plotting import (
    BLUE,
    GRAY,
    LINES,
    distinct,
    panel_grid,
    save,
    short,
    short_names,
    style,
    write_ticks,
)

_SHOWN = 15
_CURVES = 5
_TEXT_LENGTH = 16


def draw_importance(importance: dict[str, Any], path: Path) -> None:
    """Write a PNG of the most important columns, with 95% intervals.

    Args:
        importance: see `app.evaluation.importance.permutation_importance`.
        path: the file to write.
    """
    rows = importance["columns"][:_SHOWN]
    places = np.arange(len(rows))[::-1]
    drops = np.array([row["drop"] for row in rows])
    reach = [drops - [row["low"] for row in rows], [row["high"] for row in rows] - drops]
    with style():
        figure = Figure(figsize=(6.5, 1.2 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        axes.barh(places, drops, xerr=reach, color=BLUE, ecolor="black", capsize=3, height=0.7)
        axes.set_yticks(places, short_names([row["name"] for row in rows]))
        axes.axvline(0, color=GRAY, linewidth=1)
        axes.set_xlabel(f"{metric_name(importance['score'])} falls by, if the column is permuted")
        if importance["column_count"] > len(rows):
            title = f"the {len(rows)} most important of {importance['column_count']:,} columns"
            axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3, axis="x")
        save(figure, path)


def draw_dependence(dependence: Sequence[dict[str, Any]], dataset: Dataset, path: Path) -> None:
    """Write a PNG of the mean prediction by the values of columns; nothing if there is no column.

    Of two classes, the probability of the positive one is drawn; of more outputs, the first few.

    Args:
        dependence: see `app.evaluation.importance.partial_dependence`.
        dataset: the samples.
        path: the file to write.
    """
    if not dependence:
        return
    chosen = [dataset.positive] if dataset.positive is not None else range(len(dataset.labels))
    shown = list(chosen)[:_CURVES]
    with style():
        # All panels have one scale, which shows which column matters most.
        has_one_scale = len(shown) == 1 or _has_scales(dataset, shown)
        figure, panels = panel_grid(len(dependence), 4.2, 3.2, sharey=has_one_scale)
        names = short_names([dataset.labels[number] for number in shown])
        titles = short_names([column["name"] for column in dependence])
        for axes, column, title in zip(panels, dependence, titles, strict=True):
            curves = _curves(np.asarray(column["predictions"])[:, shown], dataset, shown)
            _draw_column(axes, column, curves, names)
            axes.set_title(title, fontsize=10)
        if dataset.positive is None and len(dataset.labels) > len(shown):
            kind = TASKS[dataset.task]
            title = f"the first {len(shown)} of {len(dataset.labels):,} {kind}"
            figure.suptitle(title, fontsize=10)
        figure.supylabel(_what(dataset, shown), fontsize=10)
        if len(shown) > 1:
            legend = panels[0].get_legend_handles_labels()
            figure.legend(*legend, loc="outside right upper", fontsize=8)
        save(figure, path)


def _curves(predictions: np.ndarray, dataset: Dataset, shown: Sequence[int]) -> np.ndarray:
    """Return several values as standard deviations from the mean target: sizes may differ widely.

    Args:
        predictions: mean predictions, float64 `(values, shown)`.
        dataset: the samples.
        shown: the outputs that are drawn.
    """
    if not _has_scales(dataset, shown):
        return predictions
    targets = dataset.targets[:, shown]
    spread: np.ndarray = np.nanstd(targets, axis=0)
    scaled: np.ndarray = (predictions - np.nanmean(targets, axis=0)) / np.where(spread, spread, 1)
    return scaled


def _has_scales(dataset: Dataset, shown: Sequence[int]) -> bool:
    return dataset.task == "regression" and len(shown) > 1


def _what(dataset: Dataset, shown: Sequence[int]) -> str:
    if _has_scales(dataset, shown):
        return "mean predicted value, in standard deviations\nof its targets from their mean"
    kind = "predicted value" if dataset.task == "regression" else "probability"
    return f"mean {kind}" + (f" of {short(dataset.labels[shown[0]])}" if len(shown) == 1 else "")


def _draw_column(
    axes: Any, column: dict[str, Any], curves: np.ndarray, labels: Sequence[str]
) -> None:
    values = column["values"]
    are_texts = isinstance(values[0], str)
    places = range(len(values)) if are_texts else values
    styles = distinct(len(labels), LINES)
    for label, curve, (color, line) in zip(labels, curves.T, styles, strict=True):
        name = f" {label}"
        if are_texts:
            axes.plot(places, curve, color=color, marker="o", linestyle="", label=name)
        else:
            axes.plot(places, curve, color=color, marker=".", linestyle=line, label=name)
    if are_texts:
        names = [text or "(missing)" for text in short_names(values, _TEXT_LENGTH)]
        axes.set_xticks(places, names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(values) - 0.5)
    write_ticks(axes.yaxis, *([] if are_texts else [axes.xaxis]))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
