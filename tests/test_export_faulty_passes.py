"""A pass that changes the answers is found and left out."""

import pytest

from export.errors import ExportError, ProofError
from export.faulty_passes import without_faulty_pass
from export.passes.pipeline import PASSES


def fails_with(*faulty, error=ProofError):
    """Return a proof that fails while one of these passes has run."""

    def prove(without):
        if set(faulty) - set(without):
            raise error("inf from onnx")

    return prove


def test_without_a_faulty_pass_nothing_is_left_out():
    assert without_faulty_pass(list, fails_with()) == ([], {})


@pytest.mark.parametrize("error", [ProofError, ExportError])
def test_the_pass_that_changes_the_answers_is_left_out(error):
    _, left_out = without_faulty_pass(list, fails_with("fold_into_weights", error=error))
    assert left_out == {"fold_into_weights": "it changes the answers"}


def test_all_are_left_out_if_several_change_the_answers():
    _, left_out = without_faulty_pass(list, fails_with("simplify", "resolve_shapes"))
    assert set(left_out) == set(PASSES)


def test_an_error_that_is_no_fault_of_a_pass_is_raised_as_it_was():
    with pytest.raises(ProofError, match="inf from onnx"):
        without_faulty_pass(list, fails_with("something else"))


def test_a_model_that_cannot_be_converted_is_refused_at_once():
    attempts = []

    def convert(without):
        attempts.append(without)
        raise ExportError("Every operation must have a counterpart in ONNX.")

    with pytest.raises(ExportError, match="counterpart"):
        without_faulty_pass(convert, fails_with())
    assert len(attempts) == 1
