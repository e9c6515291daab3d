"""Checks arrays against what a model takes, and explains what does not fit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import InputError
from .manifest import TensorSpec

# What to do with an image of floats, which are often from 0 to 1: a mere conversion makes it black.
TO_BYTES = "Scale it to 0..255, and convert it with np.asarray(…, np.uint8)."


def dtype_of(spec: TensorSpec) -> np.dtype:
    """Return numpy's dtype of an input; arrays of strings have dtype `object`."""
    return np.dtype(object if spec.dtype == "string" else spec.dtype)


def fits_shape(array: np.ndarray, spec: TensorSpec) -> bool:
    """Return whether an array has the axes of `spec`; a named axis may have any size."""
    return array.ndim == len(spec.shape) and all(
        isinstance(size, str) or size == given
        for given, size in zip(array.shape, spec.shape, strict=True)
    )


def check_inputs(arrays: dict[str, Any], specs: Sequence[TensorSpec]) -> None:
    """Check that there is an array of the right dtype and shape for each input.

    Raises:
        InputError: an array is missing or unknown, or has another dtype, shape or length.
    """
    names = [spec.name for spec in specs]
    if set(arrays) != set(names):
        received = ", ".join(map(_printable, arrays)) or "none"
        raise InputError(
            f"Inputs must be {', '.join(names)}. Received: {received}. "
            "Pass a dict with an array for each name."
        )
    for spec in specs:
        _check_dtype(arrays[spec.name], spec)
        _check_shape(arrays[spec.name], spec)
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        raise InputError(
            f"Inputs must have the same number of samples. Received: {sorted(counts)}."
        )


def check_finite(
    name: str, array: np.ndarray, nullable_columns: Sequence[int], start: int = 0
) -> None:
    """Check that all numbers are finite; NaN is a missing value in `nullable_columns`.

    Args:
        name: name of the input, for the error.
        array: numbers of any shape.
        nullable_columns: indices of the columns that may have NaN.
        start: index of the first sample, for the error.

    Raises:
        InputError: an element is not finite; the message names its index.
    """
    wrong = np.argwhere(is_not_finite(array, nullable_columns))
    if len(wrong):
        first, *others = wrong[0].tolist()
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"{name} must be finite. Received: {array[first, *others]} at "
            f"{(start + first, *others)}{more}."
        )


def is_not_finite(array: np.ndarray, nullable_columns: Sequence[int]) -> np.ndarray:
    """Return which numbers are not finite, bool of the same shape.

    NaN is allowed in `nullable_columns`.
    """
    is_wrong: np.ndarray = ~np.isfinite(array)
    if len(nullable_columns):
        is_wrong[:, nullable_columns] &= ~np.isnan(array[:, nullable_columns])
    return is_wrong


def refuse_masked(name: str, array: Any) -> None:
    """Refuse a masked array: ONNX Runtime would use the masked numbers.

    Raises:
        InputError: the array has a mask.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(
            f"{name} must be an array without a mask. Received: a numpy.ma.MaskedArray. "
            "Fill the masked values with filled(…)."
        )


def check_options(threads: Any, int8: Any, policies: Sequence[str]) -> None:
    """Check the options of `Predictor.load`.

    Raises:
        InputError: `threads` is neither None nor an integer of at least 1, or `int8` is not one of
            `policies`.
    """
    is_whole = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and not (is_whole and threads >= 1):
        raise InputError(
            f"threads must be an integer of at least 1, or None. Received: {threads!r:.80}."
        )
    if not isinstance(int8, str) or int8 not in policies:
        raise InputError(f"int8 must be one of {', '.join(policies)}. Received: {int8!r:.80}.")


def _printable(name: Any) -> str:
    return name if isinstance(name, str) and name.isprintable() else repr(name)


def _check_dtype(array: Any, spec: TensorSpec) -> None:
    refuse_masked(spec.name, array)
    if isinstance(array, np.ndarray):
        if spec.dtype == "string" and array.dtype.kind in "OU":
            _check_strings(array, spec)
            return
        if array.dtype == dtype_of(spec):
            return
    received = getattr(array, "dtype", type(array).__name__)
    wanted = "str" if spec.dtype == "string" else f"np.{spec.dtype}"
    is_fraction = spec.dtype == "uint8" and getattr(received, "kind", "") == "f"
    raise InputError(
        f"{spec.name} must be a numpy array of {spec.dtype}. Received: {received}. "
        f"{TO_BYTES if is_fraction else f'Convert it with np.asarray(…, {wanted}).'}"
    )


def _check_strings(array: np.ndarray, spec: TensorSpec) -> None:
    for value in array.flat:
        if not isinstance(value, str):
            raise InputError(
                f"{spec.name} must hold strings; an empty one stands for a missing text. "
                f"Received: {value!r:.80}."
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{spec.name} must hold texts that UTF-8 can encode, without lone surrogates. "
                f"Received: {str(value)!r:.80}."
            ) from None


def _check_shape(array: np.ndarray, spec: TensorSpec) -> None:
    if not fits_shape(array, spec):
        needs_batch = fits_shape(array[np.newaxis], spec)
        fix = " Add the batch axis with array[np.newaxis]." if needs_batch else ""
        raise InputError(
            f"{spec.name} must have shape ({', '.join(map(str, spec.shape))}). "
            f"Received: shape={array.shape}.{fix}"
        )
    if not len(array):
        raise InputError(
            f"{spec.name} must hold at least one sample. Received: shape={array.shape}."
        )
