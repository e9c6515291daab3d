"""A handler as in FastAPI tutorials: a pydantic body, an ONNX Runtime session, tolist().

MODEL=model.onnx uvicorn fastapi_app:app
"""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
app = FastAPI()


class Digit(BaseModel):
    """One image, row by row."""

    image: list[int]


@app.post("/predict")
async def predict(digit: Digit) -> dict[str, list[float]]:
    """Return the probability of each class."""
    image = np.array(digit.image, np.uint8).reshape(1, 28, 28)
    (probabilities,) = session.run(["probabilities"], {"image": image})
    return {"probabilities": probabilities[0].tolist()}
