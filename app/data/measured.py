"""Chooses the samples to measure models on: none that one of them was trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.errors import DataError
from serving.manifest import Manifest

from .datasets import Dataset
from .source_kinds import OWN_ARRAYS, is_code
from .sources import bare_source
from .splits import VALIDATION_FRACTION, split_dataset


def choose_measured(
    dataset: Dataset, source: str, manifests: Sequence[Manifest]
) -> tuple[np.ndarray, str]:
    """Return the indices of the samples to measure on, and what they are.

    They are the source's own test split, if it has one. Of data with the name and the size of that
    which a model was trained on, they are the test split of its training, and of several such
    models the samples that are in all of their test splits. Otherwise they are all samples.

    Args:
        dataset: the samples, see `app.data.labeled.read_labeled`.
        source: what they were read from.
        manifests: manifests of the models.

    Raises:
        DataError: no sample is left.
    """
    name, count = bare_source(source), len(dataset.targets)
    if dataset.test_start is not None:
        test = np.arange(dataset.test_start, count)
        return test, f"the {len(test):,} samples of the test split of {name}"
    seen = [m for m in manifests if _has_seen(m, OWN_ARRAYS if is_code(source) else name, count)]
    indices = np.arange(count)
    for manifest in seen:
        indices = np.intersect1d(indices, _test_split(dataset, manifest.config))
    if not len(indices):
        raise DataError(
            "Models that were trained on the same data must have test samples in common. Received: "
            f"{source}, whose test splits have none. Give other data."
        )
    if seen:
        which = "split of the training" if len(seen) == 1 else "splits of both trainings"
        return indices, f"the {len(indices):,} samples of {name} in the test {which}"
    return indices, f"all {count:,} samples of {name}"


def _has_seen(manifest: Manifest, name: str, count: int) -> bool:
    sizes: Any = manifest.data.get("samples")
    is_known = isinstance(sizes, dict) and all(type(size) is int for size in sizes.values())
    is_known = is_known and "train" in sizes  # a model from elsewhere was measured on it
    return is_known and manifest.data.get("source") == name and sum(sizes.values()) == count


def _test_split(dataset: Dataset, config: dict[str, Any]) -> np.ndarray:
    seed, fraction = config.get("seed", 0), config.get("validation_split", VALIDATION_FRACTION)
    return split_dataset(dataset, seed, fraction).test
