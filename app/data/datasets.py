"""What a data source gives: samples with their targets and their names."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import DataError

from .arrays import Array, chunks


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples with targets.

    Attributes:
        source: name or path that they came from.
        inputs: float32 `(samples, columns)` rows, NaN where a value is missing, or uint8
            `(samples, 28, 28)` images; in memory or on disk.
        targets: int64 `(samples,)`, the index of each sample's class; or float32
            `(samples, labels)`, for each label 1 or 0; or float32 `(samples, values)`.
        task: `multiclass`, `multilabel` or `regression`.
        labels: name of each class, label or value.
        columns: name of each column of `inputs`; empty for images.
        codes: int32 `(samples, text columns)`, indices into `words`; None without such columns.
        string_columns: name of each column of text.
        words: the texts that each of them holds.
        test_start: index of the first sample of the source's own test split, which lies at the
            end; None if the source has none.
        skipped: what could not be read and was left out on request.
    """

    source: str
    inputs: Array
    targets: np.ndarray
    labels: tuple[str, ...]
    task: str = "multiclass"
    columns: tuple[str, ...] = ()
    codes: Array | None = None
    string_columns: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()
    test_start: int | None = None
    skipped: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`rows` or `images`."""
        return "images" if self.inputs.ndim == 3 else "rows"

    def model_inputs(self, indices: Any) -> Any:
        """Return what a model takes: an array, or with columns of text a dict.

        Args:
            indices: a slice or an array.
        """
        if self.codes is None:
            return self.inputs[indices]
        codes = self.codes[indices]
        columns = [np.array(w, object)[codes[:, n]] for n, w in enumerate(self.words)]
        texts = np.stack(columns, axis=1)
        return {"inputs": self.inputs[indices], "texts": texts} if self.columns else texts

    def sha256(self) -> str:
        """Return a fingerprint of samples and names, which tells whether a source changed."""
        names = (self.labels, self.columns, self.string_columns, self.words)
        digest = hashlib.sha256(repr(names).encode())
        arrays = [self.inputs, self.targets]
        if self.codes is not None:
            arrays.append(self.codes)
        for array in arrays:
            for rows in chunks(array):
                digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()


def check_names(names: Iterable[str]) -> None:
    """Require names that can be written down, which those of files need not be.

    Raises:
        DataError: one is no UTF-8.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"Names must be UTF-8. Received: {name!a}.") from None
