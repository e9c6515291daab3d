"""Reads CSV files strictly: a line with a cell too many would shift all cells after it."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import InputError, cannot_read

SEPARATORS = (",", ";", "\t", "|")
# pandas writes the numbers of its rows under an empty name.
UNNAMED = "unnamed"
# Lines that are read at a time, and characters that tell the separator.
CHUNK = 4096
_HEAD = 65_536


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file; an empty name becomes `UNNAMED`.

    Raises:
        InputError: the file cannot be read, or its first line does not name each column once.
    """
    header = next((cells for _, cells in _read_lines(path)), [])
    if any("\0" in name for name in header):
        raise InputError(
            f"{path} must be a text file, whose first line names the columns. "
            "Received: a file with bytes that are 0."
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if not header or repeated:
        received = f"{repeated[0]!r} twice" if repeated else "an empty file"
        if repeated == [""]:
            received = "several columns without a name"
        raise InputError(
            f"The first line of {path} must name each column once. Received: {received}."
        )
    return [name or UNNAMED for name in header]


def read_rows(path: Path, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped cells of each line below the header.

    Empty lines are skipped.

    Args:
        path: CSV file, UTF-8, whose cells are separated by one of `SEPARATORS`.
        width: number of cells that each line must have.

    Raises:
        InputError: the file cannot be read, or a line has more or fewer cells or repeats the
            header.
    """
    lines = _read_lines(path)
    _, header = next(lines)
    for number, cells in lines:
        if len(cells) != width:
            raise InputError(
                f"Each line of {path} must have {width} cells like its header. "
                f"Received: {len(cells)} in line {number}."
            )
        if cells == header and width > 1:
            raise InputError(
                f"Only the first line of {path} must be its header. "
                f"Received: line {number}, which repeats it. Remove the line."
            )
        yield number, cells


def read_columns(path: Path, rows: int = CHUNK) -> Iterator[tuple[list[int], dict[str, list[str]]]]:
    """Yield the cells of a CSV file, some lines at a time.

    Args:
        path: see `read_rows`.
        rows: number of lines at a time.

    Yields:
        The numbers of the lines, and their stripped cells by the name of their column.

    Raises:
        InputError: see `read_header` and `read_rows`.
    """
    header = read_header(path)
    lines: list[tuple[int, list[str]]] = []
    for line in read_rows(path, len(header)):
        lines.append(line)
        if len(lines) == rows:
            yield _by_column(header, lines)
            lines = []
    if lines:
        yield _by_column(header, lines)


def line_places(path: str | Path, numbers: Sequence[int]) -> Callable[[int], str]:
    """Return a function from the index of a line to where it is: ` in line 7 of x.csv`.

    Args:
        path: path of the file.
        numbers: numbers of the lines.
    """
    return lambda index: f" in line {numbers[index]} of {path}"


def _by_column(
    header: list[str], lines: list[tuple[int, list[str]]]
) -> tuple[list[int], dict[str, list[str]]]:
    numbers, rows = zip(*lines, strict=True)
    return list(numbers), dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def find_separator(path: Path) -> str:
    """Return the separator of a CSV file's cells, one of `SEPARATORS`.

    It is the one that divides the first lines into equally many cells, as many as possible.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        head = file.read(_HEAD)
    is_cut = len(head) == _HEAD
    return max(SEPARATORS, key=lambda separator: _evenness(head, separator, is_cut))


def _evenness(head: str, separator: str, is_cut: bool) -> tuple[bool, int]:
    """Return whether all lines have as many cells as the first, and that number."""
    widths = []
    try:
        for cells in csv.reader(io.StringIO(head, newline=""), delimiter=separator):
            if cells:
                widths.append(len(cells))
    except csv.Error:  # it is reported where the file is read
        pass
    if is_cut:
        widths.pop()
    width = widths[0] if widths else 0
    return width > 1 and set(widths) == {width}, width


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        separator = find_separator(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
            last = 0  # a quoted cell may go over several lines: its record begins after this one
            try:
                for cells in reader:
                    first, last = last + 1, reader.line_num
                    if cells:
                        yield first, [cell.strip() for cell in cells]
            except csv.Error as error:
                raise InputError(
                    f"{path} cannot be read as CSV: {error}, in line {last + 1}."
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
