"""Predictions from exported bundles. Needs only numpy and onnxruntime, never TensorFlow.

Reading image files (`serving.images`) also needs Pillow, and `serving.server` needs the web stack.
"""

from .errors import InputError, ManifestError, ServingError
from .manifest import Manifest
from .predictor import Prediction, Predictor
from .verify import Check, verify_bundle

__all__ = [
    "Check",
    "InputError",
    "Manifest",
    "ManifestError",
    "Prediction",
    "Predictor",
    "ServingError",
    "verify_bundle",
]
