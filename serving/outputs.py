"""Chooses which output of a model is written: its predictions or its features."""

from .errors import InputError
from .manifest import Manifest, describe_spec

FEATURES = "features"


def choose_output(manifest: Manifest, features: bool) -> str:
    """Return the name of the output with the predictions, or with the features.

    Raises:
        InputError: the model has no such output, or its features are not one row of numbers for
            each sample.
    """
    if features:
        feature_dimension(manifest)
        return FEATURES
    if manifest.prediction_output is None:
        raise InputError(
            "Predictions need a model whose outputs have labels. "
            f"Received: {manifest.name}, which has none. Export it with --labels."
        )
    return manifest.prediction_output


def feature_dimension(manifest: Manifest) -> int:
    """Return how many numbers the features of a sample are.

    Raises:
        InputError: see `choose_output`.
    """
    (shape,) = [spec.shape for spec in manifest.outputs if spec.name == FEATURES] or [()]
    dimension = shape[-1] if len(shape) == 2 else None
    if not isinstance(dimension, int):
        outputs = ", ".join(map(describe_spec, manifest.outputs))
        raise InputError(
            f"--features needs a model with an output {FEATURES} of shape [batch, dimension]. "
            f"Received: {manifest.name}, with {outputs}. The families features and digits have it."
        )
    return dimension
