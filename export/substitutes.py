"""What runs instead of some functions of Keras while a model is traced.

Each computes the same as Keras does eagerly. Keras' own function is wrong in a graph, or has no
counterpart in ONNX.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import tensorflow as backend


@contextmanager
def substituted() -> Iterator[None]:
    """Replace the functions while a model is traced."""
    with ExitStack() as stack:
        for owner, name, function in (
            (backend.core, "scan", _scan),
            (keras.layers.TimeDistributed, "call", _call_at_each_step),
        ):
            stack.enter_context(replaced(owner, name, function))
        yield


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a function of a module or class for a while."""
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _call_at_each_step(
    self: keras.layers.TimeDistributed, inputs: Any, training: Any = None, mask: Any = None
) -> Any:
    """Compute `keras.layers.TimeDistributed` with the steps as part of the batch.

    For a variable number of steps, Keras 3.15 answers as many steps as there are samples.
    """
    steps = tf.shape(inputs)[:2]
    merged = _merged(inputs)
    arguments = {}
    if self.layer._call_has_mask_arg and mask is not None:
        arguments["mask"] = _merged(mask)
    if self.layer._call_has_training_arg:
        arguments["training"] = training
    answers = self.layer.call(merged, **arguments)

    def divided(answer: Any) -> Any:
        whole = tf.reshape(answer, tf.concat([steps, tf.shape(answer)[1:]], 0))
        return tf.ensure_shape(whole, [*inputs.shape[:2], *answer.shape[1:]])

    return keras.tree.map_structure(divided, answers)


def _merged(tensor: Any) -> Any:
    """Return a tensor with its first two axes as one."""
    rest = tensor.shape[2:]
    sizes = [-1 if size is None else size for size in rest]
    if sizes.count(-1) == 0:
        return tf.reshape(tensor, [-1, *sizes])
    merged = tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
    return tf.ensure_shape(merged, [None, *rest])


def _scan(
    f: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: Any = 1,  # noqa: ARG001 - the number of rounds at a time changes no answer
) -> tuple[Any, Any]:
    """Compute `keras.ops.scan` with the carry as a state of the loop.

    Keras keeps it in an array of one element, which ONNX' Loop cannot read.
    """
    inputs = [tf.convert_to_tensor(x) for x in keras.tree.flatten(xs)] if xs is not None else []
    count = length if length is not None else tf.shape(inputs[0])[0]
    if reverse:
        inputs = [tf.reverse(x, [0]) for x in inputs]
    carry = [tf.convert_to_tensor(state) for state in keras.tree.flatten(init)]
    # Keras gives back as many stacks as there are states.
    stacks = [tf.TensorArray(state.dtype, count, element_shape=state.shape) for state in carry]

    def one_round(number: Any, carry: list[Any], stacks: list[Any]) -> Any:
        taken = [x[number] for x in inputs]
        given = keras.tree.pack_sequence_as(xs, taken) if inputs else None
        following, answers = f(keras.tree.pack_sequence_as(init, carry), given)
        if answers is None:
            answers = [tf.zeros_like(state) for state in carry]
        flat = keras.tree.flatten(answers)
        stacks = [stack.write(number, a) for stack, a in zip(stacks, flat, strict=True)]
        return number + 1, keras.tree.flatten(following), stacks

    _, carry, stacks = tf.while_loop(
        lambda number, *_: number < count, one_round, (tf.constant(0), carry, stacks)
    )
    results = [tf.reverse(stack.stack(), [0]) if reverse else stack.stack() for stack in stacks]
    steps = inputs[0].shape[0] if inputs else length
    for result, state in zip(results, carry, strict=True):
        result.set_shape([steps, *state.shape])
    return keras.tree.pack_sequence_as(init, carry), keras.tree.pack_sequence_as(init, results)
