"""A data set: samples with their targets and names."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.row_format import RowFormat

from .arrays import Array, array_parts, chunks

# Targets with more different values name samples rather than classes.
MAX_CLASSES = 1000
# What takes the place of the texts of a column that are too rare to be categories. No vocabulary
# has it, so that a model treats them as it treats a text that it has never seen.
REST = "\0rest"
# What is shown for it, and given to models; more brackets if it is a text of the column.
_RARE = "(rare text)"
# Why a column is left out that no setting can make useful.
EMPTY = "without a value"


@dataclass(frozen=True)
class LeftOut:
    """A column that is left out of training.

    Attributes:
        column: name of the column.
        reason: why, such as `unique in each row`.
    """

    column: str
    reason: str

    def __str__(self) -> str:
        """Return what to tell the user, in one line."""
        fix = "" if self.reason == EMPTY else f"; --keep {self.column} takes it"
        return f"left out: {self.column}, {self.reason}{fix}"


@dataclass(frozen=True)
class Stream:
    """A pipeline of training batches that is read in each epoch, beside samples that were kept.

    Attributes:
        batches: a `tf.data.Dataset` of `(inputs, targets)`, or with weights at the end; None if
            only the kept samples are at hand.
        steps: batches of an epoch.
        samples: samples of an epoch.
    """

    batches: Any
    steps: int
    samples: int

    @property
    def has_weights(self) -> bool:
        """Whether each sample has a weight."""
        return self.batches is not None and len(self.batches.element_spec) > 2


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Samples with targets.

    Attributes:
        source: name or path of the source.
        inputs: rows, float32 `(samples, columns)` with NaN for missing values; images, uint8
            `(samples, height, width)` of digits or `(samples, height, width, channels)`; or other
            arrays, one or several, for models of users. In memory or on disk.
        targets: class indices, int64 `(samples,)`; labels 0 or 1, float32 `(samples, labels)`; or
            values, float32 `(samples, values)`.
        task: `multiclass`, `multilabel` or `regression`.
        labels: name of each class, label or value.
        columns: name of each column of `inputs`; empty for images.
        codes: columns of text as indices into `words`, int32 `(samples, text columns)`; None if
            there are none.
        string_columns: name of each column of text.
        words: the different texts of each column of text; `REST` stands for those that are rare.
        row_format: how the cells of a table become these columns; None if the source is no table.
        target_units: the unit of values whose cells have one, by label.
        target_decimals: the decimal sign of values that are not all plain whole numbers, by label;
            of a table of rows.
        left_out: columns that are left out, because they cannot be of use.
        notes: what is not certain about the way in which columns are read.
        validation_start: index of the first sample of the source's own validation split, which
            comes before its test split; None if the source has no validation split.
        test_start: index of the first sample of the source's own test split, which is at the end;
            None if the source has no test split.
        skipped: files that could not be read and were left out.
        files: file of each sample, without the folder of the source; empty if samples have none,
            or nobody needs them.
        class_probabilities: probabilities of the classes with which the loss compares those of the
            model, float32 `(samples, classes)`; `targets` are the most probable classes. None if
            each sample has a class.
        stream: training batches of a user's pipeline; None if they are made of the samples.
        stated_positive: the positive one of two classes, where a model states it.
        weights: how much each sample counts in the loss, float32 `(samples,)`, at least 0; None if
            all count alike.
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
    row_format: RowFormat | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    validation_start: int | None = None
    test_start: int | None = None
    skipped: tuple[str, ...] = ()
    files: Sequence[str] = ()
    stream: Stream | None = None
    target_units: dict[str, str] = field(default_factory=dict)
    target_decimals: dict[str, str] = field(default_factory=dict)
    stated_positive: str | None = None
    class_probabilities: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def has_weights(self) -> bool:
        """Whether samples, or those of the training pipeline, have weights of their own."""
        return self.weights is not None or (self.stream is not None and self.stream.has_weights)

    @property
    def column_units(self) -> dict[str, str]:
        """The unit of each column whose cells have one, by its name in the table."""
        columns = () if self.row_format is None else self.row_format.columns
        return {column.name: column.unit for column in columns if column.unit}

    @property
    def kind(self) -> str:
        """`rows`, `images` or `arrays`."""
        is_image = self.inputs.ndim == 3 or (
            self.inputs.ndim == 4 and self.inputs.shape[3] in (1, 3)
        )
        if is_image and self.inputs.dtype == np.uint8:
            return "images"
        return "rows" if self.inputs.ndim == 2 and self.inputs.dtype == np.float32 else "arrays"

    @property
    def positive(self) -> int | None:
        """Index of the positive one of two classes; None if the targets are not two classes.

        It is the one that a model states, or else the rarer one, or the second if none is rarer.
        """
        if self.task != "multiclass" or len(self.labels) != 2:
            return None
        if self.stated_positive in self.labels:
            return self.labels.index(self.stated_positive)
        first, second = np.bincount(self.targets, minlength=2)
        return 0 if first < second else 1

    @property
    def positive_label(self) -> str | None:
        """Name of the positive one of two classes; None if the targets are not two classes."""
        return None if self.positive is None else self.labels[self.positive]

    @property
    def averaged_labels(self) -> int:
        """Number of labels that a loss averages over; 1 for classes and values."""
        return len(self.labels) if self.task == "multilabel" else 1

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of an image or array; for rows, the number of columns, with those of text."""
        if self.kind == "rows":
            return (len(self.columns) + len(self.string_columns),)
        return self.inputs.shape[1:]

    @property
    def first_columns(self) -> tuple[int, ...]:
        """Indices of the numeric columns, but of the parts of a date only the first."""
        if self.row_format is None:
            return tuple(range(len(self.columns)))
        parts = [column.columns for column in self.row_format.columns if column.columns]
        return tuple(self.columns.index(names[0]) for names in parts)

    def model_inputs(self, indices: Any) -> Any:
        """Return the inputs of a model: an array, or a dict if there are columns of text.

        What stands for rare texts is one that a person can read, and that no vocabulary has.

        Args:
            indices: a slice or an array.
        """
        if self.codes is None:
            return self.inputs[indices]
        codes = self.codes[indices]
        columns = [
            np.array([*words[:-1], _readable(words)], object)[codes[:, place]]
            for place, words in enumerate(self.words)
        ]
        texts = np.stack(columns, axis=1)
        return {"inputs": self.inputs[indices], "texts": texts} if self.columns else texts

    def sha256(self) -> str:
        """Return the SHA-256 of samples, weights and names: it changes if the source changes."""
        names = (self.labels, self.columns, self.string_columns, self.words)
        digest = hashlib.sha256(repr(names).encode())
        arrays = [*array_parts(self.inputs), self.targets]
        if self.codes is not None:
            arrays.append(self.codes)
        if self.weights is not None:
            arrays.append(self.weights)
        for array in arrays:
            hashes = getattr(array, "fingerprints", None)
            for rows in chunks(array) if hashes is None else [hashes]:
                digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()


def _readable(words: Sequence[str]) -> str:
    """Return the last of the words of a column, or a readable text instead of `REST`."""
    text = words[-1]
    if text == REST:
        text = _RARE
        while text in words:
            text = f"({text})"
    return text


def fingerprint(row: bytes) -> int:
    """Return a hash of a sample's input, of 64 bits."""
    return int.from_bytes(hashlib.blake2b(row, digest_size=8).digest())
