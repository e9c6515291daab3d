"""Says in words what a graph does to its raw input."""

from typing import Any

import keras

from models.ink import Binarise, FitInk, InkLevel

_PREPROCESSING = (
    InkLevel,
    FitInk,
    Binarise,
    keras.layers.Normalization,
    keras.layers.Rescaling,
)
# Statistics, too long for a line.
_UNSAID = {"mean", "variance"}


def describe_preprocessing(model: keras.Model) -> tuple[str, ...]:
    """Return one line for each preprocessing layer, such as `FitInk(size=28, …)`, in order."""
    return tuple(_describe(layer) for layer in model.layers if isinstance(layer, _PREPROCESSING))


def _describe(layer: Any) -> str:
    of_every_layer = keras.layers.Layer.get_config(layer)
    own = {k: v for k, v in layer.get_config().items() if k not in of_every_layer}
    arguments = [f"{k}={v}" for k, v in own.items() if k not in _UNSAID]
    return f"{type(layer).__name__}({', '.join(arguments)})"
