"""Estimates with intervals, and methods compared at their best learning rates."""

import numpy as np
import pytest

from app.evaluation.estimates import (
    difference,
    fraction_estimate,
    mean_estimate,
    proportion_estimate,
    scientific,
)
from app.studies.rates import best_pace, epochs_to, faster
from app.studies.signs import HOLDS, NOT_SHOWN, REFUTED


def test_one_measurement_has_no_interval():
    estimate = mean_estimate([0.5])
    assert estimate.value == 0.5
    assert (estimate.low, estimate.high) == (-np.inf, np.inf)
    assert not difference([0.9], [0.1]).low > 0
    assert not mean_estimate([1.0, np.nan]).low > 0


def test_intervals_equal_those_of_a_textbook():
    estimate = mean_estimate([1.0, 2.0, 3.0, 4.0])
    assert estimate.value == 2.5
    assert estimate.high - estimate.value == pytest.approx(3.182 * np.sqrt(5 / 3) / 2, rel=1e-3)
    assert proportion_estimate(0, 20).high == pytest.approx(0.1684, abs=1e-4)
    assert f"{proportion_estimate(20, 20):.2f}" == "1.00 [0.83, 1.00]"


def test_fractions_that_are_all_0_or_1_get_the_exact_interval():
    assert fraction_estimate([1.0] * 20) == proportion_estimate(20, 20)
    assert fraction_estimate([0.0, 1.0, 1.0]) == proportion_estimate(2, 3)
    assert fraction_estimate([0.5, 1.0, 1.0]) == mean_estimate([0.5, 1.0, 1.0])


RATES = (0.1, 1.0, 10.0)
# Losses of two seeds after each epoch: the second rate reaches the goal first.
PACES = np.array([
    [[1.0, 1.0], [4.0, 4.0], [9.0, 9.0]],
    [[0.5, 0.5], [0.2, 0.4], [9.0, 9.0]],
    [[0.4, 0.5], [0.1, 0.1], [np.nan, 9.0]],
])  # fmt: skip


def test_a_method_is_judged_at_the_rate_that_reaches_the_goal_soonest():
    pace = best_pace(RATES, PACES, goal=0.25, first=1)
    assert (pace.rate, pace.is_inside, pace.missed) == (1.0, True, 0)
    np.testing.assert_allclose(pace.needed, [2 - 0.05 / 3.8, 2.5])
    assert str(pace) == "2.2"
    assert best_pace(RATES, PACES, goal=2.0, first=1).rate == 0.1


def test_if_no_rate_reaches_the_goal_the_lowest_final_loss_decides():
    assert best_pace(RATES, PACES, goal=0.01).rate == 1.0


def test_a_goal_that_was_missed_gives_a_lower_bound():
    paces = np.concatenate([PACES] * 5, axis=2)
    slow = best_pace(RATES, paces + (np.arange(10) < 6), goal=0.25)
    assert str(slow) == "≥ 1.7 (6/10 missed)"
    assert str(best_pace(RATES, paces, goal=0.01)) == "> 2"
    fast = best_pace(RATES, paces, goal=0.25)
    claim = faster("sooner", fast, slow)
    assert claim.sign == HOLDS
    assert claim.figures["gap"].startswith("≥ 0.5 [0.1, 0.8]")
    assert not claim.is_reversed
    other = faster("sooner", slow, fast)
    assert (other.sign, other.is_reversed) == (REFUTED, True)
    assert other.figures == claim.figures
    edge = best_pace(RATES[:2], paces[:, :2], goal=0.25)
    assert not edge.is_inside
    assert faster("sooner", edge, slow).sign == NOT_SHOWN


def test_no_winner_is_named_if_the_faster_method_missed_the_goal():
    paces = np.concatenate([PACES] * 5, axis=2)
    some, more = (best_pace(RATES, paces + (np.arange(10) < n), goal=0.25) for n in (4, 6))
    for pair in ((some, more), (more, some)):
        claim = faster("sooner", *pair)
        assert (claim.sign, claim.is_undecided) == (NOT_SHOWN, True)
        assert "≥" not in claim.figures["gap"]


def test_losses_are_interpolated_linearly_between_epochs():
    curves = np.array([[1.0], [0.5], [0.5]])
    for goal, expected in ((0.75, 1.5), (0.2, 3.0), (2.0, 1.0)):
        np.testing.assert_allclose(epochs_to(curves, goal, 1), [expected])


def test_small_numbers_are_written_as_powers_of_ten():
    assert scientific(1.73e-9) == "1.7·10⁻⁹"
    assert scientific(0.0) == "0"
