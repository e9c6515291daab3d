"""Drawn samples whose outputs depend on rounding are left out of a proof that would fail."""

from dataclasses import dataclass

import numpy as np

from export.conditioning import stable_samples
from export.samples import Samples


@dataclass
class Rounded:
    """A model whose trace rounds otherwise where x is 0."""

    error: float

    def predict(self, inputs):
        return {"y": inputs["x"] + 1}

    def run(self, inputs):
        return {"y": inputs["x"] + 1 + self.error * (inputs["x"] == 0)}


def chosen(zeros, error):
    x = np.ones((20, 1), "float32")
    x[:zeros] = 0
    samples = Samples({"x": x}, "drawn", ("lowest",), 1, ({"x": x},))
    model = Rounded(error)
    return stable_samples(model, samples, model.predict({"x": x}))


def test_samples_on_which_keras_disagrees_with_itself_are_left_out():
    samples, expected = chosen(zeros=3, error=0.1)
    assert len(samples.inputs["x"]) == len(expected["y"]) == 17
    assert samples.num_edge_cases == 1
    assert [len(other["x"]) for other in samples.of_other_sizes] == [17]
    assert samples.source == "drawn, without 3 whose outputs depend on rounding"


def test_all_are_kept_if_many_depend_on_rounding_or_none_does():
    assert len(chosen(zeros=10, error=0.1)[0].inputs["x"]) == 20
    assert len(chosen(zeros=3, error=1e-7)[0].inputs["x"]) == 20
