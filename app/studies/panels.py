"""What the figures of studies share: panels, curves with bands, arms with intervals."""

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
# More in a row would be too small to read where the figure fills a printed page.
_IN_A_ROW = 2


@contextmanager
def panels(path: Path, count: int = 1, width: float = _WIDTH) -> Iterator[Any]:
    """Give the axes of `count` panels, two in a row, and write the PNG once they are drawn."""
    # Here no name comes from data, and axes of logarithms have formulas.
    with style(), mpl.rc_context({"text.parse_math": True}):
        columns = min(count, _IN_A_ROW)
        rows = -(-count // columns)
        figure = Figure(figsize=(width * columns, _HEIGHT * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for spare in axes[count:]:
            spare.remove()
        yield axes[:count]
        save(figure, path)


def curve(axes: Any, places: Any, values: Any, label: str, number: int = 0) -> None:
    """Draw the mean over seeds with its 95 % interval.

    Args:
        axes: to draw on.
        places: on the horizontal axis, `(places,)`.
        values: `(places, seeds)`; what is missing is left out.
        label: of the curve.
        number: of its color, line and marker.
    """
    values = np.array(values, float)
    is_there = np.isfinite(values).all(axis=1)
    places, values = np.asarray(places)[is_there], values[is_there]
    found = [mean_estimate(row) for row in values]
    color = COLORS[number % len(COLORS)]
    line = {"linestyle": LINES[number % len(LINES)], "color": color, "label": label}
    marker = MARKERS[number % len(MARKERS)] if len(places) <= 12 else None
    axes.plot(places, [e.value for e in found], marker=marker, markersize=4, **line)
    if values.shape[1] > 1 and len(places) > 1:
        low, high = [e.low for e in found], [e.high for e in found]
        axes.fill_between(places, low, high, color=color, alpha=0.2, linewidth=0)
    elif values.shape[1] > 1 and found:  # a band has no width there
        (only,) = found
        axes.errorbar(places, only.value, yerr=only.high - only.value, color=color, capsize=4)
    axes.grid(alpha=0.3)


def arms(axes: Any, found: Mapping[str, Any], axis: str) -> None:
    """Draw for each arm its seeds as dots, and their mean with its 95 % interval.

    Args:
        axes: to draw on.
        found: by the arm's name, `(seeds,)`.
        axis: what is measured, with its unit.
    """
    for place, values in enumerate(found.values()):
        numbers = np.array(values, float)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            continue
        axes.scatter(numbers, np.full(len(numbers), place), s=12, color=GRAY, alpha=0.6)
        estimate = mean_estimate(numbers)
        reach = estimate.high - estimate.value if len(numbers) > 1 else 0.0
        again, number = divmod(place, len(COLORS))
        look = {"fmt": MARKERS[again % len(MARKERS)], "color": COLORS[number]}
        axes.errorbar(estimate.value, place, xerr=reach, capsize=4, **look)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(axis)
    axes.grid(axis="x", alpha=0.3)


def legend_beside(axes: Any, **options: Any) -> None:
    """Put the legend to the right of the axes, where it hides nothing."""
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), **options)


def bars(axes: Any, names: Sequence[str], shares: Sequence[tuple[int, int]], axis: str) -> None:
    """Draw counts `(found, of)` as bars of their shares, the counts written beside them."""
    values = [found / count for found, count in shares]
    colors = [COLORS[place % len(COLORS)] for place in range(len(names))]
    axes.barh(range(len(names)), values, color=colors, alpha=0.85)
    for place, (found, count) in enumerate(shares):
        axes.text(min(values[place] + 0.02, 1.02), place, f"{found}/{count}", va="center")
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.2)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(axis)
