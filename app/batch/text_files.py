"""Reads files with a text in each line as rows."""

from collections.abc import Iterator
from pathlib import Path

from serving.errors import InputError
from serving.manifest import Manifest
from serving.named_columns import read_texts

from .rows import Rows, row_ids, with_rest


def read_text_file(path: str, manifest: Manifest) -> Iterator[Rows]:
    """Yield the lines of a file, up to 4,096 at a time.

    Raises:
        InputError: the file cannot be read or is empty, or the model takes no single text; the rows
            before an unreadable part have been yielded.
    """
    rows = 0
    try:
        for lines, inputs in read_texts(Path(path), manifest):
            yield Rows(row_ids(path, range(rows, rows + len(lines))), inputs)
            rows += len(lines)
    except InputError as error:
        raise with_rest(error, path, rows) from None
