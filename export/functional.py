"""Makes a functional model, whose graph is known, from any model of Keras."""

import functools
from contextlib import suppress
from typing import Any

import keras

from .any_batch import with_any_batch
from .argument_shapes import given_by_callers
from .errors import ExportError, explained
from .signatures import Arguments, arguments_of, dict_argument_of, with_read_dtypes
from .tensor_names import with_valid_name

_TRACEABLE = "Keras must be able to trace the model"


def as_functional(model: Any, inputs: Any = None) -> keras.Model:
    """Return a functional model that computes what `model` computes at inference.

    Args:
        model: Model or layer: functional, sequential, or a class with a `call` of its own.
        inputs: What it takes, see `export.signatures.arguments_of`; None if its graph says so, or
            if it was called.

    Raises:
        ExportError: It is no model, its inputs are not known, or Keras cannot trace it.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ExportError(f"A model must be a keras.Model. Received: {type(model).__name__}.")
    if type(model).call is keras.Sequential.call:
        return with_valid_name(_from_sequential(model, inputs))
    if _has_graph(model):
        return with_valid_name(_from_graph(model, inputs))
    return with_valid_name(_traced(model, inputs))


def _has_graph(model: Any) -> bool:
    """Return whether a model is functional and runs as its graph says."""
    if not getattr(model, "inputs", None) or not hasattr(model, "operations"):
        return False
    return type(model).call is _functional_class().call


@functools.cache
def _functional_class() -> Any:
    x = keras.Input((1,))
    return type(keras.Model(x, x))


def _from_graph(model: keras.Model, given: Any) -> keras.Model:
    """Return the graph of a functional model, without what a class adds to it, such as `predict`.

    The tasks of KerasHub preprocess texts there.
    """
    arguments = arguments_of(model, given)
    noted = arguments.batch_size
    if given is None and noted is None:
        is_plain = type(model).predict is keras.Model.predict
        return model if is_plain else keras.Model(model.input, model.output, name=model.name)

    def build(batch: int | None) -> keras.Model:
        if given is None and batch is not None:
            return keras.Model(model.input, model.output, name=model.name)
        with explained(_TRACEABLE):
            return _with_inputs(model, arguments, batch)

    return with_any_batch(build, noted)


def _with_inputs(model: keras.Model, arguments: Arguments, batch: int | None) -> keras.Model:
    """Return a functional model of the same layers with other inputs."""
    own = [tensor.name for tensor in model.inputs]
    given = dict(zip(arguments.names, arguments.leaves, strict=True))
    specs = [given[name] for name in own] if given.keys() == set(own) else arguments.leaves
    if len(specs) != len(own):
        raise ExportError(
            f"Inputs must be given for {', '.join(own)}. Received: {', '.join(given)}."
        )
    inputs = [
        _input(spec, arguments.only_name or spec.name or name, batch)
        for spec, name in zip(specs, own, strict=True)
    ]
    packed = keras.tree.pack_sequence_as(model.input, inputs)
    return keras.models.clone_model(model, packed, clone_function=lambda layer: layer)


def _from_sequential(model: keras.Sequential, given: Any) -> keras.Model:
    """Return the functional model of a Sequential.

    One that began without `keras.Input` has noted the size of the batch with which it was built,
    which is no part of its function.
    """
    if given is None and not getattr(model, "inputs", None):
        raise ExportError(
            "A Sequential must be built, or its inputs must be given. "
            f"Received: {model.name!r}, which was never built. Begin it with keras.Input(shape), "
            "or give the shape, such as --input float32[batch,28,28], or inputs=… from Python."
        )
    if given is None and model.inputs[0].shape[0] is None:
        graph = model._functional
        return keras.Model(graph.input, graph.output, name=model.name)
    arguments = arguments_of(model, given)

    def call(tensors: list[Any]) -> Any:
        positional, named = arguments.filled(tensors)
        (x,) = (*positional, *named.values())
        for layer in model.layers:
            x = layer(x)
        return x

    def build(batch: int | None) -> keras.Model:
        with explained(_TRACEABLE):
            specs = arguments.leaves
            if given is None:
                specs = with_read_dtypes(call, specs, batch)
            pairs = zip(specs, arguments.names, strict=True)
            inputs = [_input(spec, name, batch) for spec, name in pairs]
            one_or_all = inputs if len(inputs) > 1 else inputs[0]
            return keras.Model(one_or_all, call(inputs), name=model.name)

    return with_any_batch(build, arguments.batch_size)


def _traced(model: Any, inputs: Any) -> keras.Model:
    """Return a functional model with `model` as its only layer."""
    try:
        return _traced_with(model, arguments_of(model, inputs), inputs is None)
    except ExportError:
        if (whole := dict_argument_of(model, inputs)) is None:
            raise
        with suppress(ExportError):
            return _traced_with(model, whole, inputs is None)
        raise


def _traced_with(model: Any, arguments: Arguments, are_noted: bool) -> keras.Model:
    """Trace `call` with arguments, of which Keras may have noted only the shapes."""
    leaves = arguments.leaves
    kept = [number for number, spec in enumerate(leaves) if spec is not None]

    def call(tensors: list[Any]) -> Any:
        filled = dict(zip(kept, tensors, strict=True))
        positional, named = arguments.filled([filled.get(n) for n in range(len(leaves))])
        return model(*positional, **named, **given_by_callers(model))

    def build(batch: int | None) -> keras.Model:
        with explained(_TRACEABLE):
            specs = [leaves[number] for number in kept]
            if are_noted:
                specs = with_read_dtypes(call, specs, batch)
            tensors = [
                _input(spec, arguments.names[number], batch)
                for number, spec in zip(kept, specs, strict=True)
            ]
            given = tensors if len(tensors) > 1 else tensors[0]
            outputs = call(tensors)
            if not keras.tree.flatten(outputs) or outputs is None:
                raise ExportError(
                    f"call must return tensors. Received: {outputs!r} from {model.name!r}, "
                    f"of the class {type(model).__name__}."
                )
            return keras.Model(given, outputs, name=model.name)

    return with_any_batch(build, arguments.batch_size)


def _input(spec: keras.InputSpec, name: str, batch: int | None) -> Any:
    tensor = keras.Input(batch_shape=(batch, *spec.shape[1:]), dtype=spec.dtype)
    if name:
        tensor.name = name  # as an argument, Keras would refuse the name of a layer
    return tensor
