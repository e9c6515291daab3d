"""Reads CSV files strictly: a line with a cell too many would shift all cells after it."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError, cannot_read

# Cells that stand for a missing value, in upper or lower case.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
# The variance of larger numbers does not fit float32.
LARGEST = 1e18


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file.

    Raises:
        InputError: the file cannot be read, or its first line does not name each column once.
    """
    header = next((cells for _, cells in _read_lines(path)), [])
    if len(header) == 1 and set(header[0]) & set(";\t|"):
        raise InputError(
            f"The cells of {path} must be separated by commas. Received: {header[0]:.80}."
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not header or repeated or "" in header:
        received = f"{repeated[0]!r} twice" if repeated else "a column without a name"
        raise InputError(
            f"The first line of {path} must name each column once. "
            f"Received: {received if header else 'an empty file'}."
        )
    return header


def read_rows(path: Path, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped cells of each line below the header.

    Empty lines are skipped.

    Args:
        path: CSV file, UTF-8.
        width: number of cells that each line must have.

    Raises:
        InputError: the file cannot be read, or a line has more or fewer cells.
    """
    lines = _read_lines(path)
    next(lines)
    for number, cells in lines:
        if len(cells) != width:
            raise InputError(
                f"Each line of {path} must have {width} cells like its header. "
                f"Received: {len(cells)} in line {number}."
            )
        yield number, cells


def parse_number(text: str) -> float | None:
    """Return the number of a cell, or None if the cell is not a number."""
    if "_" in text or not text.isascii():  # Python accepts 1_000 and other scripts' digits
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, [cell.strip() for cell in cells]
            except csv.Error as error:
                raise InputError(
                    f"{path} cannot be read as CSV: {error}, in line {reader.line_num}."
                ) from None
    except OSError as error:
        raise InputError(cannot_read(path, error)) from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path} must be in UTF-8. Received: {_find_other_encoding(path)}. Save it as UTF-8."
        ) from None


def _find_other_encoding(path: Path) -> str:
    """Return the first byte that is not UTF-8, with its line, of a file that has one."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"byte {line[error.start]:#04x} in line {number}"
    return "other bytes"  # the file has changed meanwhile
