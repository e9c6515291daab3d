"""Signs: what an interval says about a claim."""

import pytest

from app.evaluation.estimates import Estimate
from app.studies.signs import (
    HOLDS,
    NOT_SHOWN,
    REFUTED,
    above,
    below,
    every,
    more_often,
    some,
    within,
)

ONE, UNKNOWN = Estimate(1.0, 0.5, 1.5), Estimate(1.0, float("-inf"), float("inf"))


@pytest.mark.parametrize(
    ("bound", "is_above", "is_below"),
    [
        (0.4, HOLDS, REFUTED),
        (0.5, NOT_SHOWN, NOT_SHOWN),
        (1.2, NOT_SHOWN, NOT_SHOWN),
        (1.6, REFUTED, HOLDS),
    ],
)
def test_the_whole_interval_decides(bound, is_above, is_below):
    assert above(ONE, bound) == is_above
    assert below(ONE, bound) == is_below


def test_a_single_measurement_shows_nothing():
    assert above(UNKNOWN) == below(UNKNOWN, 0.0) == within(UNKNOWN, -1, 1) == NOT_SHOWN


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 2.0, HOLDS), (0.0, 1.0, NOT_SHOWN), (1.6, 2.0, REFUTED), (0.0, 0.4, REFUTED)],
)
def test_a_number_between_two_bounds(low, high, expected):
    assert within(ONE, low, high) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (6, 0, HOLDS), (5, 0, NOT_SHOWN), (20, 12, HOLDS), (20, 16, NOT_SHOWN), (4, 4, NOT_SHOWN),
        (0, 6, REFUTED),
    ],
)  # fmt: skip
def test_paired_outcomes_are_compared_with_the_exact_test(first, second, expected):
    found = [[seed < count for seed in range(20)] for count in (first, second)]
    assert more_often(*found) == expected


def test_several_claims_at_once():
    assert every([HOLDS, HOLDS]) == some([REFUTED, HOLDS]) == some([NOT_SHOWN, HOLDS]) == HOLDS
    assert every([HOLDS, NOT_SHOWN]) == some([REFUTED, NOT_SHOWN]) == NOT_SHOWN
    assert every([NOT_SHOWN, REFUTED]) == some([REFUTED, REFUTED]) == REFUTED
