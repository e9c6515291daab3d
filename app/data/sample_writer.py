"""Writes samples as a folder of arrays, a part at a time, in dtypes that models take."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from app.errors import DataError

from .array_folders import ArrayFacts, ArrayWriter, input_file, target_file, weight_file

# Fraction of the disk to leave free.
_SPARE = 0.05


class SampleWriter:
    """Writes inputs and targets, a part at a time. Use it as a context manager.

    Args:
        folder: an existing folder.
        has_weights: whether samples have weights; those that come without have the weight 1.

    Attributes:
        count: number of samples so far.
    """

    def __init__(self, folder: Path, has_weights: bool = False) -> None:
        self._folder = folder
        self._weights = ArrayWriter(weight_file(folder), (), np.float32) if has_weights else None
        self._inputs: dict[str, ArrayWriter] = {}
        self._targets: Any = None
        self._texts: list[np.ndarray] = []
        self.count = 0

    def add(self, x: Any, y: np.ndarray, where: str, weights: np.ndarray | None = None) -> None:
        """Add samples; `where` is what an error calls them. Weights are float32 `(samples,)`."""
        named = {name: _input(name, array, self.count) for name, array in named_arrays(x).items()}
        y = _target(y)
        if not self._inputs:
            for number, (name, array) in enumerate(named.items()):
                path = input_file(self._folder, number)
                self._inputs[name] = ArrayWriter(path, array.shape[1:], array.dtype)
            if y.dtype.kind != "U":
                path = target_file(self._folder)
                self._targets = ArrayWriter(path, y.shape[1:], y.dtype)
        for name, array in named.items():
            self._append(self._inputs[name], array, f"{name or 'x'} of {where}")
        if self._targets is None:
            self._texts.append(y)
        else:
            self._append(self._targets, y, f"y of {where}")
        if self._weights is not None:
            self._weights.append(np.ones(len(y)) if weights is None else weights)
        self.count += len(y)
        free = shutil.disk_usage(self._folder)
        if free.free < _SPARE * free.total:
            raise DataError(
                "The data must fit into the temporary folder. "
                f"Received: {self.count:,} samples so far, and {free.free / 1e9:.1f} GB left. Set "
                "TMPDIR to a folder with more space."
            )

    def finish(self) -> ArrayFacts:
        """Write texts of targets as classes; return what is known of the samples."""
        if not self.count:
            raise DataError("data must hold samples. Received: none; the dataset is empty.")
        names: list[str] = []
        if self._targets is None:
            found, classes = np.unique(np.concatenate(self._texts), return_inverse=True)
            names = found.tolist()
            self._targets = ArrayWriter(target_file(self._folder), (), np.int64)
            self._targets.append(classes.astype(np.int64))
        return ArrayFacts(
            inputs=[name for name in self._inputs if name],
            labels=names,
            has_weights=self._weights is not None,
        )

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files, also after an error."""
        for writer in filter(None, (*self._inputs.values(), self._targets, self._weights)):
            writer.close()

    @staticmethod
    def _append(writer: ArrayWriter, rows: np.ndarray, what: str) -> None:
        if rows.shape[1:] != writer.sample_shape:
            raise DataError(
                f"All samples must have one shape. Received: {what} with {rows.shape[1:]} after "
                f"{writer.sample_shape}."
            )
        writer.append(rows)


def named_arrays(x: Any) -> dict[str, Any]:
    """Return arrays by the name of their input; "" is the name of a single one."""
    return {str(name): array for name, array in x.items()} if isinstance(x, Mapping) else {"": x}


def _input(key: str, array: np.ndarray, start: int) -> np.ndarray:
    """Return inputs in a dtype that models take.

    Args:
        key: name of an input of several; empty for the only one. If that is of rows, they may hold
            NaN, which is encoded.
        array: samples.
        start: number of the first.
    """
    name = key or "x"
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "fbiu":
        raise DataError(
            f"Inputs must be numbers. Received: {name} of {array.dtype}. Columns of "
            "categories are given as a table: a DataFrame, .csv or .parquet. Turn free text into "
            "numbers first, such as token ids."
        )
    array = array.reshape(-1, 1) if array.ndim == 1 else array
    if kind in "fb":
        array = array.astype(np.float32)
        is_wrong = np.isinf(array) if array.ndim == 2 and not key else ~np.isfinite(array)
        if is_wrong.any():
            row = int(np.argwhere(is_wrong)[0][0])
            fix = " Fill what is missing: only a single array of rows may lack values."
            raise DataError(
                f"Inputs must be finite. Received: {name} with NaN or infinity in sample "
                f"{start + row}.{fix if key else ''}"
            )
        return array
    if array.dtype in (np.uint8, np.int8):
        return array
    return array.astype(np.int32 if size < 4 or array.dtype == np.int32 else np.int64)


def _target(y: np.ndarray) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind in "OSU":
        texts = [t.decode() if isinstance(t, bytes) else t for t in y.ravel()]
        if y.size != len(y) or not all(isinstance(text, str) for text in texts):
            raise DataError(
                "Targets must be numbers, or a text for each sample. "
                f"Received: {y.dtype} {y.shape}, such as {y.ravel()[0]!r:.40}."
            )
        return np.array(texts)
    if y.dtype.kind not in "fbiu" or y.ndim > 2:
        raise DataError(
            "Targets must be numbers (samples,) or (samples, outputs): a model learns a class, "
            f"labels or values of each sample. Received: {y.dtype} {y.shape}. A model with images "
            "or sequences as outputs is trained by Keras, and exported by hornbill export "
            "FILE.keras."
        )
    return y.astype(np.float32 if y.dtype.kind == "f" else np.int64)
