"""Predictions from exported bundles with numpy and onnxruntime alone.

Reading image files needs Pillow besides: `serving.images`.
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
