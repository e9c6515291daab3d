"""An API as on LitServe's first page, with an ONNX Runtime session.

MODEL=model.onnx python litserve_app.py PORT
"""

import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):
    """Recognizes digits."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # passed by LitServe
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """Return the image of a request."""
        return np.array(request["image"], np.uint8).reshape(1, 28, 28)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of each class, `(1, 10)`."""
        (probabilities,) = self.session.run(["probabilities"], {"image": x})
        return np.asarray(probabilities)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Return the JSON of the response."""
        return {"probabilities": output[0].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
