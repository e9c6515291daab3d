"""Extractors: models that were trained before, whose features others build on."""

from pathlib import Path
from typing import Any

import keras

from .backbones import WHITEN, one_line
from .checks import fits
from .errors import BackboneError
from .rows import FillMissing

# Name of the layer that an extractor is.
EXTRACTOR = "backbone"
# Layers whose weights suit one scale of their inputs, and layers that keep that.
_LEARNED = (
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
_KEEPING = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.ZeroPadding2D)


def load_extractor(path: str) -> keras.Model:
    """Load a model without its head.

    Its features are its output `features`, or else what its last layer reads. If that is no row for
    each sample, such as maps, they are its output, unless its last layer has weights.

    Args:
        path: path of a `.keras` file.

    Returns:
        A functional model from the inputs to the features, float `(batch, dimension)`.

    Raises:
        BackboneError: the file cannot be loaded, or the model has no features.
    """
    if not Path(path).is_file():
        raise BackboneError(f"backbone must be a file that exists. Received: {path}.")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras, zipfile and h5py each raise their own
        raise BackboneError(
            f"backbone must be a model that Keras can load. Received: {path}: "
            f"{one_line(error):.200}"
        ) from None
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs[0])
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise BackboneError(
            f"backbone must be a functional or sequential model. Received: {path}, which is a "
            f"{type(model).__name__}."
        )
    features = _features_of(model)
    if features is None:
        sizes = (", ".join(map(str, tensor.shape[1:])) for tensor in model.outputs)
        given = " and ".join(f"(batch, {size})" for size in sizes)
        is_maps = len(model.outputs) == 1 and len(model.outputs[0].shape) == 4
        fix = "End it with keras.layers.GlobalAveragePooling2D()."
        fix = fix if is_maps else "Call the output with its features 'features'."
        raise BackboneError(
            "backbone must be a model with features (batch, dimension). "
            f"Received: {path}, which gives {given}. {fix}"
        )
    extractor = keras.Model(model.input, features, name=EXTRACTOR)
    if not any(map(_is_learned, layers_with_weights(extractor))):
        raise BackboneError(
            "backbone must be a model with features that were learned. "
            f"Received: {path}, whose features are those of its input."
        )
    return extractor


def _features_of(model: keras.Model) -> Any:
    """Return the tensor of a model's features `(batch, dimension)`; None if it has none."""
    named = model.output if isinstance(model.output, dict) else {}
    layers = {tensor._keras_history.operation.name: tensor for tensor in model.outputs}
    tensors = [{**layers, **named}.get("features"), model.layers[-1].input]
    # A model without a head ends with its features.
    if len(model.outputs) == 1 and not _own_weights(model.layers[-1]):
        tensors.append(model.outputs[0])
    return next((tensor for tensor in tensors if len(getattr(tensor, "shape", ())) == 2), None)


def _own_weights(layer: keras.Layer) -> list[Any]:
    """Return the weights of a layer; of a model, those of its last layer."""
    while isinstance(layer, keras.Model) and layer.layers:
        layer = layer.layers[-1]
    weights: list[Any] = layer.weights
    return weights


def _is_learned(layer: keras.Layer) -> bool:
    return not isinstance(layer, keras.layers.Normalization)


def image_size_of(path: str) -> tuple[int, ...]:
    """Return `(height, width)` of the images that an extractor takes.

    Args:
        path: path of a `.keras` file.

    Returns:
        The size; empty if the extractor takes images of any size, or no images.

    Raises:
        BackboneError: see `load_extractor`.
    """
    shapes = [tensor.shape for tensor in load_extractor(path).inputs]
    if len(shapes) != 1 or len(shapes[0]) not in (3, 4) or None in shapes[0][1:3]:
        return ()
    return tuple(shapes[0][1:3])


def features_of_images(image: Any, path: str) -> Any:
    """Apply an extractor to images.

    Args:
        image: uint8 `(batch, height, width, channels)`. An extractor of images in color sees gray
            images as three equal channels.
        path: path of a `.keras` file. Its only input is such an image, with or without an axis of
            channels, or the same pixels as float32.

    Returns:
        float `(batch, dimension)`.

    Raises:
        BackboneError: see `load_extractor`; or the extractor takes no such images.
    """
    extractor = load_extractor(path)
    taken = [tuple(tensor.shape[1:]) for tensor in extractor.inputs]
    x, shape = image, tuple(image.shape[1:])
    if taken == [shape[:2]] and shape[2] == 1:
        x = keras.layers.Reshape(shape[:2], name="one_channel")(x)
    elif len(taken) == 1 and fits((*shape[:2], 3), taken[0]) and shape[2] == 1:
        x = keras.layers.Concatenate(name="three_channels")([x, x, x])
    elif len(taken) != 1 or not fits(shape, taken[0]):
        described = " and ".join(str(each) for each in taken)
        raise BackboneError(
            "The images must have the shape that the backbone takes. "
            f"Received: {shape} for {path}, which takes {described}."
            f"{_shape_advice(shape, taken)}"
        )
    is_float = extractor.inputs[0].dtype != "uint8"
    return extractor(keras.layers.Rescaling(1.0, name="levels")(x) if is_float else x)


def has_scaling(extractor: keras.Model) -> bool:
    """Return whether anything comes between an image and the first layer with weights.

    A layer that learns to scale, such as batch normalization, counts too.

    Args:
        extractor: a functional model with one input.
    """
    tensor = extractor.inputs[0]
    while readers := _readers(extractor, tensor):
        reader = readers[0]
        if isinstance(reader, keras.Model) and getattr(reader, "inputs", None):
            extractor, tensor = reader, reader.inputs[0]
        elif isinstance(reader, _KEEPING):
            tensor = reader.output
        else:
            return not isinstance(reader, _LEARNED)
    return True


def _readers(model: keras.Model, tensor: Any) -> list[Any]:
    """Return the operations of a functional model that read a tensor."""
    return [
        operation
        for operation in model.operations
        for node in operation._inbound_nodes
        if any(read is tensor for read in node.input_tensors)
    ]


def _shape_advice(shape: tuple[int, ...], taken: list[tuple[int | None, ...]]) -> str:
    if len(taken) != 1 or len(taken[0]) not in (2, 3):
        return " Give a model of images."
    if taken[0][2:] in ((), (1,)) and shape[2] == 3:
        return " Give a model of images in color, or gray images."
    if taken[0][2:] not in ((), (shape[2],)):
        return " Give a model of gray images or of images in color."
    return " Leave out image_size."


def features_of_rows(inputs: Any, path: str, has_missing: bool) -> Any:
    """Apply an extractor to rows.

    Args:
        inputs: inputs of a model of rows, see `models.rows.row_inputs`.
        path: path of a `.keras` file, which takes the same inputs.
        has_missing: whether numeric columns may have missing values.

    Returns:
        float `(batch, dimension)`.

    Raises:
        BackboneError: see `load_extractor`; or the extractor takes no such rows.
    """
    extractor = load_extractor(path)
    given, taken = map(_kinds, (keras.tree.flatten(inputs), extractor.inputs))
    if given != taken:
        takes_images = any(len(shape) > 1 for _, shape in taken)
        fix = " Give a source of images, with --data or data=…." if takes_images else ""
        raise BackboneError(
            "The rows must have the columns that the backbone takes. "
            f"Received: {_described(given)} for {path}, which takes {_described(taken)}.{fix}"
        )
    layers = extractor._flatten_layers()
    if has_missing and not any(isinstance(layer, FillMissing) for layer in layers):
        raise BackboneError(
            "The rows must have no missing values if the backbone has learned from none. "
            f"Received: missing values for {path}. Fill them."
        )
    return extractor(inputs)


def _kinds(inputs: list[Any]) -> list[tuple[str, tuple[int | None, ...]]]:
    """Return the dtype of each input, and its shape without the batch."""
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in inputs]
    return [(dtype, tuple(x.shape[1:])) for dtype, x in zip(dtypes, inputs, strict=True)]


def _described(inputs: list[tuple[str, tuple[int | None, ...]]]) -> str:
    kinds = {"string": "of text", "float32": "of numbers"}
    return " and ".join(
        f"{shape[0]} column{'' if shape[0] == 1 else 's'} {kinds.get(dtype, f'of {dtype}')}"
        if len(shape) == 1
        else f"images of {'x'.join(map(str, shape))}"
        for dtype, shape in inputs
    )


def layers_with_weights(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model that have weights, also those inside its layers, in order."""
    layers = layers_in_order(model)
    return [each for each in layers if each.weights and not isinstance(each, keras.Model)]


def layers_in_order(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model, each followed by those inside it."""
    found: dict[int, keras.Layer] = {}  # Keras' own list has the layers inside one reversed

    def visit(layer: keras.Layer) -> None:
        for part in layer._layers:
            if id(part) not in found:
                found[id(part)] = part
                visit(part)

    visit(model)
    return list(found.values())


def freeze_layers(backbone: keras.Model, freeze: str, is_pretrained: bool) -> None:
    """Freeze the first layers of a backbone: they keep their weights in training.

    In a backbone that was trained before, batch normalization keeps its statistics, scale and
    offset as well: those of the new data would be of other features (Keras, "Transfer learning and
    fine-tuning").

    Args:
        backbone: the model from an input to its features.
        freeze: `none`, `all`, or the number of layers to freeze; layers without weights do not
            count.
        is_pretrained: whether the backbone was trained before.

    Raises:
        BackboneError: there are fewer layers than are to be frozen.
    """
    layers = layers_with_weights(backbone)
    count = {"none": 0, "all": len(layers)}.get(freeze)
    first = int(freeze) if count is None else count
    if first > len(layers):
        raise BackboneError(
            f"freeze must be at most {len(layers)}, the layers of the backbone that have weights. "
            f"Received: freeze={first}."
        )
    if is_pretrained:  # its layers may have been frozen when it was trained
        for layer in backbone.layers:
            layer.trainable = True
    for number, layer in enumerate(layers):
        is_kept = is_pretrained and isinstance(layer, keras.layers.BatchNormalization)
        if number < first or is_kept or layer.name == WHITEN:
            layer.trainable = False
