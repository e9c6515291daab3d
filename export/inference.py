"""From a Keras model to the one TensorFlow function that both artifacts are made of."""

import itertools
import keyword
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from serving.manifest import DTYPES, TensorSpec
from serving.parity import Inputs, Outputs

from .errors import ExportError, explained
from .float32_model import in_float32

BATCH_AXIS = "batch"
_AXES = {3: ("steps",), 4: ("height", "width"), 5: ("depth", "height", "width")}
_UNFIT = re.compile(r"[^A-Za-z0-9_]")
# What TensorFlow takes for the name of an outermost scope.
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_MADE_UP = re.compile(r"(keras_tensor|input_layer)(_\d+)?")
INPUT_DTYPES = ("uint8", "int8", "int32", "int64", "float32")


@dataclass(frozen=True)
class InferenceFunction:
    """A model in inference form.

    Attributes:
        model: the Keras model, functional, in float32.
        function: the concrete TensorFlow function, on the CPU, `training=False`; it takes the
            inputs one by one and gives a dict of outputs.
        inputs: its inputs, in its order.
        outputs: its outputs, in the model's order.
        original: the model as it was handed in, which may compute in a narrower precision.
    """

    model: keras.Model
    function: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    original: keras.Model

    def by_name(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return an array for each input's name; one alone belongs to the only input."""
        return inputs if isinstance(inputs, dict) else {self.inputs[0].name: inputs}

    def predict(self, inputs: Inputs, batch_size: int = 64) -> Outputs:
        """Return what `keras.Model.predict` gives, by name.

        Args:
            inputs: one array `(samples, …)`, or one for each input's name.
            batch_size: samples in a call.
        """
        named = self.by_name(inputs)
        leaves = [
            tf.cast(tf.constant(named[spec.name]), tensor.dtype)
            for spec, tensor in zip(self.inputs, self.model.inputs, strict=True)
        ]
        given = keras.tree.pack_sequence_as(self.model.input, leaves)
        # A GPU may round products to three digits (TF32), which is no reference.
        with explained("Keras must run the model."), tf.device("/CPU:0"):
            answers = self.model.predict(given, batch_size=batch_size, verbose=0)
        names = _output_names(self.model, [spec.name for spec in self.inputs])
        found = dict(zip(names, map(plain_array, keras.tree.flatten(answers)), strict=True))
        count = len(leaves[0])
        for name, answer in found.items():
            if answer.shape[:1] != (count,):
                raise ExportError(
                    "Each output must have a row for each sample. "
                    f"Received: {name} {answer.shape} for {count} samples."
                )
        return {spec.name: found[spec.name] for spec in self.outputs}


def trace_inference(model: keras.Model, input_dtype: str | None = None) -> InferenceFunction:
    """Trace a model as it answers: float32, nothing random, on the CPU.

    Args:
        model: functional or sequential; inputs and outputs single, in lists or in dicts.
        input_dtype: what inputs of float32 take instead, cast inside the graph.

    Raises:
        ExportError: Keras does not run on TensorFlow, or the model is of another form.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs Keras on TensorFlow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
    original = _as_functional(model)
    model = in_float32(original)
    _refuse_sparse(model)
    inputs = tuple(
        _retyped(spec, input_dtype) for spec in _specs(_input_names(model), model.inputs)
    )
    answers = _specs(_output_names(model, [spec.name for spec in inputs]), model.outputs)

    def serve(*tensors: Any) -> Any:
        leaves = [tf.cast(t, leaf.dtype) for t, leaf in zip(tensors, model.inputs, strict=True)]
        given = keras.tree.flatten(
            model(keras.tree.pack_sequence_as(model.input, leaves), training=False)
        )
        # An output that is an input, or another output, needs a name of its own.
        return {spec.name: tf.identity(a) for spec, a in zip(answers, given, strict=True)}

    # A GPU would leave ops behind that a CPU lacks.
    with explained("Keras must run the model."), tf.device("/CPU:0"), _without_dropout(model):
        signature = [
            tf.TensorSpec(tensor.shape, spec.dtype, name=spec.name)
            for spec, tensor in zip(inputs, model.inputs, strict=True)
        ]
        function = tf.function(serve, input_signature=signature).get_concrete_function()
    outputs = tuple(_as_traced(spec, function.structured_outputs[spec.name]) for spec in answers)
    outputs = _in_given_order(model, outputs)
    return InferenceFunction(model, function, inputs, outputs, original)


def _as_traced(spec: TensorSpec, tensor: Any) -> TensorSpec:
    """Return an output's spec, corrected where Keras says another type or shape than it gives."""
    traced = [None] if tensor.shape.rank is None else tensor.shape.as_list()
    if len(traced) != len(spec.shape):
        return replace(spec, dtype=tensor.dtype.name)
    shape = [
        size if size is not None else said for said, size in zip(spec.shape, traced, strict=True)
    ]
    return TensorSpec(spec.name, tensor.dtype.name, (BATCH_AXIS, *shape[1:]))


def lookup_tables(model: keras.Model) -> list[Any]:
    """Return the tables of layers that look texts or whole numbers up; they are no variables."""
    tables = [getattr(layer, "lookup_table", None) for layer in model._flatten_layers()]
    return [table for table in tables if table is not None]


def plain_array(answer: Any) -> np.ndarray:
    """Return TensorFlow's or Keras' answer as an array; texts as `str`, as ONNX Runtime does."""
    array = np.asarray(answer)
    if array.dtype == object:
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.ravel()]
        array = np.array(texts, object).reshape(array.shape)
    return array


def to_tensors(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return `inputs` as tensors, since numpy has no strings that TensorFlow takes."""
    return {name: tf.constant(array) for name, array in inputs.items()}


@contextmanager
def _without_dropout(model: keras.Model) -> Iterator[None]:
    """Keep recurrent layers from drawing masks, which they do whether these are used or not."""
    cells = [layer for layer in model._flatten_layers() if "recurrent_dropout" in vars(layer)]
    before = [(cell.dropout, cell.recurrent_dropout) for cell in cells]
    try:
        for cell in cells:
            cell.dropout, cell.recurrent_dropout = 0.0, 0.0
        yield
    finally:
        for cell, rates in zip(cells, before, strict=True):
            cell.dropout, cell.recurrent_dropout = rates


def _refuse_sparse(model: keras.Model) -> None:
    for tensor in model.inputs:
        for kind in ("sparse", "ragged"):
            if getattr(tensor, kind, False):
                raise ExportError(f"Inputs must be dense. Received: {tensor.name}, {kind}.")


def _as_functional(model: Any) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise ExportError(f"A model must be a keras.Model. Received: {type(model).__name__}.")
    if isinstance(model, keras.Sequential):
        if not model.built or not getattr(model, "inputs", None):
            raise ExportError(
                f"A model must know its inputs. Received: {model.name!r}, a Sequential that was "
                "never built. Begin it with keras.Input(shape)."
            )
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not getattr(model, "inputs", None) or not hasattr(model, "operations"):
        raise ExportError(
            "A model must be functional or sequential. "
            f"Received: {model.name!r}, of the class {type(model).__name__}. Wrap it: "
            "x = keras.Input(shape); model = keras.Model(x, model(x))."
        )
    if not _SCOPE.fullmatch(model.name):  # TensorFlow cannot name what is inside after it
        return keras.Model(model.input, model.output, name=_UNFIT.sub("_", f"model_{model.name}"))
    return model


def _input_names(model: keras.Model) -> list[str]:
    """Return the key of each input in a dict, else its own name.

    Keras makes up other names in each process for inputs that have none: a single one is called
    `inputs`.
    """
    keys = _keys(model.input)
    own = [
        key or (None if _MADE_UP.fullmatch(tensor.name) else tensor.name)
        for key, tensor in zip(keys, model.inputs, strict=True)
    ]
    if own == [None]:
        return ["inputs"]
    if None in own:
        received = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in model.inputs)
        raise ExportError(
            "Each of several inputs must have a name. "
            f"Received: {received}. Give one with keras.Input(shape, name=…)."
        )
    return _made_unique([_fitting(str(name)) for name in own])


def _fitting(name: str) -> str:
    """Return a name that can also be that of an argument of a function."""
    fitting = _UNFIT.sub("_", name).strip("_") or "input"
    return f"{fitting}_" if keyword.iskeyword(fitting) or fitting == "self" else fitting


def _output_names(model: keras.Model, taken: Sequence[str]) -> list[str]:
    """Return the key of each output in a dict, else the name of the layer it comes from.

    Without the number that Keras appends to names it makes up: it differs from process to process.
    What is called as an input, which ONNX has no second of, gets `_out` appended.
    """
    names = []
    for key, tensor in zip(_keys(model.output), model.outputs, strict=True):
        layer = tensor._keras_history.operation
        kind = _snake_case(type(layer).__name__)
        is_made_up = re.fullmatch(rf"{kind}(_\d+)?", layer.name) is not None
        names.append(_UNFIT.sub("_", key or (kind if is_made_up else layer.name)))
    return _made_unique([f"{name}_out" if name in taken else name for name in names], taken)


def _keys(structure: Any) -> list[str | None]:
    """Return for each leaf its keys in dicts, joined; None where it lies in none."""
    found = []
    for path, _ in keras.tree.flatten_with_path(structure):
        found.append("_".join(part for part in path if isinstance(part, str)) or None)
    return found


def _made_unique(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return the names, those that come again or are taken with the next number that is free."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        free = (each for each in itertools.chain([name], numbered) if each not in (*found, *taken))
        found.append(next(free))
    return found


def _snake_case(name: str) -> str:
    # As Keras names layers.
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _in_given_order(model: keras.Model, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Return the outputs in the order of the model's dict, which Keras flattens by sorted key."""
    if not isinstance(model.output, dict):
        return specs
    by_name = {spec.name: spec for spec in specs}
    given = [_UNFIT.sub("_", str(key)) for key in model.output]
    given = [name if name in by_name else f"{name}_out" for name in given]
    return tuple(by_name[name] for name in given) if set(given) == set(by_name) else specs


def _specs(names: Sequence[str], tensors: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(_tensor_spec(n, tensor) for n, tensor in zip(names, tensors, strict=True))


def _tensor_spec(name: str, tensor: Any) -> TensorSpec:
    first, *rest = tensor.shape or (0,)
    if first is not None:
        raise ExportError(
            "The first axis must be the batch, of any size. "
            f"Received: {name} {tuple(tensor.shape)}. Build the model with keras.Input(shape)."
        )
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype not in DTYPES or dtype == "float64":
        raise ExportError(
            f"Inputs and outputs must be of {', '.join(d for d in DTYPES if d != 'float64')}. "
            f"Received: {name} of {dtype}. Build the model with keras.Input(shape, dtype=…), or "
            "end it with keras.ops.cast."
        )
    if 0 in rest:
        raise ExportError(f"Each axis must have a size above 0. Received: {name} {tensor.shape}.")
    spoken = _AXES.get(len(tensor.shape), ())
    axes = [
        size if size is not None else f"{name}_{spoken[n] if n < len(spoken) else n + 1}"
        for n, size in enumerate(rest)
    ]
    return TensorSpec(name, dtype, (BATCH_AXIS, *axes))


def _retyped(spec: TensorSpec, dtype: str | None) -> TensorSpec:
    if dtype is None or spec.dtype != "float32":
        return spec
    return TensorSpec(spec.name, dtype, spec.shape)
