"""Chooses the samples to measure models on: none that one of them was trained on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import DataError
from serving.manifest import Manifest

from .datasets import Dataset
from .source_kinds import JOIN, NAMED, OWN_ARRAYS, is_code, parts_of
from .sources import bare_source
from .split_names import split_of
from .splits import split_test


def choose_measured(
    dataset: Dataset, source: str, manifests: Sequence[Manifest]
) -> tuple[np.ndarray, str]:
    """Return the indices of the samples to measure on, and what they are.

    They are the source's own test split, if it has one. Of data with the name and the size of that
    which a model was trained on, they are the test split of its training, and of several such
    models the samples that are in all of their test splits. Otherwise they are all samples. Of data
    that an export has chosen thresholds on, only the half counts that it was measured on.

    Args:
        dataset: the samples, see `app.data.labeled.read_labeled`.
        source: what they were read from.
        manifests: manifests of the models.

    Raises:
        DataError: no sample is left.
    """
    name, count = bare_source(source), len(dataset.targets)
    all_of = f"all {count:,} samples" if count > 1 else "the only sample"
    indices, place = np.arange(count), f"{all_of} of {name}"
    if dataset.test_start is not None:
        indices = indices[dataset.test_start :]
        place = f"the {len(indices):,} samples of the test split of {name}"
    known = OWN_ARRAYS if is_code(source) else name
    parts = [
        _test_split(dataset, manifest)
        for manifest in manifests
        if dataset.test_start is None and _has_seen(manifest, known, count, "train")
    ]
    which = "in the test split of the training" if len(parts) == 1 else "in both test splits"
    # An export keeps the name that its user gave, also of code.
    chosen = [m for m in manifests if _has_seen(m, name, len(indices), "choosing")]
    if chosen:
        parts.append(halve(indices)[1])
        which = "that the export was measured on"
    remark = warn_of_seen(dataset, source, manifests)
    if not parts:
        is_whole = dataset.test_start is None
        return indices, place + (
            remark or (_warn_of_copy(manifests, name, count) if is_whole else "")
        )
    for part in parts:
        indices = np.intersect1d(indices, part)
    if not len(indices):
        raise DataError(
            "Models that were trained on the same data must have test samples in common. Received: "
            f"{source}, whose test splits have none. Give other data."
        )
    return indices, f"the {len(indices):,} samples of {name} {which}{remark}"


def halve(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide samples at random, always in the same way: a half to choose on, and one to measure on.

    Args:
        indices: int64 `(samples,)`.
    """
    first, second = np.array_split(np.random.default_rng(0).permutation(indices), 2)
    return np.sort(first), np.sort(second)


def _has_seen(manifest: Manifest, name: str, count: int, key: str) -> bool:
    """Return whether a model knows data of this name and size, with a split of the name `key`."""
    return manifest.data.get("source") == name and _has_size(manifest, count, key)


def _has_size(manifest: Manifest, count: int, key: str) -> bool:
    sizes: Any = manifest.data.get("samples")
    is_known = isinstance(sizes, dict) and all(type(size) is int for size in sizes.values())
    return bool(is_known and sum(sizes.values()) == count and key in sizes)


def warn_of_seen(dataset: Dataset, source: str, manifests: Sequence[Manifest]) -> str:
    """Return a remark on data of which a training had another part; empty if there is none.

    It has grown since, or lies inside of the training's source, or holds it. Sources are known by
    their names only, and which of the samples the training had cannot be told.

    Args:
        dataset: the samples.
        source: what they were read from.
        manifests: manifests of the models.
    """
    name = OWN_ARRAYS if is_code(source) else bare_source(source)
    for manifest in manifests if dataset.test_start is None else ():
        sizes: Any = manifest.data.get("samples")
        was_trained = manifest.data.get("source") == name and "train" in (sizes or ())
        if was_trained and not _has_size(manifest, len(dataset.targets), "train"):
            return (
                f" (version {manifest.version} was trained on data of this name with another "
                "number of samples, perhaps on some of these)"
            )
        if _overlaps(source, str(manifest.data.get("source", ""))):
            return (
                f" (version {manifest.version} was trained on {manifest.data['source']}, which "
                "seems to share samples with this; if it does, the scores are too good)"
            )
    return ""


def _overlaps(source: str, trained: str) -> bool:
    """Return whether a source seems to lie inside of another one, to hold it, or to share a part.

    A part of a test split does not count, since a training on all splits does not learn from it.

    Args:
        source: what is measured, with its folders.
        trained: what a model was trained on, without folders.
    """
    if is_code(source) or bare_source(source) == trained:
        return False
    for part in parts_of(source):
        path = Path(part)
        # A file may be in the folder of its split.
        above = () if part in NAMED else path.absolute().parents[:2]
        is_test = "test" in (split_of(path.name), split_of(path.parent.name))
        for name in filter(None, trained.split(JOIN)):
            is_above = name in [folder.name for folder in above] and not is_test
            is_inside = path.is_dir() and (path / name).exists()
            if name == path.name or is_above or is_inside:
                return True
    return False


def _warn_of_copy(manifests: Sequence[Manifest], name: str, count: int) -> str:
    """Return a remark on data of another name that has the size of what a model was trained on."""
    for manifest in manifests:
        source = manifest.data.get("source")
        if source != name and _has_size(manifest, count, "train"):
            return (
                f" (as many as {source} has, on which the model was trained; if this is a copy of "
                "it, the scores are too good)"
            )
    return ""


def _test_split(dataset: Dataset, manifest: Manifest) -> np.ndarray:
    """Return the test split of a training on the samples of a source without one of its own."""
    config: dict[str, Any] = manifest.config
    sizes: Any = manifest.data["samples"]
    start = dataset.validation_start
    if start is not None and sizes.get("validation") != len(dataset.targets) - start:
        # An earlier version split it off the validation samples too.
        dataset = replace(dataset, validation_start=None)
    _, _, test = split_test(dataset, config.get("seed", 0))
    return test
