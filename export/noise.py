"""Makes the noise of a sampling layer an input of the model.

A graph has no random numbers, but a variational autoencoder answers with them (Kingma & Welling,
2014). What its outputs draw becomes an input, so that whoever runs the model draws instead.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import random as backend

from serving.parity import Inputs, allowed_difference, is_within, largest_difference

from .errors import ExportError, ProofError
from .layer_names import layer_of
from .substitutes import replaced
from .tensor_names import input_names, named_like, plain_name, unique_names

# Draws of each kind, in words, and the range in which nearly all of them lie.
RANGES = {"normal": (-3.0, 3.0), "uniform": (0.0, 1.0 - 2**-24)}
_WORDS = {"normal": "standard normal numbers", "uniform": "numbers from 0 to 1"}
_CHECKED = 5  # samples, unequal to the other sizes of most models


@dataclass(frozen=True)
class Draw:
    """Random numbers that a model draws.

    Attributes:
        number: Number of the draw, in the order in which the model draws.
        kind: `normal` or `uniform`, without a mean and a range other than 0, or 0 to 1.
        tensor: What was drawn when the draws were observed.
    """

    number: int
    kind: str
    tensor: Any


# From a draw's number, kind, and how Keras would draw it, to the numbers.
_Source = Callable[[int, str, Callable[[], Any]], Any]


class WithNoise(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Runs a model with given numbers in place of those that it draws."""

    def __init__(self, model: keras.Model, numbers: Sequence[int]) -> None:
        """Take the model, and the numbers of the draws that are given."""
        super().__init__(name=f"{model.name}_with_noise")
        self.model, self.numbers = model, tuple(numbers)

    def call(self, tensors: list[Any]) -> Any:
        """Return the model's outputs for its inputs, followed by the given numbers."""
        inputs, given = tensors[: len(self.model.inputs)], tensors[len(self.model.inputs) :]
        by_number = dict(zip(self.numbers, given, strict=True))

        def give(number: int, _kind: str, draw: Callable[[], Any]) -> Any:
            return by_number[number] if number in by_number else draw()

        with drawing_from(give):
            return self.model(keras.tree.pack_sequence_as(self.model.input, inputs), training=False)


@contextmanager
def drawing_from(source: _Source) -> Iterator[None]:
    """Let `keras.random.normal`, `uniform` and `dropout` take their numbers from `source`."""
    count = 0

    def draw(kind: str, shape: Any, dtype: Any, seed: Any) -> Any:
        nonlocal count
        count += 1
        original = {"normal": normal, "uniform": uniform}[kind]
        return source(count - 1, kind, lambda: original(shape, dtype=dtype, seed=seed))

    normal, uniform = backend.normal, backend.uniform

    def draw_normal(
        shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        numbers = draw("normal", shape, dtype, seed)
        return numbers * tf.cast(stddev, numbers.dtype) + tf.cast(mean, numbers.dtype)

    def draw_uniform(
        shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        numbers = draw("uniform", shape, dtype, seed)
        low, high = tf.cast(minval, numbers.dtype), tf.cast(maxval, numbers.dtype)
        return numbers * (high - low) + low

    def drop(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
        if rate in (0.0, 1.0):
            return inputs * (1.0 - rate)
        shape = backend._get_concrete_noise_shape(inputs, noise_shape)
        numbers = draw("uniform", shape, inputs.dtype, seed)
        numbers = tf.ensure_shape(numbers, inputs.shape) if noise_shape is None else numbers
        kept = tf.cast(numbers >= rate, inputs.dtype)
        return inputs * kept / (1.0 - rate)

    with (
        replaced(backend, "normal", draw_normal),
        replaced(backend, "uniform", draw_uniform),
        replaced(backend, "dropout", drop),
    ):
        yield


def observing(draws: list[Draw]) -> AbstractContextManager[None]:
    """Add what `keras.random` draws meanwhile to `draws`."""

    def observe(number: int, kind: str, draw: Callable[[], Any]) -> Any:
        draws.append(Draw(number, kind, draw()))
        return draws[-1].tensor

    return drawing_from(observe)


def with_noise_inputs(
    model: keras.Model, function: Any, draws: Sequence[Draw]
) -> tuple[keras.Model, dict[str, str]]:
    """Return a model whose used draws are inputs, and the kind of each such input by its name.

    An input is named `<layer>_noise`.

    Args:
        model: Functional model.
        function: The TensorFlow function that was traced from it.
        draws: What was drawn meanwhile.

    Raises:
        ExportError: The numbers are not drawn for each sample.
    """
    ancestors = _ancestors(function.outputs) if draws else set()
    used = [
        draw
        for draw in draws
        if draw.tensor.graph is function.graph and draw.tensor.op in ancestors
    ]
    if not used:
        return model, {}
    names = _names(model, used)
    given = [
        keras.Input(_shape(draw, name), name=name) for draw, name in zip(used, names, strict=True)
    ]
    own = [
        keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for tensor, name in zip(model.inputs, input_names(model), strict=True)
    ]
    outputs = WithNoise(model, [draw.number for draw in used])([*own, *given])
    named = keras.Model([*own, *given], named_like(model, outputs), name=model.name)
    return named, {name: draw.kind for draw, name in zip(used, names, strict=True)}


def draw_noise(kind: str, shape: Sequence[int]) -> np.ndarray:
    """Draw numbers of a kind, float32."""
    random = np.random.default_rng(0)
    drawn = random.normal(size=shape) if kind == "normal" else random.uniform(size=shape)
    return np.clip(drawn, *RANGES[kind]).astype(np.float32)


def describe_noise(kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each input of noise, for those who run the model."""
    return tuple(
        f"{name} takes {_WORDS[kind]}, which the model drew itself in Keras: draw new ones for "
        "each answer."
        for name, kind in kinds.items()
    )


def require_same_draws(model: keras.Model, inputs: Inputs) -> None:
    """Require that a model with inputs of noise answers as the original does with its own draws.

    The original runs as it is; the same draws are then observed, and given to the other.

    Args:
        model: Model from `with_noise_inputs`.
        inputs: Samples for it by name.

    Raises:
        ProofError: The answers differ.
    """
    layer = next(layer for layer in model.layers if isinstance(layer, WithNoise))
    original = layer.model
    names = input_names(model)[: len(original.inputs)]
    own = [
        tf.cast(tf.constant(inputs[name][:_CHECKED]), tensor.dtype)
        for name, tensor in zip(names, original.inputs, strict=True)
    ]
    packed = keras.tree.pack_sequence_as(original.input, own)
    draws: list[Draw] = []
    with tf.device("/CPU:0"):
        with _counted_seeds():
            expected = keras.tree.flatten(original(packed, training=False))
        with _counted_seeds(), observing(draws):
            original(packed, training=False)
        with _counted_seeds():
            received = keras.tree.flatten(
                layer([*own, *(draws[number].tensor for number in layer.numbers)])
            )
    for wanted, found in zip(expected, received, strict=True):
        first, second = np.asarray(wanted), np.asarray(found)
        difference = largest_difference(first, second)
        if not is_within(difference, allowed_difference(first, are_probabilities=False)):
            raise ProofError(
                "A model must answer the same with given noise as with its own. "
                f"Received: a difference of {difference:.1e}. Nothing was published."
            )


@contextmanager
def _counted_seeds() -> Iterator[None]:
    """Give each draw another seed, the same ones each time."""
    count = 0

    def following(generator: Any, ordered: bool = True) -> Any:  # noqa: ARG001
        nonlocal count
        count += 1
        return keras.ops.full(generator.state.shape, count, generator.state.dtype)

    with replaced(keras.random.SeedGenerator, "next", following):
        yield


def _ancestors(outputs: Sequence[tf.Tensor]) -> set[tf.Operation]:
    """Return the operations that outputs depend on."""
    found: set[tf.Operation] = set()
    waiting = [tensor.op for tensor in outputs]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting += [tensor.op for tensor in op.inputs]
    return found


def _names(model: keras.Model, draws: Sequence[Draw]) -> list[str]:
    layers = {layer.name: layer for layer in model._flatten_layers(include_self=False)}
    found = [layer_of(draw.tensor.op.name, layers) for draw in draws]
    names = [f"{plain_name(layers[name])}_noise" if name else "noise" for name in found]
    return unique_names(names, input_names(model))


def _shape(draw: Draw, name: str) -> tuple[int | None, ...]:
    shape = draw.tensor.shape
    if not shape.rank or shape[0] is not None:
        raise ExportError(
            f"Random numbers must be drawn for each sample of a batch. Received: {name} "
            f"{tuple(shape) if shape.rank else 'of unknown shape'}. Draw them with a shape that "
            "begins with ops.shape(x)[0]."
        )
    return tuple(shape[1:])
