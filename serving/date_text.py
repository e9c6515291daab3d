"""Reads dates and times, and divides them into numbers that a model can use.

Numbers of clocks and calendars are taken as they are written: a time zone is read and dropped,
because hours and weekdays mean most where people live by them.
"""

import datetime
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?"
)
_ZONE = r"(?: ?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?"
_FIELDS = {"Y": r"(?P<year>\d{4})", "m": r"(?P<month>\d{1,2})", "d": r"(?P<day>\d{1,2})"}


def _pattern(form: str) -> re.Pattern[str]:
    if form == "H:M":
        return re.compile(_TIME + _ZONE, re.ASCII)
    date = "".join(_FIELDS.get(sign, re.escape(sign)) for sign in form)
    return re.compile(rf"{date}(?:(?:[Tt]| +){_TIME}{_ZONE})?", re.ASCII)


# By form: d is the day, m the month, Y the year of four digits. A time may follow; H:M is a time
# alone. Where values fit several forms, the first is the likeliest.
_PATTERNS = {
    form: _pattern(form)
    for form in ("Y-m-d", "Y/m/d", "d.m.Y", "m/d/Y", "d/m/Y", "m-d-Y", "d-m-Y", "H:M")
}
FORMS = tuple(_PATTERNS)
# What a date is divided into: the year; month, day of the month, weekday from Monday as 1 and hour
# with its minutes as a fraction, each also as the sine and cosine of its place in the year, the
# month, the week or the day.
PARTS = (
    "year",
    *(
        f"{part}{form}"
        for part in ("month", "day", "weekday", "hour")
        for form in ("", "_sin", "_cos")
    ),
)
# Year, month, day, hour.
Moment = tuple[float, float, float, float]
MISSING_MOMENT: Moment = (np.nan,) * 4


def parse_date(text: str, form: str) -> Moment | None:
    """Return year, month, day and hour of a cell, or None if it is no date of this form.

    Hours have their minutes as a fraction; a date without a time has hour 0. A time without a date
    has NaN for the others.

    Args:
        text: a cell without spaces around it.
        form: one of `FORMS`.

    Examples:
        >>> parse_date("24.12.2025 18:30", "d.m.Y")
        (2025, 12, 24, 18.5)
    """
    match = _PATTERNS[form].fullmatch(text)
    if match is None:
        return None
    found = match.groupdict()
    hour = _hour(found)
    if hour is None or form == "H:M":
        return None if hour is None else (np.nan, np.nan, np.nan, hour)
    year, month, day = (int(found[name]) for name in ("year", "month", "day"))
    try:
        datetime.date(year, month, day)
    except ValueError:
        return None
    return year, month, day, hour


def moment_of(value: Any) -> Moment | None:
    """Return year, month, day and hour of a date, a time or a datetime of Python or pandas."""
    hour, minute, second = (getattr(value, name, 0) for name in ("hour", "minute", "second"))
    hour = _hours(hour, minute, second)
    if isinstance(value, datetime.date):
        return value.year, value.month, value.day, hour
    return (np.nan, np.nan, np.nan, hour) if isinstance(value, datetime.time) else None


def _hour(found: dict[str, str | None]) -> float | None:
    """Return the hour of a day from the parts of a time; None if there is no such time."""
    if found["hour"] is None:
        return 0.0
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    if half := found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "Pp" else 0)
    # ISO 8601 and clocks allow a leap second.
    return _hours(hour, minute, second) if hour < 24 and minute < 60 and second < 61 else None


def _hours(hour: int, minute: int, second: int) -> float:
    return hour + minute / 60 + second / 3600


def date_parts(moments: Sequence[Moment]) -> np.ndarray:
    """Return the numbers that dates are divided into.

    Args:
        moments: year, month, day and hour of each date; NaN for what is missing.

    Returns:
        float64 `(dates, len(PARTS))`, see `PARTS`; NaN for what is missing.
    """
    year, month, day, hour = np.array(moments, np.float64).reshape(-1, 4).T
    weekday = _weekday(year, month, day)
    columns = [year]
    for value, turn in (
        (month, (month - 1 + (day - 1) / 31) / 12),
        (day, (day - 1) / 31),
        (weekday, (weekday - 1) / 7),
        (hour, hour / 24),
    ):
        angle = 2 * np.pi * turn
        # Rounded, so that a part that does not vary is exactly constant.
        columns += [value, np.sin(angle).round(6), np.cos(angle).round(6)]
    return np.stack(columns, axis=1)


def write_date(parts: Sequence[str], values: Sequence[float], form: str) -> str:
    """Return a date that has given parts, the inverse of `date_parts`; empty if one is not finite.

    Where the parts do not determine a date, this is one of those that have them.

    Args:
        parts: names of the parts, among `PARTS`.
        values: the value of each.
        form: one of `FORMS`.
    """
    known = dict(zip(parts, values, strict=True))
    if not np.isfinite(list(known.values())).all():
        return ""
    hours = [part for part in known if part.startswith("hour")]
    minutes = [(np.nan, np.nan, np.nan, minute / 60) for minute in range(24 * 60)]
    minute = _nearest(minutes, {part: known[part] for part in hours})
    time = f"{minute // 60:02}:{minute % 60:02}"
    if form == "H:M":
        return time
    year = min(max(int(known.get("year", 2024)), datetime.MINYEAR), datetime.MAXYEAR - 1)
    first = datetime.date(year, 1, 1)
    # Weekdays and days of the month repeat after 28 years.
    days = [
        first + datetime.timedelta(number) for number in range(366 if "year" in known else 10_227)
    ]
    moments = [(day.year, day.month, day.day, 0.0) for day in days]
    day = days[_nearest(moments, {part: known[part] for part in known if part not in hours})]
    signs = {"Y": f"{day.year:04}", "m": f"{day.month:02}", "d": f"{day.day:02}"}
    date = "".join(signs.get(sign, sign) for sign in form)
    return f"{date} {time}" if hours else date


def _nearest(moments: Sequence[Moment], wanted: dict[str, float]) -> int:
    """Return the index of the moment whose parts are nearest to those that are wanted."""
    found = date_parts(moments)[:, [PARTS.index(part) for part in wanted]]
    return int(np.abs(found - list(wanted.values())).sum(axis=1).argmin()) if wanted else 0


def _weekday(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Return the weekday, 1 for Monday; NaN where the date is missing."""
    is_known = ~np.isnan(year)
    years, months, days = (np.where(is_known, part, 1).astype(int) for part in (year, month, day))
    dates = (years - 1970).astype("M8[Y]").astype("M8[M]") + (months - 1)
    numbers = dates.astype("M8[D]").astype(int) + days - 1
    return np.where(is_known, (numbers + 3) % 7 + 1, np.nan)  # 1970 began on a Thursday
