"""Gives a new model the weights of another one of the same architecture, to begin with."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from app.config.starting_models import data_beside
from app.data.datasets import Dataset
from app.data.reading_progress import tell
from app.errors import ConfigError
from models.categories import OneHotCategories
from models.extractors import layers_in_order, layers_with_weights
from models.heads import HEAD_LAYERS
from models.rows import FillMissing
from serving.errors import one_line

from .preprocessing import in_order

# Layers that have an element for each target.
_OF_TARGETS = (*HEAD_LAYERS, "values", "clipped_values")
_MAX_LABELS = 5
# Outputs of equal models differ by less, relative to the largest one.
_ROUNDING = 0.01
# Axes of a batch of images with channels.
_IMAGE_AXES = 4


def load_start(path: str) -> keras.Model:
    """Return the model of a `.keras` file, not compiled.

    Raises:
        ConfigError: it does not exist, or Keras cannot load it.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras, zipfile and h5py each raise their own
        raise ConfigError(
            "start_from must be a run, a bundle or a .keras file that Keras can load. "
            f"Received: {path}: {one_line(error):.200}"
        ) from None


def start_image_size(path: str) -> tuple[int, ...]:
    """Return `(height, width)` of the images that a model takes; empty if it takes none.

    Raises:
        ConfigError: see `load_start`.
    """
    shapes = [tensor.shape for tensor in load_start(path).inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:3]:
        return ()
    return tuple(shapes[0][1:3])


def start_with(model: keras.Model, path: str, sample: Any = None) -> None:
    """Set all weights of a model to those of a `.keras` file.

    The statistics by which inputs and targets are scaled are weights too: those of `path` stay,
    since its other weights were learned with them. Only the range to which values are clipped is
    widened to hold the targets that `model` is adapted to.

    Args:
        model: the model; its statistics may be adapted to the data.
        path: path of the file.
        sample: inputs of some samples, see `Dataset.model_inputs`, for which both must have the
            same outputs once their weights are the same; None does not compare them.

    Raises:
        ConfigError: the file cannot be loaded, or its architecture is another one.
    """
    start = load_start(path)
    _check_channels(model, start, path)
    _check_architecture(model, start, path)
    ranges = [
        (layer, layer.get_weights())
        for layer in layers_with_weights(model)
        if layer.name == "clipped_values"
    ]
    for layer, other in zip(layers_with_weights(model), layers_with_weights(start), strict=True):
        layer.set_weights(other.get_weights())
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    if sample is not None:
        _check_outputs(model, start, sample, path)
    for layer, (lowest, highest) in ranges:
        low, high = layer.get_weights()
        layer.set_weights([np.minimum(lowest, low), np.maximum(highest, high)])


def tell_start(path: str, dataset: Dataset) -> None:
    """Tell what a run begins with, and whether its targets have other names."""
    tell(f"Training begins with the weights and the normalization of {path}.")
    labels = tuple(data_beside(path).get("labels", dataset.labels))
    if labels != dataset.labels:
        names, others = (", ".join(each[:_MAX_LABELS]) for each in (dataset.labels, labels))
        tell(f"Its outputs were {others}; from now on they are {names}, in this order.")


def _check_channels(model: keras.Model, start: keras.Model, path: str) -> None:
    """Require images in color for a model of these, and gray ones for one of gray images."""
    own, other = (
        [tensor.shape[-1] for tensor in each.inputs if len(tensor.shape) == _IMAGE_AXES]
        for each in (model, start)
    )
    kinds = {1: "gray images", 3: "images in color"}
    if own == other or not {*own, *other} <= kinds.keys() or len(own) != len(other):
        return
    fix = f"Give one of {kinds[own[0]]}."
    if other == [3]:
        fix = f"To learn on its features, which it has of gray images too: --set backbone={path}."
    raise ConfigError(
        f"start_from must be a model of {kinds[own[0]]}, as the data is. "
        f"Received: {path}, which takes {kinds[other[0]]}. {fix}"
    )


def _check_architecture(model: keras.Model, start: keras.Model, path: str) -> None:
    pairs = [
        (own, other)
        for own, other in itertools.zip_longest(_described(model), _described(start))
        if own != other
    ]
    if not pairs:
        return
    own, other = pairs[0]
    same_names = all(one and two and one[0] == two[0] for one, two in pairs)
    if same_names and all(one[0] in _OF_TARGETS for one, _ in pairs):
        raise ConfigError(
            f"start_from must be a model with as many outputs as the data has, {own[1][-1][-1]}. "
            f"Received: {path}, with {other[1][-1][-1]}. To learn other targets on its features, "
            "give it with --on-features, or with --set backbone= in the family features."
        )
    raise ConfigError(
        "start_from must be a model of the same architecture. "
        f"Received: {path}, whose first other layer is {_named(other)} instead of {_named(own)}."
    )


def _check_outputs(model: keras.Model, start: keras.Model, sample: Any, path: str) -> None:
    """Require that models with the same weights have the same outputs.

    Layers without weights, activations and connections are compared by what they do: settings that
    only count in training, such as dropout, l2 and initializers, may differ.
    """
    if {tensor.name: tensor.shape for tensor in model.inputs} != {
        tensor.name: tensor.shape for tensor in start.inputs
    }:
        return  # such as images of another size
    own, other = _outputs(model, sample), _outputs(start, sample)
    for name in own.keys() & other.keys():
        if not _is_close(own[name], other[name]):
            raise ConfigError(
                f"start_from must be a model of the same architecture. Received: {path}, whose "
                "weights give other outputs in the new model. Their activations, layers without "
                "weights or connections differ; make these the same."
            )


def _outputs(model: keras.Model, sample: Any) -> dict[str, np.ndarray]:
    # Inputs of a dict are given in their order.
    listed = keras.Model(model.inputs, model.output)
    found = listed(in_order(model, sample), training=False)
    named = found if isinstance(found, dict) else {"output": found}
    return {name: keras.ops.convert_to_numpy(value) for name, value in named.items()}


def _is_close(own: np.ndarray, other: np.ndarray) -> bool:
    """Return whether outputs are the same, but for the rounding of 16-bit numbers."""
    bound = _ROUNDING * np.abs(other).max(initial=0.0)
    return own.shape == other.shape and bool(np.allclose(own, other, 0, bound, equal_nan=True))


def _described(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yield the name of each layer that learns or knows texts, and its shapes or its texts."""
    for layer in layers_in_order(model):
        name = _own_name(layer)
        if isinstance(layer, keras.layers.StringLookup):
            yield name, layer.get_vocabulary()
        elif isinstance(layer, OneHotCategories):
            yield name, layer.places
        elif isinstance(layer, FillMissing):
            yield name, list(layer.indicators)
        elif layer.weights and not isinstance(layer, keras.Model):
            yield name, [tuple(weight.shape) for weight in layer.weights]


def _own_name(layer: keras.Layer) -> str:
    """Return the name of a layer; of one that Keras has made up, without its number."""
    name: str = re.sub(r"_\d+$", "", layer.name)
    is_made_up = name.replace("_", "") == type(layer).__name__.lower()
    return name if is_made_up else str(layer.name)


def _named(described: tuple[str, Any] | None) -> str:
    if described is None:
        return "none"
    name, content = described
    is_shapes = bool(content) and isinstance(content[0], tuple)
    return f"{name} {content[0]}" if is_shapes else f"{name} {content!s:.60}"
