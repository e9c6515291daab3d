"""Whether a graph and its manifest speak of the same model."""

import itertools
import json

from .bundle import MODEL
from .errors import ManifestError
from .manifest import Manifest, TensorSpec, describe_spec
from .parity import TOLERANCES
from .runtime import onnxruntime
from .session import session_signature

# What is proven against Keras, whatever else is.
ARTIFACTS = ("saved_model", "onnx")


def check_contract(manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
    """Require that the signature is the manifest's and that each class has a label.

    Raises:
        ManifestError: they differ; it says in what.
    """
    inputs, outputs = session_signature(session)
    _check_specs("inputs", manifest.inputs, inputs)
    _check_specs("outputs", manifest.outputs, outputs)
    for name, columns in (("inputs", manifest.columns), ("texts", manifest.string_columns)):
        shapes = [spec.shape[1:] for spec in inputs if spec.name == name]
        if columns and shapes != [(len(columns),)]:
            raise ManifestError(
                f"{MODEL} must take its {len(columns)} columns as the input {name}. "
                f"Received: {', '.join(map(describe_spec, inputs))}."
            )
    strange = [spec.name for spec in inputs if spec.name not in ("inputs", "texts")]
    if strange and (manifest.columns or manifest.string_columns):
        raise ManifestError(
            f"{MODEL} of columns must take inputs and texts alone. Received: {strange[0]!r:.80}."
        )
    _check_answer(manifest, outputs)
    _check_metadata(manifest, session.get_modelmeta().custom_metadata_map)


def check_proof(manifest: Manifest) -> None:
    """Require evidence in the manifest, and that it was no more lenient than this release is.

    Raises:
        ManifestError: a tolerance is larger, an output was not proven, or one differed.
    """
    proof = manifest.proof
    for name, tolerance in proof.tolerances.items():
        if not 0 <= tolerance <= TOLERANCES.get(name, 0.0):
            raise ManifestError(
                f"The proof's tolerance of {name} must be at most {TOLERANCES.get(name, 0.0):g}. "
                f"Received: {tolerance}."
            )
    if proof.samples < 1:
        raise ManifestError(f"A proof must have samples. Received: {proof.samples}.")
    proven = {(agreement.artifact, agreement.output) for agreement in proof.parity}
    for artifact, spec in itertools.product(ARTIFACTS, manifest.outputs):
        if (artifact, spec.name) not in proven:
            raise ManifestError(
                f"Every output must be proven. Received: no proof of {spec.name!r} of {artifact}."
            )
    dtypes = {spec.name: spec.dtype for spec in manifest.outputs}
    for agreement in proof.parity:
        is_probability = agreement.output == manifest.probabilities
        kind = "probabilities" if is_probability else dtypes.get(agreement.output, "")
        difference = (
            agreement.max_absolute_difference
            if is_probability
            else agreement.max_relative_difference
        )
        is_near = 0 <= difference <= proof.tolerances.get(kind, 0.0)
        has_classes = is_probability and manifest.task == "multiclass"
        is_same = agreement.top1_match == (1.0 if has_classes else None)
        if not is_near or not is_same:
            raise ManifestError(
                f"Every artifact must agree. Received: {agreement.output} of "
                f"{agreement.artifact} at batch size {agreement.batch_size}, difference "
                f"{difference:.1e}, same classes {agreement.top1_match}."
            )


def _check_answer(manifest: Manifest, outputs: tuple[TensorSpec, ...]) -> None:
    if manifest.prediction_output is None and not manifest.labels:
        return
    answers = [spec for spec in outputs if spec.name == manifest.prediction_output]
    shapes = [spec.shape[1:] for spec in answers if spec.dtype.startswith("float")]
    if shapes != [(len(manifest.labels),)]:
        raise ManifestError(
            f"{MODEL} must give {manifest.prediction_output} of floats, one element a label. "
            f"Received: {', '.join(map(describe_spec, answers)) or 'none'} for "
            f"{len(manifest.labels)} labels."
        )


def _check_metadata(manifest: Manifest, found: dict[str, str]) -> None:
    """Require that the graph was exported under the manifest's names, in their order."""
    for key in ("name", "labels", "columns", "nullable_columns", "string_columns"):
        expected = json.dumps(getattr(manifest, key), ensure_ascii=False)
        if found.get(key, expected) != expected:
            raise ManifestError(
                f"{MODEL} must be of the manifest's {key}, {expected:.80}. "
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
