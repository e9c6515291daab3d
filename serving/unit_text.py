"""Reads numbers with a unit behind them, such as `60.7 kg`.

Which unit a column of a table has is decided from all of its cells, like the format of its numbers.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from .number_text import UNITS, parse_number

# Longer texts are no numbers with a unit; the bound also keeps the search short.
_MAX_LENGTH = 60
_BLANKS = "[ \u00a0\u2009\u202f]*"
_LETTER = r"(?:[^\W\d_]|°)"
# Lengths and times, behind which a digit is a power, unlike in 1e3 or 12a2.
_POWER = re.compile("(?:[kcdm\u00b5\u03bc]?m|ft|in|yd|mi|s)[23]", re.IGNORECASE)
_UNIT = rf"{_LETTER}(?:{_LETTER}|[-/]){{0,7}}[23]?"
_AMOUNT = re.compile(rf"([-+\u2212.,$€£¥₹0-9].*?)(?<!{_LETTER}){_BLANKS}({_UNIT})")
_DIGIT = re.compile("[0-9]")
_SIGN = re.compile(f"[{UNITS}]")
# Signs of units that are no letters. \w takes others, such as ½, for letters, unlike str.isalpha.
_SIGNS = "°²³"
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_LONG_MONTHS = "january february march april june july august sept october november december"
# Words behind the numbers of times, dates and ranks, which are no amounts of something.
_NO_UNITS = frozenset(f"am pm st nd rd th {_MONTHS} {_LONG_MONTHS}".split())


@lru_cache(maxsize=256)
def is_unit(word: str) -> bool:
    """Return whether a word may be a unit: at most eight letters, `°`, `²`, `³`, and `/` or `-`.

    A 2 or 3 may follow lengths and times, as in `m2`. Ends of ordinals, `am`, `pm` and months of
    the year are none.
    """
    if re.fullmatch(_UNIT, word) is None:
        return False
    *parts, last = re.split("[-/]", word)
    power = last[:-1] if _POWER.fullmatch(last) else last
    return all(
        part
        and all(sign.isalpha() or sign in _SIGNS for sign in part)
        and part.casefold() not in _NO_UNITS
        for part in (*parts, power)
    )


def required_unit(unit: str, learned: str) -> str:
    """Return what values must be instead, such as `in kg or without a unit`; "" if they are right.

    Args:
        unit: the unit of the values, in upper or lower case; "" if they have none.
        learned: the unit that a model has learned; "" if it has learned plain numbers.
    """
    if not unit or unit.casefold() == learned.casefold():
        return ""
    return f"in {learned} or without a unit" if learned else "without a unit"


def split_unit(text: str) -> tuple[str, str] | None:
    """Return the two parts of a number with a unit behind it; None if a text has no such parts.

    The first part has a digit, but need not be a number of any format. A point behind the unit, as
    in `5 kg.`, is left out. What follows a point at once, as in `5.jpg`, is no unit.

    Examples:
        >>> split_unit("1,200 sqft"), split_unit("170cm"), split_unit("1e5")
        (('1,200', 'sqft'), ('170', 'cm'), None)
    """
    if len(text) > _MAX_LENGTH or (text[-1:].isdecimal() and text[-1] not in "23"):
        return None
    match = _AMOUNT.fullmatch(text.removesuffix("."))
    if match is None or "%" in text or not _DIGIT.search(match[1]) or not is_unit(match[2]):
        return None
    is_file = match[1].endswith(".") and match.end(1) == match.start(2)
    return None if is_file else (match[1], match[2])


def has_sign(text: str) -> bool:
    """Return whether a number has the sign of a currency or of percent."""
    return _SIGN.search(text) is not None


def strip_unit(texts: Iterable[str]) -> list[str]:
    """Return texts without the unit behind them, if those that have one have the same."""
    texts = list(texts)
    parts = [split_unit(text) for text in texts]
    units = {found[1].casefold() for found in parts if found}
    if len(units) != 1:
        return texts
    return [found[0] if found else text for found, text in zip(parts, texts, strict=True)]


def parse_amount(text: str, decimal: str, thousands: str, unit: str) -> float | None:
    """Return the number of a cell with or without its unit, in upper or lower case.

    Args:
        text: a cell without spaces around it.
        decimal: decimal sign, see `serving.number_text.parse_number`.
        thousands: separator of thousands.
        unit: the unit; empty if numbers have none.

    Returns:
        The number, or None if the cell is no number of this format or has another unit. The sign
        of a currency and `%` are other units.

    Examples:
        >>> parse_amount("60.7 kg", ".", "", "kg"), parse_amount("60.7 lb", ".", "", "kg")
        (60.7, None)
    """
    parts = split_unit(text) if unit else None
    if parts is not None:  # a number by itself has no such parts
        text = parts[0] if parts[1].casefold() == unit.casefold() else ""
    elif unit and has_sign(text):
        return None
    return parse_number(text, decimal, thousands)
