"""Figures in Chinese: their labels, and the font that they are drawn in.

The font is a part of Noto Sans SC, with the characters of `vocabulary.toml` only, so that figures
do not depend on the fonts of a machine. `python -m tests.make_font` makes it.
"""

from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from .vocabulary import in_chinese

FONT = Path(__file__).parent / "fonts" / "NotoSansSC-part.otf"
FAMILY = "Noto Sans SC part"


def figure_fonts() -> list[str]:
    """Return the fonts to draw with: a character is drawn in the first one that has it."""
    if FAMILY not in fontManager.get_font_names():
        fontManager.addfont(FONT)
    first, *others = rcParams["font.family"]
    return [first, FAMILY, *others]


def translate(figure: Figure) -> None:
    """Translate every label of a figure."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Labels that `set_ticks` was given are kept in a function.
            if isinstance(axis.get_major_formatter(), FuncFormatter):
                labels = [in_chinese(label.get_text()) for label in axis.get_ticklabels()]
                axis.set_ticks(axis.get_majorticklocs(), labels)
    for text in figure.findobj(Text):
        text.set_text(in_chinese(text.get_text()))
