"""Says in words what a graph does to its raw input."""

from typing import Any

import keras

from models.ink import Binarize, Denoise, FitInk, InkLevel
from models.rows import FillMissing

_PREPROCESSING = (
    InkLevel,
    Denoise,
    FitInk,
    Binarize,
    FillMissing,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.StringLookup,
)
# Statistics and vocabularies, too long for a line, and what every lookup of ours has alike.
_UNSAID = {"mean", "variance", "vocabulary", "idf_weights", "pad_to_max_tokens", "sparse"}
_UNSAID |= {"invert", "mask_token", "max_tokens", "vocabulary_dtype", "encoding", "output_mode"}


def describe_preprocessing(model: keras.Model) -> tuple[str, ...]:
    """Return one line for each preprocessing layer, such as `FitInk(size=28, …)`, in order."""
    layers = [layer for layer in model.layers if isinstance(layer, _PREPROCESSING)]
    return tuple(_describe(layer) for layer in layers if layer.name != "values")


def _describe(layer: Any) -> str:
    of_every_layer = keras.layers.Layer.get_config(layer)
    own = {k: v for k, v in layer.get_config().items() if k not in of_every_layer}
    arguments = [f"{k}={v}" for k, v in own.items() if k not in _UNSAID]
    return f"{type(layer).__name__}({', '.join(arguments)})"
