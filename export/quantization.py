"""Quantizes an ONNX graph to int8, and keeps it only if it meets the acceptance criteria."""

import math
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from serving.bundle import INT8, MODEL
from serving.decisions import decide
from serving.errors import one_line
from serving.int8 import ANSWERS, largest_sum
from serving.manifest import Int8, Parity
from serving.parity import Inputs, count_samples, run_in_batches, take_samples
from serving.timing import median_ms

from .batches import batch_sizes
from .errors import ExportError
from .golden import write_outputs
from .inference import InferenceFunction, largest_batch
from .logs import without_log
from .output_kind import OutputKind
from .parity import Run, compare, onnx_runner, worst
from .samples import are_finite
from .steps import begin_step

POLICIES = ("always", "auto", "never")
# Percentage points of accuracy that int8 may lose.
_MAX_LOST = 0.1
_TIMED_BATCHES = (1, 64)
_TRIES, _ROUNDS = 3, 15
# int8 has never been faster where float32 takes less for the larger batch: its own steps between
# float32 and int8 take 5 to 10 microseconds (measured for nets of 650 to 25,000 weights).
_SHORTEST_MS = 0.03
_LONG_MS = 1000.0  # longer calls have little noise, and repeating them is costly
NEEDS_SAMPLES = (
    "No int8 model was tried: drawn samples tell neither the range of real inputs nor how well "
    "int8 answers them. Give --samples or --evaluate."
)
_NOT_FINITE = "one that answers some samples, such as zeros or no words, with NaN or infinity"
# Samples in a batch, which bounds the memory.
_BATCH = 32
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Operators without weights, which run on int8 if all of their inputs are int8.
_PASSING = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Pad",
    "Relu", "Reshape", "Squeeze", "Transpose",
)  # fmt: skip


@dataclass(frozen=True)
class Int8Data:
    """Samples that int8 is calibrated and evaluated on.

    Attributes:
        calibration: Inputs of training samples.
        calibrated_on: Description of these, in words.
        evaluation: Inputs of other samples.
        targets: Their targets, as in training; None to compare with what float32 predicts.
        measured_on: Description of the evaluation samples, in words.
        are_finite: Whether float32 answered every sample of the proof without NaN and infinity.
        thresholds: See `serving.decisions.decide`.
        are_drawn: Whether the samples were drawn, so that `auto` does not try int8.
    """

    calibration: Inputs
    calibrated_on: str
    evaluation: Inputs
    targets: np.ndarray | None
    measured_on: str
    are_finite: bool = True
    thresholds: tuple[float, ...] | None = None
    are_drawn: bool = False


def evaluate_int8(
    inference: InferenceFunction,
    folder: Path,
    data: Int8Data,
    golden: Inputs,
    kind: OutputKind,
    policy: str,
) -> Int8 | None:
    """Quantize `model.onnx`, measure both models, and leave `model.int8.onnx` there if it is kept.

    Static QDQ with int8 weights, per channel, and uint8 activations (Jacob et al., 2018). Layers
    with constant weights and what lies between them are quantized; preprocessing stays float32.
    Weights have codes from -64 to 64, so that no processor clips a sum, see `serving.int8`. If the
    model is kept, what it answers to the golden samples is written too.

    A model that can answer NaN or infinity stays float32, since int8 has a code for neither: a mean
    over no words would become a class. Whether it can is tried on a sample of nothing, alone and
    beside others.

    `auto` does not try int8 on drawn samples: real inputs may lie far outside their range, where
    int8 clips them, and agreement with float32 on noise says little about real inputs.

    Args:
        inference: The traced model, which gives the predictions of Keras.
        folder: Folder of the version being made.
        data: Samples to calibrate and to evaluate on.
        golden: Golden inputs, on which the receiver will check the model.
        kind: What the outputs stand for. If that is unknown, so is the accuracy.
        policy: `always`; `auto`, which keeps int8 if it is faster at batch sizes 1 and 64 and loses
            at most 0.1 percentage points of accuracy, and does not try it on a net that runs 64
            samples in less than 30 microseconds; or `never`.

    Returns:
        The decision with its numbers; None if there was nothing to decide.

    Raises:
        ExportError: The policy is `always`, but the graph cannot be quantized.
    """
    is_left_out = data.are_drawn and policy == "auto"
    if is_left_out or not _is_tried(inference, folder, data, kind, policy):
        return None
    begin_step("quantizing to int8 and timing it")
    is_finite = data.are_finite and _is_finite_on_nothing(inference, folder, golden)
    failure = _quantize(inference, folder, data.calibration) if is_finite else _NOT_FINITE
    if failure:
        (folder / INT8).unlink(missing_ok=True)
        if policy == "always":
            raise ExportError(f"int8 needs a graph that can be quantized. Received: {failure}.")
        return None
    runs = {name: onnx_runner(inference, folder / name) for name in (MODEL, INT8)}
    decision = _decide(runs, data, kind, policy)
    if not decision.kept:
        (folder / INT8).unlink()
        return decision
    answers = run_in_batches(runs[INT8], golden, largest_batch(golden, _BATCH))
    write_outputs(inference, answers, folder / ANSWERS)
    # The receiver checks it on the golden samples, which include edge cases: measure these too.
    samples = _joined(inference.by_name(data.evaluation), inference.by_name(golden))
    return replace(
        decision,
        parity=_parity(inference, runs[INT8], samples, kind),
        largest_sum=largest_sum((folder / INT8).read_bytes()),
    )


def require_float32(inference: InferenceFunction, policy: str) -> None:
    """Raise `ExportError` if int8 is wanted of a model that Keras quantized."""
    if policy == "always" and inference.quantization is not None:
        raise ExportError(
            "int8 needs a model in float32. Received: one that Keras quantized. "
            "Leave --int8 out: its graph is int8 already."
        )


def lacks_samples(
    inference: InferenceFunction, folder: Path, data: Int8Data, kind: OutputKind, policy: str
) -> bool:
    """Return whether int8 was not tried only because samples are drawn, see `evaluate_int8`."""
    is_auto = data.are_drawn and policy == "auto"
    return is_auto and _is_tried(inference, folder, data, kind, policy)


def _is_tried(
    inference: InferenceFunction, folder: Path, data: Int8Data, kind: OutputKind, policy: str
) -> bool:
    """Return whether there is a reason to quantize the graph."""
    is_ruled_out = inference.quantization is not None or inference.whole_batches
    if policy != "auto" or is_ruled_out or kind.prediction_output is None:
        return policy == "always" and not is_ruled_out
    return not _is_too_short(inference, folder, data)


def _is_finite_on_nothing(inference: InferenceFunction, folder: Path, golden: Inputs) -> bool:
    """Return whether float32 answers zeros and texts of no words with finite numbers."""
    run = onnx_runner(inference, folder / MODEL)
    some = inference.by_name(take_samples(golden, slice(0, 1)))
    nothing = {
        name: np.full_like(array, "" if array.dtype == object else 0)
        for name, array in some.items()
    }
    for batch in (nothing, _joined(nothing, some)):
        with suppress(Exception):  # what onnxruntime refuses has no answer
            if not are_finite(run(batch)).all():
                return False
    return True


def _is_too_short(inference: InferenceFunction, folder: Path, data: Int8Data) -> bool:
    """Return whether float32 is so fast that int8 cannot win."""
    largest = take_samples(data.evaluation, _sample_indices(data, max(_TIMED_BATCHES)))
    call = _call(onnx_runner(inference, folder / MODEL), largest)
    return median_ms({MODEL: call}, _ROUNDS)[MODEL] < _SHORTEST_MS


def _decide(runs: dict[str, Run], data: Int8Data, kind: OutputKind, policy: str) -> Int8:
    """Measure the latency and accuracy of both models, and decide whether int8 is kept."""
    ratios = [
        _latency_ratio(runs, take_samples(data.evaluation, _sample_indices(data, size)))
        for size in _TIMED_BATCHES
    ]
    before, after = _accuracies(runs, data, kind)
    lost = 100 * (before - after) if before is not None and after is not None else 0.0
    # As `serving.int8.why_not_here` decides on the machine that loads it.
    is_better = math.prod(ratios) < 1 and lost <= _MAX_LOST
    return Int8(
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


def _joined(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> Inputs:
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def _sample_indices(data: Int8Data, size: int) -> np.ndarray:
    """Return the indices of `size` evaluation samples, repeated if there are fewer."""
    return np.arange(size) % count_samples(data.evaluation)


class _Batches:
    """The calibration samples, batch by batch, as a `CalibrationDataReader` of onnxruntime."""

    def __init__(self, inputs: dict[str, np.ndarray]) -> None:
        size = largest_batch(inputs, _BATCH)
        starts = range(0, count_samples(inputs), size)
        self._left = (take_samples(inputs, slice(start, start + size)) for start in starts)

    def get_next(self) -> Any:
        """Return the next batch; None after the last."""
        return next(self._left, None)


def _quantize(inference: InferenceFunction, folder: Path, calibration: Inputs) -> str:
    """Write `model.int8.onnx`; return the reason for a failure, or an empty string."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as workplace, without_log():
        prepared = Path(workplace) / "prepared.onnx"
        try:
            quant_pre_process(
                folder / MODEL, prepared, skip_symbolic_shape=True, skip_onnx_shape=True
            )
            # Without the check of types, onnx ends the process at a LabelEncoder behind a Loop; and
            # so would onnxruntime if the types were not in the file.
            onnx.shape_inference.infer_shapes_path(prepared, prepared, check_type=True)
            model = onnx.load(prepared)
            nodes = _quantizable(model)
            if not nodes:
                return "no layer with constant weights"
            if _flatten_biases(model):
                onnx.save(model, prepared)
            quantize_static(
                prepared,
                folder / INT8,
                _Batches(inference.by_name(calibration)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,  # see serving/int8.py
                # On x86, onnxruntime leaves a layer between int8 and uint8 in float32, and changes
                # int8 activations to uint8 except those that two layers read (seen in 1.31).
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=nodes,
            )
            onnx_runner(inference, folder / INT8)(take_samples(calibration, slice(0, 1)))
        except Exception as error:  # onnxruntime raises anything on a graph it does not know
            return f"{type(error).__name__}: {one_line(error)}"[:160]
    return ""


def _quantizable(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes with constant weights, and of those that can follow in int8."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    inside: set[str] = set()
    names = []
    for node in model.graph.node:
        read = [name for name in node.input if name and name not in ranks]
        rank = ranks.get(node.input[1], 0) if len(node.input) > 1 else 0
        # onnxruntime has no int8 product of a stack of matrices whose columns have own scales.
        is_layer = node.op_type in _WEIGHTED and (
            rank == 2 or (rank > 2 and node.op_type != "MatMul")
        )
        is_passing = node.op_type in _PASSING and read and inside.issuperset(read)
        if is_layer or is_passing:
            names.append(node.name)
            inside.update(node.output)
    return names  # only a node with weights starts the quantized part


def _flatten_biases(model: onnx.ModelProto) -> bool:
    """Give biases of shape `(1, n)` the shape `(n,)`; return whether there are any.

    onnxruntime expects one number for each column of the weights (seen in 1.31).
    """
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    flat = {}
    for node in model.graph.node:
        bias = arrays.get(node.input[2]) if node.op_type == "Gemm" and node.input[2:] else None
        if bias is not None and len(bias.dims) == 2 and bias.dims[0] == 1:
            numbers = onnx.numpy_helper.to_array(bias).reshape(-1)
            node.input[2] = f"{bias.name}/flat"
            flat[bias.name] = onnx.numpy_helper.from_array(numbers, node.input[2])
    model.graph.initializer.extend(flat.values())
    return bool(flat)


def _latency_ratio(runs: dict[str, Run], batch: Inputs) -> float:
    """Return the time of int8 divided by that of float32, the worst ratio of several tries.

    The worst ratio, so that noise does not make int8 look faster. The two take turns.
    """
    calls = {name: _call(run, batch) for name, run in runs.items()}
    once = median_ms(calls, 2, warm_up=0)
    if sum(once.values()) > _LONG_MS:
        return once[INT8] / once[MODEL]
    tries = [median_ms(calls, _ROUNDS) for _ in range(_TRIES)]
    return max(medians[INT8] / medians[MODEL] for medians in tries)


def _call(run: Run, batch: Inputs) -> Callable[[], Any]:
    return lambda: run(batch)


def _accuracies(
    runs: dict[str, Run], data: Int8Data, kind: OutputKind
) -> tuple[float | None, float | None]:
    """Return the accuracy of float32 and of int8; None where it is unknown."""
    if kind.prediction_output is None:
        return None, None
    size = largest_batch(data.evaluation, _BATCH)
    predictions = {
        name: run_in_batches(run, data.evaluation, size)[kind.prediction_output]
        for name, run in runs.items()
    }
    decided = {name: _decided(found, kind, data.thresholds) for name, found in predictions.items()}
    targets = decided[MODEL] if data.targets is None else data.targets
    first, second = (_accuracy(decided[name], targets, kind) for name in (MODEL, INT8))
    return first, second


def _decided(
    output: np.ndarray, kind: OutputKind, thresholds: tuple[float, ...] | None
) -> np.ndarray:
    """Return the class of each sample, the decision on each label, or the values themselves."""
    return output if kind.task == "regression" else decide(kind.task, output, thresholds)


def _accuracy(decided: np.ndarray, targets: np.ndarray, kind: OutputKind) -> float:
    """Return the fraction of right classes or of right decisions on labels, or the mean R²."""
    if kind.task == "regression":
        wanted = targets.reshape(decided.shape)
        # R² of each output separately: their units may differ.
        spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
        missed = ((decided - wanted) ** 2).sum(axis=0)
        return float((1 - missed / np.maximum(spread, 1e-12)).mean())
    return float((decided == targets).mean())


def _parity(
    inference: InferenceFunction, run: Run, inputs: Inputs, kind: OutputKind
) -> tuple[Parity, ...]:
    measured: list[Parity] = []
    expected = inference.predict(inputs)
    for batch_size in batch_sizes(inputs):
        received = run_in_batches(run, inputs, batch_size)
        for name, wanted in expected.items():
            found = compare("int8", name, batch_size, wanted, received[name], kind)
            measured += [parity for parity, _ in found]
    return worst(measured)
