"""Checks that an ONNX graph and its manifest describe the same model."""

import itertools
import json

from .bundle import MODEL
from .errors import ManifestError
from .manifest import Manifest, Parity, TensorSpec, describe_spec
from .runtime import onnxruntime
from .session import session_signature

# Every proof must compare these artifacts with Keras.
ARTIFACTS = ("saved_model", "onnx")


def check_contract(manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
    """Check that the graph has the signature of the manifest and an output for each label.

    Raises:
        ManifestError: they differ; the message says where.
    """
    inputs, outputs = session_signature(session)
    _check_specs("inputs", manifest.inputs, inputs)
    _check_specs("outputs", manifest.outputs, outputs)
    for name, columns in (("inputs", manifest.columns), ("texts", manifest.string_columns)):
        shapes = [spec.shape[1:] for spec in inputs if spec.name == name]
        if columns and shapes != [(len(columns),)]:
            raise ManifestError(
                f"{MODEL} must take {len(columns)} columns as the input {name}. "
                f"Received: {', '.join(map(describe_spec, inputs))}."
            )
    others = [spec.name for spec in inputs if spec.name not in ("inputs", "texts")]
    if others and (manifest.columns or manifest.string_columns):
        raise ManifestError(
            f"A {MODEL} with columns must have no inputs but 'inputs' and 'texts'. "
            f"Received: {others[0]!r:.80}."
        )
    _check_prediction_output(manifest, outputs)
    _check_metadata(manifest, session.get_modelmeta().custom_metadata_map)


def check_proof(manifest: Manifest) -> None:
    """Check that the manifest proves parity within the tolerances of this release.

    Raises:
        ManifestError: a tolerance is too large, or an output has no proof or exceeds it.
    """
    proof = manifest.proof
    for name, tolerance in proof.tolerances.items():
        largest = manifest.tolerances.get(name, 0.0)
        if not 0 <= tolerance <= largest:
            raise ManifestError(
                f"The proof's tolerance of {name} must be at most {largest:g}. "
                f"Received: {tolerance}."
            )
    if proof.samples < 1:
        raise ManifestError(f"A proof must have at least 1 sample. Received: {proof.samples}.")
    proven = {(parity.artifact, parity.output) for parity in proof.parity}
    for artifact, spec in itertools.product(ARTIFACTS, manifest.outputs):
        if (artifact, spec.name) not in proven:
            raise ManifestError(
                f"Every output must be proven. Received: no proof of {spec.name!r} of {artifact}."
            )
    for parity in proof.parity:
        _check_parity(manifest, parity)


def _check_parity(manifest: Manifest, parity: Parity) -> None:
    dtypes = {spec.name: spec.dtype for spec in manifest.outputs}
    is_probability = parity.output == manifest.probabilities
    kind = "probabilities" if is_probability else dtypes.get(parity.output, "")
    difference = (
        parity.max_absolute_difference if is_probability else parity.max_relative_difference
    )
    is_near = 0 <= difference <= manifest.proof.tolerances.get(kind, 0.0)
    has_classes = is_probability and manifest.task == "multiclass"
    is_same = parity.top1_match == (1.0 if has_classes else None) or (
        has_classes and manifest.quantization is not None
    )
    if not is_near or not is_same:
        raise ManifestError(
            "Every artifact must have parity with Keras. Received: "
            f"{parity.output} of {parity.artifact} at batch size {parity.batch_size}, difference "
            f"{difference:.1e}, top-1 match {parity.top1_match}."
        )


def _check_prediction_output(manifest: Manifest, outputs: tuple[TensorSpec, ...]) -> None:
    if manifest.prediction_output is None and not manifest.labels:
        return
    found = [spec for spec in outputs if spec.name == manifest.prediction_output]
    shapes = [spec.shape[1:] for spec in found if spec.dtype.startswith("float")]
    if shapes != [(len(manifest.labels),)]:
        raise ManifestError(
            f"{MODEL} must have an output {manifest.prediction_output} of floats, with one element "
            f"for each label. Received: {', '.join(map(describe_spec, found)) or 'none'} for "
            f"{len(manifest.labels)} labels."
        )


def _check_metadata(manifest: Manifest, found: dict[str, str]) -> None:
    """Check that the graph was exported with the manifest's names, in the same order."""
    for key in ("name", "labels", "columns", "nullable_columns", "string_columns"):
        expected = json.dumps(getattr(manifest, key), ensure_ascii=False)
        if found.get(key, expected) != expected:
            raise ManifestError(
                f"{MODEL} must have the manifest's {key}, {expected:.80}. "
                f"Received: {found[key]:.80}."
            )


def _check_specs(
    role: str, expected: tuple[TensorSpec, ...], received: tuple[TensorSpec, ...]
) -> None:
    if expected != received:
        raise ManifestError(
            f"The {role} of {MODEL} must be {', '.join(map(describe_spec, expected))}. "
            f"Received: {', '.join(map(describe_spec, received))}."
        )
