"""Quantizes an ONNX graph to int8, and keeps that only where it earns its place."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import serving.runtime  # noqa: F401  # before onnxruntime: turns its telemetry off

# isort: split
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from serving.bundle import INT8, MODEL
from serving.errors import one_line
from serving.manifest import Int8, Parity
from serving.parity import Inputs, count_samples, run_in_batches, take_samples
from serving.timing import median_ms

from .errors import ExportError
from .inference import InferenceFunction
from .output_kind import OutputKind
from .parity import batch_sizes, compare, onnx_runner

POLICIES = ("always", "auto", "never")
# Points of accuracy, of 100, that int8 may lose.
_MAX_LOST = 0.1
_TIMED_BATCHES = (1, 64)
_TRIES, _ROUNDS = 3, 15
_LONG_MS = 1000.0
# Samples that are run together, and numbers of their inputs, which bound the memory.
_BATCH, _BATCH_NUMBERS = 32, 1_000_000
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What runs on int8 as it comes, if all that it reads does.
_PASSING = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Pad",
    "Relu", "Reshape", "Squeeze", "Transpose",
)  # fmt: skip


@dataclass(frozen=True)
class Int8Data:
    """What int8 is calibrated and judged on.

    Attributes:
        calibration: inputs, of training samples.
        calibrated_on: what these are, in words.
        evaluation: inputs, of other samples.
        targets: of these, as in training; None to take the float32 model's answers for true.
        measured_on: what these are, in words.
    """

    calibration: Inputs
    calibrated_on: str
    evaluation: Inputs
    targets: np.ndarray | None
    measured_on: str


def evaluate_int8(
    inference: InferenceFunction,
    folder: Path,
    data: Int8Data,
    golden: Inputs,
    meaning: OutputKind,
    policy: str,
) -> Int8 | None:
    """Quantize `model.onnx`, measure both, and leave `model.int8.onnx` there if it is kept.

    Static QDQ, int8 for weights and activations, weights per channel (Jacob et al., 2018). Layers
    of constant weights and what lies between them are quantized; preparation stays float32.

    Args:
        inference: the traced model, for what Keras answers.
        folder: of the version being made.
        data: what to calibrate and to judge on.
        golden: what the receiver will check it on.
        meaning: of the outputs; of one of which nothing is known, accuracy cannot be told.
        policy: `always`; or `auto`: kept if faster at batch 1 or 64 and at most 0.1 points of
            accuracy are lost; or `never`.

    Returns:
        The decision with its numbers; None if there was nothing to decide.

    Raises:
        ExportError: `always`, but the graph has no layer to quantize, or one that cannot be.
    """
    if policy == "never" or (policy == "auto" and meaning.prediction_output is None):
        return None
    refusal = _quantize(inference, folder, data.calibration)
    if refusal:
        (folder / INT8).unlink(missing_ok=True)
        if policy == "always":
            raise ExportError(f"int8 needs a graph that can be quantized. Received: {refusal}.")
        return None
    runs = {name: onnx_runner(inference, folder / name) for name in (MODEL, INT8)}
    ratios = [_latency_ratio(runs, take_samples(data.evaluation, _picks(data, size)))
              for size in _TIMED_BATCHES]  # fmt: skip
    before, after = _accuracies(runs, data, meaning)
    lost = 100 * (before - after) if before is not None and after is not None else 0.0
    is_better = min(ratios) < 1 and lost <= _MAX_LOST
    decision = Int8(
        kept=policy == "always" or is_better,
        policy=policy,
        latency_ratio_1=ratios[0],
        latency_ratio_64=ratios[1],
        accuracy_float32=before,
        accuracy_int8=after,
        calibrated_on=data.calibrated_on,
        measured_on=data.measured_on,
        parity=(),
    )
    if not decision.kept:
        (folder / INT8).unlink()
        return decision
    # What the receiver checks it on, edge cases among it, counts as well.
    samples = _joined(inference.by_name(data.evaluation), inference.by_name(golden))
    agreements = _agreements(inference, runs[INT8], samples, meaning)
    return replace(decision, parity=agreements)


def _joined(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> Inputs:
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def _batch_size(inputs: Inputs) -> int:
    arrays = inputs.values() if isinstance(inputs, dict) else [inputs]
    numbers = sum(int(array[0].size) for array in arrays)
    return max(1, min(_BATCH, _BATCH_NUMBERS // max(1, numbers)))


def _picks(data: Int8Data, size: int) -> np.ndarray:
    return np.arange(size) % count_samples(data.evaluation)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands the calibration samples on, batch by batch."""

    def __init__(self, inputs: dict[str, np.ndarray]) -> None:
        size = _batch_size(inputs)
        starts = range(0, count_samples(inputs), size)
        self._left = (take_samples(inputs, slice(start, start + size)) for start in starts)

    def get_next(self) -> Any:
        """Return the next batch, None after the last."""
        return next(self._left, None)


def _quantize(inference: InferenceFunction, folder: Path, calibration: Inputs) -> str:
    """Write `model.int8.onnx`; return why not, or the empty text."""
    with tempfile.TemporaryDirectory() as workplace, _quiet():
        prepared = Path(workplace) / "prepared.onnx"
        try:
            quant_pre_process(folder / MODEL, prepared, skip_symbolic_shape=True)
            nodes = _quantizable(onnx.load(prepared))
            if not nodes:
                return "no layer of weights"
            quantize_static(
                prepared,
                folder / INT8,
                _Batches(inference.by_name(calibration)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Without these instructions sums of products overflow 16 bits.
                reduce_range=not _has_vnni(),
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=nodes,
            )
        except Exception as error:  # whatever onnxruntime raises on a graph it does not know
            return f"{type(error).__name__}: {one_line(error)}"[:160]
    return ""


def _quantizable(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes of constant weights, and of what lies behind them."""
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) >= 2}
    constants = {tensor.name for tensor in model.graph.initializer}
    inside: set[str] = set()
    names = []
    for node in model.graph.node:
        read = [name for name in node.input if name and name not in constants]
        is_layer = node.op_type in _WEIGHTED and len(node.input) > 1 and node.input[1] in weights
        is_passing = node.op_type in _PASSING and read and inside.issuperset(read)
        if is_layer or is_passing:
            names.append(node.name)
            inside.update(node.output)
    return names  # the first is a layer: nothing else begins what is inside


def _has_vnni() -> bool:
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False


def _latency_ratio(runs: dict[str, Any], batch: Inputs) -> float:
    """Return the time of int8 over that of float32, both taking turns: the worst of some tries.

    A machine's noise must not make it the faster one.
    """
    calls = {name: _call(run, batch) for name, run in runs.items()}
    once = median_ms(calls, 2, warm_up=0)
    if sum(once.values()) > _LONG_MS:  # so long that noise hardly shows, and repeating costs
        return once[INT8] / once[MODEL]
    tries = [median_ms(calls, _ROUNDS) for _ in range(_TRIES)]
    return max(medians[INT8] / medians[MODEL] for medians in tries)


def _call(run: Any, batch: Inputs) -> Any:
    return lambda: run(batch)


def _accuracies(
    runs: dict[str, Any], data: Int8Data, meaning: OutputKind
) -> tuple[float | None, float | None]:
    """Return the accuracy of float32 and of int8; None if it cannot be told."""
    if meaning.prediction_output is None:
        return None, None
    size = _batch_size(data.evaluation)
    answers = {
        name: run_in_batches(run, data.evaluation, size)[meaning.prediction_output]
        for name, run in runs.items()
    }
    truth = _decide(answers[MODEL], meaning) if data.targets is None else data.targets
    first, second = (_accuracy(answers[name], truth, meaning) for name in (MODEL, INT8))
    return first, second


def _decide(answer: np.ndarray, meaning: OutputKind) -> np.ndarray:
    if meaning.task == "multiclass":
        return np.asarray(answer.argmax(axis=1))
    return (answer >= 0.5).astype(np.float32) if meaning.task == "multilabel" else answer


def _accuracy(answer: np.ndarray, truth: np.ndarray, meaning: OutputKind) -> float:
    """Return the share of right classes, or of right decisions on labels; of values mean R²."""
    if meaning.task == "regression":
        wanted = truth.reshape(answer.shape)
        # Of each output, for they may be prices and shares.
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        missed = ((answer - wanted) ** 2).sum(axis=0)
        return float((1 - missed / np.maximum(spread, 1e-12)).mean())
    return float((_decide(answer, meaning) == truth).mean())


def _agreements(
    inference: InferenceFunction, run: Any, inputs: Inputs, meaning: OutputKind
) -> tuple[Parity, ...]:
    found = []
    expected = inference.predict(inputs)
    for batch_size in batch_sizes(inputs):
        received = run_in_batches(run, inputs, batch_size)
        for name, wanted in expected.items():
            has_classes = meaning.task == "multiclass" and name == meaning.prediction_output
            found.append(compare("int8", name, batch_size, wanted, received[name], has_classes))
    return tuple(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's advice on quantizing to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
