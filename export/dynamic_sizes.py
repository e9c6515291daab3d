"""Lets Keras trace operations whose sizes are known only when the model runs.

Called one by one, these operations take a number that was computed, such as twice the height of an
image. When they are traced, Keras 3.15 compares that number with 0 in Python, which fails.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src import backend
from keras.src.ops import image


@contextmanager
def dynamic_sizes() -> Iterator[None]:
    """Let `ops.image.resize` and `ops.linspace` take computed sizes, in the context."""
    replaced = (
        (image, "resize", _resize),
        (keras.ops.image, "resize", _resize),
        (backend.numpy, "linspace", _linspace),
    )
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, function in replaced:
            setattr(module, name, function(getattr(module, name)))
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def _resize(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `keras.ops.image.resize` without its check, for sizes that are not known."""

    def resize(images: Any, size: Any, *arguments: Any, **more: Any) -> Any:
        is_unknown = tf.is_symbolic_tensor(images) and any(map(tf.is_symbolic_tensor, size))
        return (backend.image.resize if is_unknown else original)(images, size, *arguments, **more)

    return resize


def _linspace(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `keras.ops.linspace` for a number of steps that is not known."""

    def linspace(start: Any, stop: Any, num: Any = 50, dtype: Any = None, **more: Any) -> Any:
        is_plain = more.get("endpoint", True) and not more.get("retstep") and not more.get("axis")
        if not (tf.is_symbolic_tensor(num) and is_plain):
            return original(start, stop, num=num, dtype=dtype, **more)
        kind = dtype or backend.result_type(
            *(getattr(end, "dtype", type(end)) for end in (start, stop)), float
        )
        ends = [backend.convert_to_tensor(end, dtype=kind) for end in (start, stop)]
        return tf.linspace(*ends, num)

    return linspace
