"""Whether a graph and its manifest speak of the same model."""

import onnxruntime

from .agreement import TOLERANCE
from .bundle import MODEL
from .errors import ManifestError
from .manifest import Manifest, TensorSpec
from .session import session_signature


def check_contract(manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
    """Require that the signature is the manifest's and that each class has a label.

    Raises:
        ManifestError: they differ; it says in what.
    """
    inputs, outputs = session_signature(session)
    _check_specs("inputs", manifest.inputs, inputs)
    _check_specs("outputs", manifest.outputs, outputs)
    sizes = [spec.shape[-1] for spec in outputs if spec.name == manifest.answer]
    if sizes != [len(manifest.labels)]:
        raise ManifestError(
            f"{MODEL} must give {manifest.answer} with one element a label. "
            f"Received: {sizes} elements for {len(manifest.labels)} labels."
        )


def check_proof(manifest: Manifest) -> None:
    """Require evidence in the manifest, and that it was no more lenient than this release is.

    Raises:
        ManifestError: the tolerance is larger, or there are no agreements, or a class differed.
    """
    proof = manifest.proof
    if not 0 < proof.tolerance <= TOLERANCE:
        raise ManifestError(
            f"The proof's tolerance must be at most {TOLERANCE:g}. "
            f"Received: tolerance={proof.tolerance}."
        )
    proven = {agreement.output for agreement in proof.agreements}
    missing = [spec.name for spec in manifest.outputs if spec.name not in proven]
    if missing:
        raise ManifestError(f"Every output must be proven. Received: no proof of {missing[0]!r}.")
    for agreement in proof.agreements:
        is_too_far = (
            agreement.output == "probabilities"
            and not agreement.max_absolute_difference <= proof.tolerance
        )
        if is_too_far or agreement.top1_agreement not in (None, 1.0):
            raise ManifestError(f"Every artifact must agree. Received: {agreement}.")


def describe_spec(spec: TensorSpec) -> str:
    """Return such as `image uint8 [batch, 28, 28]`."""
    return f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _check_specs(
    role: str, expected: tuple[TensorSpec, ...], received: tuple[TensorSpec, ...]
) -> None:
    if expected != received:
        raise ManifestError(
            f"The {role} of {MODEL} must be {', '.join(map(describe_spec, expected))}. "
            f"Received: {', '.join(map(describe_spec, received))}."
        )
