"""The cases of Keras' own export tests, see `benchmarks.keras_cases`: graphs answer as Keras."""

import numpy as np
import pytest

from benchmarks.keras_cases import CASES, answers, doubled, flat
from export import ExportError
from export.inference import trace_inference
from export.onnx.convert import OPSET, convert_to_onnx
from serving.session import open_session

# A case for each way of telling what a model takes, and each kind of structure.
QUICK = [
    "class: signature as tensor_spec",
    "sequential: two variable axes",
    "sequential: counter",
    "structure: tuple, saved and loaded",
    "dict of inputs, list of outputs",
    "layer: attention by name",
    "layer of a SavedModel",
    "nested: dict of lists of dicts",
    "nested: None",
    "keyword arguments",
]
# Texts and updates of slices need operators of their own.
REST = [
    name for name in CASES if name not in QUICK and "text: " not in name and "slice" not in name
]


def compare(name):
    """Require that the ONNX graph of a case answers as its model, for every batch of the case."""
    case = CASES[name]
    model = case.build()
    named = case.named or {}
    if case.is_called:
        answers(model, case.arguments, named)
    if case.refused:
        with pytest.raises(ExportError, match=case.refused):
            convert_to_onnx(trace_inference(model), {})
        return
    inference = trace_inference(model, given=case.signature)
    graph = convert_to_onnx(inference, {}, case.opset or OPSET)
    session = open_session(graph.SerializeToString())
    others = case.others or [doubled(case.arguments)] * (case.others is None)
    for arguments in (case.arguments, *others):
        by_name = named if arguments is case.arguments else doubled(named)
        names = [spec.name for spec in inference.inputs]
        received = session.run(None, dict(zip(names, flat(arguments, by_name), strict=True)))
        expected = answers(model, arguments, by_name)
        assert len(received) == len(expected)
        for wanted in expected:
            same = [found for found in received if found.shape == wanted.shape]
            assert any(np.allclose(found, wanted, rtol=1e-4, atol=1e-5) for found in same)


@pytest.mark.parametrize("name", QUICK)
def test_a_case_of_keras_tests_answers_as_its_model(name):
    compare(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REST)
def test_every_case_of_keras_tests_answers_as_its_model(name):
    compare(name)
