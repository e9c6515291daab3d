"""Shared by the figures of studies: panels, curves with bands, dots with intervals, bars.

A color has one meaning in all figures: gray is the plain model that the others are compared with,
blue is what the study is about, green is made by hand, and a dotted black line is a limit, a goal
or a guess. The other colors only tell further variants apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, NullLocator

from app.evaluation.estimates import mean_estimate
from app.reports.plotting import save, style

from .chinese_figures import figure_fonts, translate
from .study import LANGUAGES, figure_name

_WIDTH, _HEIGHT = 4.4, 3.6  # inches
# The names of activations in figures.
ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "prelu": "parametric ReLU",
}


@dataclass(frozen=True)
class Look:
    """A color with the line and the marker that go with it."""

    color: str
    line: Any
    marker: str


# The colors are those of Okabe & Ito (2008), which color-blind readers can tell apart.
PLAIN = Look("#777777", "--", "s")
MAIN = Look("#0072B2", "-", "o")
BY_HAND = Look("#009E73", "-.", "^")
SKY = Look("#56B4E9", (0, (6, 2)), "v")
AMBER = Look("#E69F00", (0, (4, 1, 1, 1)), "D")
PINK = Look("#CC79A7", (0, (1, 1)), "P")
ORANGE = Look("#D55E00", (0, (2, 1)), "X")
LIMIT: dict[str, Any] = {"color": "#000000", "linestyle": ":"}


@contextmanager
def panels(folder: Path, count: int = 1) -> Iterator[Any]:
    """Yield the axes of `count` panels; write the files `FIGURES` into the folder at the end.

    Labels are English. They are translated by `chinese_figures`.
    """
    # No label comes from data here, and logarithmic axes need formulas.
    with style(), mpl.rc_context({"text.parse_math": True, "font.family": figure_fonts()}):
        figure = Figure(layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))
        axes = [figure.add_subplot(count, 1, number + 1) for number in range(count)]
        yield axes
        for each in axes:  # the ticks between powers of ten: many, without a label
            each.xaxis.set_minor_locator(NullLocator())
        for language in LANGUAGES:
            if language == "zh":
                translate(figure)
            for is_narrow in (False, True):
                # A phone is one panel wide.
                _arrange(figure, axes, 1 if is_narrow else 2)
                save(figure, folder / figure_name(language, is_narrow))


def _arrange(figure: Figure, axes: Sequence[Any], most: int) -> None:
    """Put the panels into rows of at most `most`."""
    columns = min(len(axes), most)
    rows = -(-len(axes) // columns)
    figure.set_size_inches(_WIDTH * columns, _HEIGHT * rows)
    grid = GridSpec(rows, columns, figure)
    for number, each in enumerate(axes):
        each.set_subplotspec(grid[number // columns, number % columns])


def curve(axes: Any, places: Any, values: Any, label: str, look: Look = MAIN) -> None:
    """Draw the mean over seeds as a curve, with its 95% interval as a band.

    Args:
        axes: axes to draw on.
        places: horizontal positions, `(places,)`.
        values: `(places, seeds)`; the curve has a gap where a seed has no finite value.
        label: label of the curve.
        look: its color, line and marker.
    """
    places, values = np.asarray(places), np.array(values, float)
    values[~np.isfinite(values).all(axis=1)] = np.nan
    estimates = [mean_estimate(row) for row in values]
    marker = look.marker if len(places) <= 12 else None
    means = np.array([e.value for e in estimates])
    low, high = np.array([e.low for e in estimates]), np.array([e.high for e in estimates])
    axes.plot(
        places, means, marker=marker, markersize=4, color=look.color, linestyle=look.line,
        label=label,
    )  # fmt: skip
    axes.fill_between(places, low, high, color=look.color, alpha=0.2, linewidth=0)
    has_interval = np.isfinite(high)
    before, after = np.pad(has_interval, (1, 0))[:-1], np.pad(has_interval, (0, 1))[1:]
    alone = has_interval & ~before & ~after  # too narrow for a band
    reach = (high - means)[alone]
    axes.errorbar(places[alone], means[alone], yerr=reach, color=look.color, capsize=4, fmt="none")
    axes.grid(alpha=0.3)


def arms(
    axes: Any, measured: Mapping[str, Any], axis: str, looks: Mapping[str, Look] | None = None
) -> None:
    """Draw the seeds of each arm as dots, and their mean with its 95% interval.

    If some seeds have no finite value, their number is written at the arm, and the mean of the
    others has no interval.

    Args:
        axes: axes to draw on.
        measured: the measurements of each arm by its name, `(seeds,)`.
        axis: label of the horizontal axis, with the unit.
        looks: the look of each arm; `MAIN` by default.
    """
    labels = []
    for place, (name, values) in enumerate(measured.items()):
        look = (looks or {}).get(name, MAIN)
        numbers = np.array(values, float)
        found = numbers[np.isfinite(numbers)]
        missing = len(numbers) - len(found)
        labels.append(f"{name}\nseeds without a value: {missing}" if missing else name)
        if not len(found):
            continue
        axes.scatter(found, np.full(len(found), place), s=12, color=look.color, alpha=0.35)
        estimate = mean_estimate(found)
        reach = estimate.high - estimate.value if len(numbers) > 1 and not missing else 0.0
        axes.errorbar(
            estimate.value, place, xerr=reach, capsize=5, fmt=look.marker, color=look.color
        )
    axes.set_yticks(range(len(measured)), labels)
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(axis)
    axes.grid(axis="x", alpha=0.3)


def bars(
    axes: Any,
    counts: Mapping[str, tuple[int, int]],
    axis: str,
    looks: Mapping[str, Look] | None = None,
) -> None:
    """Draw fractions as bars, with the counts written next to them.

    Args:
        axes: axes to draw on.
        counts: for each bar by its name, the count and the total, such as `(17, 20)`.
        axis: label of the horizontal axis.
        looks: the look of each bar; `MAIN` by default.
    """
    for place, (name, (found, count)) in enumerate(counts.items()):
        look = (looks or {}).get(name, MAIN)
        axes.barh(place, found / count, color=look.color, alpha=0.85)
        axes.text(found / count + 0.02, place, f"{found}/{count}", va="center")
    axes.set_yticks(range(len(counts)), list(counts))
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xlim(0, 1.25)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(axis)


def legend_below(axes: Any) -> None:
    """Put the legend below all panels, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
