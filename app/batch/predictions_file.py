"""Writes the predictions of a job to one file, in the order of the input.

A table has a column for each member of the lines of JSON, so that both always say the same.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.system.atomic_files import atomic_path
from serving.manifest import Manifest

from .lines import PredictionLines
from .output_files import concatenate, lines_paths, read_lines, write_errors
from .parts import Finished

LINES, PARQUET = ".jsonl", ".parquet"
# What separates the cells of a table of text.
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*_SEPARATORS, PARQUET, LINES)


@dataclass(frozen=True)
class Column:
    """A column of a table of predictions.

    Attributes:
        name: its name.
        member: the member of a line of JSON that it holds.
        label: class, label or value, if the member has a number for each; otherwise None.
        kind: Python's type of its values; a list holds texts.
    """

    name: str
    member: str
    label: str | None
    kind: type

    def value_of(self, line: dict[str, Any]) -> Any:
        """Return the value of a row."""
        value = line[self.member]
        return value if self.label is None else value[self.label]


def table_columns(manifest: Manifest, key: str | None) -> list[Column]:
    """Return the columns of a table of predictions, from left to right.

    They are `file`, `row`, the key under its own name, and what the model predicts: `label` and
    `accepted`, or `labels`; the probability of each class or label, or each value, under its name;
    and for other numbers of a value, such as the ends of its interval, `VALUE.lower`. A name that
    another column has already gets its member in front: `probabilities.label`.

    Args:
        manifest: manifest of the model.
        key: name of the input's column of keys; None if there is none.
    """
    row_id = '"file": "", "row": 0' + ("" if key is None else ', "key": ""')
    zeros = np.zeros((1, len(manifest.labels)), np.float32)
    sample = json.loads(PredictionLines(manifest).render([row_id], zeros))
    columns: dict[str, Column] = {}
    for member, value in sample.items():
        of_labels = value if isinstance(value, dict) else {None: value}
        for label, one in of_labels.items():
            name = key if member == "key" and key is not None else label or member
            if label is not None and member != manifest.prediction_output:
                name = f"{label}.{member}"
            while name in columns:
                name = f"{member}.{name}"
            columns[name] = Column(name, member, label, type(one))
    return list(columns.values())


def write_predictions(
    path: Path, manifest: Manifest, parts: Sequence[Finished], key: str | None
) -> None:
    """Write the predictions of parts, one after another, and their errors if there are any.

    Memory holds some rows, whatever their number.

    Args:
        path: path of a file that does not exist; it ends in one of `SUFFIXES`.
        manifest: manifest of the model.
        parts: parts that are finished, in order.
        key: name of the input's column of keys; None if there is none.

    Raises:
        OSError: a file cannot be written; `path` does not exist then.
    """
    write_errors(path, parts)
    with atomic_path(path) as new:
        suffix = path.suffix.lower()
        if suffix == LINES:
            concatenate(new, lines_paths(path, parts))
        elif suffix == PARQUET:
            from .parquet_files import write_predictions_table  # pyarrow is an optional dependency

            columns = table_columns(manifest, key)
            write_predictions_table(new, columns, lambda: read_lines(path, parts))
        else:
            columns, separator = table_columns(manifest, key), _SEPARATORS[suffix]
            _write_text(new, columns, read_lines(path, parts), separator)


def _write_text(
    path: Path, columns: Sequence[Column], lines: Iterator[dict[str, Any]], separator: str
) -> None:
    # File names may be any bytes.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.writer(file, delimiter=separator, lineterminator="\n")
        table.writerow([column.name for column in columns])
        table.writerows([_cell(column.value_of(line)) for column in columns] for line in lines)


def _cell(value: Any) -> Any:
    return "|".join(value) if isinstance(value, list) else value
