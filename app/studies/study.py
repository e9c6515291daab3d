"""What a study is, and how its verdict follows from its numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A part's numbers, as JSON holds them.
Numbers = Any
Parts = Mapping[str, Numbers]

HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
VERDICTS = (HOLDS, IN_PART, FAILS)


@dataclass(frozen=True)
class Effort:
    """How much a study may take.

    Attributes:
        seeds: how often each training is repeated.
        quick: whether it is to be over in seconds, at the price of coarser numbers.
    """

    seeds: int
    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """Return a size: of epochs, of samples, of whatever a study can have less of."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Check:
    """One statement that the claim is made of.

    Attributes:
        name: of its sentence in the study's text.
        holds: whether the numbers support it.
        figures: the numbers, by the names that stand in the sentence.
        is_fact: whether mathematics decides it: were it false, the fault would be the program's.
    """

    name: str
    holds: bool
    figures: Mapping[str, str]
    is_fact: bool = False


@dataclass(frozen=True)
class Study:
    """A claim that is tested.

    Attributes:
        seeds: how often each training is repeated unless told otherwise.
        parts: returns what is to be trained or computed, by name; each part gives numbers as JSON
            holds them, is kept once it is there, and is run in this order.
        judge: returns the checks that follow from the numbers of all parts.
        draw: writes a PNG of the numbers of all parts.
    """

    seeds: int
    parts: Callable[[Effort], Mapping[str, Callable[[], Numbers]]]
    judge: Callable[[Parts], Sequence[Check]]
    draw: Callable[[Parts, Path], None]


@dataclass(frozen=True)
class Result:
    """What came out of a study.

    Attributes:
        name: of the study.
        verdict: one of `VERDICTS`.
        checks: what it follows from.
        seeds: how often each training was repeated.
        quick: whether the numbers are the coarser ones.
        seconds: that the parts took.
        folder: with `result.json`, `figure.png` and `README.md`.
        is_kept: whether it had been there before.
        note: why the result that had been there no longer counts; empty if there was none.
    """

    name: str
    verdict: str
    checks: tuple[Check, ...]
    seeds: int
    quick: bool
    seconds: float
    folder: Path
    is_kept: bool = False
    note: str = ""


def verdict(checks: Sequence[Check]) -> str:
    """Return what the checks say together.

    Returns:
        `holds` if all do; `does not hold` if none does that could have come out otherwise (where
        mathematics decides all of them, none at all); else `holds in part`.
    """
    if all(check.holds for check in checks):
        return HOLDS
    open_ones = [check for check in checks if not check.is_fact] or checks
    return IN_PART if any(check.holds for check in open_ones) else FAILS
