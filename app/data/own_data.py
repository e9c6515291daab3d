"""Data that Python code passes: arrays and `tf.data` pipelines.

They are written once as a folder of arrays, which is a data source like others. A pipeline of its
own for training is streamed as well: its augmentation and its batches stay as they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.errors import DataError
from app.system.user_code import describe_error, load_object
from models.checks import fits
from serving.frames import is_table

from .array_folders import OF_WEIGHTS, count_classes, read_facts, write_facts
from .arrays import Array, DiskArray, NamedArrays, rows_at
from .datasets import Stream
from .reading_progress import tell, tell_progress
from .sample_writer import SampleWriter, named_arrays

SPLITS = ("train", "validation", "test")
# Splits that arrays may have; without validation samples, these are split off.
_SPLITS_OF_ARRAYS = {2: ("train", "test"), 3: SPLITS}
# Samples of a training pipeline that are kept for reports and calibration, and their bytes.
_KEPT, _KEPT_BYTES, _MIN_KEPT = 100_000, 1_000_000_000, 1_000
# Samples after which a pipeline of unknown length counts as endless.
_MOST_SAMPLES = 10_000_000
# Samples that are read at once from a pipeline without batches.
_BATCH = 256
# Rows that are written at once.
_AT_ONCE = 1024
_ENDLESS = "Take as many as an epoch has, with .take(steps)."
_FORMS = (
    "a source, arrays (x, y) or (x, y, weights), a tf.data.Dataset of such, or a dict of arrays or "
    "of datasets for train, validation and test"
)


def is_own_data(data: Any) -> bool:
    """Return whether data are arrays or pipelines, rather than a source or a table."""
    return isinstance(data, tuple | list | Mapping | tf.data.Dataset)


def data_of_code(reference: str) -> Any:
    """Return the data that a user's function returns, or that a reference names itself.

    Raises:
        DataError: the function raises an error.
        ConfigError: the reference names nothing.
    """
    found = load_object(reference, "data")
    if not callable(found) or is_own_data(found):
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:  # whatever the function raises
        raise DataError(
            f"data must be a function without arguments that returns {_FORMS}. Received: "
            f"{reference}, which raised "
            f"{describe_error(error)}"
        ) from None


def write_own_data(
    data: Any, folder: Path, origin: str = "", most: int = _MOST_SAMPLES
) -> Stream | None:
    """Write arrays or pipelines as a folder of arrays.

    Args:
        data: arrays `(x, y)`, where x may be a dict of arrays; `((x, y), (x, y))` for training
            and test, as `keras.datasets` return, or three of them, with validation in the middle,
            or a dict of them; a finite `tf.data.Dataset` of `(x, y)`, with batches or without; or
            datasets for `train`, `validation` and `test`, as a dict or in that order, with batches.
            A single dataset, or the one for `train`, may have the names of classes as an attribute
            `class_names`, as `keras.utils.image_dataset_from_directory` returns it.
            In place of each `(x, y)` may be `(x, y, weights)`, weights `(samples,)`, at least 0.
        folder: an existing, empty folder.
        origin: reference to the function that has returned the data; empty for none.
        most: largest number of samples of a pipeline that does not tell how many it has.

    Returns:
        The training pipeline if there is one of its own, else None.

    Raises:
        DataError: the data has another form, is endless or empty, its samples differ in shape, a
            weight is negative or missing, or the disk is full.
    """
    stream = _write(data, folder, origin, most)
    if read_facts(folder).has_weights:
        tell(OF_WEIGHTS)
    return stream


def _write(data: Any, folder: Path, origin: str, most: int) -> Stream | None:
    sets = _arrays_by_split(data)
    if sets is not None:
        _write_arrays(sets, folder)
        return None
    pipelines = _pipelines_by_split(data)
    if pipelines is not None:
        return _write_streams(pipelines, folder, origin, most)
    if isinstance(data, tf.data.Dataset):
        _check_spec(data, "data")
        with SampleWriter(folder, _has_weights(data)) as writer:
            for x, y, weights in _batches(data, "data", most):
                writer.add(x, y, "data", weights)
            facts = writer.finish()
        write_facts(folder, replace(facts, labels=_labels(data, facts.labels, folder)))
        return None
    if len(data) != 2 and not _is_triple(data):
        received = f"a {type(data).__name__} of {len(data)} parts"
        raise DataError(f"data must be {_FORMS}. Received: {received}.")
    _write_arrays({"data": data}, folder)
    return None


def _is_triple(part: Any) -> bool:
    """Return whether a part of data is (x, y, weights), as `keras.Model.fit` takes them.

    What is wrong with one of them, such as a list of several inputs, is told later.
    """
    if not isinstance(part, tuple | list) or len(part) != 3:
        return False
    x, y, weights = part
    if isinstance(y, tf.data.Dataset) or isinstance(weights, tf.data.Dataset):
        return False
    return _is_inputs(x) or (_are_arrays(x) and _is_inputs(y))


def _arrays_by_split(data: Any) -> dict[str, Any] | None:
    """Return the arrays of the splits; None if data has another form."""
    if isinstance(data, tf.data.Dataset) or len(data) not in _SPLITS_OF_ARRAYS:
        return None
    names = _SPLITS_OF_ARRAYS[len(data)]
    named = data if isinstance(data, Mapping) else dict(zip(names, data, strict=True))
    if set(named) != set(names) or not all(map(_is_part, named.values())):
        return None
    return {name: named[name] for name in names}


def _is_part(part: Any) -> bool:
    """Return whether a part of data is arrays (x, y), as `keras.datasets` have for training.

    They may have weights at the end. A list of several inputs or targets is told later.
    """
    is_some = isinstance(part, tuple | list) and len(part) in (2, 3)
    return is_some and all(_is_inputs(each) or _are_arrays(each) for each in part)


def _is_inputs(array: Any) -> bool:
    return hasattr(array, "shape") or isinstance(array, Mapping)


def _are_arrays(part: Any) -> bool:
    """Return whether a part of data is a list of arrays with axes, as Keras takes several."""
    return isinstance(part, tuple | list) and any(getattr(each, "shape", ()) for each in part)


def _write_arrays(sets: Mapping[str, Any], folder: Path) -> None:
    """Write arrays (x, y), perhaps with weights, of each split if there are several."""
    parts = {name: _checked(name, *part) for name, part in sets.items()}
    for name, (_, y, _) in parts.items():
        if not len(y):
            raise DataError(f"Arrays must hold samples. Received: none in {name}.")
    counts = [len(y) for _, y, _ in parts.values()]
    starts = dict(zip(parts, np.cumsum([0, *counts]).tolist(), strict=False))
    has_weights = any(weights is not None for _, _, weights in parts.values())
    with SampleWriter(folder, has_weights) as writer:
        for name, (x, y, weights) in parts.items():
            for start in range(0, len(y), _AT_ONCE):
                rows = slice(start, start + _AT_ONCE)
                writer.add(_at(x, rows), y[rows], name, None if weights is None else weights[rows])
        facts = writer.finish()
    facts = replace(facts, validation_start=starts.get("validation"), test_start=starts.get("test"))
    write_facts(folder, facts)


def _checked(
    name: str, x: Any, y: Any, weights: Any = None
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Return inputs, targets and weights, if there are any, as arrays of as many samples."""
    if isinstance(x, tuple | list) and any(hasattr(part, "shape") for part in x):
        raise DataError(
            "Several inputs must be a dict of arrays by the name of the model's input. "
            f"Received: a {type(x).__name__} of {len(x)} arrays."
        )
    if isinstance(y, Mapping):
        raise DataError(
            f"y must be one array. Received: a dict of {', '.join(map(str, y))}. Several values or "
            "labels are its columns, (samples, columns)."
        )
    inputs: Any = (
        _array("x", x)
        if not isinstance(x, Mapping)
        else {str(key): _array(f"x[{key!r}]", array) for key, array in x.items()}
    )
    samples = min(map(len, named_arrays(inputs).values()), default=0)
    if _are_arrays(y) and len(y) != samples:  # a list of rows has one for each sample
        raise DataError(
            f"y must be one array. Received: a {type(y).__name__} of {len(y)} arrays. Several "
            "values or labels are its columns, (samples, columns), as of np.column_stack."
        )
    targets = _array("y", y)
    for key, array in named_arrays(inputs).items():
        if len(array) != len(targets):
            raise DataError(
                "x and y must have as many samples. "
                f"Received: {len(array):,} in {key or 'x'} and {len(targets):,} in y."
            )
    if weights is None:
        return inputs, targets, None
    return inputs, targets, _checked_weights(weights, len(targets), f"{name}, with")


def _checked_weights(weights: Any, count: int, place: str) -> np.ndarray:
    """Return weights of samples, float32 `(samples,)`.

    Args:
        weights: an array `(samples,)` or `(samples, 1)`, or what may become one.
        count: number of samples.
        place: what an error calls the samples, up to their number.
    """
    try:
        array = np.asarray(weights)
        is_number = array.dtype.kind in "fbiu"
        is_one_each = is_number and array.shape in ((count,), (count, 1))
        received = f"{array.shape}" if is_number else f"{array.dtype} {array.shape}"
    except ValueError:
        is_one_each, received = False, f"{type(weights).__name__} of several shapes"
    if is_one_each:
        with np.errstate(over="ignore"):
            found = array.astype(np.float32).reshape(count)
        if (np.isfinite(found) & (found >= 0)).all():
            return found
        received = "NaN, infinity or negative ones"
    fix = ""
    if isinstance(weights, Mapping):
        received = f"a dict of {', '.join(map(str, weights))}"
        fix = (
            " For weights of classes, set class_weight=balanced, or give each sample that of its "
            "class, such as np.array([1.0, 2.0])[y]."
        )
    raise DataError(
        "Weights must be a number for each sample, at least 0. "
        f"Received: {received} in {place} {count} samples.{fix}"
    )


def open_stream(data: Any, folder: Path, inputs: Array) -> Stream:
    """Return the training pipeline of a run that goes on, whose folder of arrays is written.

    Args:
        data: pipelines; None calls the function that has returned them at the beginning.
        folder: the folder of arrays.
        inputs: those of the samples that were kept.

    Raises:
        DataError: the data has no training pipeline, or one of other inputs, or there is no such
            function.
    """
    facts = read_facts(folder)
    if data is None:
        if not facts.origin:
            raise DataError(
                "The run was trained on pipelines that Python code has passed. "
                f"Received: {folder.parent}. Resume it with app.runs.resume(folder, data=…)."
            )
        data = data_of_code(facts.origin)
    pipelines = _pipelines_by_split(data)
    if pipelines is None:
        raise DataError(
            "The run was trained on a pipeline, so it goes on with a dict of datasets for train, "
            f"validation and test. Received: {type(data).__name__}."
        )
    _check_spec(pipelines["train"], "train")
    spec = pipelines["train"].element_spec[0]
    given = {name: tuple(one.shape[1:]) for name, one in named_arrays(spec).items()}
    kept = inputs.named if isinstance(inputs, NamedArrays) else {"": inputs}
    known = {name: tuple(array.shape[1:]) for name, array in kept.items()}
    if given.keys() != known.keys() or not all(map(fits, known.values(), given.values())):
        raise DataError(
            "A run goes on with samples of the same shape. "
            f"Received: {_shapes(given)}; it began with {_shapes(known)}."
        )
    return Stream(_of_length(pipelines["train"], facts.steps), facts.steps, facts.samples)


def _shapes(named: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}".strip() for name, shape in named.items())


def _pipelines_by_split(data: Any) -> dict[str, tf.data.Dataset] | None:
    """Return the pipelines of the splits; None if data is a single pipeline or arrays."""
    if isinstance(data, Mapping):
        named = dict(data)
    elif isinstance(data, tuple | list) and any(isinstance(d, tf.data.Dataset) for d in data):
        named = dict(zip(SPLITS, data, strict=False)) if len(data) <= 3 else {}
    else:
        return None
    if set(named) != set(SPLITS):
        raise DataError(
            "Splits must be datasets or arrays (x, y) for train, validation and test. "
            f"Received: {', '.join(map(str, named)) or 'more than three'}. Split one with .take "
            "and .skip, or give a single dataset or arrays (x, y), which are split for you."
        )
    for name, part in named.items():
        if not isinstance(part, tf.data.Dataset):
            raise DataError(
                f"Pipelines must be of the type tf.data.Dataset. Received: {type(part).__name__} "
                f"for {name}. Make one with Dataset.from_tensor_slices((x, y)).batch(64), or give "
                "arrays (x, y) for each split."
            )
    return {name: named[name] for name in SPLITS}


def _write_streams(
    pipelines: dict[str, tf.data.Dataset], folder: Path, origin: str, most: int
) -> Stream:
    counter = _Counter()
    for name, dataset in pipelines.items():
        _check_spec(dataset, name)
        if any(leaf.dtype == tf.string for leaf in tf.nest.flatten(dataset.element_spec)):
            raise DataError(
                "Pipelines for training, validation and test must yield numbers. "
                f"Received: {name} with {_describe(dataset.element_spec)}. Turn texts into numbers "
                "first, such as token ids or numbers of classes."
            )
        if not _has_batches(dataset.element_spec):
            raise DataError(
                "Pipelines for training, validation and test must have batches. "
                f"Received: {name} with elements {_describe(dataset.element_spec)}. "
                "Add .batch(64)."
            )
    kept = _Kept()
    for x, y, weights in counter.count(_batches(pipelines["train"], "train", most)):
        kept.add(x, y, weights)
    parts = {"train": kept.parts()}
    for name in SPLITS[1:]:
        parts[name] = _batches(pipelines[name], name, most)
    starts = []
    with SampleWriter(folder, any(map(_has_weights, pipelines.values()))) as writer:
        for name in SPLITS:
            for x, y, weights in parts[name]:
                writer.add(x, y, name, weights)
            starts.append(writer.count)
        facts = writer.finish()
    notes = []
    if kept.stride > 1:
        notes = [
            f"training streams {counter.samples:,} samples; every {kept.stride}th of an epoch was "
            "kept for the report"
        ]
    facts = replace(
        facts,
        labels=_labels(pipelines["train"], facts.labels, folder),
        validation_start=starts[0],
        test_start=starts[1],
        steps=counter.steps,
        samples=counter.samples,
        notes=notes,
        origin=origin,
    )
    write_facts(folder, facts)
    batches = _of_length(pipelines["train"], counter.steps)
    return Stream(batches, counter.steps, counter.samples)


def _labels(dataset: tf.data.Dataset, found: list[str], folder: Path) -> list[str]:
    """Return the names of classes: those of the targets, or those that Keras gives a dataset.

    `keras.utils.image_dataset_from_directory` and its like keep them beside the numbers, as
    `class_names`. They are taken if there are as many as classes.
    """
    names = getattr(dataset, "class_names", None)
    if found or not isinstance(names, list | tuple) or len(names) != count_classes(folder):
        return found
    return [str(name) for name in names]


def _of_length(batches: tf.data.Dataset, steps: int) -> tf.data.Dataset:
    """Return a pipeline that knows how many batches it has, so that Keras can begin it anew."""
    if batches.cardinality() == steps:
        return batches
    return batches.apply(tf.data.experimental.assert_cardinality(steps))


class _Counter:
    """Counts the batches and the samples of a pipeline as they go by."""

    def __init__(self) -> None:
        self.steps = self.samples = 0

    def count(self, batches: Iterator[Any]) -> Iterator[Any]:
        for x, y, weights in batches:
            self.steps += 1
            self.samples += len(y)
            yield x, y, weights


class _Kept:
    """Keeps evenly spaced samples of a pipeline: all, or every 2nd, 4th, … of many."""

    def __init__(self) -> None:
        self.stride = 1
        self._seen = 0
        self._arrays: list[Any] = []
        self._names: list[str] = []

    def add(self, x: Any, y: np.ndarray, weights: np.ndarray) -> None:
        named = named_arrays(x)
        rows = [*named.values(), y, weights]
        if not self._arrays:
            self._names = list(named)
            self._arrays = [DiskArray(array.shape[1:], array.dtype) for array in rows]
            self._most = _MIN_KEPT + _KEPT_BYTES // max(1, sum(a[:1].nbytes for a in rows))
        chosen = np.arange(-self._seen % self.stride, len(y), self.stride)
        for array, part in zip(self._arrays, rows, strict=True):
            array.append(part[chosen])
        self._seen += len(y)
        if len(self._arrays[0]) > min(_KEPT, self._most):
            every_second = np.arange(0, len(self._arrays[0]), 2)
            self._arrays = [rows_at(array, every_second) for array in self._arrays]
            self.stride *= 2

    def parts(self) -> Iterator[Any]:
        *inputs, targets, weights = self._arrays
        for start in range(0, len(targets), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            parts = [array[rows] for array in inputs]
            named = dict(zip(self._names, parts, strict=True))
            yield named if self._names[0] else parts[0], targets[rows], weights[rows]


def _has_weights(dataset: tf.data.Dataset) -> bool:
    """Return whether the elements of a pipeline are (x, y, weights)."""
    return len(dataset.element_spec) > 2


def _batches(
    dataset: tf.data.Dataset, name: str, most: int
) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """Yield the batches of a finite pipeline as arrays, with the weight 1 if there are none."""
    cardinality = int(dataset.cardinality())  # negative if it is not known
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise DataError(f"A dataset must end. Received: {name}, which is endless. {_ENDLESS}")
    has_batches = _has_batches(dataset.element_spec)
    if not has_batches:
        cardinality = -(-cardinality // _BATCH) if cardinality > 0 else cardinality
        dataset = dataset.batch(_BATCH)
    count = 0
    try:
        for step, (x, y, *weights) in enumerate(dataset.as_numpy_iterator()):
            _check_batch(name, x)
            size = len(y)
            given = weights[0] if weights else np.ones(size)
            where = f"{name}, {'with' if has_batches else f'after {count:,} others,'}"
            yield x, y, _checked_weights(given, size, where)
            count += size
            if cardinality > 0:
                tell_progress(step + 1, cardinality, "reading batches")
                continue
            tell_progress(count, 0, "reading samples")
            if count > most:
                raise DataError(
                    "A dataset must end. "
                    f"Received: {name}, with more than {most:,} samples so far. {_ENDLESS}"
                )
    except tf.errors.OpError as error:
        last = count + _BATCH - 1
        place = f"after {count:,}" if has_batches else f"in samples {count:,} to {last:,}"
        raise DataError(
            f"The dataset must yield samples. Received: {name}, which failed {place}: "
            f"{describe_error(error)}"
        ) from None
    tell_progress(count, count, "reading samples")
    if not count:
        raise DataError(f"A dataset must hold samples. Received: {name}, which is empty.")


def _check_batch(name: str, x: Any) -> None:
    """Require, of a pipeline of batches, inputs without NaN."""
    if name not in SPLITS:
        return  # samples of a single dataset may lack values, which are encoded
    for key, array in named_arrays(x).items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise DataError(
                "Pipelines must yield no NaN. "
                f"Received: {name}, with NaN in {key or 'x'}. Fill missing values in the pipeline, "
                "or give a single dataset or arrays, of which they are encoded."
            )


def _check_spec(dataset: tf.data.Dataset, name: str) -> None:
    """Require elements `(x, y)` or `(x, y, weights)`, of dense tensors."""
    spec = dataset.element_spec
    is_tuple = isinstance(spec, tuple) and len(spec) in (2, 3)
    if is_tuple and isinstance(spec[0], tuple):
        raise DataError(
            "Several inputs must be a dict of tensors by the name of the model's input. "
            f"Received: {name} with a {type(spec[0]).__name__} of {len(spec[0])}. Make one with "
            ".map(lambda x, y: ({'a': x[0], 'b': x[1]}, y))."
        )
    leaves = [*named_arrays(spec[0]).values(), *spec[1:]] if is_tuple else []
    if not leaves or not all(isinstance(leaf, tf.TensorSpec) for leaf in leaves):
        raise DataError(
            "Each element of a dataset must be (x, y) or (x, y, weights), of dense tensors. "
            f"Received: {name} with {_describe(spec)}."
        )
    if any(leaf.shape.rank is None for leaf in leaves):
        raise DataError(
            "The number of axes of each tensor of a dataset must be known. "
            f"Received: {name} with {_describe(spec)}. Give from_generator an output_signature; "
            "after tf.numpy_function, call x.set_shape."
        )


def _has_batches(spec: Any) -> bool:
    """Return whether elements are batches: x and y begin with the same axis.

    Two lists of one length are a sample, as autoencoders take, rather than numbers in batches.
    """
    inputs, y = tf.nest.flatten(spec[0]), spec[1].shape
    first = inputs[0].shape
    if len(inputs) == 1 and first.rank == y.rank == 1 and first[0] is not None:
        return False
    return bool(first.rank and y.rank and first[0] == y[0])


def _describe(spec: Any) -> str:
    return str(
        tf.nest.map_structure(
            lambda s: (
                f"{s.dtype.name} {'of any shape' if s.shape.rank is None else tuple(s.shape)}"
            ),
            spec,
        )
        if all(isinstance(leaf, tf.TensorSpec) for leaf in tf.nest.flatten(spec))
        else spec
    ).replace("'", "")


def _at(x: Any, rows: slice) -> Any:
    return {name: array[rows] for name, array in x.items()} if isinstance(x, Mapping) else x[rows]


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        fix = (
            "Several labels of a sample are a row of 0 and 1, one for each label."
            if name == "y"
            else "Bring them to one length, as keras.utils.pad_sequences does."
        )
        raise DataError(
            f"{name} must be an array of one shape. Received: a {type(value).__name__} of "
            f"{len(value)} samples of several shapes. {fix}"
        ) from None
    if not array.ndim or (array.dtype.kind == "O" and name != "y"):
        fix = (
            " Columns of texts are encoded if the whole table is given, data=table, and its column "
            "to predict is named, target=NAME."
        )
        raise DataError(
            f"{name} must be an array with a row for each sample. "
            f"Received: {type(value).__name__} of {array.dtype} {array.shape}."
            f"{fix if is_table(value) else ''}"
        )
    return array
