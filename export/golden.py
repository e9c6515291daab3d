"""Writes golden samples in the layout that ONNX's own backend tests read."""

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from serving.bundle import GOLDEN
from serving.parity import Inputs, Outputs

from .inference import InferenceFunction


def write_golden(
    inference: InferenceFunction,
    inputs: Inputs,
    expected: Outputs,
    folder: Path,
    data_set: str = GOLDEN,
) -> None:
    """Write `test_data_set_0/input_0.pb`, … and `output_0.pb`, … into `folder`.

    The outputs come from Keras, so that a receiver compares the ONNX graph with the original.

    Args:
        inference: The traced model.
        inputs: The golden samples.
        expected: What Keras predicts for them.
        folder: Folder of the version being made.
        data_set: Name of the folder for the samples.
    """
    golden = folder / data_set
    golden.mkdir()
    named = inference.by_name(inputs)
    for number, spec in enumerate(inference.inputs):
        (golden / f"input_{number}.pb").write_bytes(_tensor_proto(named[spec.name], spec.name))
    write_outputs(inference, expected, golden)


def write_outputs(inference: InferenceFunction, outputs: Outputs, folder: Path) -> None:
    """Write `output_0.pb`, … into a folder, which is made if it does not exist."""
    folder.mkdir(exist_ok=True)
    for number, spec in enumerate(inference.outputs):
        message = _tensor_proto(outputs[spec.name], spec.name)
        (folder / f"output_{number}.pb").write_bytes(message)


def _tensor_proto(array: np.ndarray, name: str) -> bytes:
    return bytes(numpy_helper.from_array(array, name).SerializeToString())
