"""Predictions from exported bundles. Needs only numpy and onnxruntime, never TensorFlow.

Reading image files (`serving.images`) also needs Pillow, and `serving.server` needs the web stack.
"""

from typing import TYPE_CHECKING

from .errors import InputError, ManifestError, ServingError
from .first_use import attributes_on_first_use

if TYPE_CHECKING:
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

# An error about a setting must not wait for numpy and ONNX Runtime.
__getattr__ = attributes_on_first_use(
    __name__,
    {
        "Check": "verify",
        "Manifest": "manifest",
        "Prediction": "predictor",
        "Predictor": "predictor",
        "verify_bundle": "verify",
    },
)
