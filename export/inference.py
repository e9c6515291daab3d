"""Traces a Keras model into the TensorFlow function from which both artifacts are made."""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from serving.manifest import DTYPES, TensorSpec, describe_spec
from serving.parity import Inputs, Outputs

from .backends import predict_on
from .dynamic_sizes import dynamic_sizes
from .empty_inputs import without_empty_inputs
from .errors import ExportError, explained
from .float32_model import in_float32
from .functional import as_functional
from .layer_names import layer_of
from .noise import Draw, observing, with_noise_inputs
from .reasons import where_raised
from .shared_axes import Axis, Shape, axis_names, tied_axes
from .substitutes import substituted
from .tensor_names import (
    BATCH_AXIS,
    axis_name,
    declared_order,
    input_names,
    output_names,
    table_input_names,
)

_RUNS = "Keras must be able to run the model on the CPU"
INPUT_DTYPES = ("uint8", "int8", "int32", "int64", "float32")
# Samples in a call of the Keras model, and numbers in all results of its operations: these bound
# the memory, since Keras holds every one until the call returns.
_BATCH, _BATCH_NUMBERS = 64, 2**25
# Numbers in the inputs of a call.
_INPUT_NUMBERS = 1_000_000
# What Python and TensorFlow say of a size that is not known while a model is traced.
_NEEDS_SIZE = re.compile(r"symbolic|SymbolicTensor")


@dataclass(frozen=True)
class InferenceFunction:
    """A model in inference form.

    Attributes:
        model: Functional Keras model in float32.
        function: Concrete TensorFlow function on the CPU with `training=False`. It takes the inputs
            one by one and returns a dict of outputs.
        inputs: Specs of the inputs, in the order of `function`.
        outputs: Specs of the outputs, in the order in which the model declares them.
        original: Model as it was passed in, which may compute in a narrower precision.
        whole_batches: Whether a batch must not be split: its size is fixed, or an output does not
            have a row for each sample that depends on that sample alone, see
            `export.batches.with_observed_batch`.
        noise: Kind of the numbers that each input of noise takes, by its name; see `export.noise`.
        backend: Backend of Keras that predicts, in a process of its own; None for TensorFlow.
    """

    model: keras.Model
    function: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    original: keras.Model
    whole_batches: bool = False
    noise: Mapping[str, str] = field(default_factory=dict)
    backend: str | None = None

    @property
    def batch_size(self) -> int | None:
        """The only number of samples that a call may have; None for any number."""
        size = self.inputs[0].shape[0]
        return size if isinstance(size, int) else None

    @property
    def quantization(self) -> str | None:
        """`int8` if layers compute in that precision, None otherwise."""
        policies = (layer.dtype_policy.name for layer in self.model._flatten_layers())
        return "int8" if any(name.startswith("int8_from") for name in policies) else None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(
            math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
            for variable in self.model.variables
            if variable.dtype != "string"
        )

    def by_name(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Return an array for each input's name; a single array belongs to the first input."""
        return inputs if isinstance(inputs, dict) else {self.inputs[0].name: inputs}

    def predict(self, inputs: Inputs) -> Outputs:
        """Return what the Keras model returns, by name.

        It is called batch by batch, operation by operation: the reference must not depend on a
        trace, and tracing takes longer than a few calls.

        Args:
            inputs: One array `(samples, …)`, or one for each input's name.

        Raises:
            ExportError: Keras cannot run the model, or an output lacks a row for some sample.
        """
        named = self.by_name(inputs)
        arrays = [named[spec.name] for spec in self.inputs]
        size = len(arrays[0]) if self.whole_batches else self._batch_size(arrays)
        if self.backend is not None:
            leaves = [leaf.numpy() for leaf in self._leaves(arrays)]
            return self._named(predict_on(self.backend, self.model, leaves, size), len(leaves[0]))
        batches: list[Outputs] = []
        for start in range(0, len(arrays[0]), size):
            # All at once in the model's dtype would take several times the memory of images.
            batch = self._leaves([array[start : start + size] for array in arrays])
            given = keras.tree.pack_sequence_as(self.model.input, batch)
            # A GPU may round products to three digits (TF32), too coarse for a reference.
            with explained(_RUNS, layer_names(self.model)), tf.device("/CPU:0"):
                predicted = keras.tree.flatten(self.model(given, training=False))
            batches.append(self._named(predicted, len(batch[0])))
        if len(batches) == 1:
            return batches[0]
        return {
            spec.name: np.concatenate([batch[spec.name] for batch in batches])
            for spec in self.outputs
        }

    def _leaves(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Return arrays as tensors in the dtypes of the model's inputs."""
        return [
            tf.cast(tf.constant(array), tensor.dtype)
            for array, tensor in zip(arrays, self.model.inputs, strict=True)
        ]

    def _named(self, predicted: Sequence[Any], count: int) -> Outputs:
        """Return flattened outputs by name; each must have a row for each of `count` samples."""
        names = output_names(self.model, [spec.name for spec in self.inputs])
        outputs = dict(zip(names, map(plain_array, predicted), strict=True))
        if not self.whole_batches:
            _check_rows(outputs, count)
        return {spec.name: outputs[spec.name] for spec in self.outputs}

    def _batch_size(self, arrays: Sequence[np.ndarray]) -> int:
        """Return the number of samples whose results fit into memory in one call."""
        longest = max((size for array in arrays for size in array.shape[1:]), default=1)
        numbers = sum(
            math.prod(longest if size is None else size for size in tensor.shape[1:])
            for operation in self.function.graph.get_operations()
            for tensor in operation.outputs
            if tensor.shape.rank and tensor.shape[0] is None
        )
        return max(1, min(_BATCH, _BATCH_NUMBERS // max(1, numbers)))

    def run(self, inputs: Inputs) -> Outputs:
        """Return what `function` returns for one batch, by name."""
        named = self.by_name(inputs)
        with explained(_RUNS, layer_names(self.model)), tf.device("/CPU:0"):
            found = self.function(*(tf.constant(named[spec.name]) for spec in self.inputs))
        return {spec.name: plain_array(found[spec.name]) for spec in self.outputs}


def largest_batch(inputs: Inputs, most: int = _BATCH) -> int:
    """Return how many samples to run at once, at most `most`, which bounds the memory."""
    arrays = inputs.values() if isinstance(inputs, dict) else [inputs]
    numbers = sum(math.prod(array.shape[1:]) for array in arrays)
    return max(1, min(most, _INPUT_NUMBERS // max(1, numbers)))


def trace_inference(
    model: keras.Model,
    input_dtype: str | None = None,
    given: Any = None,
    has_columns: bool = False,
) -> InferenceFunction:
    """Trace a model for inference: in float32, without randomness, on the CPU.

    Args:
        model: Model or layer. Its inputs and its outputs may each be a single tensor, a list or a
            dict, or nested.
        input_dtype: Dtype that float32 inputs take instead, cast inside the graph.
        given: What the model takes, see `export.signatures.arguments_of`; None if its graph says
            so, or if it was called.
        has_columns: Whether its inputs are columns of a table, which are named `inputs` and
            `texts`, see `serving.columns`.

    Raises:
        ExportError: Keras does not run on TensorFlow, the inputs are not known, or the model cannot
            be traced.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs Keras on TensorFlow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
    original = without_empty_inputs(as_functional(model, given))
    model = in_float32(original)
    _refuse_sparse(model)
    draws: list[Draw] = []
    names = table_input_names(model) if has_columns else input_names(model)
    with observing(draws):
        traced = _trace_named(model, names, original, input_dtype, {})
    model, noise = with_noise_inputs(model, traced.function, draws)
    if not noise:
        return traced
    if has_columns:
        raise ExportError(
            "A model of columns must not draw random numbers at inference: its inputs are those of "
            f"a table. Received: {', '.join(noise)}. Draw in training only, where call gets "
            "training=True."
        )
    return _trace_named(model, input_names(model), model, input_dtype, noise)


def _trace_named(
    model: keras.Model,
    names: Sequence[str],
    original: keras.Model,
    input_dtype: str | None,
    noise: Mapping[str, str],
) -> InferenceFunction:
    declared = _specs(names, model.inputs)
    _check_batch(declared)
    inputs = tuple(
        spec if spec.name in noise else _with_dtype(spec, input_dtype) for spec in declared
    )
    outputs = _specs(output_names(model, [spec.name for spec in inputs]), model.outputs)
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    # On a GPU the graph would contain operations that a CPU lacks.
    with explained(_RUNS, layer_names(model)), tf.device("/CPU:0"):
        function = _trace_any_size(model, inputs, outputs, shapes)
        inputs = _with_shared_axes(
            inputs, tied_axes(partial(_trace, model, inputs, outputs), shapes)
        )
    _refuse_changes(function, layer_names(model))
    _require_dense(function.structured_outputs)
    traced = {
        spec.name: _as_traced(spec, function.structured_outputs[spec.name]) for spec in outputs
    }
    in_order = tuple(traced[name] for name in declared_order(model, list(traced)))
    is_by_row = all(spec.shape[:1] == (BATCH_AXIS,) for spec in (*inputs, *in_order))
    return InferenceFunction(model, function, inputs, in_order, original, not is_by_row, noise)


def layer_names(model: keras.Model) -> frozenset[str]:
    """Return the names of all layers inside a model."""
    return frozenset(layer.name for layer in model._flatten_layers(include_self=False))


def lookup_tables(model: keras.Model) -> list[Any]:
    """Return the tables of layers that look up strings or integers. They are not variables."""
    tables = [getattr(layer, "lookup_table", None) for layer in model._flatten_layers()]
    return [table for table in tables if table is not None]


def plain_array(output: Any) -> np.ndarray:
    """Return an output of TensorFlow or Keras as an array, strings as `str` like ONNX Runtime."""
    array = np.asarray(output)
    if array.dtype == object:
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.ravel()]
        array = np.array(texts, object).reshape(array.shape)
    return array


def to_tensors(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return `inputs` as tensors, since TensorFlow does not accept numpy's strings."""
    return {name: tf.constant(array) for name, array in inputs.items()}


def _check_rows(outputs: Outputs, count: int) -> None:
    for name, array in outputs.items():
        if array.shape[:1] != (count,):
            raise ExportError(
                "Each output must have a row for each sample. "
                f"Received: {name} {array.shape} for {count} samples."
            )


def _trace(
    model: keras.Model,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    shapes: Sequence[Shape],
) -> Any:
    """Return the concrete function of a model for inputs of these shapes."""

    def serve(*tensors: Any) -> Any:
        leaves = [tf.cast(t, leaf.dtype) for t, leaf in zip(tensors, model.inputs, strict=True)]
        packed = keras.tree.pack_sequence_as(model.input, leaves)
        computed = keras.tree.flatten(model(packed, training=False))
        # An output that is also an input or another output needs a separate tensor.
        return {spec.name: tf.identity(x) for spec, x in zip(outputs, computed, strict=True)}

    signature = [
        tf.TensorSpec(shape, spec.dtype, name=spec.name)
        for spec, shape in zip(inputs, shapes, strict=True)
    ]
    with _without_dropout(model), _with_still_seeds(), substituted(), dynamic_sizes():
        # Keras traces and exports layers without AutoGraph, which would hide where one fails.
        traced = tf.function(serve, input_signature=signature, autograph=False)
        return traced.get_concrete_function()


def _require_dense(outputs: Mapping[str, Any]) -> None:
    for name, output in outputs.items():
        if not isinstance(output, tf.Tensor):
            kind = "ragged" if "Ragged" in type(output).__name__ else "sparse"
            mend = "x.to_tensor()" if kind == "ragged" else "keras.ops.convert_to_tensor(x)"
            raise ExportError(
                f"Outputs must be dense. Received: {name}, which is {kind}. Return {mend}."
            )


def _refuse_changes(function: Any, layers: Collection[str]) -> None:
    """Raise ExportError if a function assigns a variable; one inside a loop is found as well."""
    graph = function.graph.as_graph_def()
    parts = (graph.node, *(inner.node_def for inner in graph.library.function))
    for node in itertools.chain.from_iterable(parts):
        if node.op.startswith("Assign"):
            layer = layer_of(node.name, layers)
            raise ExportError(
                "A model must not change its variables at inference. "
                f"Received: {f'layer {layer!r}' if layer else node.name}. "
                "Take what it changes as an input, and return what becomes of it."
            )


def _trace_any_size(
    model: keras.Model,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    shapes: Sequence[Shape],
) -> Any:
    """Return the concrete function; say so if a layer needs the size of a variable axis."""
    try:
        return _trace(model, inputs, outputs, shapes)
    except TypeError as error:  # of a condition or a loop over a size
        variable = [spec for spec in inputs if any(isinstance(n, str) for n in spec.shape[1:])]
        message = str(error)
        if not variable or not _NEEDS_SIZE.search(message):
            raise
        sizes = ",".join(str(n) if isinstance(n, int) else "16" for n in variable[0].shape[1:])
        raise ExportError(
            "A layer must not use the size of a variable axis in Python, such as in a loop. "
            f"Received: {where_raised(error) or model.name}. Give the sizes, such as "
            f"--input {variable[0].name}={variable[0].dtype}[batch,{sizes}], or inputs=… "
            "from Python."
        ) from error


def _with_shared_axes(
    specs: Sequence[TensorSpec], sets: Sequence[set[Axis]]
) -> tuple[TensorSpec, ...]:
    """Return specs in which the axes of each set have one name."""
    names = axis_names(sets, [spec.name for spec in specs], [len(spec.shape) for spec in specs])
    return tuple(
        replace(
            spec,
            shape=tuple(names.get((number, axis), size) for axis, size in enumerate(spec.shape)),
        )
        for number, spec in enumerate(specs)
    )


def _as_traced(spec: TensorSpec, tensor: Any) -> TensorSpec:
    """Return an output's spec, corrected where Keras declares another dtype or shape."""
    if not tensor.shape.rank:
        return replace(spec, dtype=tensor.dtype.name)
    traced = tensor.shape.as_list()
    rank = len(traced)
    known: Sequence[int | str] = spec.shape
    if len(known) != rank:  # Keras declares another number of axes than it computes
        known = (BATCH_AXIS, *(axis_name(spec.name, rank, axis) for axis in range(1, rank)))
    shape = [size if size is not None else name for name, size in zip(known, traced, strict=True)]
    return TensorSpec(spec.name, tensor.dtype.name, tuple(shape))


@contextmanager
def _without_dropout(model: keras.Model) -> Iterator[None]:
    """Keep recurrent layers from drawing dropout masks, which they do at inference as well."""
    cells = [layer for layer in model._flatten_layers() if "recurrent_dropout" in vars(layer)]
    before = [(cell.dropout, cell.recurrent_dropout) for cell in cells]
    try:
        for cell in cells:
            cell.dropout, cell.recurrent_dropout = 0.0, 0.0
        yield
    finally:
        for cell, rates in zip(cells, before, strict=True):
            cell.dropout, cell.recurrent_dropout = rates


@contextmanager
def _with_still_seeds() -> Iterator[None]:
    """Keep random layers from changing their seeds, which they do at inference as well.

    What they draw is not used then. A draw that is used is found in the graph and refused.
    """

    def stay(generator: Any, ordered: bool = True) -> Any:  # noqa: ARG001
        return keras.ops.zeros(generator.state.shape, generator.state.dtype)

    before = keras.random.SeedGenerator.next
    keras.random.SeedGenerator.next = stay
    try:
        yield
    finally:
        keras.random.SeedGenerator.next = before


def _check_batch(inputs: Sequence[TensorSpec]) -> None:
    """Require one batch axis, the first one, of any size or of one size for all inputs."""
    if len({spec.shape[:1] for spec in inputs}) > 1 or not inputs[0].shape:
        raise ExportError(
            "All inputs must begin with the batch, of any size or of the same. "
            f"Received: {', '.join(map(describe_spec, inputs))}. "
            "Build the model with keras.Input(shape)."
        )


def _refuse_sparse(model: keras.Model) -> None:
    for tensor in model.inputs:
        for kind in ("sparse", "ragged"):
            if getattr(tensor, kind, False):
                raise ExportError(f"Inputs must be dense. Received: {tensor.name}, {kind}.")


def _specs(names: Sequence[str], tensors: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(_tensor_spec(name, tensor) for name, tensor in zip(names, tensors, strict=True))


def _tensor_spec(name: str, tensor: Any) -> TensorSpec:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype not in DTYPES or dtype == "float64":
        raise ExportError(
            f"Inputs and outputs must be of {', '.join(d for d in DTYPES if d != 'float64')}. "
            f"Received: {name} of {dtype}. Build the model with keras.Input(shape, dtype=…), or "
            "end it with keras.ops.cast."
        )
    if 0 in tensor.shape:
        raise ExportError(f"Each axis must have a size above 0. Received: {name} {tensor.shape}.")
    rank = len(tensor.shape)
    axes = [
        size if size is not None else axis_name(name, rank, axis)
        for axis, size in enumerate(tensor.shape)
    ]
    return TensorSpec(name, dtype, tuple(axes))


def _with_dtype(spec: TensorSpec, dtype: str | None) -> TensorSpec:
    if dtype is None or spec.dtype != "float32":
        return spec
    return replace(spec, dtype=dtype)
