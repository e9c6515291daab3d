"""Reads labeled samples for a model that exists: as its manifest says, not as training would.

Nothing here imports Keras. Training decides from a table how its columns are read and which classes
there are; an evaluation must read cells as the model does, and data may lack a class.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from serving.array_files import open_archive, read_archive, read_model_arrays
from serving.checking import check_inputs
from serving.columns import read_row_inputs
from serving.errors import InputError, describe_all
from serving.inputs import image_shape, read_model_image
from serving.manifest import TASKS, Manifest, describe_spec
from serving.row_format import check_names, row_format

from .arrays import NamedArrays
from .concatenation import join_datasets
from .datasets import Dataset
from .file_names import as_text
from .image_files import decode_files
from .image_folders import unreadable_images
from .image_lists import ImageList, list_image_folder
from .image_tables import list_image_table
from .reading_progress import tell
from .source_kinds import NAMED, is_code, kind_of_source, parts_of
from .sources import load_dataset
from .tables import Table, check_columns, holds_table, open_table
from .targets import (
    check_target_units,
    names_of_targets,
    note_places,
    places_of,
    read_targets,
    unknown_label,
)

# Arrays of an .npz in the layout of `keras.datasets.mnist`.
_KERAS_ARRAYS = {"x_train", "y_train"}
# Names of the array of targets in other .npz files.
_TARGETS = ("y", "targets", "labels", "y_test")


def read_labeled(source: str, manifest: Manifest, reading: ReadingConfig) -> Dataset:
    """Read a data source for a model.

    Args:
        source: see `app.data.sources.load_dataset`; also a reference to a function that returns
            data, and an `.npz` with an array for each input of the model, and the targets as `y`.
        manifest: manifest of the model, which names its columns and labels.
        reading: the columns of the targets, and what else a table does not say; columns to leave
            out are ignored, since the manifest names those that the model takes.

    Returns:
        Samples whose `model_inputs` the model takes, with targets in the order of its labels, and
        the positive one of two classes that it states. A class may have no samples.

    Raises:
        DataError: the source cannot be read, is of another kind than the model takes, lacks a
            column, or has a target that is not among the model's labels.
    """
    if manifest.task not in ("multiclass", "multilabel", "regression"):
        raise DataError(
            "Targets can be compared only with the outputs of a model that has labels. Received: "
            f"{manifest.name}, which has none. Export it with --labels."
        )
    if is_code(source):
        from .frames import data_on_disk  # which imports TensorFlow, as the code may

        with data_on_disk(source) as found:
            # a written folder is removed, but its open files stay readable
            return read_labeled(found.source, manifest, reading)
    try:
        parts = [_read(part, manifest, reading) for part in parts_of(source)]
    except InputError as error:
        raise DataError(str(error)) from None
    dataset = parts[0]
    if len(parts) > 1:
        # No model was trained on joined sources with a validation split.
        dataset = join_datasets(source, [replace(part, validation_start=None) for part in parts])
    # bundles of earlier versions state it with their thresholds only
    stated = manifest.positive or getattr(manifest.thresholds, "positive", None)
    return replace(dataset, stated_positive=stated)


def default_reading(manifest: Manifest) -> dict[str, Any]:
    """Return the settings with which the source of a model's training was read.

    The columns of labels and values are named like them, those of classes are in the manifest's
    configuration, which a model that was trained elsewhere does not have.
    """
    keys = ("target", "categorical", "missing", "image_column", "unreadable")
    found = {key: manifest.config[key] for key in keys if manifest.config.get(key)}
    if "target" not in found and manifest.task != "multiclass":
        found["target"] = list(manifest.labels)
    return found


def _read(source: str, manifest: Manifest, reading: ReadingConfig) -> Dataset:
    takes_rows = bool(manifest.columns or manifest.string_columns)
    kind, path = kind_of_source(source, _without_columns(source, reading)), Path(source)
    if kind == "table" and not reading.image_column:
        _require(takes_rows, manifest, source, "rows")
        return _read_rows(open_table(path), manifest, reading)
    if kind in ("table", "folder"):
        image_shape(manifest)
        found = (
            list_image_folder(path)
            if kind == "folder"
            else list_image_table(
                open_table(path),
                replace(reading, target=names_of_targets(reading, manifest.task, manifest.labels)),
                manifest.task,
                known=manifest.labels,
            )
        )
        return _decode(found, manifest, reading)
    if kind == ".npz" and not set(open_archive(path).files) >= _KERAS_ARRAYS:
        return _read_arrays(path, manifest)
    if kind == "named" and NAMED[source].kind == "rows":
        _require(takes_rows, manifest, source, "rows")
    elif kind != "arrays":
        _require(not takes_rows, manifest, source, "images")
    if kind == "named":
        _require(NAMED[source].task == manifest.task, manifest, source, TASKS[NAMED[source].task])
    dataset = _load(source, kind, manifest)
    if dataset.columns and takes_rows and kind == "named":
        dataset = _with_columns(dataset, manifest)
    return _with_labels(_checked(dataset, manifest), manifest)


def _without_columns(source: str, reading: ReadingConfig) -> ReadingConfig:
    """Return the settings for a source; those of the training's table do not concern others."""
    return reading if holds_table(source) else ReadingConfig()


def _require(is_taken: bool, manifest: Manifest, source: str, what: str) -> None:
    if not is_taken:
        specs = ", ".join(map(describe_spec, manifest.inputs))
        raise DataError(
            f"The data must suit the model {manifest.name}, which takes {specs} and predicts "
            f"{TASKS[manifest.task]}. Received: {source}, with {what}."
        )


def _load(source: str, kind: str, manifest: Manifest) -> Dataset:
    """Read arrays as they are, and images in the size of the model's input."""
    if kind == "arrays" or (kind == "named" and NAMED[source].kind == "rows"):
        return load_dataset(source, task=manifest.task)
    shape = manifest.inputs[0].shape[1:]
    sizes = tuple(size for size in shape[:2] if isinstance(size, int))
    reading = ReadingConfig(image_size=sizes if len(sizes) == 2 and len(shape) > 1 else ())
    dataset = load_dataset(source, reading, has_digits=False)
    images = np.asarray(dataset.inputs)
    if len(shape) == 2 and images.shape[3] == 1:
        images = images[..., 0]
    return Dataset(
        source=dataset.source,
        inputs=images,
        targets=dataset.targets,
        labels=dataset.labels,
        test_start=dataset.test_start,
    )


def _with_columns(dataset: Dataset, manifest: Manifest) -> Dataset:
    """Return rows with the columns of the model, in their order."""
    check_names(manifest, dataset.columns, dataset.source)
    order = [dataset.columns.index(name) for name in manifest.columns]
    return replace(dataset, inputs=np.asarray(dataset.inputs)[:, order], columns=manifest.columns)


def _checked(dataset: Dataset, manifest: Manifest) -> Dataset:
    """Require arrays that the model takes."""
    first = dataset.model_inputs(slice(0, 1))
    named = first if isinstance(first, dict) else {manifest.inputs[0].name: first}
    is_image = dataset.kind == "images" and manifest.inputs[0].dtype.startswith("float")
    if is_image:
        raise DataError(
            f"Images have gray levels or colors from 0 to 255, uint8. Received: {manifest.name}, "
            f"which takes {describe_spec(manifest.inputs[0])}. Export it with --input-dtype uint8 "
            "if it scales them itself, or give an .npz with its inputs and y."
        )
    check_inputs(named, manifest.inputs)
    return dataset


def _read_rows(table: Table, manifest: Manifest, reading: ReadingConfig) -> Dataset:
    """Read the rows of a table as the model does."""
    check_names(manifest, table.names, table.source)
    table.require_cells(column.name for column in row_format(manifest).columns)
    check_columns(table, ReadingConfig(target=reading.target))
    numbers: list[np.ndarray] = []
    texts: list[np.ndarray] = []
    for batch in table.read():
        found = read_row_inputs(manifest, batch.cells, _places(table, batch.numbers))
        if found.problems:
            raise DataError(describe_all([found.problems[row] for row in sorted(found.problems)]))
        numbers += [found.inputs["inputs"]] if manifest.columns else []
        texts += [found.inputs["texts"]] if manifest.string_columns else []
    targets, decimals, notes = read_targets(
        table, reading, manifest.task, manifest.labels, manifest.target_units
    )
    words, codes = _encode(np.concatenate(texts)) if texts else ((), None)
    empty = np.empty((len(targets), 0), np.float32)
    return Dataset(
        source=table.source,
        inputs=np.concatenate(numbers) if numbers else empty,
        targets=targets,
        task=manifest.task,
        labels=manifest.labels,
        columns=manifest.columns,
        codes=codes,
        string_columns=manifest.string_columns,
        words=words,
        row_format=manifest.row_format,
        target_decimals=decimals,
        notes=_told(notes),
    )


def _told(notes: Sequence[str]) -> tuple[str, ...]:
    """Tell notes, and return them for the data, with whose measures they are shown again."""
    for note in notes:
        tell(note)
    return tuple(notes)


def _places(table: Table, numbers: Sequence[int]) -> Callable[[int], str]:
    return lambda row: f" in {table.place(numbers[row])}"


def _encode(texts: np.ndarray) -> tuple[tuple[tuple[str, ...], ...], np.ndarray]:
    """Return the words of each column, the empty text first, and their codes."""
    words, codes = [], np.empty(texts.shape, np.int32)
    for number, column in enumerate(texts.T):
        known = ("", *sorted({*column.tolist()} - {""}))
        places = {word: code for code, word in enumerate(known)}
        codes[:, number] = [places[text] for text in column]
        words.append(known)
    return tuple(words), codes


def _decode(found: ImageList, manifest: Manifest, reading: ReadingConfig) -> Dataset:
    """Decode image files as `hornbill predict` does."""
    read = partial(read_model_image, manifest=manifest)
    check_target_units(
        found.source, found.labels, found.target_units, manifest.labels, manifest.target_units
    )
    images, is_read, problems = decode_files(found.paths, image_shape(manifest), read)
    if problems and (reading.unreadable == "refuse" or not is_read.any()):
        raise unreadable_images(found.source, problems, len(found.paths))
    train, validation, test = np.split(is_read, np.cumsum(found.sizes)[:-1])
    dataset = Dataset(
        source=found.source,
        inputs=images,
        targets=found.targets[is_read],
        labels=found.labels,
        task=found.task,
        validation_start=int(train.sum()) if len(validation) else None,
        test_start=int(train.sum() + validation.sum()) if len(test) else None,
        skipped=tuple(map(as_text, problems)),
        files=found.names(is_read),
    )
    return _with_labels(dataset, manifest)


def _with_labels(dataset: Dataset, manifest: Manifest) -> Dataset:
    """Return the samples with the model's labels, in the model's order.

    Whole numbers are the labels with these names, if all labels are numbers; otherwise they are
    indices of labels, which a note says.
    """
    _require(dataset.task == manifest.task, manifest, dataset.source, TASKS[dataset.task])
    if manifest.task != "multiclass":
        count = dataset.targets.shape[1]
        if count != len(manifest.labels):
            raise DataError(
                f"The data must have a target for each of the {len(manifest.labels)} "
                f"{TASKS[manifest.task]} of {manifest.name}. Received: {count} of {dataset.source}."
            )
        return replace(dataset, labels=manifest.labels)
    places = places_of(dataset.labels, manifest.labels)
    for number in np.unique(dataset.targets).tolist():
        if places[number] < 0:
            raise DataError(unknown_label(dataset.labels[number], manifest.labels, dataset.source))
    targets = np.array(places, np.int64)[dataset.targets]
    known = [dataset.labels[number] for number in np.unique(dataset.targets).tolist()]
    notes = _told(note_places(f"The target of {dataset.source}", known, manifest.labels))
    return replace(dataset, targets=targets, labels=manifest.labels, notes=(*dataset.notes, *notes))


def _read_arrays(path: Path, manifest: Manifest) -> Dataset:
    """Read an `.npz` with the arrays that the model takes, and the targets."""
    names = open_archive(path).files
    target = next((name for name in _TARGETS if name in names), "")
    if not target:
        raise DataError(
            f"{path} must hold the targets as y. Received: {', '.join(names) or 'none'}."
        )
    inputs = read_model_arrays(path, manifest, (target, "x_train", "y_train"))
    (targets,) = read_archive(path, [target])
    check_inputs(inputs, manifest.inputs)
    samples = len(next(iter(inputs.values())))
    if len(targets) != samples or not samples:
        raise DataError(
            f"{path} must have a target for each sample. Received: {samples:,} samples and "
            f"{len(targets):,} targets."
        )
    found, notes = _array_targets(targets, manifest, str(path))
    return Dataset(
        source=str(path),
        inputs=NamedArrays(inputs) if len(inputs) > 1 else next(iter(inputs.values())),
        targets=found,
        task=manifest.task,
        labels=manifest.labels,
        columns=manifest.columns,
        string_columns=(),
        notes=notes,
    )


def _array_targets(
    targets: np.ndarray, manifest: Manifest, source: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the targets of an array as a `Dataset` has them, and its notes."""
    count = len(manifest.labels)
    if manifest.task == "regression":
        values = targets.reshape(len(targets), -1)
        if values.dtype.kind not in "biuf" or values.shape[1] != count:
            raise _wrong_targets(f"{count} numbers a sample", targets, source)
        is_finite = np.isfinite(values).all(axis=1)
        if not is_finite.all():
            raise DataError(
                "Targets must be finite numbers. Received: NaN or infinity in sample "
                f"{int(is_finite.argmin())} of {source}."
            )
        return values.astype(np.float32), ()
    is_binary = targets.shape == (len(targets), count) and np.isin(targets, (0, 1)).all()
    if manifest.task == "multilabel":
        if not is_binary:
            raise _wrong_targets(f"0 or 1 for each of {count} labels", targets, source)
        return targets.astype(np.float32), ()
    if is_binary and (targets.sum(axis=1) == 1).all():  # one-hot
        return np.asarray(targets.argmax(axis=1), np.int64), ()
    flat = targets.reshape(len(targets), -1)
    if flat.shape[1] != 1 or flat.dtype.kind not in "biufUS":
        raise _wrong_targets("the class of each sample", targets, source)
    texts, numbers = np.unique(flat[:, 0], return_inverse=True)
    names = [t.decode() if isinstance(t, bytes) else f"{t}" for t in texts.tolist()]
    places = places_of(names, manifest.labels)
    for name, place in zip(names, places, strict=True):
        if place < 0:
            raise DataError(unknown_label(name, manifest.labels, source))
    notes = note_places(f"The target of {source}", names, manifest.labels)
    return np.array(places, np.int64)[numbers.reshape(-1)], _told(notes)


def _wrong_targets(wanted: str, targets: np.ndarray, source: str) -> DataError:
    return DataError(
        f"The targets of {source} must be {wanted}. Received: {targets.dtype} {targets.shape}."
    )
