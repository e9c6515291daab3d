"""Figures for regression: predicted against true values, residuals, errors by decile."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.data.splits import some
from app.evaluation.intervals import COVERAGE, errors_by_decile
from serving.written_numbers import write_number

from .plotting import BLUE, GRAY, ORANGE, panel_grid, save, short_names, style, write_ticks

_PANELS, _POINTS = 6, 5000
_ROWS = 3
_DOTS = {"s": 12, "alpha": 0.6, "color": BLUE, "linewidths": 0}


def draw_predicted_and_true(
    targets: np.ndarray, values: np.ndarray, labels: Sequence[str], path: Path
) -> None:
    """Write a PNG of predicted by true values, a panel for each of the first few values.

    Args:
        targets: true values `(samples, values)`.
        values: predictions, the same shape.
        labels: name of each value.
        path: the file to write.
    """
    count = min(len(labels), _PANELS)
    figure, panels = panel_grid(count, 3.8, 4.1)
    for number, (axes, name) in enumerate(zip(panels, short_names(labels[:count]), strict=True)):
        _plot_values(axes, targets[:, number], values[:, number], name)
    if len(labels) > count:
        figure.suptitle(f"first {count} of {len(labels)} values")
    save(figure, path)


def _plot_values(axes: Any, targets: np.ndarray, values: np.ndarray, name: str) -> None:
    shown = some(len(targets), _POINTS)
    both = np.concatenate([targets, values])
    lowest, highest = float(both.min()), float(both.max())
    margin = 0.05 * (highest - lowest) or 1.0
    limits = (lowest - margin, highest + margin)
    axes.plot(limits, limits, color=GRAY, linestyle="--")
    axes.scatter(targets[shown], values[shown], **_DOTS)
    axes.set(
        xlim=limits, ylim=limits, aspect="equal", xlabel="true value", ylabel="predicted value"
    )
    axes.set_title(
        f"{name}\nmean absolute error {write_number(np.abs(values - targets).mean(), 3)}",
        fontsize=10,
    )
    axes.xaxis.set_major_locator(MaxNLocator(4))  # long numbers would overlap
    write_ticks(axes.xaxis, axes.yaxis)
    axes.grid(alpha=0.3)


def draw_residuals(
    targets: np.ndarray,
    values: np.ndarray,
    labels: Sequence[str],
    half_widths: Sequence[float] | None,
    path: Path,
) -> None:
    """Write a PNG of the residuals by prediction, and of the errors by decile of the prediction.

    Args:
        targets: true values `(samples, values)`.
        values: predictions, the same shape.
        labels: name of each value; the first few have a row of panels.
        half_widths: how far the interval of each value reaches; None if there are none.
        path: the file to write.
    """
    count = min(len(labels), _ROWS)
    with style():
        figure = Figure(figsize=(9, 3.4 * count), layout="constrained")
        panels = figure.subplots(count, 2, squeeze=False)
        names = short_names(labels[:count])
        for number, (name, (left, right)) in enumerate(zip(names, panels, strict=True)):
            width = None if half_widths is None else half_widths[number]
            true, predicted = targets[:, number], values[:, number]
            _plot_residuals(left, true, predicted, width)
            left.set_title(name, fontsize=10)
            _plot_deciles(right, errors_by_decile(true, predicted))
        if len(labels) > count:
            figure.suptitle(f"first {count} of {len(labels)} values")
        save(figure, path)


def _plot_residuals(
    axes: Any, targets: np.ndarray, values: np.ndarray, half_width: float | None
) -> None:
    shown = some(len(targets), _POINTS)
    axes.axhline(0, color=GRAY, linestyle="--")
    axes.scatter(values[shown], (targets - values)[shown], **_DOTS)
    if half_width is not None:
        for end in (-half_width, half_width):
            axes.axhline(end, color=ORANGE, linestyle=":", label=f"{COVERAGE:.0%} interval")
        axes.legend(*(part[:1] for part in axes.get_legend_handles_labels()), fontsize=8)
    axes.set(xlabel="predicted value", ylabel="residual: true minus predicted")
    axes.xaxis.set_major_locator(MaxNLocator(4))  # long numbers would overlap
    write_ticks(axes.xaxis, axes.yaxis)
    axes.grid(alpha=0.3)


def _plot_deciles(axes: Any, deciles: Sequence[dict[str, Any]]) -> None:
    numbers = np.arange(1, len(deciles) + 1)
    errors, means = ([row[key] for row in deciles] for key in ("mae", "mean_residual"))
    axes.bar(numbers, errors, color=BLUE, width=0.8, label="mean absolute error")
    axes.plot(numbers, means, color=ORANGE, marker="o", label="mean residual")
    axes.axhline(0, color=GRAY, linewidth=1)
    axes.set_xticks(numbers)
    axes.set(xlabel="tenth of the samples, by prediction", ylabel="error")
    write_ticks(axes.yaxis)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
