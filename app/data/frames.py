"""Writes a DataFrame as a CSV file, from which it is read as any other table is."""

import contextlib
import csv
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import DataError
from app.system.user_code import absolute_reference
from serving.columns import cell_text
from serving.errors import InputError, cannot_write
from serving.frames import is_table, table_columns

from .datasets import Stream
from .own_data import data_of_code, is_own_data, write_own_data
from .source_kinds import OWN_ARRAYS, is_code

FRAME = "DataFrame.csv"


@dataclass(frozen=True)
class DataOnDisk:
    """A data source that can be read from disk.

    Attributes:
        source: its name, or the path of a file or folder.
        stream: the training pipeline, if there is one.
        is_written: whether file or folder were written from data of Python, and are removed at the
            end; otherwise they are the user's own.
    """

    source: str
    stream: Stream | None = None
    is_written: bool = False


@contextlib.contextmanager
def data_on_disk(data: Any, dropped: Collection[str] = ()) -> Iterator[DataOnDisk]:
    """Yield a data source on disk; data of Python is written to a folder, which is removed later.

    Args:
        data: name or path of a data source; a DataFrame of pandas or polars; a table of pyarrow;
            arrays or pipelines, see `app.data.own_data.write_own_data`; or a reference to a
            function that returns such data.
        dropped: columns of a DataFrame that are not read, so that their values may be anything.

    Raises:
        DataError: a DataFrame has no rows, names a column twice or holds lists; arrays or pipelines
            have another form; or the temporary folder cannot be written.
    """
    origin = absolute_reference(data) if is_code(data) else ""
    data = data_of_code(origin) if origin else data
    if not is_table(data) and not is_own_data(data):
        if origin and not isinstance(data, str | Path):
            raise DataError(
                "A function of data must return a DataFrame, arrays, pipelines or a path. "
                f"Received: {type(data).__name__} from {origin}."
            )
        yield DataOnDisk(str(data))
        return
    with tempfile.TemporaryDirectory(prefix="hornbill-") as folder:
        if is_own_data(data):
            path = Path(folder) / OWN_ARRAYS
            path.mkdir()
            stream = write_own_data(data, path, origin)
            yield DataOnDisk(str(path), stream, is_written=True)
            return
        path = Path(folder) / FRAME
        try:
            _write(path, table_columns(data), dropped)
        except InputError as error:
            raise DataError(str(error)) from None
        except UnicodeEncodeError as error:
            raise DataError(
                "A DataFrame must hold texts that UTF-8 can encode. "
                f"Received: {error.object!a:.80}."
            ) from None
        except OSError as error:
            raise DataError(cannot_write(path, error)) from None
        try:
            yield DataOnDisk(str(path), is_written=True)
        except DataError as error:
            message = _of_the_frame(str(error), path) if path.is_file() else str(error)
            raise DataError(message) from None


def _of_the_frame(message: str, path: Path) -> str:
    """Return a message about the file of a DataFrame as one about the DataFrame."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        # A text with line breaks takes several lines, so that rows are not known by their lines.
        is_row = sum(1 for _ in lines) == lines.line_num

    def place(match: re.Match[str]) -> str:
        return f"row {int(match[1]) - 2} of the DataFrame" if is_row else "the DataFrame"

    message = re.sub(rf"line (\d+) of {re.escape(str(path))}", place, message)
    message = re.sub(rf"(^|\. ){re.escape(str(path))}", r"\1The DataFrame", message)
    return message.replace(str(path), "the DataFrame")


def move_data(source: str, folder: Path) -> str:
    """Move the file or folder of data to another folder; return its new path.

    Raises:
        DataError: the file cannot be moved.
    """
    try:
        return str(shutil.move(source, folder.absolute() / Path(source).name))
    except OSError as error:
        raise DataError(cannot_write(folder, error)) from None


def _write(path: Path, columns: dict[str, Any], dropped: Collection[str]) -> None:
    texts = []
    for name, values in columns.items():
        cells = [cell_text("" if name in dropped else value) for value in values]
        if None in cells:
            value = values[cells.index(None)]
            raise DataError(
                "A DataFrame must hold numbers, texts, truth values or dates. "
                f"Received: {name}={value!r:.80}. Convert the column, or drop it: drop={name}."
            )
        texts.append(cells)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(columns)
        lines.writerows(zip(*texts, strict=True))
