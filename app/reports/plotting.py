"""Shared by all figures: colors, fonts, short names, writing a file."""

import contextlib
import itertools
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import Formatter

from serving.written_numbers import write_number

# Okabe & Ito (2008): color-blind readers can tell them apart. Their yellow is invisible on white.
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#999999"
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# When the colors repeat, the marker or line changes.
MARKERS, LINES = ("o", "^", "s"), ("-", "--", ":")
DPI = 150
_COLUMNS = 2
NAME_LENGTH = 20
# Ticks that need more decimals, and numbers from this one on, have an exponent.
_DECIMALS, _LARGEST = 7, 1e15
# System fonts for Chinese, Japanese and Korean, which matplotlib's own font lacks.
_EASTERN_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Return a context in which names are drawn literally; unknown characters become boxes."""
    known = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _EASTERN_FONTS if font in known)]
    # Otherwise a class named $a_b$ would be drawn as a formula, and $a^$ would be an error.
    settings = {"font.family": fonts, "text.parse_math": False}
    with mpl.rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def short(name: str, length: int = NAME_LENGTH) -> str:
    """Return a name on one line, shortened to `length` characters."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= length else line[: length - 1] + "…"


def short_names(names: Sequence[str], length: int = NAME_LENGTH) -> list[str]:
    """Return names on one line, shortened to `length` characters, so that they still differ.

    Of names with an equal beginning the middle is left out, or else they get their number.
    """
    half = length // 2
    cuts: Sequence[Callable[[str, str], str]] = (
        lambda name, _: f"{name[:half]}…{name[half + 1 - length :]}",
        lambda name, number: f"{name[: length - 1 - len(number)]}…{number}",
    )
    lines = [short(name, sys.maxsize) for name in names]
    texts = [short(line, length) for line in lines]
    for cut in cuts:
        counts = Counter(texts)
        texts = [
            cut(line, str(number)) if counts[text] > 1 and len(line) > length else text
            for number, (line, text) in enumerate(zip(lines, texts, strict=True), start=1)
        ]
    return texts


def distinct(count: int, shapes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return `count` pairs of color and shape; up to 21 of them are different."""
    pairs = itertools.cycle((color, shape) for shape in shapes for color in COLORS)
    return list(itertools.islice(pairs, count))


def write_ticks(*axes: Any) -> None:
    """Write the numbers of axes as people do: 400,000 rather than 4e5."""
    for axis in axes:
        axis.set_major_formatter(_Ticks())


class _Ticks(Formatter):
    """Writes all ticks with as many decimals as tell them apart."""

    def format_ticks(self, values: Any) -> list[str]:
        ticks = np.asarray(values, float)
        if len(ticks) < 2:
            return [write_number(tick) for tick in ticks]
        step, largest = float(np.diff(ticks).min()), float(np.abs(ticks).max())
        for decimals in range(_DECIMALS if largest < _LARGEST else 0):
            if (np.abs(ticks.round(decimals) - ticks) < step / 100).all():
                texts = (f"{tick:z,.{decimals}f}" for tick in ticks)
                return [t.rstrip("0").rstrip(".") if decimals else t for t in texts]
        digits = 2 + math.ceil(math.log10(largest / step))
        return [write_number(tick, digits) for tick in ticks]


def panel_grid(count: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Any]]:
    """Return a figure of panels of some inches, two in a row so that a phone shows them."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **options).ravel())
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    figure.set_dpi(DPI)
    # `savefig` would draw everything twice.
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
