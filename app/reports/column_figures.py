"""Figures of the columns of a table: their importance, and what the model makes of their values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from app.data.datasets import Dataset
from serving.written_numbers import metric_name

from .plotting import BLUE, GRAY, LINES, distinct, panel_grid, save, short, style, write_ticks

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
        axes.set_yticks(places, [short(row["name"]) for row in rows])
        axes.axvline(0, color=GRAY, linewidth=1)
        axes.set_xlabel(f"{metric_name(importance['score'])} falls by, if the column is permuted")
        if len(importance["columns"]) > len(rows):
            title = f"the {len(rows)} most important of {len(importance['columns'])} columns"
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
        figure, panels = panel_grid(len(dependence), 4.2, 3.2, sharey=len(shown) == 1)
        for axes, column in zip(panels, dependence, strict=True):
            _draw_column(axes, column, shown, dataset.labels)
        figure.supylabel(_what(dataset, shown), fontsize=10)
        if len(shown) > 1:
            handles, names = panels[0].get_legend_handles_labels()
            figure.legend(handles, names, loc="outside right upper", fontsize=8)
        save(figure, path)


def _what(dataset: Dataset, shown: Sequence[int]) -> str:
    kind = "predicted value" if dataset.task == "regression" else "probability"
    return f"mean {kind}" + (f" of {short(dataset.labels[shown[0]])}" if len(shown) == 1 else "")


def _draw_column(
    axes: Any, column: dict[str, Any], shown: Sequence[int], labels: Sequence[str]
) -> None:
    values, predictions = column["values"], np.asarray(column["predictions"])
    are_texts = isinstance(values[0], str)
    places = range(len(values)) if are_texts else values
    for number, (color, line) in zip(shown, distinct(len(shown), LINES), strict=True):
        curve = predictions[:, number]
        name = f" {short(labels[number])}"
        if are_texts:
            axes.plot(places, curve, color=color, marker="o", linestyle="", label=name)
        else:
            axes.plot(places, curve, color=color, marker=".", linestyle=line, label=name)
    if are_texts:
        names = [short(text, _TEXT_LENGTH) or "(missing)" for text in values]
        axes.set_xticks(places, names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(values) - 0.5)
    write_ticks(axes.yaxis, *([] if are_texts else [axes.xaxis]))
    axes.tick_params(labelsize=8)
    axes.set_title(short(column["name"]), fontsize=10)
    axes.grid(alpha=0.3)
