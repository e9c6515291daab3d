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
from serving.proportions import wilson_interval
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
# Lower end of the interval of the fraction of samples that int8 decides as float32 does: 188
# samples are too few to reach it, even if all of them agree. And the R² of values.
_MIN_AGREEMENT, _MIN_R_SQUARED = 0.98, 0.999
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
_NO_LAYER = "no layer with constant weights"
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
        are_disjoint: Whether no sample is in both, so that both count when int8 is compared with
            float32. Otherwise only those of the evaluation do, or some would count twice.
    """

    calibration: Inputs
    calibrated_on: str
    evaluation: Inputs
    targets: np.ndarray | None
    measured_on: str
    are_finite: bool = True
    thresholds: tuple[float, ...] | None = None
    are_drawn: bool = False
    are_disjoint: bool = False


def evaluate_int8(
    inference: InferenceFunction,
    folder: Path,
    data: Int8Data,
    golden: Inputs,
    kind: OutputKind,
    policy: str,
) -> tuple[Int8 | None, str]:
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
        policy: `always`; `auto`, which keeps int8 if it is faster at batch sizes 1 and 64, loses
            at most 0.1 percentage points of accuracy and answers as float32 does, and does not try
            it on a net that runs 64 samples in less than 30 microseconds; or `never`.

    Returns:
        The decision with its numbers, None if there was nothing to decide; and one sentence why
        `auto` has made no int8 model, empty if it has made one or needs no reason.

    Raises:
        ExportError: The policy is `always`, but the graph cannot be quantized.
    """
    if not _is_tried(inference, folder, data, kind, policy):
        return None, ""
    if data.are_drawn and policy == "auto":
        return None, NEEDS_SAMPLES
    begin_step("quantizing to int8 and timing it")
    is_finite = data.are_finite and _is_finite_on_nothing(inference, folder, golden)
    failure = _quantize(inference, folder, data.calibration) if is_finite else _NOT_FINITE
    if failure:
        (folder / INT8).unlink(missing_ok=True)
        reason = f"int8 needs a graph that can be quantized. Received: {failure}."
        if policy == "always":
            raise ExportError(reason)
        return None, "" if failure == _NO_LAYER else f"No int8 model was made: {reason}"
    runs = {name: onnx_runner(inference, folder / name) for name in (MODEL, INT8)}
    decision = _decide(runs, data, kind, policy)
    if not decision.kept:
        (folder / INT8).unlink()
        return decision, ""
    answers = run_in_batches(runs[INT8], golden, largest_batch(golden, _BATCH))
    write_outputs(inference, answers, folder / ANSWERS)
    # The receiver checks it on the golden samples, which include edge cases: measure these too.
    samples = _joined(inference.by_name(data.evaluation), inference.by_name(golden))
    return replace(
        decision,
        parity=_parity(inference, runs[INT8], samples, kind),
        largest_sum=largest_sum((folder / INT8).read_bytes()),
    ), ""


def require_float32(inference: InferenceFunction, policy: str) -> None:
    """Raise `ExportError` if int8 is wanted of a model that Keras quantized."""
    if policy == "always" and inference.quantization is not None:
        raise ExportError(
            "int8 needs a model in float32. Received: one that Keras quantized. "
            "Leave --int8 out: its graph is int8 already."
        )


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
    """Measure latency, accuracy and agreement of both models; decide whether int8 is kept."""
    ratios = [
        _latency_ratio(runs, take_samples(data.evaluation, _sample_indices(data, size)))
        for size in _TIMED_BATCHES
    ]
    found = None if kind.prediction_output is None else _answers(runs, data, kind)
    # The ratios as `serving.int8.why_not_here` takes them on the machine that loads the model.
    is_better = math.prod(ratios) < 1 and found is not None and found.are_good
    return Int8(
        kept=policy == "always" or is_better,
        policy=policy,
        latency_ratio_1=ratios[0],
        latency_ratio_64=ratios[1],
        accuracy_float32=None if found is None else found.before,
        accuracy_int8=None if found is None else found.after,
        calibrated_on=data.calibrated_on,
        measured_on=data.measured_on,
        parity=(),
        agreement=None if found is None else found.agreement,
        agreement_low=None if found is None else found.agreement_low,
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
                return _NO_LAYER
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
            # The folders are of this machine, and are removed.
            reason = one_line(error).replace(f"{workplace}/", "").replace(f"{folder}/", "")
            return f"{type(error).__name__}: {reason}"[:160].rstrip(". ")
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


@dataclass(frozen=True)
class _Answers:
    """How well int8 answers: both accuracies, and the agreement with float32, see `Int8`."""

    before: float
    after: float
    agreement: float
    agreement_low: float | None

    @property
    def are_good(self) -> bool:
        """Whether int8 is as accurate as float32, and answers as it does."""
        is_accurate = 100 * (self.before - self.after) <= _MAX_LOST
        if self.agreement_low is None:
            return is_accurate and self.agreement >= _MIN_R_SQUARED
        return is_accurate and self.agreement_low >= _MIN_AGREEMENT


def _answers(runs: dict[str, Run], data: Int8Data, kind: OutputKind) -> _Answers:
    """Measure how well int8 answers.

    Agreement needs no targets, so that the calibration samples count too. Their inputs are not
    joined with those of the evaluation, which may fill the memory that samples may take.
    """
    evaluated = _decisions(runs, data.evaluation, data, kind)
    targets = evaluated[MODEL] if data.targets is None else data.targets
    before, after = (_accuracy(evaluated[name], targets, kind) for name in (MODEL, INT8))
    sets = [evaluated]
    if data.are_disjoint:
        sets.append(_decisions(runs, data.calibration, data, kind))
    wanted, found = (np.concatenate([one[name] for one in sets]) for name in (MODEL, INT8))
    if kind.task == "regression":
        return _Answers(before, after, float(_r_squared(found, wanted).min()), None)
    count = len(wanted)
    same = int((wanted == found).reshape(count, -1).all(axis=1).sum())
    return _Answers(before, after, same / count, wilson_interval(same, count)[0])


def _decisions(
    runs: dict[str, Run], inputs: Inputs, data: Int8Data, kind: OutputKind
) -> dict[str, np.ndarray]:
    """Return what each model decides for the samples, see `_decided`."""
    size = largest_batch(inputs, _BATCH)
    name = str(kind.prediction_output)
    return {
        model: _decided(run_in_batches(run, inputs, size)[name], kind, data.thresholds)
        for model, run in runs.items()
    }


def _decided(
    output: np.ndarray, kind: OutputKind, thresholds: tuple[float, ...] | None
) -> np.ndarray:
    """Return the class of each sample, the decision on each label, or the values themselves."""
    return output if kind.task == "regression" else decide(kind.task, output, thresholds)


def _accuracy(decided: np.ndarray, targets: np.ndarray, kind: OutputKind) -> float:
    """Return the fraction of right classes or of right decisions on labels, or the mean R²."""
    if kind.task == "regression":
        return float(_r_squared(decided, targets.reshape(decided.shape)).mean())
    return float((decided == targets).mean())


def _r_squared(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return R² of each value separately, since their units may differ."""
    spread = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    missed = ((found - wanted) ** 2).sum(axis=0)
    return np.asarray(1 - missed / np.maximum(spread, 1e-12))


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
