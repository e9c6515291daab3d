"""Summarizes a data set: samples by class, missing values, duplicates."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .arrays import ComputedArray, chunks
from .datasets import Dataset, fingerprint
from .splits import Splits

# Pairs of equal files that are named.
_SHOWN_PAIRS = 3


def report_data(dataset: Dataset, splits: Splits) -> dict[str, Any]:
    """Return the content of a run's `data.json`.

    Returns:
        A dict with `source`, `sha256`, `kind`, `task`, `labels`, `columns` and `string_columns`;
        `samples`, the size of each split; `counts`, the samples of each class or label by split;
        `missing`, the number of missing values by column; `duplicates`, the number of validation
        and test samples that are in the training split too, see `_fingerprints`;
        `duplicate_files`, up to three of them with a file, each with its equal in training;
        `skipped`, the files that could not be read; `left_out`, the columns of a table that
        training leaves out, with the reason;
        `units`, the unit of each column whose numbers have one; `notes`, what is not certain about
        how columns are read; `is_decoded_each_epoch`, whether decoded images did not fit on the
        disk; and `is_streamed`, whether training had more samples than those that were kept, among
        which duplicates are counted.
    """
    parts, prints = vars(splits), _fingerprints(dataset)
    sizes = {name: len(indices) for name, indices in parts.items()}
    if dataset.stream is not None:
        sizes["train"] = dataset.stream.samples
    return {
        "source": dataset.source,
        "sha256": dataset.sha256(),
        "kind": dataset.kind,
        "samples": sizes,
        "task": dataset.task,
        "labels": list(dataset.labels),
        "columns": list(dataset.columns),
        "string_columns": list(dataset.string_columns),
        "counts": {name: _counts(dataset, indices) for name, indices in parts.items()},
        "missing": _missing(dataset),
        "duplicates": _duplicates(prints, splits),
        "duplicate_files": _duplicate_files(dataset, prints, splits),
        "skipped": list(dataset.skipped),
        "left_out": [asdict(column) for column in dataset.left_out],
        "units": dataset.column_units | dataset.target_units,
        "notes": [*dataset.notes, *_describe_contradictions(dataset, prints)],
        "is_decoded_each_epoch": isinstance(dataset.inputs, ComputedArray),
        "is_streamed": dataset.stream is not None,
    }


def count_missing(dataset: Dataset, indices: np.ndarray | None = None) -> np.ndarray:
    """Return the number of missing values in each numeric column, int64 `(columns,)`.

    Args:
        dataset: a data set of rows.
        indices: the samples to count; None counts all.
    """
    counts = np.zeros(len(dataset.columns), np.int64)
    for rows in chunks(dataset.inputs, indices):
        counts += np.isnan(rows).sum(axis=0)
    return counts


def _counts(dataset: Dataset, indices: np.ndarray) -> dict[str, int]:
    targets = dataset.targets[indices]
    if dataset.task == "regression":
        return {}
    if dataset.task == "multiclass":
        counts = np.bincount(targets, minlength=len(dataset.labels))
    else:
        counts = targets.sum(axis=0)
    return {label: int(count) for label, count in zip(dataset.labels, counts, strict=True)}


def _missing(dataset: Dataset) -> dict[str, int]:
    if dataset.kind != "rows":
        return {}
    counts = count_missing(dataset).tolist()
    # The parts of a date are missing together.
    found = {dataset.columns[number]: counts[number] for number in dataset.first_columns}
    if dataset.codes is not None:
        texts = np.zeros(len(dataset.string_columns), int)
        for rows in chunks(dataset.codes):
            texts += (rows == 0).sum(axis=0)
        found |= dict(zip(dataset.string_columns, texts.tolist(), strict=True))
    return {name: count for name, count in found.items() if count}


def _duplicates(prints: np.ndarray, splits: Splits) -> dict[str, int]:
    seen = prints[splits.train]
    return {
        name: int(np.isin(prints[indices], seen).sum())
        for name, indices in (("validation", splits.validation), ("test", splits.test))
    }


def _duplicate_files(dataset: Dataset, prints: np.ndarray, splits: Splits) -> list[list[str]]:
    if not dataset.files:
        return []
    seen = prints[splits.train]
    others = np.concatenate([splits.validation, splits.test])
    twice = others[np.isin(prints[others], seen)][:_SHOWN_PAIRS]
    equals = (splits.train[np.argmax(seen == prints[index])] for index in twice)
    return [[dataset.files[a], dataset.files[b]] for a, b in zip(twice, equals, strict=True)]


def describe_pairs(pairs: Iterable[Sequence[str]]) -> str:
    """Return pairs of equal files as text, such as ` (such as a.png and b.png)`; "" of none."""
    text = "; ".join(" and ".join(pair) for pair in pairs)
    return f" (such as {text})" if text else ""


def _describe_contradictions(dataset: Dataset, prints: np.ndarray) -> list[str]:
    """Return a line if equal images have different targets, of which some must be wrong.

    It names the first file of each of three images with one that has another target.
    """
    if dataset.kind != "images":
        return []
    _, targets = np.unique(dataset.targets, axis=0, return_inverse=True)
    targets = targets.ravel().astype(np.uint64)
    each = np.unique(np.stack([prints, targets], axis=1), axis=0)
    different, counts = np.unique(each[:, 0], return_counts=True)
    found = np.flatnonzero(np.isin(prints, different[counts > 1]))
    if not found.size:
        return []
    _, firsts = np.unique(prints[found], return_index=True)
    pairs = []
    for first in found[np.sort(firsts)][:_SHOWN_PAIRS] if dataset.files else ():
        is_other = (prints == prints[first]) & (targets != targets[first])
        pairs.append((dataset.files[first], dataset.files[int(is_other.argmax())]))
    named = describe_pairs(pairs)
    return [f"{len(found):,} images are equal to others with another target{named}."]


def _single(parts: Iterable[Any]) -> list[np.ndarray]:
    """Return the arrays of a chunk, those of several inputs one by one."""
    split = (part.values() if isinstance(part, dict) else [part] for part in parts)
    return [array for arrays in split for array in arrays]


def _fingerprints(dataset: Dataset) -> np.ndarray:
    """Return a hash of each sample, uint64 `(samples,)`: the input; of rows, the target as well.

    Rows of a few columns may well be equal by chance.
    """
    hashes = getattr(dataset.inputs, "fingerprints", None)
    if hashes is not None:
        known: np.ndarray = hashes
        return known
    arrays = [dataset.inputs] if dataset.codes is None else [dataset.inputs, dataset.codes]
    if dataset.kind == "rows":
        arrays.append(dataset.targets.reshape(len(dataset.targets), -1))
    rows = (
        b"".join(part.tobytes() for part in row)
        for parts in zip(*(chunks(array) for array in arrays), strict=True)
        for row in zip(*_single(parts), strict=True)
    )
    return np.fromiter(map(fingerprint, rows), np.uint64, len(dataset.targets))
