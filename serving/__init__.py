"""Predictions from exported bundles, with numpy and onnxruntime alone.

Pillow is needed only to read image files. TensorFlow, Keras and the other packages are never
imported here, and imports are relative, so that the package also works as `hornbill_serving`.
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
