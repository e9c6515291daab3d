"""Reads a CSV file: numeric columns, columns of text, missing values, and the targets.

The file is read twice: first to find out what each column holds, then to write it to disk as
numbers. Only the targets and a few thousand lines are in memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from app.config.reading_config import ReadingConfig
from app.errors import DataError
from models.checks import suggest
from serving.columns import MISSING as MARKS
from serving.csv_lines import read_header, read_rows
from serving.errors import InputError
from serving.number_text import LARGEST, parse_number

from .arrays import CHUNK, DiskArray
from .datasets import Dataset

# A column with more different texts names samples rather than categories.
MAX_TEXTS = 1000
MISSING = {"", *MARKS}
_TRUTH = {"false": 0.0, "true": 1.0, "no": 0.0, "yes": 1.0}


@dataclass
class Column:
    """What the first pass finds out about a column."""

    name: str
    is_text: bool | None = None  # None until the first value
    first_line: int = 0
    texts: dict[str, int] = field(default_factory=dict)
    least: float = math.inf
    largest: float = -math.inf


def read_csv(path: Path, reading: ReadingConfig, task: str) -> Dataset:
    """Read a CSV file with a header.

    The first value of a column decides whether it is numeric or text; the columns of
    `reading.categorical` are always text. Empty cells, NA, n/a, NaN, null, none and ? are missing
    values.

    Args:
        path: path of the file, in UTF-8.
        reading: the columns to predict, and the columns to treat as text.
        task: `multiclass`, `multilabel` or `regression`. For `multilabel`, a single target column
            is read as two classes.

    Raises:
        DataError: a column is missing or mixes numbers and text, a line has too many or too few
            cells, or a target is missing or of the wrong kind. The message names the line.
    """
    header = csv_header(path)
    check_columns(path, header, reading)
    task = task_of_targets(reading, task)
    columns = [Column(name) for name in header]
    for column in columns:
        as_text = column.name in reading.categorical
        as_class = task == "multiclass" and column.name in reading.target
        column.is_text = True if as_text or as_class else None
    _learn(path, columns, reading)
    return _encode(path, columns, reading, task)


def task_of_targets(reading: ReadingConfig, task: str) -> str:
    """Return the task for the target columns: a single label is read as two classes.

    Raises:
        DataError: several columns are classes.
    """
    if task == "multilabel" and len(reading.target) == 1:
        return "multiclass"
    if task == "multiclass" and len(reading.target) > 1:
        raise DataError(
            "Several columns to predict need head=sigmoid or head=linear. "
            f"Received: target={','.join(reading.target)}."
        )
    return task


def csv_header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file.

    Raises:
        DataError: the file cannot be read, or its header is no list of names.
    """
    try:
        return read_header(path)
    except InputError as error:
        raise DataError(str(error)) from None


def check_columns(path: Path, header: Sequence[str], reading: ReadingConfig) -> None:
    """Require that the columns that `reading` names are there, and one to predict.

    Raises:
        DataError: a column is missing, or named for two purposes.
    """
    if not reading.target:
        raise DataError(
            "A CSV file needs a column to predict: --target COLUMN. "
            f"{path} has the columns {', '.join(header)}."
        )
    named = (*reading.target, *reading.categorical, reading.image_column)
    for name in filter(None, named):
        if name not in header:
            raise DataError(
                f"{path} must have the column {name!r}. "
                f"Received: {', '.join(map(repr, header))}.{suggest(name, header)}"
            )
    for name in set(reading.categorical) & set(reading.target):
        raise DataError(f"A target cannot be categorical. Received: {name!r} in both.")
    if reading.image_column in reading.target:
        raise DataError(
            f"A target cannot be the image column. Received: {reading.image_column!r} in both."
        )
    if set(header) == set(reading.target):
        raise DataError(f"{path} must have columns besides the target. Received: none.")


def csv_rows(path: Path, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line below the header.

    Raises:
        DataError: a line does not have `width` cells.
    """
    try:
        yield from read_rows(path, width)
    except InputError as error:
        raise DataError(str(error)) from None


def _learn(path: Path, columns: Sequence[Column], reading: ReadingConfig) -> None:
    count = 0
    for line, cells in csv_rows(path, len(columns)):
        count += 1
        for column, cell in zip(columns, cells, strict=True):
            learn_cell(path, line, column, cell, column.name in reading.target)
    if not count:
        raise DataError(f"{path} must have lines below its header. Received: none.")
    for column in columns:
        if column.is_text is None or (column.is_text and not column.texts):
            raise DataError(
                f"Each column of {path} must have a value. "
                f"Received: {column.name!r}, which has none."
            )
        least, largest = column.least, column.largest
        if least < largest and np.float32(least) == np.float32(largest):
            raise DataError(
                f"Numbers must vary by more than the rounding of float32. Received: {column.name}, "
                f"from {least!r} to {largest!r} in {path}. Subtract their mean."
            )


def learn_cell(path: Path, line: int, column: Column, cell: str, is_target: bool) -> None:
    """Note what a cell says about its column.

    Raises:
        DataError: the cell does not fit the cells above it, or is a target that is missing.
    """
    if cell.lower() in MISSING:
        if is_target:
            raise DataError(
                f"Each sample must have a target. Received: {column.name}={cell!r}, a missing "
                f"value, in line {line} of {path}."
            )
        return
    number = parse_number(cell)
    if column.is_text is None:
        column.is_text, column.first_line = number is None, line
    if column.is_text:
        if column.first_line and number is not None:
            raise _mixed_column(path, line, column, cell, "text")
        column.texts.setdefault(cell, len(column.texts))
        if len(column.texts) > MAX_TEXTS:
            raise _too_many_texts(path, column, is_target)
        return
    if number is None:
        raise _mixed_column(path, line, column, cell, "a number")
    if not abs(number) <= LARGEST:
        raise DataError(
            f"Numbers must be from -1e18 to 1e18. Received: {column.name}={cell!r} in line {line} "
            f"of {path}."
        )
    column.least, column.largest = min(column.least, number), max(column.largest, number)


def _mixed_column(path: Path, line: int, column: Column, cell: str, first: str) -> DataError:
    return DataError(
        f"A column must be numeric or text. Received: {column.name}={cell!r} in line "
        f"{line} of {path}, but {first} in line {column.first_line}. "
        f"If all are categories: --categorical {column.name}."
    )


def _too_many_texts(path: Path, column: Column, is_target: bool) -> DataError:
    fix = "Remove the column."
    if is_target:
        fix = "To predict numbers, use head=linear of the family features."
    return DataError(
        f"A column of text must have at most {MAX_TEXTS:,} different texts. "
        f"Received: more in {column.name!r} of {path}. {fix}"
    )


def _encode(path: Path, columns: Sequence[Column], reading: ReadingConfig, task: str) -> Dataset:
    """Read the file again, into numbers on disk."""
    names = [column.name for column in columns]
    target = [names.index(name) for name in reading.target]  # in the order of the setting
    inputs = [place for place in range(len(columns)) if place not in target]
    numeric = [place for place in inputs if not columns[place].is_text]
    text = [place for place in inputs if columns[place].is_text]
    words = [_in_order(columns[place].texts) for place in text]
    codes_of = [{word: code for code, word in enumerate(known)} for known in words]
    target_columns = [columns[place] for place in target]
    labels = target_labels(path, target_columns, task)

    numbers = DiskArray((len(numeric),), np.float32)
    codes = DiskArray((len(text),), np.int32)
    targets: list[np.ndarray] = []
    for rows in in_batches(csv_rows(path, len(columns))):
        lines = [cells for _, cells in rows]
        numbers.append(np.array([[_value(cells[p]) for p in numeric] for cells in lines], "f4"))
        codes.append(np.array([_text_codes(cells, text, codes_of) for cells in lines], "i4"))
        targets.append(target_values(path, rows, target, target_columns, labels, task))
    return Dataset(
        source=str(path),
        inputs=numbers,
        targets=np.concatenate(targets),
        task=task,
        labels=labels,
        columns=tuple(names[place] for place in numeric),
        codes=codes if words else None,
        string_columns=tuple(names[place] for place in text),
        words=tuple(map(tuple, words)),
    )


def _text_codes(
    cells: Sequence[str], places: Sequence[int], codes_of: Sequence[dict[str, int]]
) -> list[int]:
    """Return the codes of a line's texts; 0 stands for a missing value."""
    return [known.get(cells[p], 0) for p, known in zip(places, codes_of, strict=True)]


def _in_order(texts: dict[str, int]) -> list[str]:
    """Return the texts of a column in order, after the empty text of a missing value."""
    return ["", *sorted(texts)]


def target_labels(path: Path, columns: Sequence[Column], task: str) -> tuple[str, ...]:
    """Return the name of each class, label or value.

    Args:
        path: path of the CSV file.
        columns: the target columns, after `learn_cell` has seen all their cells.
        task: `multiclass`, `multilabel` or `regression`.

    Raises:
        DataError: there is only one class.
    """
    if task != "multiclass":
        return tuple(column.name for column in columns)
    (column,) = columns
    are_numbers = all(parse_number(text) is not None for text in column.texts)
    labels = sorted(column.texts, key=float if are_numbers else None)
    if len(labels) < 2:
        raise DataError(
            f"{column.name!r} of {path} must have two or more classes. "
            f"Received: only {', '.join(labels)}."
        )
    return tuple(labels)


def target_values(
    path: Path,
    rows: Sequence[tuple[int, list[str]]],
    places: Sequence[int],
    columns: Sequence[Column],
    labels: Sequence[str],
    task: str,
) -> np.ndarray:
    """Return the targets of some lines, as in `Dataset`.

    Args:
        path: path of the CSV file.
        rows: number and cells of each line.
        places: index of each target column in a line.
        columns: the target columns.
        labels: see `target_labels`.
        task: `multiclass`, `multilabel` or `regression`.

    Raises:
        DataError: a target is no number, or a label is neither true nor false.
    """
    if task == "multiclass":
        number_of = {label: number for number, label in enumerate(labels)}
        return np.array([number_of[cells[places[0]]] for _, cells in rows], np.int64)
    values = np.empty((len(rows), len(places)), np.float32)
    for row, (line, cells) in enumerate(rows):
        for place, column in zip(places, columns, strict=True):
            cell = cells[place]
            value = parse_number(cell) if task == "regression" else _truth(cell)
            if value is None:
                wanted = "a number" if task == "regression" else "0 or 1"
                raise DataError(
                    f"The target must be {wanted}. "
                    f"Received: {column.name}={cell!r} in line {line} of {path}."
                )
            values[row, places.index(place)] = value
    return values


def _truth(cell: str) -> float | None:
    value = _TRUTH.get(cell.lower(), parse_number(cell))
    return value if value in (0.0, 1.0) else None


def in_batches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield lists of `CHUNK` rows."""
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch


def _value(cell: str) -> float:
    return math.nan if cell.lower() in MISSING else float(cell)
