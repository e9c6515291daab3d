"""A custom runtime as in MLServer's documentation, with an ONNX Runtime session.

MODEL=model.onnx mlserver start .

`settings.json` turns the worker pool off, which halves the requests/s on one core.
"""

import os

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    """Recognizes digits."""

    async def load(self) -> bool:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the probability of each class."""
        image = NumpyCodec.decode_input(payload.inputs[0])
        (probabilities,) = self.session.run(["probabilities"], {"image": image})
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])
