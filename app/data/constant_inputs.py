"""Refuses training sets whose inputs are all equal, from which nothing can be learned."""

import numpy as np

from app.errors import DataError

from .arrays import array_parts, chunks
from .datasets import Dataset


def require_variation(dataset: Dataset, train: np.ndarray) -> None:
    """Require that the samples of a training split differ; usually two of them are looked at.

    Args:
        dataset: the samples.
        train: indices of the training split, int64 `(samples,)`.

    Raises:
        DataError: all images, or all rows in all columns, are equal.
    """
    if len(train) < 2:
        return
    codes = [] if dataset.codes is None else [dataset.codes]
    for array in (*array_parts(dataset.inputs), *codes):
        first = array[train[:1]]
        for rows in chunks(array, train):
            if not np.array_equal(np.broadcast_to(first, rows.shape), rows, rows.dtype.kind == "f"):
                return
    what = dataset.kind if dataset.kind in ("images", "rows") else "samples"
    raise DataError(
        f"The {what} to learn from must differ. Received: {len(train):,} {what} of "
        f"{dataset.source}, all equal. Look at some of them: reading may have gone wrong."
    )
