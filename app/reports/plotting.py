"""What every picture shares: colors, fonts, how names are shown, how a file is written."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

# Okabe & Ito (2008): told apart by color-blind readers too. Their yellow is lost on white.
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#999999"
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# A color that comes round again comes with another of these.
MARKERS, LINES = ("o", "^", "s"), ("-", "--", ":")
DPI = 150
NAME_LENGTH = 20
# Of systems that can show Chinese, Japanese and Korean, which matplotlib's own font cannot.
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
    """Draw with names taken letter by letter; those that no font has become boxes."""
    known = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _EASTERN_FONTS if font in known)]
    # Else a class named $a_b$ is set as a formula, and one named $a^$ is an error.
    settings = {"font.family": fonts, "text.parse_math": False}
    with mpl.rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def short(name: str, length: int = NAME_LENGTH) -> str:
    """Return a name on one line, cut where it is longer than a picture has room for."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= length else line[: length - 1] + "…"


def distinct(count: int, shapes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return a color and a shape for each of `count` things, no two alike up to 21."""
    pairs = itertools.cycle((color, shape) for shape in shapes for color in COLORS)
    return list(itertools.islice(pairs, count))


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    figure.set_dpi(DPI)
    # `savefig` goes through all that is drawn twice.
    FigureCanvasAgg(figure).print_png(path)  # type: ignore[no-untyped-call]
