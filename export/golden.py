"""Writes golden samples in the layout that ONNX's own backend tests read."""

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from serving.agreement import Inputs
from serving.bundle import GOLDEN

from .inference import InferenceFunction


def write_golden(inference: InferenceFunction, inputs: Inputs, folder: Path) -> None:
    """Write `test_data_set_0/input_0.pb`, … and `output_0.pb`, … into `folder`.

    The answers are Keras', so that whoever runs the ONNX graph compares it with the original.

    Args:
        inference: the traced model.
        inputs: the golden samples.
        folder: of the version being made.
    """
    golden = folder / GOLDEN
    golden.mkdir()
    answers = inference.predict(inputs)
    for number, spec in enumerate(inference.inputs):
        array = inputs[spec.name] if isinstance(inputs, dict) else inputs
        (golden / f"input_{number}.pb").write_bytes(_tensor_proto(array, spec.name))
    for number, output in enumerate(inference.outputs):
        message = _tensor_proto(answers[output.name], output.name)
        (golden / f"output_{number}.pb").write_bytes(message)


def _tensor_proto(array: np.ndarray, name: str) -> bytes:
    return bytes(numpy_helper.from_array(array, name).SerializeToString())
