"""A model as in KServe's documentation, with an ONNX Runtime session.

MODEL=model.onnx python kserve_app.py --http_port PORT --grpc_port GRPC_PORT
"""

import os
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Digits(Model):
    """Recognizes digits."""

    def load(self) -> bool:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        self.ready = True
        return self.ready

    def predict(self, payload: InferRequest, headers: Any = None) -> InferResponse:  # noqa: ARG002
        """Return the probability of each class."""
        image = payload.inputs[0].as_numpy()
        (probabilities,) = self.session.run(["probabilities"], {"image": image})
        output = InferOutput("probabilities", list(probabilities.shape), "FP32")
        output.set_data_from_numpy(probabilities, binary_data=False)
        return InferResponse(generate_uuid(), self.name, [output])


if __name__ == "__main__":
    model = Digits("mlp")
    model.load()
    ModelServer().start([model])
