"""Defines a study, its checks and its result, and how the verdict follows from the checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The numbers of a part, in a form that JSON can represent.
Numbers = Any
Parts = Mapping[str, Numbers]

HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
VERDICTS = (HOLDS, IN_PART, FAILS)


@dataclass(frozen=True)
class Effort:
    """How much computation a study may use.

    Attributes:
        seeds: how often each training is repeated.
        quick: whether the study should take only seconds, which makes its numbers coarser.
    """

    seeds: int
    quick: bool = False

    def choose(self, full: int, quick: int) -> int:
        """Return the size that suits the effort, such as a number of epochs or of samples."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Check:
    """One of the statements that make up a claim.

    Attributes:
        name: the key of its sentence in the study's text.
        holds: whether the numbers support it.
        figures: the numbers in the sentence, by placeholder.
        is_fact: whether it is a mathematical fact, which could only fail through a bug.
    """

    name: str
    holds: bool
    figures: Mapping[str, str]
    is_fact: bool = False


@dataclass(frozen=True)
class Study:
    """A claim and how it is tested.

    Attributes:
        seeds: how often each training is repeated by default.
        parts: returns the trainings and computations by name, in the order in which they are run.
            Each returns numbers that JSON can represent, which are saved when it finishes.
        judge: returns the checks that follow from the numbers of all parts.
        draw: writes a PNG that shows the numbers of all parts.
    """

    seeds: int
    parts: Callable[[Effort], Mapping[str, Callable[[], Numbers]]]
    judge: Callable[[Parts], Sequence[Check]]
    draw: Callable[[Parts, Path], None]


@dataclass(frozen=True)
class Result:
    """The outcome of a study.

    Attributes:
        name: name of the study.
        verdict: one of `VERDICTS`.
        checks: the checks that the verdict follows from.
        seeds: how often each training was repeated.
        quick: whether the numbers are the coarser ones of quick mode.
        seconds: wall time of the parts.
        folder: holds `result.json`, `figure.png` and `README.md`.
        is_cached: whether all parts were already finished.
        note: why an earlier result in the folder is no longer valid; empty if it is, or if there
            was no earlier result.
    """

    name: str
    verdict: str
    checks: tuple[Check, ...]
    seeds: int
    quick: bool
    seconds: float
    folder: Path
    is_cached: bool = False
    note: str = ""


def verdict(checks: Sequence[Check]) -> str:
    """Return the verdict on a claim.

    Mathematical facts always hold, so they cannot support a claim alone: if none of the other
    checks holds, neither does the claim.

    Returns:
        `holds` if all checks hold; `does not hold` if none of the checks that are not facts holds
        (if all are facts: if no check holds); otherwise `holds in part`.
    """
    if all(check.holds for check in checks):
        return HOLDS
    empirical = [check for check in checks if not check.is_fact] or checks
    return IN_PART if any(check.holds for check in empirical) else FAILS
