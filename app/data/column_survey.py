"""Finds out what the columns of a table hold, a few thousand rows at a time, in little memory."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.config.reading_config import ReadingConfig
from serving.columns import MISSING_NUMBERS, parse_truth, with_plain
from serving.date_text import FORMS, PARTS, date_parts, parse_date
from serving.number_text import ALL_FORMATS, formats_of, parse_number
from serving.unit_text import has_sign

from .amount_survey import AmountSurvey
from .datasets import fingerprint

# Different texts of a column that are counted; from more, the rare ones are forgotten.
_COUNTED = 20_000
# Cells that an error or a note names.
_NAMED = 3
# Different words of a column that are tried as dates, and the longest one.
_TRIED, _LONGEST_DATE = 2_000, 40
_WHOLE = re.compile(r"[+-]?[0-9]+")


def missing_marks(reading: ReadingConfig) -> frozenset[str]:
    """Return what stands for a missing value, in lower case; the empty text among them.

    A number is also one as pandas writes it in a column with gaps: -999 and -999.0.
    """
    marks = {""} | with_plain(map(str.lower, reading.missing))
    return frozenset(marks | {f"{mark}.0" for mark in marks if _WHOLE.fullmatch(mark)})


class TextCounts:
    """Counts texts; of very many only the frequent ones (Manku and Motwani, 2002).

    Attributes:
        counts: number of each text.
        total: number of all texts.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.total = 0
        # Of the hashes of all texts, those that end in `_bits` zeros (Flajolet, 1990): they tell
        # how many there are once rare texts are forgotten.
        self._hashes: set[int] | None = None
        self._bits = 0

    def add(self, counts: dict[str, int]) -> None:
        """Count more texts."""
        self.counts.update(counts)
        self.total += sum(counts.values())
        if self._hashes is not None:
            self._sample(counts)
        if len(self.counts) > _COUNTED:
            if self._hashes is None:
                self._hashes = set()
                self._sample(self.counts)
            self.counts = Counter(dict(self.counts.most_common(_COUNTED // 2)))

    def _sample(self, texts: Iterable[str]) -> None:
        hashes = self._hashes or set()
        hashes |= {fingerprint(text.encode("utf-8", "surrogatepass")) for text in texts}
        self._hashes = {number for number in hashes if not number % (1 << self._bits)}
        while len(self._hashes) > _COUNTED:
            self._bits += 1
            self._hashes = {number for number in self._hashes if not number % (1 << self._bits)}

    @property
    def uniqueness(self) -> float:
        """Number of different texts, divided by that of all; estimated if there are very many."""
        if self._hashes is None:
            return len(self.counts) / max(self.total, 1)
        return min(len(self._hashes) << self._bits, self.total) / self.total


@dataclass
class ColumnSurvey:
    """What is known about the cells of a column.

    Attributes:
        name: name of the column.
        marks: what stands for a missing value, in lower case; the empty text among them.
        number_marks: what stands for a missing value if the others are numbers or dates.
        gaps: number of missing values.
        texts: counts of the other cells.
        numbers: number of cells that are numbers in some format.
        words: number of cells that are neither numbers nor what stands for a missing number.
        number_places: row numbers and texts of the first numbers.
        word_places: row numbers and texts of the first words.
        formats: the formats in which all numbers are numbers, see `serving.number_text`.
        date_ranges: by each form in which all words are dates, the least and the largest value of
            each of `serving.date_text.PARTS`, float64 `(2, parts)`.
        dates: if not all words are dates, number of those among the tried ones that are some.
        undated: the same of those that are none.
        date_places: row numbers and texts of the first of the former.
        undated_places: row numbers and texts of the first of the latter.
        truths: the different cells, in lower case, if all are truth values; None otherwise.
        integers: the least and the largest value if all numbers are whole, also those with a unit;
            None otherwise.
        signed: the first number with the sign of a currency or of percent; empty without one.
        amounts: what is known about words that are numbers with a unit.
        unnumbered_places: row numbers and texts of the first words that are none.
    """

    name: str
    marks: frozenset[str]
    number_marks: frozenset[str] = MISSING_NUMBERS
    gaps: int = 0
    texts: TextCounts = field(default_factory=TextCounts)
    numbers: int = 0
    words: int = 0
    number_places: list[tuple[int, str]] = field(default_factory=list)
    word_places: list[tuple[int, str]] = field(default_factory=list)
    formats: frozenset[tuple[str, str]] = ALL_FORMATS
    date_ranges: dict[str, np.ndarray] = field(
        default_factory=lambda: {form: np.full((2, len(PARTS)), np.nan) for form in FORMS}
    )
    dates: int = 0
    undated: int = 0
    date_places: list[tuple[int, str]] = field(default_factory=list)
    undated_places: list[tuple[int, str]] = field(default_factory=list)
    truths: set[str] | None = field(default_factory=set)
    integers: tuple[float, float] | None = (np.inf, -np.inf)
    signed: str = ""
    amounts: AmountSurvey = field(default_factory=AmountSurvey)
    unnumbered_places: list[tuple[int, str]] = field(default_factory=list)
    _tried: int = 0

    @property
    def unit(self) -> str:
        """The unit if all cells are numbers and most of them have the same one; otherwise empty."""
        has_unit = self.amounts.count > self.numbers and self.amounts.formats & self.formats
        return self.amounts.unit if has_unit and not self.signed else ""

    @property
    def different_units(self) -> list[str]:
        """Numbers with different units, the sign of a currency or of percent, if all have one.

        Empty if there is just one unit, or another text. Numbers may be plain.
        """
        found = self.amounts.different_units
        found += [self.signed] if found and self.signed else []
        return found if len(found) > 1 else []

    @property
    def number_formats(self) -> frozenset[tuple[str, str]]:
        """The formats in which all numbers, also those with a unit, are numbers."""
        return self.formats & self.amounts.formats if self.unit else self.formats

    def learn(self, numbers: Sequence[int], cells: Sequence[str]) -> None:
        """Take note of some cells and of the numbers of their rows."""
        found = Counter(cells)
        for cell in [cell for cell in found if cell.lower() in self.marks]:
            self.gaps += found.pop(cell)
        self.texts.add(found)
        numeric = {cell for cell in found if self._learn_number(cell, found[cell])}
        words = [cell for cell in found if cell not in numeric]
        words = [cell for cell in words if cell.lower() not in self.number_marks]
        self.words += sum(found[cell] for cell in words)
        amounts = self.amounts.learn({cell: found[cell] for cell in words})
        for number in amounts.values():
            self._learn_integer(number)
        self._learn_truths(found)
        self._learn_dates(words)
        tried = [] if self.date_ranges else words[: _TRIED - self._tried]
        self._tried += len(tried)
        dates = set(filter(_is_date, tried))
        undated = set(tried) - dates
        self.dates += sum(found[word] for word in dates)
        self.undated += sum(found[word] for word in undated)
        for places, some in (
            (self.number_places, numeric),
            (self.word_places, words),
            (self.unnumbered_places, set(words) - amounts.keys()),
            (self.date_places, dates),
            (self.undated_places, undated),
        ):
            if some and len(places) < _NAMED:
                chosen = set(some)
                rows = zip(numbers, cells, strict=True)
                places.extend([row for row in rows if row[1] in chosen][: _NAMED - len(places)])

    def _learn_number(self, cell: str, count: int) -> bool:
        formats = formats_of(cell)
        if not formats:
            return False
        self.numbers += count
        self.signed = self.signed or (cell if has_sign(cell) else "")
        self.formats &= formats
        self.date_ranges = {}
        self._learn_integer(cell)
        return True

    def _learn_integer(self, text: str) -> None:
        number = parse_number(text)
        if self.integers is not None and number is not None and number.is_integer():
            least, largest = self.integers
            self.integers = min(least, number), max(largest, number)
        else:
            self.integers = None

    def _learn_truths(self, cells: Counter[str]) -> None:
        if self.truths is None:
            return
        if any(parse_truth(cell) is None for cell in cells):
            self.truths = None
        else:
            self.truths |= {cell.lower() for cell in cells}

    def _learn_dates(self, words: Sequence[str]) -> None:
        for form, (least, largest) in list(self.date_ranges.items()):
            moments = [parse_date(cell, form) for cell in words]
            if None in moments:
                del self.date_ranges[form]
            elif moments:
                parts = date_parts([moment for moment in moments if moment is not None])
                # fmin and fmax ignore NaN.
                self.date_ranges[form] = np.stack(
                    [np.fmin(least, np.fmin.reduce(parts)), np.fmax(largest, np.fmax.reduce(parts))]
                )


def _is_date(word: str) -> bool:
    is_candidate = word[:1].isdigit() and len(word) <= _LONGEST_DATE
    return is_candidate and any(parse_date(word, form) is not None for form in FORMS)
