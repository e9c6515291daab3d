"""The int8 model of a bundle: whether its sums can overflow, and whether it answers as it should.

x86 processors without VNNI add products of 8 bits in pairs with the instruction `vpmaddubsw`, which
clips each sum to 16 bits (Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW).
ONNX Runtime gives it activations as codes from 0 to 255, so that a pair of weights whose codes add
up to more than 128 can be clipped, and the same model answers otherwise than on a newer processor.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .bundle import INT8, MODEL
from .decisions import decide, thresholds_of
from .errors import ManifestError
from .golden import read_golden
from .manifest import Manifest
from .parity import Inputs, Outputs, as_inputs, count_samples, run_in_batches, take_samples
from .tensor_proto import read_fields, read_tensor
from .timing import median_ms

# Folder of the outputs of the int8 model for the golden samples, where it was made.
ANSWERS = "int8_answers"
# The largest sum of two products that is not clipped.
LARGEST_SUM = 2**15 - 1
_LARGEST_ACTIVATION = 2**8 - 1
# Two values closer than this fraction of the largest are tied: an activation that rounds to the
# next of its 256 codes, as it may on another processor, moves each of them by about one step.
_TIE = 2 / 256
# Samples that are run at once, as everywhere when a bundle is verified.
_BATCH = 7
# Calls of each model to time, at most, and seconds that they may take in all.
_ROUNDS, _SECONDS = 15, 0.2
# Fields of ModelProto, GraphProto and TensorProto in onnx/onnx.proto, and a type of the latter.
_GRAPH, _INITIALIZER, _DIMS, _DATA_TYPE, _INT8 = 7, 5, 1, 2, 3


def largest_sum(model: bytes) -> int:
    """Return the largest magnitude of the sum of two products that a model can compute.

    Any two int8 weights of a tensor may be a pair, in whatever order a kernel packs them.

    Args:
        model: bytes of an ONNX file.

    Raises:
        ManifestError: the bytes are no ONNX file.
    """
    largest = 0
    for field, graph in read_fields(model):
        if field != _GRAPH or not isinstance(graph, bytes):
            continue
        for part, tensor in read_fields(graph):
            if part == _INITIALIZER and isinstance(tensor, bytes) and _are_weights(tensor):
                largest = max(largest, _largest_pair(read_tensor(tensor)[1]))
    return largest * _LARGEST_ACTIVATION


def _are_weights(tensor: bytes) -> bool:
    """Return whether a TensorProto has int8 numbers and several axes; others are zero points."""
    found = list(read_fields(tensor))
    dims = [value for field, value in found if field == _DIMS]
    # Sizes that are packed end in a byte below 128 each.
    axes = sum(1 if isinstance(size, int) else sum(b < 128 for b in size) for size in dims)
    return axes > 1 and (_DATA_TYPE, _INT8) in found


def _largest_pair(codes: np.ndarray) -> int:
    flat = codes.reshape(-1).astype(np.int16)
    if len(flat) < 2:
        return int(np.abs(flat).max(initial=0))
    high, low = np.partition(flat, -2)[-2:], np.partition(flat, 1)[:2]
    return int(max(np.maximum(high, 0).sum(), -np.minimum(low, 0).sum()))


def check_sums(manifest: Manifest, model: bytes) -> None:
    """Require an int8 model none of whose sums can be clipped, as its manifest says.

    Args:
        manifest: manifest of a bundle with an int8 model.
        model: bytes of that model.

    Raises:
        ManifestError: a sum can be clipped, or the manifest has another largest sum.
    """
    stated = None if manifest.int8 is None else manifest.int8.largest_sum
    if stated is None:  # exported by an earlier version
        return
    found = largest_sum(model)
    if found > LARGEST_SUM:
        raise ManifestError(
            f"No sum of two int8 products may exceed {LARGEST_SUM:,}, or processors without VNNI "
            f"clip it. Received: {found:,}."
        )
    if found != stated:
        raise ManifestError(
            f"The largest sum of two int8 products must be that of the manifest, {stated:,}. "
            f"Received: {found:,}."
        )


def count_other_answers(manifest: Manifest, expected: Outputs, received: Outputs) -> int:
    """Return how many samples get another class or other labels than where the model was made.

    Ties do not count: of values that differ by less than two steps of 8 bits, either may be the
    larger, and a value that is so close to its threshold may be on either side. A model of values
    has no such answers.

    Args:
        manifest: manifest of the model.
        expected: outputs of its int8 model where it was made.
        received: outputs of its int8 model here, for the same samples.
    """
    name = manifest.prediction_output
    if name is None or manifest.task not in ("multiclass", "multilabel"):
        return 0
    wanted, found = expected[name].astype(np.float64), received[name].astype(np.float64)
    if not np.isfinite(found).all():
        return len(found)
    tie = _TIE * max(float(np.abs(wanted).max(initial=0)), 1e-30)
    thresholds = thresholds_of(manifest)
    before, after = (decide(manifest.task, x, thresholds) for x in (wanted, found))
    if manifest.task == "multilabel":
        is_near = np.abs(wanted - (0.5 if thresholds is None else np.asarray(thresholds))) <= tie
        return int(((before != after) & ~is_near).any(axis=-1).sum())
    if thresholds is not None and len(thresholds) == 2:
        is_near = np.abs(wanted[:, 1] - thresholds[1]) <= tie
        return int(((before != after) & ~is_near).sum())
    # Probabilities are compared relative to thresholds, and so are the steps that move them.
    relative = 1 / (np.ones(wanted.shape[-1]) if thresholds is None else np.asarray(thresholds))
    rows = np.arange(len(wanted))
    lead = wanted[rows, before] * relative[before] - wanted[rows, after] * relative[after]
    return int((lead > tie * (relative[before] + relative[after]) / 2).sum())


def has_answers(manifest: Manifest) -> bool:
    """Return whether a bundle has an int8 model, and what it answered where it was made.

    Bundles of earlier versions do not have these answers.
    """
    return manifest.int8 is not None and manifest.int8.largest_sum is not None


def why_not_here(
    folder: Path, manifest: Manifest, runs: dict[str, Callable[[Inputs], Outputs]]
) -> str:
    """Return why a bundle's int8 model should not run on this machine; empty if it should.

    Args:
        folder: folder of the bundle's version.
        manifest: its manifest.
        runs: by the names of their files, the int8 model and the float32 model; or the former
            alone, which is then not timed.

    Raises:
        ManifestError: the golden samples cannot be read.
    """
    inputs = read_golden(folder, "input", manifest.inputs)
    samples = as_inputs(inputs)
    others = 0
    if has_answers(manifest):
        expected = read_golden(folder, "output", manifest.outputs, ANSWERS)
        received = run_in_batches(runs[INT8], samples, _BATCH)
        others = count_other_answers(manifest, expected, received)
    if others:
        total = count_samples(samples)
        return f"it answers {others} of {total} golden samples otherwise than where it was made"
    if len(runs) == 1:
        return ""
    ratios = [_latency_ratio(runs, take_samples(samples, slice(0, size))) for size in (1, _BATCH)]
    return "" if np.prod(ratios) < 1 else "it is not faster than float32"


def _latency_ratio(runs: dict[str, Callable[[Inputs], Outputs]], batch: Inputs) -> float:
    calls = {name: _call(run, batch) for name, run in runs.items()}
    once = sum(median_ms(calls, 2, warm_up=1).values()) / 1000
    rounds = int(min(max(_SECONDS / max(once, 1e-9), 2), _ROUNDS))
    medians = median_ms(calls, rounds, warm_up=1)
    return medians[INT8] / medians[MODEL]


def _call(run: Callable[[Inputs], Outputs], batch: Inputs) -> Callable[[], object]:
    return lambda: run(batch)
