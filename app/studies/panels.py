"""Shared by the figures of studies: panels, curves with bands, dots with intervals, bars."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.evaluation.estimates import mean_estimate
from app.reports.plotting import COLORS, GRAY, LINES, MARKERS, save, style

_WIDTH, _HEIGHT = 4.6, 3.7
# With more panels in a row, the figure would be too small to read on a printed page.
_COLUMNS = 2
# The names of activations in figures.
ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "prelu": "parametric ReLU",
}


@contextmanager
def panels(path: Path, count: int = 1, width: float = _WIDTH) -> Iterator[Any]:
    """Yield the axes of `count` panels, two in a row, and write the PNG when they are drawn."""
    # No label comes from data here, and logarithmic axes need formulas.
    with style(), mpl.rc_context({"text.parse_math": True}):
        columns = min(count, _COLUMNS)
        rows = -(-count // columns)
        figure = Figure(figsize=(width * columns, _HEIGHT * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for spare in axes[count:]:
            spare.remove()
        yield axes[:count]
        save(figure, path)


def curve(axes: Any, places: Any, values: Any, label: str, number: int = 0) -> None:
    """Draw the mean over seeds as a curve, with its 95% interval as a band.

    Args:
        axes: axes to draw on.
        places: horizontal positions, `(places,)`.
        values: `(places, seeds)`; places with a value that is not finite are left out.
        label: label of the curve.
        number: number of its color, line style and marker.
    """
    values = np.array(values, float)
    is_finite = np.isfinite(values).all(axis=1)
    places, values = np.asarray(places)[is_finite], values[is_finite]
    estimates = [mean_estimate(row) for row in values]
    color = COLORS[number % len(COLORS)]
    line = {"linestyle": LINES[number % len(LINES)], "color": color, "label": label}
    marker = MARKERS[number % len(MARKERS)] if len(places) <= 12 else None
    axes.plot(places, [e.value for e in estimates], marker=marker, markersize=4, **line)
    if values.shape[1] > 1 and len(places) > 1:
        low, high = [e.low for e in estimates], [e.high for e in estimates]
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
    elif values.shape[1] > 1 and estimates:  # a single place is too narrow for a band
        (only,) = estimates
        axes.errorbar(places, only.value, yerr=only.high - only.value, color=color, capsize=4)
    axes.grid(alpha=0.3)


def arms(axes: Any, measured: Mapping[str, Any], axis: str) -> None:
    """Draw the seeds of each arm as dots, and their mean with its 95% interval.

    Args:
        axes: axes to draw on.
        measured: the measurements of each arm by its name, `(seeds,)`.
        axis: label of the horizontal axis, with the unit.
    """
    for place, values in enumerate(measured.values()):
        numbers = np.array(values, float)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            continue
        axes.scatter(numbers, np.full(len(numbers), place), s=12, color=GRAY, alpha=0.6)
        estimate = mean_estimate(numbers)
        reach = estimate.high - estimate.value if len(numbers) > 1 else 0.0
        turn, number = divmod(place, len(COLORS))
        look = {"fmt": MARKERS[turn % len(MARKERS)], "color": COLORS[number]}
        axes.errorbar(estimate.value, place, xerr=reach, capsize=4, **look)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(axis)
    axes.grid(axis="x", alpha=0.3)


def legend_beside(axes: Any, **options: Any) -> None:
    """Put the legend to the right of the axes, where it covers nothing."""
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), **options)


def bars(axes: Any, names: Sequence[str], counts: Sequence[tuple[int, int]], axis: str) -> None:
    """Draw fractions as bars, with the counts written next to them.

    Args:
        axes: axes to draw on.
        names: name of each bar.
        counts: for each bar, the count and the total, such as `(17, 20)`.
        axis: label of the horizontal axis.
    """
    values = [found / count for found, count in counts]
    colors = [COLORS[place % len(COLORS)] for place in range(len(names))]
    axes.barh(range(len(names)), values, color=colors, alpha=0.85)
    for place, (found, count) in enumerate(counts):
        axes.text(min(values[place] + 0.02, 1.02), place, f"{found}/{count}", va="center")
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.2)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(axis)
