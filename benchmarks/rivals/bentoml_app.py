"""A service as on BentoML's first page, with an ONNX Runtime session.

MODEL=model.onnx bentoml serve bentoml_app:Digits
"""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service
class Digits:
    """Recognizes digits."""

    def __init__(self) -> None:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    @bentoml.api
    def predict(self, image: list[int]) -> dict[str, list[float]]:
        """Return the probability of each class."""
        pixels = np.array(image, np.uint8).reshape(1, 28, 28)
        (probabilities,) = self.session.run(["probabilities"], {"image": pixels})
        return {"probabilities": probabilities[0].tolist()}
