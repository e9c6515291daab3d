"""Predicts with Keras on the backend of `KERAS_BACKEND`. A program, run in a process of its own.

It imports nothing of Hornbill, so that no other backend is loaded. Arguments: the model, the
inputs, the file of outputs to write, the batch size, folders of modules, and modules to import
first.
"""

import os
import sys
from importlib import import_module
from typing import Any

import keras
import numpy as np


def predict(model_path: str, inputs_path: str, outputs_path: str, batch_size: int) -> None:
    """Write the outputs of a model for arrays by their place, as Keras flattens both."""
    model = keras.saving.load_model(model_path, compile=False, safe_mode=False)
    with np.load(inputs_path) as file:
        leaves = [file[str(place)] for place in range(len(model.inputs))]
    given = keras.tree.pack_sequence_as(model.input, leaves)
    predicted = keras.tree.flatten(model.predict(given, batch_size=batch_size, verbose=0))
    arrays: dict[str, Any] = {
        str(place): array.astype("float32") if array.dtype.name == "bfloat16" else array
        for place, array in enumerate(map(np.asarray, predicted))
    }  # numpy's files know no bfloat16
    np.savez(outputs_path, **arrays)


if __name__ == "__main__":
    _model, _inputs, _outputs, _size, _folders, *_modules = sys.argv[1:]
    # First, but only now: a module of the user may have the name of one that Keras imports.
    sys.path[:0] = _folders.split(os.pathsep) if _folders else []
    for _name in _modules:
        import_module(_name)
    predict(_model, _inputs, _outputs, int(_size))
