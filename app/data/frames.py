"""Writes a DataFrame as a CSV file, from which it is read as any other table is."""

import contextlib
import csv
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from app.errors import DataError
from serving.columns import cell_text
from serving.errors import InputError, cannot_write
from serving.frames import is_table, table_columns

FRAME = "DataFrame.csv"


@contextlib.contextmanager
def frame_on_disk(data: Any, dropped: Collection[str] = ()) -> Iterator[Any]:
    """Yield a data source; a DataFrame as the path of a CSV file, which is removed at the end.

    Args:
        data: name or path of a data source; a DataFrame of pandas or polars; or a table of pyarrow.
        dropped: columns that are not read, so that their values may be anything.

    Raises:
        DataError: the DataFrame has no rows, names a column twice or holds lists, or the temporary
            folder cannot be written.
    """
    if not is_table(data):
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="hornbill-") as folder:
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
        yield str(path)


def move_frame(source: str, folder: Path) -> str:
    """Move the file of a DataFrame to a folder; return its new path.

    Raises:
        DataError: the file cannot be moved.
    """
    try:
        return str(shutil.move(source, folder.absolute() / FRAME))
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
