"""Finds out whether the cells of a column are numbers with a unit behind them, such as `60 kg`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.number_text import ALL_FORMATS, formats_of
from serving.unit_text import split_unit

# A column with more different units holds names, such as 12a, rather than amounts.
_MAX_UNITS = 8


@dataclass
class AmountSurvey:
    """What is known about the cells of a column that are no numbers.

    Attributes:
        count: number of cells that are numbers with a unit.
        others: number of the other ones.
        formats: the formats in which the numbers before the units are numbers.
        spellings: by each unit in lower case, how often it is written in which way.
        examples: by each unit in lower case, the first cell that has it.
    """

    count: int = 0
    others: int = 0
    formats: frozenset[tuple[str, str]] = ALL_FORMATS
    spellings: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def learn(self, cells: Mapping[str, int]) -> dict[str, str]:
        """Take note of cells and how often they occur; return the number before each unit.

        Once most cells are others, or have too many units, all that follow count as others.
        """
        found = {}
        is_open = self.others <= self.count and len(self.spellings) <= _MAX_UNITS
        for cell, count in cells.items():
            parts = split_unit(cell) if is_open else None
            formats = formats_of(parts[0]) if parts else None
            if parts is None or not formats:
                self.others += count
                continue
            number, unit = parts
            self.count += count
            self.formats &= formats
            self.spellings.setdefault(unit.casefold(), Counter())[unit] += count
            self.examples.setdefault(unit.casefold(), cell)
            found[cell] = number
        return found

    @property
    def unit(self) -> str:
        """The unit, in its most frequent spelling, if all cells have the same; otherwise empty."""
        if self.others or len(self.spellings) != 1 or not self.formats:
            return ""
        (spellings,) = self.spellings.values()
        return min(spellings, key=lambda word: (-spellings[word], word))

    @property
    def different_units(self) -> list[str]:
        """The first cell of each unit if all cells are numbers with a few units; otherwise none."""
        are_few = not self.others and len(self.spellings) <= _MAX_UNITS
        return [*self.examples.values()] if are_few else []
