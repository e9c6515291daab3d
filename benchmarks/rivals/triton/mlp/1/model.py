"""A model of Triton's Python backend: all requests of a batch in one run of a session."""

import os
import site
from typing import Any

site.addsitedir(os.environ["PACKAGES"])  # the backend's Python is isolated: it ignores PYTHONPATH

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """Recognizes digits."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002  # Triton hands it over
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return the probability of each class for each request."""
        tensors = [triton.get_input_tensor_by_name(request, "image") for request in requests]
        images = [tensor.as_numpy() for tensor in tensors]
        (probabilities,) = self.session.run(["probabilities"], {"image": np.concatenate(images)})
        ends = np.cumsum([len(image) for image in images])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor("probabilities", part)])
            for part in np.split(probabilities, ends)
        ]
