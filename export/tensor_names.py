"""Names the inputs, outputs and axes of a model, the same in every process.

Keras numbers the names that it generates, so they differ between processes. A bundle never contains
such a name.
"""

import itertools
import keyword
import re
from collections.abc import Sequence
from typing import Any

import keras

from .errors import ExportError

BATCH_AXIS = "batch"
# Names of the variable axes after the batch, by the rank of the tensor, without channels.
_AXES = {3: ("steps",), 4: ("height", "width"), 5: ("depth", "height", "width")}
_INVALID = re.compile(r"[^A-Za-z0-9_]")
# Names that TensorFlow accepts for an outermost scope.
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_MADE_UP = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


def with_valid_name(model: keras.Model) -> keras.Model:
    """Return the model, renamed if TensorFlow cannot use its name as a scope."""
    if _SCOPE.fullmatch(model.name):
        return model
    return keras.Model(model.input, model.output, name=_without_invalid(f"model_{model.name}"))


def is_made_up(name: str) -> bool:
    """Return whether Keras made up the name of a tensor."""
    return _MADE_UP.fullmatch(name) is not None


def input_names(model: keras.Model) -> list[str]:
    """Return the name of each input: its key in a dict, or the name given to `keras.Input`.

    A single input without a name is called `inputs`; one of several is called `input_` and its
    number, from 0.
    """
    own = [
        key or (None if is_made_up(tensor.name) else tensor.name)
        for key, tensor in zip(_keys(model.input), model.inputs, strict=True)
    ]
    if own == [None]:
        return ["inputs"]
    own = [f"input_{number}" if name is None else name for number, name in enumerate(own)]
    return unique_names([_as_argument(str(name)) for name in own])


def table_input_names(model: keras.Model) -> list[str]:
    """Return the names of the inputs of a model of columns: `inputs` of numbers, `texts` of texts.

    Raises:
        ExportError: the model has not one input of numbers `(batch, columns)`, or one of texts, or
            both.
    """
    kinds = [("texts" if x.dtype == "string" else "inputs", len(x.shape)) for x in model.inputs]
    names = [name for name, rank in kinds if rank == 2]
    if len(names) < len(kinds) or len(set(names)) < len(names):
        received = ", ".join(f"{x.dtype} {tuple(x.shape)}" for x in model.inputs)
        raise ExportError(
            "A model of columns must take numbers as (batch, columns), texts as (batch, columns), "
            f"or both. Received: {received}."
        )
    return names


def output_names(model: keras.Model, inputs: Sequence[str]) -> list[str]:
    """Return the name of each output: its key in a dict, or the name of its layer.

    The number that Keras appends to a generated name is dropped. An output with the name of an
    input gets `_out` appended, since ONNX has one tensor for each name.

    Args:
        model: Functional model.
        inputs: Names of its inputs.
    """
    names = []
    for key, tensor in zip(_keys(model.output), model.outputs, strict=True):
        names.append(_without_invalid(key) if key else plain_name(tensor._keras_history.operation))
    return unique_names([f"{name}_out" if name in inputs else name for name in names], inputs)


def plain_name(layer: Any) -> str:
    """Return the name of a layer, without the number that Keras appends to a generated one."""
    kind = _snake_case(type(layer).__name__)
    is_made_up = re.fullmatch(rf"{kind}(_\d+)?", layer.name) is not None
    return _without_invalid(kind if is_made_up else layer.name)


def declared_order(model: keras.Model, names: Sequence[str]) -> list[str]:
    """Return the names of the outputs in the order of the model's dict, whose keys Keras sorts."""
    if not isinstance(model.output, dict):
        return list(names)
    declared = [_without_invalid(str(key)) for key in model.output]
    declared = [name if name in names else f"{name}_out" for name in declared]
    return declared if set(declared) == set(names) else list(names)


def axis_name(tensor: str, rank: int, axis: int) -> str:
    """Return the name of a variable axis, such as `image_height`.

    Args:
        tensor: Name of the tensor.
        rank: Number of its axes.
        axis: Index of the axis; 0 is the batch.
    """
    return BATCH_AXIS if axis == 0 else f"{tensor}_{axis_kind(rank, axis) or axis}"


def axis_kind(rank: int, axis: int) -> str:
    """Return what an axis after the batch usually is, such as `height`; empty if unknown."""
    known = _AXES.get(rank, ())
    return known[axis - 1] if axis <= len(known) else ""


def _without_invalid(name: str) -> str:
    return _INVALID.sub("_", name)


def _as_argument(name: str) -> str:
    """Return a name that can also name an argument of a Python function."""
    valid = _without_invalid(name).strip("_") or "input"
    return f"{valid}_" if keyword.iskeyword(valid) or valid == "self" else valid


def _keys(structure: Any) -> list[str | None]:
    """Return the dict keys that lead to each leaf, joined by `_`; None for a leaf in no dict."""
    paths = (path for path, _ in keras.tree.flatten_with_path(structure))
    return ["_".join(part for part in path if isinstance(part, str)) or None for path in paths]


def unique_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return the names; a repeated or taken one gets the next free number appended."""
    unique: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        candidates = itertools.chain([name], numbered)
        unique.append(next(each for each in candidates if each not in (*unique, *taken)))
    return unique


def _snake_case(name: str) -> str:
    """Return the name that Keras gives to a layer of the class `name`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def named_like(model: keras.Model, outputs: Any) -> Any:
    """Return the outputs with the names that those of `model` have."""
    names = output_names(model, input_names(model))
    flat = keras.tree.flatten(outputs)
    if isinstance(model.output, dict):
        return outputs
    named = [
        keras.layers.Identity(name=name)(tensor) for tensor, name in zip(flat, names, strict=True)
    ]
    return keras.tree.pack_sequence_as(model.output, named)
