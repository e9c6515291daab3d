"""Finds out whether a model takes batches of any size, or of the size that Keras noted alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from .errors import ExportError

# Other sizes to try, and the size that variable axes have then.
_SIZES, _AXIS = (1, 2, 3), 16


def with_any_batch(build: Callable[[int | None], keras.Model], noted: int | None) -> keras.Model:
    """Return a model whose batch has any size, or the noted size if it runs with no other.

    The size with which a model was called is no part of its function; `keras.Input` with a
    `batch_size`, or a `call` that needs the number, may make it one.

    Args:
        build: Builds the functional model for a size, or for any size if that is None.
        noted: The size that Keras noted; None if it noted none.

    Raises:
        ExportError: `build` raises it for the noted size too.
    """
    if noted is None:
        return build(None)
    try:
        model = build(None)
    except ExportError:
        return build(noted)
    return build(noted) if _needs(model, noted) else model


def _needs(model: keras.Model, noted: int) -> bool:
    """Return whether a model fails with other batches, or answers as if they had the noted size."""
    try:
        _run(model, noted)
    except Exception:  # Keras raises anything. It says nothing if the noted size fails as well
        return False
    try:
        others = [_run(model, size) for size in _SIZES if size != noted]
    except Exception:
        return True
    return any(np.shape(output)[:1] == (noted,) for outputs in others for output in outputs)


def _run(model: keras.Model, size: int) -> list[Any]:
    arrays = [_zeros([size, *tensor.shape[1:]], tensor.dtype) for tensor in model.inputs]
    found = model(keras.tree.pack_sequence_as(model.input, arrays), training=False)
    return list(keras.tree.flatten(found))


def _zeros(axes: list[int | None], dtype: str) -> Any:
    shape = [_AXIS if size is None else size for size in axes]
    return keras.ops.convert_to_tensor(
        np.full(shape, "") if dtype == "string" else np.zeros(shape, dtype)
    )
