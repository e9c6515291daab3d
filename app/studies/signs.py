"""The sign of a claim: what the 95% interval of a number says about it."""

from collections.abc import Sequence

import numpy as np

from app.evaluation.estimates import Estimate, more_often_estimate

HOLDS, NOT_SHOWN, REFUTED = "holds", "not shown", "refuted"
SIGNS = (HOLDS, NOT_SHOWN, REFUTED)


def above(estimate: Estimate, bound: float = 0.0) -> str:
    """Return the sign of the claim that a number is above a bound.

    Returns:
        `holds` if the whole interval is above the bound, `refuted` if the whole interval is below
        it, otherwise `not shown`.
    """
    if estimate.low > bound:
        return HOLDS
    return REFUTED if estimate.high < bound else NOT_SHOWN


def below(estimate: Estimate, bound: float) -> str:
    """Return the sign of the claim that a number is below a bound."""
    return above(-estimate, -bound)


def within(estimate: Estimate, low: float, high: float) -> str:
    """Return the sign of the claim that a number is between two bounds."""
    return every([above(estimate, low), below(estimate, high)])


def more_often(first: np.ndarray, second: np.ndarray) -> str:
    """Return the sign of the claim that `first` is true more often than `second`.

    Args:
        first: bool `(seeds,)`.
        second: the values of the same seeds.
    """
    estimate = more_often_estimate(first, second)
    return NOT_SHOWN if estimate is None else above(estimate, 0.5)


def proved(is_true: bool) -> str:
    """Return the sign of a theorem that was checked on numbers."""
    return HOLDS if is_true else REFUTED


def every(signs: Sequence[str]) -> str:
    """Return the sign of the claim that several claims hold at once.

    Returns:
        `refuted` if one of them is refuted, `holds` if all of them hold, otherwise `not shown`.
    """
    if REFUTED in signs:
        return REFUTED
    return NOT_SHOWN if NOT_SHOWN in signs else HOLDS


def some(signs: Sequence[str]) -> str:
    """Return the sign of the claim that at least one of several claims holds."""
    if HOLDS in signs:
        return HOLDS
    return NOT_SHOWN if NOT_SHOWN in signs else REFUTED
