"""The history of a run as a CSV file, which can be read while it is trained."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from app.errors import RunError
from app.system.atomic_files import atomic_write
from serving.errors import cannot_write


class HistoryFile(keras.callbacks.Callback):
    """Adds a line to a CSV file after each epoch, so that a killed run leaves a readable file.

    When a run continues, the epochs that it trains again are removed from the file first.

    Args:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._names: list[str] = []

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keep the epochs before this one, if it is the first that is trained now."""
        if self._names:
            return
        rows = _read(self._path, epoch)
        if rows:
            self._start(rows)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Add the epoch. A name that is new gets a column of its own.

        Raises:
            RunError: the file cannot be written.
        """
        row = {"epoch": epoch + 1, **(logs or {})}
        if not row.keys() <= set(self._names):
            self._start([*_read(self._path, epoch), row])
            return
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                file.write(history_csv([row], self._names).partition("\n")[2])
        except OSError as error:
            raise RunError(cannot_write(self._path, error)) from None

    def _start(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._names = names_of(rows)
        try:
            atomic_write(self._path, history_csv(rows))
        except OSError as error:
            raise RunError(cannot_write(self._path, error)) from None


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all values in rows, each once."""
    return list(dict.fromkeys(name for row in rows for name in row))


def history_csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> str:
    """Return rows as CSV, with a header. Cells of values that a row lacks are empty.

    Args:
        rows: a row for each epoch.
        names: names of the columns; empty takes those of all rows.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names or names_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read(path: Path, epochs: int) -> list[dict[str, str]]:
    """Return the rows of a file up to an epoch, without a line that was cut off."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return [row for row in rows if int(row["epoch"]) <= epochs]
