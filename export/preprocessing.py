"""Describes in words how a graph preprocesses its raw input."""

from typing import Any

import keras

from models.categories import OneHotCategories
from models.ink import Binarize, Denoise, FitInk, InkLevel
from models.rows import FillMissing
from models.scaling import RobustScale, SmoothClip

_PREPROCESSING = (
    InkLevel,
    Denoise,
    FitInk,
    Binarize,
    FillMissing,
    OneHotCategories,
    RobustScale,
    SmoothClip,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)
# Arguments that are left out: statistics and vocabularies are too long for a line, and the others
# are the same in all our lookups.
_OMITTED = {"mean", "variance", "vocabulary", "idf_weights", "pad_to_max_tokens", "sparse"}
_OMITTED |= {"invert", "mask_token", "max_tokens", "vocabulary_dtype", "encoding", "output_mode"}
_OMITTED |= {"places", "ragged"}

# Layers of these names standardize targets or features, not the input.
_INSIDE = ("values", "normalize_features")


def describe_preprocessing(model: keras.Model) -> tuple[str, ...]:
    """Return one line for each preprocessing layer, such as `FitInk(size=28, …)`, in order."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, _PREPROCESSING)]
    texts = [layer for layer in layers if isinstance(layer, keras.layers.TextVectorization)]
    inner = [id(layer._lookup_layer) for layer in texts]
    layers = [layer for layer in layers if id(layer) not in inner]
    return tuple(_describe(layer) for layer in layers if layer.name not in _INSIDE)


def _describe(layer: Any) -> str:
    common = keras.layers.Layer.get_config(layer)
    arguments = {k: v for k, v in layer.get_config().items() if k not in common}
    parts = [f"{k}={v}" for k, v in arguments.items() if k not in _OMITTED]
    return f"{type(layer).__name__}({', '.join(parts)})"
