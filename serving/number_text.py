"""Reads numbers that were written for people: thousands separators, decimal commas, signs.

`1,234` means two things, so that a column of a table is read in one format, see `FORMATS`, that all
of its values fit; no cell is read by itself.
"""

import math
import re
from collections.abc import Sequence
from functools import cache

# The decimal sign and the separator of thousands, the likeliest first.
FORMATS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", "'"), (".", " "), (",", " "))
# The variance of larger numbers does not fit float32.
LARGEST = 1e18

ALL_FORMATS = frozenset(FORMATS)
_DECIMAL_POINTS = frozenset(form for form in FORMATS if form[0] == ".")
_POINT_OR_THOUSANDS = _DECIMAL_POINTS | {(",", ".")}
_INTEGER = re.compile(r"[+-]?\d+(?:[eE][+-]?\d+)?", re.ASCII)
_POINTS_OF_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)
_CURRENCIES = "$€£¥₹"
# What may stand beside a number.
UNITS = f"{_CURRENCIES}%"
_SIGNED = re.compile(rf"([+-]?) ?[{_CURRENCIES}]? ?([^{UNITS}]+?) ?([{UNITS}]?)")
_NUMBER_LIKE = re.compile(
    rf"[-+\u2212]?[ \xa0\u2009\u202f]?[{_CURRENCIES}]?[ \xa0\u2009\u202f]?[-+\u2212]?"
    r"[.,]?\d[\d.,' \u2019\xa0\u2009\u202f]*(?:[eE][-+]?\d+)?[ \xa0\u2009\u202f]?"
    rf"[{UNITS}]?",
    re.ASCII,
)
# Spaces that do not break a line, an apostrophe and a minus sign of typesetters.
_TYPOGRAPHY = str.maketrans(
    {"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'", "\u2212": "-"}
)


def parse_number(text: str, decimal: str = ".", thousands: str = "") -> float | None:
    """Return the number of a cell, or None if the cell is not a number of this format.

    A currency sign before or after the number is ignored; `12%` is 0.12.

    Args:
        text: a cell without spaces around it.
        decimal: decimal sign, `.` or `,`.
        thousands: separator of thousands; empty for none. Numbers may be written without it.

    Examples:
        >>> parse_number("1.234,5 €", ",", "."), parse_number("1,234", ".", ",")
        (1234.5, 1234.0)
    """
    if decimal == "." and (number := _plain(text)) is not None:
        return number
    signed = _SIGNED.fullmatch(text if text.isascii() else text.translate(_TYPOGRAPHY))
    if signed is None:
        return None
    sign, digits, suffix = signed.groups()
    if (sign and digits[0] in "+-") or not _pattern(decimal, thousands).fullmatch(digits):
        return None
    number = float(sign + digits.replace(thousands, "").replace(decimal, "."))
    return number / 100 if suffix == "%" else number


def formats_of(text: str) -> frozenset[tuple[str, str]]:
    """Return the formats, among `FORMATS`, in which a cell is a number; none if it is no number."""
    if _INTEGER.fullmatch(text):
        return ALL_FORMATS
    if _plain(text) is not None:
        return _POINT_OR_THOUSANDS if _POINTS_OF_THOUSANDS.fullmatch(text) else _DECIMAL_POINTS
    if not _NUMBER_LIKE.fullmatch(text):  # most texts, at the price of one pass
        return frozenset()
    return frozenset(form for form in FORMATS if parse_number(text, *form) is not None)


def have_decimals(texts: Sequence[str]) -> bool:
    """Return whether all cells are numbers of one format, some of them not whole."""
    return any(number % 1 for number in read_numbers(texts) or ())


def read_numbers(texts: Sequence[str]) -> list[float] | None:
    """Return the numbers of cells of one format; None if they are no numbers."""
    for form in FORMATS:
        numbers = [number for text in texts if (number := parse_number(text, *form)) is not None]
        if len(numbers) == len(texts):
            return numbers
    return None


def _plain(text: str) -> float | None:
    if "_" in text or not text.isascii():  # Python accepts 1_000 and other scripts' digits
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


@cache
def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    point, group = re.escape(decimal), re.escape(thousands)
    # 0.123 is a decimal number
    whole = rf"\d+|[1-9]\d{{0,2}}(?:{group}\d{{3}})+" if thousands else r"\d+"
    return re.compile(rf"[+-]?(?:(?:{whole})(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?", re.ASCII)
