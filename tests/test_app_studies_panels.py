"""Panels of figures: what is shown where some seeds have no value."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from app.studies import panels
from app.studies.vocabulary import in_chinese


def axes_of(draw):
    """Return the axes on which a function has drawn."""
    axes = Figure().add_subplot()
    draw(axes)
    return axes


def test_seeds_without_a_value_are_counted_at_their_arm_which_has_no_interval():
    measured = {"plain": [1.0, 2.0, 3.0], "large": [1.0, np.nan, 3.0], "none": [np.inf] * 3}
    axes = axes_of(lambda axes: panels.arms(axes, measured, "test accuracy"))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["plain", "large\nseeds without a value: 1", "none\nseeds without a value: 3"]
    assert in_chinese(labels[1]) == "large 无值的种子数: 1"
    bars = [np.ptp(container[2][0].get_segments()[0][:, 0]) for container in axes.containers]
    assert bars[0] > 0
    assert bars[1:] == [0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_curve_has_a_gap_where_a_seed_has_no_value(value):
    values = [[1.0, 2.0], [1.0, value], [3.0, 4.0], [5.0, 6.0]]
    axes = axes_of(lambda axes: panels.curve(axes, [1, 2, 3, 4], values, "loss"))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.5, np.nan, 3.5, 5.5])
    band, interval = axes.collections
    assert {x for path in band.get_paths() for x, _ in path.vertices if x > 2} == {3, 4}
    assert [segment[0, 0] for segment in interval.get_segments()] == [1]  # too narrow for a band
