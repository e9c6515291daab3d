"""Arrays of a user as a data source: a folder of `.npy` files beside `arrays.json`.

`app.data.own_data` writes it for arrays and `tf.data` pipelines, so that a run can be resumed and
exported without them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import DataError
from app.system.user_code import bare_reference
from serving.errors import cannot_read, cannot_write

from .arrays import NamedArrays, chunks
from .datasets import MAX_CLASSES, Dataset, Stream
from .source_kinds import ARRAY_FACTS

_TARGETS, _WEIGHTS = "targets", "weights"
# Whole numbers as floats that are no more than these may have been meant as classes.
_FEW = 100
# How far the sum of probabilities may be from 1.
_TOLERANCE = 1e-3
_OF_PROBABILITIES = (
    "y holds probabilities of classes, which the loss compares; elsewhere the most probable one is "
    "the class"
)
OF_WEIGHTS = (
    "samples have weights, which count in the losses of training and validation; scores count all "
    "samples alike"
)


@dataclass(frozen=True)
class ArrayFacts:
    """What `arrays.json` says.

    Attributes:
        inputs: name of each input; empty if there is a single one without a name.
        labels: name of each class if the targets are texts or their classes have names, or of each
            label or value if they have names; empty for none.
        validation_start: index of the first validation sample; None if it is not known.
        test_start: index of the first test sample; None if it is not known.
        steps: steps of an epoch of a pipeline that is streamed; 0 for arrays.
        samples: its samples, of which some may be left out here.
        notes: what a report should say.
        origin: reference to the function that has returned pipelines; empty for none.
        has_weights: whether samples have weights.
    """

    inputs: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    validation_start: int | None = None
    test_start: int | None = None
    steps: int = 0
    samples: int = 0
    notes: list[str] = field(default_factory=list)
    origin: str = ""
    has_weights: bool = False


class ArrayWriter:
    """Writes an `.npy` file of rows that come one after the other.

    Args:
        path: path of the file.
        sample_shape: shape of a row.
        dtype: type of the elements.
    """

    def __init__(self, path: Path, sample_shape: tuple[int, ...], dtype: Any) -> None:
        self.path, self.sample_shape, self.dtype = path, sample_shape, np.dtype(dtype)
        self.count = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """Add rows `(rows, *sample_shape)`.

        Raises:
            DataError: the disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(rows, self.dtype).data)
        except OSError as error:
            raise DataError(
                f"{cannot_write(self.path, error)} Set TMPDIR to a folder with more space."
            ) from None
        self.count += len(rows)

    def close(self) -> None:
        """Finish the file."""
        self._file.seek(0)
        self._write_header()  # numpy leaves room for the number of rows
        self._file.close()

    def _write_header(self) -> None:
        shape = (self.count, *self.sample_shape)
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": shape,
        }
        np.lib.format.write_array_header_1_0(self._file, header)


def open_array(path: Path) -> np.ndarray:
    """Return the array of an `.npy` file, whose rows are read as they are needed.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        empty_or_mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(cannot_read(path, error, "an .npy file")) from None
    return empty_or_mapped


def input_file(folder: Path, number: int) -> Path:
    """Return the path of the array of an input."""
    return folder / f"inputs-{number}.npy"


def target_file(folder: Path) -> Path:
    """Return the path of the array of targets."""
    return folder / f"{_TARGETS}.npy"


def weight_file(folder: Path) -> Path:
    """Return the path of the array of weights of samples."""
    return folder / f"{_WEIGHTS}.npy"


def write_facts(folder: Path, facts: ArrayFacts) -> None:
    """Write `arrays.json`."""
    (folder / ARRAY_FACTS).write_text(json.dumps(asdict(facts), indent=2), "utf-8")


def read_facts(folder: Path) -> ArrayFacts:
    """Return what `arrays.json` says.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return ArrayFacts(**json.loads((folder / ARRAY_FACTS).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(cannot_read(folder / ARRAY_FACTS, error, "the facts of arrays")) from None


def is_passed_stream(folder: Path) -> bool:
    """Return whether a folder has samples of pipelines that only Python code can pass again."""
    if not (folder / ARRAY_FACTS).is_file():
        return False
    facts = read_facts(folder)
    return facts.steps > 0 and not facts.origin


def read_array_folder(source: str, task: str) -> Dataset:
    """Read a folder of arrays.

    Args:
        source: path of the folder.
        task: `multiclass`, `multilabel` or `regression`; a single label is read as two classes.

    Raises:
        DataError: a file cannot be read, or the targets do not suit the task.
    """
    folder = Path(source)
    facts = read_facts(folder)
    found = [open_array(input_file(folder, n)) for n in range(len(facts.inputs) or 1)]
    inputs = NamedArrays(dict(zip(facts.inputs, found, strict=True))) if facts.inputs else found[0]
    targets = open_array(target_file(folder))
    is_label = task == "multilabel" and targets.size == len(targets)
    task = "multiclass" if is_label else task
    read, labels = _READERS[task](targets, facts.labels)
    has_probabilities = task == "multiclass" and _are_probabilities(targets)
    notes = [*facts.notes]
    notes += [_OF_PROBABILITIES] * has_probabilities + [OF_WEIGHTS] * facts.has_weights
    is_rows = inputs.ndim == 2 and inputs.dtype == np.float32
    return Dataset(
        source=bare_reference(facts.origin) or "the data",
        inputs=inputs,
        targets=read,
        task=task,
        labels=labels,
        columns=tuple(f"x{n}" for n in range(inputs.shape[1])) if is_rows else (),
        validation_start=facts.validation_start,
        test_start=facts.test_start,
        notes=tuple(notes),
        class_probabilities=np.asarray(targets, np.float32) if has_probabilities else None,
        stream=Stream(None, facts.steps, facts.samples) if facts.steps else None,
        weights=np.asarray(open_array(weight_file(folder))) if facts.has_weights else None,
    )


def head_of_targets(folder: Path) -> str:
    """Return the head that suits targets: `softmax`, `sigmoid` or `linear`.

    Whole numbers, texts and one-hot rows are classes; rows of 0 and 1 are labels; other numbers are
    values.
    """
    facts, targets = read_facts(folder), open_array(target_file(folder))
    if targets.size > len(targets):
        if not _is_binary(targets):
            return "linear"
        return "softmax" if _is_one_hot(targets) else "sigmoid"
    are_classes = facts.labels or targets.dtype.kind in "iub" or _is_binary(targets)
    return "softmax" if are_classes else "linear"


def has_many_numbers(folder: Path) -> bool:
    """Return whether targets are single numbers other than 0 and 1."""
    facts, targets = read_facts(folder), open_array(target_file(folder))
    return not facts.labels and targets.size == len(targets) and not _is_binary(targets)


def count_classes(folder: Path) -> int:
    """Return the number of classes of targets that are their numbers or one-hot rows; 0 for others.

    Numbers are whole ones from 0 on, as floats if they are 0 and 1.
    """
    targets = open_array(target_file(folder))
    if targets.size > len(targets):
        return int(targets.shape[1]) if _is_one_hot(targets) else 0
    are_classes = targets.dtype.kind in "iub" or _is_binary(targets)
    return int(np.max(targets)) + 1 if are_classes else 0


def may_be_classes(folder: Path) -> bool:
    """Return whether targets are a few whole numbers that are stored as floats."""
    targets = open_array(target_file(folder))
    if targets.dtype.kind != "f" or targets.size > len(targets):
        return False
    found = np.unique(targets)
    return len(found) <= _FEW and bool((found == np.floor(found)).all())


def may_be_probabilities(folder: Path) -> bool:
    """Return whether targets are rows of numbers that could be probabilities of classes."""
    return _are_probabilities(open_array(target_file(folder)))


def has_one_hot_rows(folder: Path) -> bool:
    """Return whether a row of targets holds a 1 and otherwise 0."""
    targets = open_array(target_file(folder))
    return any(
        bool(((rows == 1).any(axis=1) & ((rows != 0).sum(axis=1) == 1)).any())
        for rows in chunks(targets)
    )


def _are_probabilities(targets: np.ndarray) -> bool:
    """Return whether the rows of targets sum to 1 without being one-hot."""
    if targets.ndim != 2 or targets.shape[1] < 2 or targets.dtype.kind != "f":
        return False
    return not _is_binary(targets) and all(
        bool((rows >= 0).all() and (abs(rows.sum(axis=1) - 1) <= _TOLERANCE).all())
        for rows in chunks(targets)
    )


def _is_binary(targets: np.ndarray) -> bool:
    return all(bool(np.isin(rows, (0, 1)).all()) for rows in chunks(targets))


def _is_one_hot(targets: np.ndarray) -> bool:
    return _is_binary(targets) and all(bool((r.sum(axis=1) == 1).all()) for r in chunks(targets))


def _read_classes(targets: np.ndarray, names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    if targets.size > len(targets):
        if not (_is_one_hot(targets) or _are_probabilities(targets)):
            wanted = "classes: whole numbers (samples,), one-hot rows, or rows that sum to 1"
            raise _wrong_targets(wanted, targets)
        classes = np.concatenate([rows.argmax(axis=1) for rows in chunks(targets)])
        return classes, _named(names, targets.shape[1])
    numbers = np.asarray(targets).reshape(len(targets))
    is_wrong = (numbers != np.floor(numbers)) | (numbers < 0)
    if is_wrong.any():
        first = int(is_wrong.argmax())
        raise DataError(
            "Targets that are classes must be whole numbers from 0 on, or texts. "
            f"Received: {numbers[first]} in sample {first}. To predict numbers, use head=linear."
        )
    classes = numbers.astype(np.int64)
    count = max(2, int(classes.max()) + 1)
    if count > MAX_CLASSES:
        raise DataError(
            f"Targets must have at most {MAX_CLASSES:,} classes. Received: {count:,}. "
            "To predict numbers, use head=linear."
        )
    return classes, _named(names, count)


def _read_labels(targets: np.ndarray, names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    if targets.ndim != 2 or not _is_binary(targets):
        raise _wrong_targets("labels: rows (samples, labels) of 0 and 1", targets)
    return np.asarray(targets, np.float32), _named(names, targets.shape[1])


def _read_values(targets: np.ndarray, names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    if names:
        raise DataError(
            "Targets to predict with a linear head must be numbers. "
            f"Received: texts such as {names[0]!r}."
        )
    values = np.asarray(targets, np.float32).reshape(len(targets), -1)
    is_finite = np.isfinite(values).all(axis=1)
    if not is_finite.all():
        raise DataError(
            "Targets must be finite numbers. "
            f"Received: NaN or infinity in sample {int(is_finite.argmin())}."
        )
    width = values.shape[1]
    return values, ("value",) if width == 1 else tuple(f"value{n}" for n in range(width))


_READERS: dict[str, Callable[..., tuple[np.ndarray, tuple[str, ...]]]] = {
    "multiclass": _read_classes,
    "multilabel": _read_labels,
    "regression": _read_values,
}


def _named(names: list[str], count: int) -> tuple[str, ...]:
    return tuple(names) if names else tuple(str(number) for number in range(count))


def _wrong_targets(wanted: str, targets: np.ndarray) -> DataError:
    return DataError(
        f"Targets must be {wanted}. Received: {targets.dtype} {targets.shape}, "
        f"such as {np.asarray(targets[0]).tolist()!r:.60}. To predict numbers, use head=linear."
    )
