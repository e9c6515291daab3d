"""Samples whose outputs depend on rounding are left out of a proof that would fail."""

from dataclasses import dataclass

import numpy as np
import pytest

from export import ProofError
from export.conditioning import stable_samples
from export.output_kind import OutputKind
from export.samples import Samples


@dataclass
class Rounded:
    """A model whose trace rounds otherwise where x is 0."""

    error: float

    def predict(self, inputs):
        return {"y": inputs["x"] + 1}

    def run(self, inputs):
        return {"y": inputs["x"] + 1 + self.error * (inputs["x"] == 0)}


def chosen(zeros, error, are_drawn=True):
    """Let the trace differ at so many samples, of which the last one is an edge case."""
    x = np.ones((20, 1), "float32")
    x[20 - zeros :] = 0
    samples = Samples({"x": x}, "drawn", ("lowest",), 1, ({"x": x},))
    model = Rounded(error)
    return stable_samples(model, samples, model.predict({"x": x}), OutputKind(), are_drawn)


def test_samples_on_which_keras_disagrees_with_itself_are_left_out():
    samples, expected = chosen(zeros=3, error=0.1)
    assert len(samples.inputs["x"]) == len(expected["y"]) == 17
    assert samples.num_edge_cases == 0
    assert [len(other["x"]) for other in samples.of_other_sizes] == [17]
    assert samples.source == "drawn, without 3 whose outputs depend on rounding"


def test_all_are_kept_if_many_depend_on_rounding_a_little_or_none_does():
    assert len(chosen(zeros=10, error=5e-5)[0].inputs["x"]) == 20
    assert len(chosen(zeros=3, error=1e-7)[0].inputs["x"]) == 20


def test_of_samples_that_were_given_only_edge_cases_are_left_out():
    samples, _ = chosen(zeros=1, error=0.1, are_drawn=False)
    assert (len(samples.inputs["x"]), samples.num_edge_cases) == (19, 0)
    assert len(chosen(zeros=3, error=5e-5, are_drawn=False)[0].inputs["x"]) == 19


@pytest.mark.parametrize(("zeros", "are_drawn"), [(10, True), (3, False)])
def test_a_model_whose_outputs_depend_on_rounding_is_refused_with_that_reason(zeros, are_drawn):
    message = f"must not depend on how numbers are rounded. Received: those of {zeros} of 20 sam"
    with pytest.raises(ProofError, match=message):
        chosen(zeros, 0.1, are_drawn)
