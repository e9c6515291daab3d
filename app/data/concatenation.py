"""Concatenates several data sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.errors import DataError
from serving.number_text import parse_number

from .arrays import Array, DiskArray, chunks
from .datasets import Dataset
from .reading_progress import tell
from .targets import find_labels


def join_datasets(source: str, parts: Sequence[Dataset], are_names: bool = False) -> Dataset:
    """Return the samples of all parts, with those of their test splits at the end.

    Args:
        source: name of the result.
        parts: data sets of the same kind, task and columns; labels are matched by name, and equal
            numbers, such as 1 and 1.0, are one class.
        are_names: whether classes that are numbers are names too, which differ if their texts do.

    Raises:
        DataError: the parts differ in kind, task or columns, or have columns of text.
    """
    first = parts[0]
    for part in parts:
        if part.codes is not None:
            raise DataError(
                f"Data sources with columns of text cannot be joined. Received: {part.source}."
            )
        for what in ("kind", "task", "columns"):
            if getattr(part, what) != getattr(first, what):
                raise DataError(
                    f"Data sources that are joined must have the same {what}. "
                    f"Received: {first.source}, {getattr(first, what)}; "
                    f"{part.source}, {getattr(part, what)}."
                )
        _check_units(first, part)
        if part.row_format != first.row_format:
            raise DataError(
                "Tables that are joined must have cells of the same kinds and forms. "
                f"Received: {first.source} and {part.source}. Write them alike, or as one file."
            )
        if _shape_joined(part) != _shape_joined(first):
            raise DataError(
                "Data sources that are joined must have images of one size. "
                f"Received: {first.source}, {first.inputs.shape[1:]}; "
                f"{part.source}, {part.inputs.shape[1:]}. Set image_size."
            )
        if part.validation_start is not None:
            raise DataError(
                f"Data sources with a validation split cannot be joined. Received: {part.source}."
            )
    _check_decimals(parts)
    names, notes = _join_labels(parts, are_names)
    labels = tuple(dict.fromkeys(names.values()))
    has_test = any(part.test_start is not None for part in parts)
    return Dataset(
        source=source,
        inputs=_in_order([part.inputs for part in parts], parts),
        targets=_in_order([_renumbered(part, labels, names) for part in parts], parts),
        task=first.task,
        labels=labels,
        columns=first.columns,
        row_format=first.row_format,
        target_units=first.target_units,
        target_decimals={k: v for part in parts for k, v in part.target_decimals.items()},
        left_out=first.left_out,
        test_start=sum(map(_training_end, parts)) if has_test else None,
        notes=(*(note for part in parts for note in part.notes), *notes),
        skipped=tuple(name for part in parts for name in part.skipped),
        files=_in_order([np.array(part.files, object) for part in parts], parts).tolist()
        if all(part.files for part in parts)
        else (),
        weights=_join_weights(parts),
    )


def _join_weights(parts: Sequence[Dataset]) -> np.ndarray | None:
    """Return the weights of all samples, 1 in parts without; None if no part has any."""
    if all(part.weights is None for part in parts):
        return None
    found = [
        np.ones(len(part.targets), np.float32) if part.weights is None else part.weights
        for part in parts
    ]
    joined: np.ndarray = _in_order(found, parts)
    return joined


def _check_units(first: Dataset, part: Dataset) -> None:
    """Require that columns and targets of the same name have the same unit."""
    units, others = (each.column_units | each.target_units for each in (first, part))
    for name in [name for name in {**units, **others} if units.get(name) != others.get(name)][:1]:
        unit, other = (
            f"in {each[name]}" if name in each else "without a unit" for each in (units, others)
        )
        raise DataError(
            f"Data sources that are joined must have {name} in the same unit. "
            f"Received: {first.source}, {unit}; {part.source}, {other}. Write them alike."
        )


def _check_decimals(parts: Sequence[Dataset]) -> None:
    """Require that 2.141 is the same target in all parts."""
    found: dict[str, dict[str, str]] = {}
    for part in parts:
        for name, sign in part.target_decimals.items():
            found.setdefault(name, {}).setdefault(sign, part.source)
    for name, sources in found.items():
        if len(sources) > 1:
            received = "; ".join(
                f"{source}, read with {sign!r}" for sign, source in sources.items()
            )
            raise DataError(
                f"Tables that are joined must have {name} with the same decimal sign. "
                f"Received: {received}. Write them alike, or as one file."
            )


def _join_labels(parts: Sequence[Dataset], are_names: bool) -> tuple[dict[str, str], list[str]]:
    """Return the label of the result for each label of a part, in order, and notes."""
    texts = dict.fromkeys(label for part in parts for label in part.labels)
    is_same = len(texts) == len(parts[0].labels)
    if parts[0].task != "multiclass" or is_same:
        return {text: text for text in texts}, []
    labels = find_labels(texts, are_names)
    if any(len({labels[label] for label in part.labels}) < len(part.labels) for part in parts):
        labels = find_labels(texts, are_names=True)
    notes = [
        f"{text} and {label} are one class, {label}."
        for text, label in labels.items()
        if text != label
    ][:1]
    for note in notes:
        tell(note)
    numbers = {text: parse_number(text) for text in labels}
    if None not in numbers.values():
        labels = dict(sorted(labels.items(), key=lambda pair: (numbers[pair[0]], pair[1])))
    return labels, notes


def _shape_joined(part: Dataset) -> tuple[int, ...]:
    """Return the shape that samples must share; gray images can be joined with those in color."""
    shape: tuple[int, ...] = part.inputs.shape[1:]
    return (*shape[:2], -1) if len(shape) == 3 and part.kind == "images" else shape


def _training_end(part: Dataset) -> int:
    return len(part.inputs) if part.test_start is None else part.test_start


def _renumbered(part: Dataset, labels: Sequence[str], names: Mapping[str, str]) -> np.ndarray:
    if part.task != "multiclass":
        if part.labels != tuple(labels):
            raise DataError(
                "Data sources that are joined must have the same targets. "
                f"Received: {', '.join(labels)}; {part.source} has only "
                f"{', '.join(part.labels)}."
            )
        return part.targets
    numbers: np.ndarray = np.array([labels.index(names[label]) for label in part.labels])[
        part.targets
    ]
    return numbers


def _in_order(arrays: Sequence[Array], parts: Sequence[Dataset]) -> Any:
    """Return the training samples of all parts, then their test samples.

    The result is on disk if one of the arrays is.
    """
    ends = [_training_end(part) for part in parts]
    pieces = [(array, np.arange(end)) for array, end in zip(arrays, ends, strict=True)]
    pieces += [(array, np.arange(end, len(array))) for array, end in zip(arrays, ends, strict=True)]
    rows = (chunk for array, indices in pieces for chunk in chunks(array, indices))
    shape = max((array.shape[1:] for array in arrays), key=lambda shape: shape[-1:])
    if any(array.shape[1:] != shape for array in arrays):  # gray images among those in color
        rows = (np.broadcast_to(chunk, (len(chunk), *shape)) for chunk in rows)
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.concatenate(list(rows))
    joined = DiskArray(shape, arrays[0].dtype)
    for chunk in rows:
        joined.append(chunk)
    return joined
