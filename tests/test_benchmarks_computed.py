"""Benchmarks compute their figures from measurements as they say."""

import pytest

from benchmarks.distributed import costs_of


def test_an_interval_over_random_splits_of_the_same_rows_is_corrected():
    tables = pytest.importorskip("benchmarks.tables")
    low, high = tables.interval([0.9, 0.8, 0.7, 0.9, 0.7], [0.8, 0.8, 0.8, 0.8, 0.8])
    # The standard deviation is 0.1, Student's quantile 2.776, and a fifth of the rows are tested.
    reach = 2.776 * 0.1 * (1 / 5 + 0.2 / 0.8) ** 0.5
    assert (low, high) == pytest.approx((-reach, reach), abs=1e-4)
    assert tables.interval([0.9], [0.8]) == []


def test_the_cost_of_two_processes_is_the_median_of_paired_rounds():
    costs = costs_of([100.0, 50.0, 80.0], [50.0, 55.0, 60.0])
    assert costs == {"cost": 0.25, "costs": [0.5, -0.1, 0.25]}
