"""Checks a bundle on the receiver's machine: its files, its contract and its behavior.

Needs only numpy and onnxruntime.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from .bundle import (
    CHECKSUMS,
    FLOAT16,
    GOLDEN,
    INT8,
    PACKED,
    check_file,
    check_model,
    check_names,
    golden_sets,
    read_checksums,
)
from .contract import check_proof
from .errors import DamagedError, ManifestError, ServingError, cannot_read
from .golden import read_golden
from .manifest import Manifest, describe_spec
from .packed import check_packed
from .parity import (
    FLOAT16_TOLERANCES,
    Inputs,
    allowed_difference,
    as_inputs,
    by_value,
    count_samples,
    is_within,
    largest_difference,
    run_in_batches,
    take_samples,
    top1_match,
)
from .predictor import Predictor
from .session import float32_runner, open_session
from .triton import CONFIG, LABELS, render_config, render_labels
from .versions import find_version

NAMES = ("files", "contract", "behavior")
BATCH_SIZES = (1, 2, 7)
# The int8 model may be this much farther from Keras than on the exporting machine.
_INT8_FACTOR, _INT8_MARGIN = 2.0, 0.1


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: `files`, `contract`, `behavior` or `signature`.
        passed: whether the check passed.
        detail: a summary, or the first problem; the name of an earlier check that found it too.
    """

    name: str
    passed: bool
    detail: str


def verify_bundle(
    path: str | Path, check_signature: Callable[[Path], str] | None = None
) -> list[Check]:
    """Check a bundle in this process; see `trial.verify_in_limits` for one that may do harm.

    Args:
        path: folder of a version, or of a model, which selects its latest version and also checks
            the files next to it; or a packed file, of which every byte is checked.
        check_signature: checks the signature of a version's folder, see
            `signature.read_verifier`; None to skip that.

    Returns:
        The checks `files`, `contract` and `behavior`, in this order, then `signature` if requested.

    Raises:
        ManifestError: there is no bundle at `path`.
    """
    try:
        folder = find_version(path)
    except DamagedError as error:
        return damaged(error, check_signature is not None)
    checks = check_version(folder, Path(path))
    if check_signature is not None:
        checks = chain(checks, [run_check("signature", lambda: check_signature(folder))])
    return without_repeats(checks)


def check_version(folder: Path, path: Path) -> Iterator[Check]:
    """Yield the checks `files`, `contract` and `behavior`, each as soon as it is done.

    Args:
        folder: folder of a version, from `find_version`.
        path: what `find_version` was given, see `verify_bundle`.
    """
    model_folder = folder.parent if folder != path else None

    @functools.cache
    def load() -> Predictor:
        return Predictor.load(folder, int8="never")

    yield run_check("files", lambda: _check_files(folder, path))
    yield run_check("contract", lambda: _check_contract(folder, model_folder, load))
    yield run_check("behavior", lambda: _check_behavior(folder, load))


def damaged(error: DamagedError, has_signature: bool) -> list[Check]:
    """Return the checks of a packed file that cannot be unpacked: all fail.

    Args:
        error: what unpacking raised.
        has_signature: whether the signature was to be checked.
    """
    names = (*NAMES, "signature") if has_signature else NAMES
    return without_repeats(Check(name, False, str(error)) for name in names)


def without_repeats(checks: Iterable[Check]) -> list[Check]:
    """Return checks, each with the name of an earlier one that found the same problem."""
    results: list[Check] = []
    for check in checks:
        same = [earlier.name for earlier in results if earlier.detail == check.detail]
        results.append(replace(check, detail=f"not checked, see {same[0]}") if same else check)
    return results


def run_check(name: str, check: Callable[[], str]) -> Check:
    """Return the result of a check, which returns a summary or raises `ServingError`."""
    try:
        return Check(name, True, check())
    except ServingError as error:
        return Check(name, False, str(error))


def _check_files(folder: Path, path: Path) -> str:
    """Check that the files are exactly those listed, and unchanged; and all of a packed file."""
    checksums = check_names(folder)
    if path.suffix == PACKED and path.is_file():
        check_packed(path, folder)
    else:
        for name in checksums:
            check_file(folder, name, checksums)
    return f"{len(checksums)} files match {CHECKSUMS}"


def _check_contract(folder: Path, model_folder: Path | None, load: Callable[[], Predictor]) -> str:
    """Check the graph, the proof, and the files next to the version against the manifest."""
    manifest = load().manifest  # the graph is checked when it is loaded
    check_proof(manifest)
    is_kept = manifest.int8 is not None and manifest.int8.kept
    if (folder / INT8).exists() != is_kept:
        raise ManifestError(
            f"{INT8} must exist if and only if the manifest says that it was kept. "
            f"Received: {'kept, but no' if is_kept else 'not kept, but a'} file."
        )
    if (folder / FLOAT16).exists() != (manifest.float16 is not None):
        raise ManifestError(
            f"{FLOAT16} must exist if and only if the manifest describes it. "
            f"Received: {'no file' if manifest.float16 else 'a file'}."
        )
    if model_folder is not None:
        if str(manifest.version) != folder.name:
            raise ManifestError(
                f"A version must be in the folder of its number, {manifest.version}. "
                f"Received: {folder}."
            )
        _check_text(model_folder / CONFIG, render_config(manifest))
        _check_text(model_folder / LABELS, render_labels(manifest))
    return "; ".join(
        f"{role} {', '.join(map(describe_spec, specs))}"
        for role, specs in (("in", manifest.inputs), ("out", manifest.outputs))
    )


def _check_text(path: Path, expected: str) -> None:
    try:
        received = path.read_bytes()
    except OSError as error:
        raise ManifestError(cannot_read(path, error)) from None
    if received != expected.encode():
        raise ManifestError(f"{path} must match the manifest. Received: a different text.")


def _check_behavior(folder: Path, load: Callable[[], Predictor]) -> str:
    """Check that the golden inputs give the golden outputs at several batch sizes.

    All are run in the largest batch. What depends on the size of a batch, such as another kernel of
    the runtime, shows on the first ones: of each other size, a batch is run.
    """
    predictor = load()
    manifest = predictor.manifest
    if manifest.whole_batches:
        return _check_whole_batches(folder, predictor)
    inputs = read_golden(folder, "input", manifest.inputs)
    expected = read_golden(folder, "output", manifest.outputs)
    samples = as_inputs(inputs)
    count = count_samples(samples)
    for name, array in (*inputs.items(), *expected.items()):
        if len(array) != count:
            raise ManifestError(
                f"{GOLDEN} must have an output for each of {count} samples. "
                f"Received: {len(array)} of {name}."
            )
    largest = dict.fromkeys(expected, 0.0)
    for batch_size in (*BATCH_SIZES, max(count, BATCH_SIZES[-1])):
        rows = min(batch_size, count)
        first = take_samples(samples, slice(rows))
        received = run_in_batches(lambda x: predictor.predict(x).outputs, first, batch_size)
        for name, array in expected.items():
            pair = (array[:rows], received[name])
            difference = _difference(manifest, name, array, pair, batch_size)
            largest[name] = max(largest[name], difference)
            _require_same_classes(manifest, name, *pair, batch_size)
    if manifest.int8 is not None and manifest.int8.kept:
        _check_int8(folder, manifest, samples, expected)
    if manifest.float16 is not None:
        _check_float16(folder, manifest, samples, expected)
    differences = ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
    return (
        f"{count} golden samples at batch sizes {', '.join(map(str, BATCH_SIZES))} "
        f"and {count}; largest differences: {differences}"
    )


def _check_whole_batches(folder: Path, predictor: Predictor) -> str:
    """Check that each batch of golden inputs gives, as a whole, its golden outputs."""
    manifest = predictor.manifest
    counts: list[int] = []
    largest = dict.fromkeys((spec.name for spec in manifest.outputs), 0.0)
    for data_set in golden_sets(read_checksums(folder)):
        inputs = read_golden(folder, "input", manifest.inputs, data_set)
        expected = read_golden(folder, "output", manifest.outputs, data_set)
        received = predictor.predict(as_inputs(inputs))
        counts.append(count_samples(inputs))
        for name, wanted in expected.items():
            found = received.outputs[name]
            difference = _difference(manifest, name, wanted, (wanted, found), counts[-1])
            largest[name] = max(largest[name], difference)
            _require_same_classes(manifest, name, wanted, found, counts[-1])
    differences = ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
    return (
        f"whole golden batches of {', '.join(map(str, counts))} samples; "
        f"largest differences: {differences}"
    )


def _check_int8(
    folder: Path, manifest: Manifest, samples: Inputs, expected: dict[str, np.ndarray]
) -> None:
    """Check that the int8 model is about as far from Keras as on the exporting machine.

    Processors round and saturate differently, and the golden samples include edge cases.
    """
    predictor = Predictor.load(folder, int8="always")
    received = run_in_batches(lambda x: predictor.predict(x).outputs, samples, BATCH_SIZES[-1])
    measured = manifest.int8.parity if manifest.int8 is not None else ()
    for name, wanted in expected.items():
        if wanted.dtype.kind != "f":  # rounding can change an integer by 1
            continue
        known = [p.max_absolute_difference for p in measured if p.output == name]
        if not known:
            raise ManifestError(
                f"Every output of {INT8} must be proven. Received: no proof of {name!r}."
            )
        difference = largest_difference(wanted, received[name])
        largest = float(np.abs(wanted).max(initial=0))
        allowed = min(_INT8_MARGIN + _INT8_FACTOR * max(known), max(largest, 1.0))
        if not is_within(difference, allowed):
            raise ManifestError(
                f"{name} of {INT8} must be within {allowed:.1e} of the golden outputs. "
                f"Received: {difference:.1e}."
            )


def _check_float16(
    folder: Path, manifest: Manifest, samples: Inputs, expected: dict[str, np.ndarray]
) -> None:
    """Check that the float16 model gives the golden outputs, within twice its tolerance.

    Processors round differently.
    """
    check_model(folder, FLOAT16, read_checksums(folder))
    run = float32_runner(open_session(folder / FLOAT16))
    received = run_in_batches(run, samples, BATCH_SIZES[-1])
    for name, wanted in expected.items():
        is_probability = name == manifest.probabilities
        for one, found in by_value(name == manifest.values, wanted, received[name]):
            allowed = 2 * allowed_difference(one, is_probability, FLOAT16_TOLERANCES)
            difference = largest_difference(one, found)
            if not is_within(difference, allowed):
                raise ManifestError(
                    f"{name} of {FLOAT16} must be within {allowed:.1e} of the golden outputs. "
                    f"Received: {difference:.1e}."
                )


def _difference(
    manifest: Manifest,
    name: str,
    golden: np.ndarray,
    pair: tuple[np.ndarray, np.ndarray],
    batch_size: int,
) -> float:
    """Return the largest difference between what is wanted and received; require it to be small.

    `golden` is what is wanted for all golden samples, whose magnitude counts.
    """
    largest = 0.0
    for every, one, found in by_value(name == manifest.values, golden, *pair):
        allowed = allowed_difference(every, name == manifest.probabilities, manifest.tolerances)
        difference = largest_difference(one, found)
        if not is_within(difference, allowed):
            raise ManifestError(
                f"{name} must be within {allowed:.1e} of the golden outputs. "
                f"Received: {difference:.1e} at batch size {batch_size}."
            )
        largest = max(largest, difference)
    return largest


def _require_same_classes(
    manifest: Manifest, name: str, wanted: np.ndarray, received: np.ndarray, batch_size: int
) -> None:
    if manifest.task != "multiclass" or name != manifest.prediction_output:
        return
    if manifest.quantization is not None:
        return  # two classes may be closer than it rounds
    if top1_match(wanted, received) < 1:
        raise ManifestError(
            f"{name} must predict the golden classes. "
            f"Received: other classes at batch size {batch_size}."
        )
