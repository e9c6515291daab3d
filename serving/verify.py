"""Checks a bundle on the receiver's machine: its files, its contract, its behavior.

Needs numpy and onnxruntime alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bundle import (
    CHECKSUMS,
    GOLDEN,
    INT8,
    MODEL,
    find_version,
    read_checked,
    read_checksums,
    read_manifest,
)
from .contract import check_contract, check_proof
from .errors import ManifestError, ServingError
from .golden import read_golden
from .manifest import Manifest, describe_spec
from .parity import (
    Inputs,
    allowed_difference,
    count_samples,
    is_within,
    largest_difference,
    run_in_batches,
    top1_match,
)
from .predictor import Predictor
from .session import open_session
from .triton import CONFIG, LABELS, render_config, render_labels

BATCH_SIZES = (1, 2, 7)
# Of int8: how much further than where it was made an answer may be from Keras.
_INT8_FACTOR, _INT8_MARGIN = 2.0, 0.1
_INT8_MIN_AGREEMENT = 0.5


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: `files`, `contract`, `behavior` or `signature`.
        passed: whether all of it held.
        detail: what held, or the first thing that did not.
    """

    name: str
    passed: bool
    detail: str


def verify_bundle(
    path: str | Path, check_signature: Callable[[Path], str] | None = None
) -> list[Check]:
    """Check a bundle.

    Args:
        path: a version's folder, or a model's: then its latest version, and the files beside it.
        check_signature: checks a version's folder too, as `signature.read_verifier` returns it.

    Returns:
        The checks `files`, `contract` and `behavior`, in this order, and `signature` if asked.

    Raises:
        ManifestError: there is no bundle at `path`.
    """
    folder = find_version(path)
    beside = folder.parent if folder != Path(path) else None
    checks: list[tuple[str, Callable[[], str]]] = [
        ("files", lambda: _check_files(folder)),
        ("contract", lambda: _check_contract(folder, beside)),
        ("behavior", lambda: _check_behavior(folder)),
    ]
    if check_signature is not None:
        checks.append(("signature", lambda: check_signature(folder)))
    return [_run_check(name, check) for name, check in checks]


def _run_check(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except ServingError as error:
        return Check(name, False, str(error))


def _check_files(folder: Path) -> str:
    """Every file listed, every listed file there, no byte changed."""
    checksums = read_checksums(folder)
    entries = [p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()]
    links = [p for p in entries if p.is_symlink()]
    if links:
        raise ManifestError(f"A bundle must hold no links. Received: {links[0]}.")
    found = {p.relative_to(folder).as_posix() for p in entries}
    unlisted = sorted(found - checksums.keys() - {CHECKSUMS})
    if unlisted:
        raise ManifestError(f"Every file must be listed in {CHECKSUMS}. Received: {unlisted[0]}.")
    for name in checksums:
        read_checked(folder, name, checksums)
    return f"{len(checksums)} files match {CHECKSUMS}"


def _check_contract(folder: Path, beside: Path | None) -> str:
    """The graph's signature, the labels, the proof and the files beside fit the manifest."""
    manifest = read_manifest(folder)
    model = read_checked(folder, MODEL, read_checksums(folder))
    check_contract(manifest, open_session(model))
    check_proof(manifest)
    is_kept = manifest.int8 is not None and manifest.int8.kept
    if (folder / INT8).exists() != is_kept:
        raise ManifestError(
            f"{INT8} must be there where the manifest says that it was kept, and only there. "
            f"Received: {'kept, but no' if is_kept else 'not kept, but a'} file."
        )
    if beside is not None:
        if str(manifest.version) != folder.name:
            raise ManifestError(
                f"A version must lie in the folder of its number, {manifest.version}. "
                f"Received: {folder}."
            )
        _check_text(beside / CONFIG, render_config(manifest))
        _check_text(beside / LABELS, render_labels(manifest))
    return "; ".join(
        f"{role} {', '.join(map(describe_spec, specs))}"
        for role, specs in (("in", manifest.inputs), ("out", manifest.outputs))
    )


def _check_text(path: Path, expected: str) -> None:
    try:
        received = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} must be readable. Received: {error.strerror}.") from None
    if received != expected.encode():
        raise ManifestError(f"{path} must be what the manifest gives. Received: another text.")


def _check_behavior(folder: Path) -> str:
    """The golden samples give the golden answers, at several batch sizes."""
    predictor = Predictor.load(folder, int8="never")
    manifest = predictor.manifest
    inputs = read_golden(folder, "input", manifest.inputs)
    expected = read_golden(folder, "output", manifest.outputs)
    samples: Inputs = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    count = count_samples(samples)
    for name, array in (*inputs.items(), *expected.items()):
        if len(array) != count:
            raise ManifestError(
                f"{GOLDEN} must have an answer for each of {count} samples. "
                f"Received: {len(array)} of {name}."
            )
    largest = dict.fromkeys(expected, 0.0)
    for batch_size in (*BATCH_SIZES, count):
        received = run_in_batches(lambda x: predictor.predict(x).outputs, samples, batch_size)
        for name, wanted in expected.items():
            is_probability = name == manifest.probabilities
            difference = _difference(name, wanted, received[name], batch_size, is_probability)
            largest[name] = max(largest[name], difference)
            _require_same_classes(manifest, name, wanted, received[name], batch_size)
    if manifest.int8 is not None and manifest.int8.kept:
        _check_int8(folder, manifest, samples, expected)
    differences = ", ".join(f"{name} {value:.1e}" for name, value in largest.items())
    return (
        f"{count} golden samples at batch sizes {', '.join(map(str, BATCH_SIZES))} "
        f"and {count}: largest difference {differences}"
    )


def _check_int8(
    folder: Path, manifest: Manifest, samples: Inputs, expected: dict[str, np.ndarray]
) -> None:
    """Require that the int8 model is about as far from Keras as where it was made.

    Processors round and saturate differently, and the golden samples have edge cases.
    """
    predictor = Predictor.load(folder, int8="always")
    received = run_in_batches(lambda x: predictor.predict(x).outputs, samples, BATCH_SIZES[-1])
    agreements = manifest.int8.parity if manifest.int8 is not None else ()
    for name, wanted in expected.items():
        if wanted.dtype.kind != "f":  # what is counted differs by a whole where rounding does
            continue
        known = [a.max_absolute_difference for a in agreements if a.output == name]
        if not known:
            raise ManifestError(
                f"Every output of {INT8} must be proven. Received: no proof of {name!r}."
            )
        difference = largest_difference(wanted, received[name])
        largest = float(np.abs(wanted).max(initial=0))
        allowed = min(_INT8_MARGIN + _INT8_FACTOR * max(known), max(largest, 1.0))
        if not is_within(difference, allowed):
            raise ManifestError(
                f"{name} of {INT8} must be within {allowed:.1e} of the golden answers. "
                f"Received: {difference:.1e}."
            )
        # Whatever the manifest allows: an answer that is wholly another one is none.
        if manifest.task == "multiclass" and name == manifest.prediction_output:
            agreement = top1_match(wanted, received[name])
            if agreement < _INT8_MIN_AGREEMENT:
                raise ManifestError(
                    f"{name} of {INT8} must name {_INT8_MIN_AGREEMENT:.0%} of the golden "
                    f"classes. Received: {agreement:.0%}."
                )


def _difference(
    name: str, wanted: np.ndarray, received: np.ndarray, batch_size: int, is_probability: bool
) -> float:
    difference = largest_difference(wanted, received)
    allowed = allowed_difference(wanted, is_probability)
    if not is_within(difference, allowed):
        raise ManifestError(
            f"{name} must be within {allowed:.1e} of the golden answers. "
            f"Received: {difference:.1e} at batch size {batch_size}."
        )
    return difference


def _require_same_classes(
    manifest: Manifest, name: str, wanted: np.ndarray, received: np.ndarray, batch_size: int
) -> None:
    if manifest.task != "multiclass" or name != manifest.prediction_output:
        return
    if top1_match(wanted, received) < 1:
        raise ManifestError(
            f"{name} must name the golden classes. Received: others at batch size {batch_size}."
        )
