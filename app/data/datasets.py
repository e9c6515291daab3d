"""What a data source gives: labelled samples in memory, with their names."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Labelled samples.

    Attributes:
        source: name or path that they came from.
        inputs: float32 `(samples, columns)` rows, or uint8 `(samples, 28, 28)` images.
        targets: int64 `(samples,)`, the index of each sample's label.
        labels: name of each class.
        columns: name of each column of rows; empty for images.
        test_start: index of the first sample of the source's own test split, which lies at the
            end; None if the source has none.
    """

    source: str
    inputs: np.ndarray
    targets: np.ndarray
    labels: tuple[str, ...]
    columns: tuple[str, ...] = ()
    test_start: int | None = None

    @property
    def kind(self) -> str:
        """`rows` or `images`."""
        return "images" if self.inputs.ndim == 3 else "rows"

    def sha256(self) -> str:
        """Return a fingerprint of inputs and targets, which tells whether a source changed."""
        digest = hashlib.sha256()
        for array in (self.inputs, self.targets):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
