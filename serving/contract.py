"""Whether a graph and its manifest speak of the same model."""

import onnxruntime

from .agreement import TOLERANCES
from .bundle import MODEL
from .errors import ManifestError
from .manifest import Manifest, TensorSpec, describe_spec
from .session import session_signature


def check_contract(manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
    """Require that the signature is the manifest's and that each class has a label.

    Raises:
        ManifestError: they differ; it says in what.
    """
    inputs, outputs = session_signature(session)
    _check_specs("inputs", manifest.inputs, inputs)
    _check_specs("outputs", manifest.outputs, outputs)
    for name, columns in (("inputs", manifest.columns), ("texts", manifest.text_columns)):
        shapes = [spec.shape[1:] for spec in inputs if spec.name == name]
        if columns and shapes != [(len(columns),)]:
            raise ManifestError(
                f"{MODEL} must take its {len(columns)} columns as the input {name}. "
                f"Received: {', '.join(map(describe_spec, inputs))}."
            )
    if manifest.answer is None and not manifest.labels:
        return
    answers = [spec for spec in outputs if spec.name == manifest.answer]
    shapes = [spec.shape[1:] for spec in answers if spec.dtype.startswith("float")]
    if shapes != [(len(manifest.labels),)]:
        raise ManifestError(
            f"{MODEL} must give {manifest.answer} of floats, one element a label. "
            f"Received: {', '.join(map(describe_spec, answers)) or 'none'} for "
            f"{len(manifest.labels)} labels."
        )


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
    proven = {agreement.output for agreement in proof.agreements}
    missing = [spec.name for spec in manifest.outputs if spec.name not in proven]
    if missing:
        raise ManifestError(f"Every output must be proven. Received: no proof of {missing[0]!r}.")
    dtypes = {spec.name: spec.dtype for spec in manifest.outputs}
    for agreement in proof.agreements:
        is_probability = agreement.output == manifest.probabilities
        kind = "probabilities" if is_probability else dtypes.get(agreement.output, "")
        difference = (
            agreement.max_absolute_difference
            if is_probability
            else agreement.max_relative_difference
        )
        is_near = difference <= proof.tolerances.get(kind, 0.0)
        if not is_near or agreement.top1_agreement not in (None, 1.0):
            raise ManifestError(f"Every artifact must agree. Received: {agreement}.")


def _check_specs(
    role: str, expected: tuple[TensorSpec, ...], received: tuple[TensorSpec, ...]
) -> None:
    if expected != received:
        raise ManifestError(
            f"The {role} of {MODEL} must be {', '.join(map(describe_spec, expected))}. "
            f"Received: {', '.join(map(describe_spec, received))}."
        )
