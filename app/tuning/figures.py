"""Figures of a search: history, importance, parallel coordinates, learning curves of trials."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.distributions import BaseDistribution, CategoricalDistribution

from app.reports.plotting import BLUE, GRAY, ORANGE, save, short_names, style
from serving.written_numbers import metric_name

from .importance import Importance
from .results import Row, SearchResult
from .search_space import relative_position

_COLORS = "viridis"
# A loss of 0 has no logarithm.
_MIN_LOSS = 1e-9
# Background of a label, which keeps it legible on top of lines.
_LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}


def draw_search(
    result: SearchResult,
    drawn: Mapping[int, dict[str, Any]],
    space: Mapping[str, BaseDistribution],
    loss: str,
    reported: str,
    folder: Path,
) -> None:
    """Write the figures of a search as PNGs.

    Args:
        result: results of the search.
        drawn: values that Optuna drew for each dimension, by number of the trial.
        space: dimensions by name.
        loss: name of the loss.
        reported: label for the value that trials report after each epoch.
        folder: folder to write into; created if missing.
    """
    folder.mkdir(exist_ok=True)
    name = metric_name(loss)
    with style():
        _draw_history(result.rows, name, folder / "history.png")
        _draw_curves(result, reported, folder / "trial_curves.png")
        if result.importance:
            _draw_importance(result.importance, folder / "importance.png")
        _draw_coordinates(result.rows, drawn, space, name, folder / "parallel_coordinates.png")


def _draw_history(rows: Sequence[Row], loss: str, path: Path) -> None:
    done = [(row.number, row.loss) for row in rows if row.loss is not None]
    numbers, losses = zip(*done, strict=True)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(numbers, losses, color=BLUE, s=20, label="trial")
    axes.step(
        numbers, np.minimum.accumulate(losses), where="post", color=ORANGE, label="best so far"
    )
    axes.set(xlabel="trial", ylabel=f"{loss}, validation", yscale="log")
    _label_plainly(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def _draw_curves(result: SearchResult, reported: str, path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for row in result.rows:
        is_best = row.number == result.best.number
        color = ORANGE if is_best else GRAY if row.loss is None else BLUE
        width, depth = (2.0, 3) if is_best else (0.8, 1)
        axes.plot(
            list(row.curve), list(row.curve.values()), color=color, linewidth=width, zorder=depth
        )
    for color, label in ((ORANGE, "best"), (BLUE, "finished"), (GRAY, "pruned or lost")):
        axes.plot([], [], color=color, label=label)
    axes.set(xlabel="epoch", ylabel=reported, yscale="log")
    _label_plainly(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)  # inside, it would hide lines
    save(figure, path)


def _draw_importance(importance: Mapping[str, Importance], path: Path) -> None:
    names = list(importance)[::-1]
    figure = Figure(figsize=(6, 1.6 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    found = [importance[name] for name in names]
    fractions = [each.fraction for each in found]
    reach = [[e.fraction - e.low for e in found], [e.high - e.fraction for e in found]]
    axes.barh(range(len(names)), fractions, color=BLUE, xerr=reach, ecolor=GRAY, capsize=3)
    axes.set_yticks(range(len(names)), short_names(names, 32))
    axes.set(xlabel="fraction of the variance that single settings explain", xlim=(0, 1))
    axes.grid(axis="x", alpha=0.3)
    save(figure, path)


def _draw_coordinates(
    rows: Sequence[Row],
    drawn: Mapping[int, dict[str, Any]],
    space: Mapping[str, BaseDistribution],
    loss: str,
    path: Path,
) -> None:
    done = sorted((r for r in rows if r.loss is not None), key=lambda r: -(r.loss or 0.0))
    losses = [max(row.loss or 0.0, _MIN_LOSS) for row in done]
    colors = ScalarMappable(LogNorm(min(losses), max(losses)), _COLORS)
    shades = colors.to_rgba(np.array(losses))
    figure = Figure(figsize=(max(6.0, 2.2 + 1.8 * len(space)), 4.2), layout="constrained")
    axes = figure.subplots()
    for row, shade in zip(done, shades, strict=True):  # the best are drawn last, on top
        positions = [
            relative_position(drawn[row.number][name], each) for name, each in space.items()
        ]
        axes.plot(
            positions,
            color=shade,
            marker="o" if len(positions) == 1 else None,
            alpha=0.8,
        )
    for number, each in enumerate(space.values()):
        _draw_axis(axes, number, each)
    axes.set_xticks(range(len(space)), short_names(list(space), 28))
    axes.set(xlim=(-0.3, len(space) - 0.5), ylim=(-0.03, 1.03))
    axes.set_yticks([])
    bar = figure.colorbar(colors, ax=axes, label=f"{loss}, validation")
    _label_plainly(bar.ax.yaxis)
    save(figure, path)


def _label_plainly(axis: Any) -> None:
    """Label a logarithmic axis with numbers such as 0.5, since `style` draws no formulas."""
    low, high = axis.get_view_interval()
    # With many powers of ten, there is no room for labels between them.
    are_few = low > 0 and high / low < 1000
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if are_few else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _draw_axis(axes: Any, number: int, each: Any) -> None:
    axes.axvline(number, color=GRAY, linewidth=0.8, zorder=0)
    if isinstance(each, CategoricalDistribution):
        heights = [relative_position(choice, each) for choice in each.choices]
        texts = dict(zip(heights, short_names([*map(str, each.choices)], 12), strict=True))
    else:
        texts = {0.0: f"{each.low:g}", 1.0: f"{each.high:g}"}
    for height, text in texts.items():
        label = axes.annotate(
            text, (number, height), (4, 0), textcoords="offset points", fontsize=8, bbox=_LABEL_BOX
        )
        label.set_in_layout(False)  # otherwise the axes shrink until it fits next to them
