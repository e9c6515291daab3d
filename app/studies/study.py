"""Defines a study, its claims and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from app.evaluation.estimates import Estimate

from .signs import NOT_SHOWN, above

# The numbers of a part, in a form that JSON can represent.
Numbers = Any
Parts = Mapping[str, Numbers]


def figure_name(language: str, is_narrow: bool = False) -> str:
    """Return the file name of a study's figure in a language, or of the one that fits a phone."""
    return f"figure{'' if language == 'en' else f'-{language}'}{'-narrow' if is_narrow else ''}.png"


LANGUAGES = ("en", "zh")
FIGURES = tuple(figure_name(*look) for look in product(LANGUAGES, (False, True)))


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
class Claim:
    """One statement, and what the numbers say about it.

    Attributes:
        name: the key of its sentences in the study's text.
        sign: one of `SIGNS`.
        figures: the numbers in its sentences, by placeholder.
        is_reversed: whether the number points the other way, so that the sentence must do so too.
        is_undecided: whether the number is not enough to name a direction.
        is_theorem: whether it was proved. The numbers then check the program: only a bug could
            refute it.
    """

    name: str
    sign: str
    figures: Mapping[str, str]
    is_reversed: bool = False
    is_undecided: bool = False
    is_theorem: bool = False


@dataclass(frozen=True)
class Study:
    """Claims and how they are tested.

    Attributes:
        seeds: how often each training is repeated by default.
        parts: returns the trainings and computations by name, in the order in which they are run.
            Each returns numbers that JSON can represent, which are saved when it finishes.
        judge: returns the claims, with the signs that follow from the numbers of all parts.
        draw: writes `FIGURES` into a folder, which show the numbers of all parts; see `panels`.
        quick_seeds: how often each training is repeated in quick mode: ten; fewer if a seed is
            costly or a mean over many trainings itself; more if a claim counts the seeds that
            succeed or rests on a small difference. The interval of three seeds is more than three
            times as wide as that of ten.
    """

    seeds: int
    parts: Callable[[Effort], Mapping[str, Callable[[], Numbers]]]
    judge: Callable[[Parts], Sequence[Claim]]
    draw: Callable[[Parts, Path], None]
    quick_seeds: int = 10


@dataclass(frozen=True)
class Result:
    """The outcome of a study.

    Attributes:
        name: name of the study.
        claims: the claims with their signs.
        seeds: how often each training was repeated.
        quick: whether the numbers are the coarser ones of quick mode.
        seconds: wall time of the parts.
        folder: holds `result.json`, the figures, `README.md` and the pages.
        is_cached: whether all parts were already finished.
        note: why an earlier result in the folder is no longer valid; empty if it is, or if there
            was no earlier result.
    """

    name: str
    claims: tuple[Claim, ...]
    seeds: int
    quick: bool
    seconds: float
    folder: Path
    is_cached: bool = False
    note: str = ""


def compared(name: str, gap: Estimate, decimals: int, /, **figures: str) -> Claim:
    """Return the claim that a difference is above 0.

    Args:
        name: see `Claim`.
        gap: the difference. The figure `gap` is its size, whichever way it points.
        decimals: decimals of the size; there are up to two more if an end of its interval would
            otherwise be rounded to 0.
        figures: further figures.
    """
    size = abs(gap)
    nearest = min(abs(size.low), abs(size.high))
    more = sum(nearest < 0.5 * 10.0**-each for each in (decimals, decimals + 1))
    decimals += more if nearest else 0
    return Claim(name, above(gap), {"gap": f"{size:.{decimals}f}", **figures}, gap.value < 0)


def provided(claim: Claim, is_met: bool) -> Claim:
    """Return a claim that is not shown unless what its number presupposes is met."""
    return claim if is_met else replace(claim, sign=NOT_SHOWN)
