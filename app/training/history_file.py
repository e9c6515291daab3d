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
        rows = [row for row in _read(self._path) if int(row["epoch"]) <= epoch]
        if rows:
            self._names = list(rows[0])
            self._start(rows)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Add the epoch.

        Raises:
            RunError: the file cannot be written.
        """
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        if list(row) != self._names:
            self._names = list(row)
            self._start([row])
            return
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                file.write(history_csv([row]).partition("\n")[2])
        except OSError as error:
            raise RunError(cannot_write(self._path, error)) from None

    def _start(self, rows: Sequence[Mapping[str, Any]]) -> None:
        try:
            atomic_write(self._path, history_csv(rows))
        except OSError as error:
            raise RunError(cannot_write(self._path, error)) from None


def history_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same names as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file; none if it is missing, and without a line that was cut off."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
