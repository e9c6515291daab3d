"""Timing calls side by side."""

import time
from itertools import groupby

import pytest

from serving.timing import median_ms, quartiles_ms


@pytest.mark.parametrize(("rounds", "warm_up"), [(2, 0), (2, 1), (7, 3), (20, 2)])
def test_each_call_is_timed_in_blocks_by_itself(rounds, warm_up):
    made = []
    calls = {name: lambda name=name: made.append(name) for name in ("first", "second")}
    found = quartiles_ms(calls, rounds, warm_up)
    assert list(found) == ["first", "second"]
    blocks = [(name, len(list(block))) for name, block in groupby(made)]
    assert [name for name, _ in blocks] == ["first", "second"] * min(3, rounds)
    for name in calls:
        sizes = [size for called, size in blocks if called == name]
        assert sum(sizes) == rounds + warm_up * len(sizes)
        assert max(sizes) - min(sizes) <= 1


def test_the_median_of_each_call_is_in_milliseconds():
    found = median_ms({"slow": lambda: time.sleep(0.02), "fast": lambda: None}, 4, warm_up=0)
    assert found["slow"] >= 20 > found["fast"]
