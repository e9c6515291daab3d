"""Numbers as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.written_numbers import (
    describe_scores,
    metric_name,
    write_number,
    write_numbers,
    write_percent,
    write_probability,
    write_score,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (35212.4, "35,212"),
        (1000, "1,000"),
        (999.96, "1000"),
        (-1234567, "-1,234,567"),
        (12.3456, "12.35"),
        (0.3, "0.3"),
        (0.30000000000000004, "0.3"),
        (0.00012, "0.00012"),
        (100, "100"),
        (0, "0"),
        (-0.5, "-0.5"),
        (1.5e-9, "1.5e-09"),
        (1e20, "1e+20"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_number_has_four_digits_or_is_whole(value, text):
    assert write_number(value) == text


@given(st.floats(-1e300, 1e300))
def test_a_written_number_is_close_to_the_number(value):
    assert math.isclose(float(write_number(value).replace(",", "")), value, rel_tol=6e-4)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.9734, "97.3%"),
        (0.99715, "99.72%"),
        (0.99996, "99.996%"),
        (0.0041, "0.41%"),
        (0, "0%"),
        (1, "100%"),
        (0.5, "50.0%"),
    ],
)
def test_a_percentage_has_more_digits_close_to_its_ends(fraction, text):
    assert write_percent(fraction) == text


@given(st.floats(1e-4, 1 - 1e-4))
def test_only_all_is_100_percent_and_only_none_is_0(fraction):
    assert float(write_percent(fraction)[:-1]) not in (0, 100)
    assert float(write_score("roc_auc", fraction)) not in (0, 1)


@given(st.floats(1e-12, 1) | st.floats(1e-12, 1).map(lambda rest: 1 - rest))
def test_only_0_and_1_are_written_as_such_probabilities(value):
    found = float(write_probability(value))
    assert found == pytest.approx(value, rel=0.06, abs=5e-5)
    assert ((found == 1), (found == 0)) == ((value == 1), (value == 0))
    assert [write_probability(end) for end in (0.0, -0.0, 1.0, math.nextafter(1, 2))] == [
        "0.0000", "0.0000", "1.0000", "1.0000",
    ]  # fmt: skip


@given(st.floats(-1e12, 1e12), st.floats(1e-4, 1e9))
def test_numbers_that_belong_together_are_told_apart(low, spread):
    values = [low, low + spread / 2, low + spread]
    found = [float(text.replace(",", "")) for text in write_numbers(values)]
    if values[0] < values[1] < values[2] and spread > 1e-9 * abs(low):
        assert found[0] < found[1] < found[2]
        assert found == pytest.approx(values, abs=max(spread / 50, 1))


def test_scores_are_written_by_what_they_mean():
    scores = {"accuracy": 0.9734, "f1_macro": 0.97311, "mae": 35212.3, "r2": -0.5, "rmse": 0.0123}
    assert describe_scores(scores) == (
        "accuracy 97.3%, macro F1 0.973, mean absolute error 35,212, R² -0.500, "
        "root mean squared error 0.0123"
    )
    for perfect in (1.0, 1 - 1e-9, 1 + 1e-9):
        assert (write_score("r2", perfect), write_percent(perfect)) == ("1.000", "100%")
    assert metric_name("cross_entropy") == "cross entropy"
