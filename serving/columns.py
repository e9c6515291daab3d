"""Turns the cells of a table into what a model takes: numbers and texts.

Parsing text is what a graph cannot do. Training, `hornbill predict`, batch jobs and the server all
read cells with this module, so that the same row gives the same prediction on every road. It needs
only numpy.
"""

import datetime
import decimal
import math
import numbers
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .date_text import MISSING_MOMENT, PARTS, Moment, date_parts, moment_of, parse_date
from .missing_marks import MISSING
from .number_text import LARGEST, parse_number
from .row_format import RawColumn, row_format
from .unit_text import parse_amount

if TYPE_CHECKING:
    from .manifest import Manifest

# In a column of numbers or dates, what else people write for one. As a category it could be a word.
MISSING_NUMBERS = frozenset(
    {*MISSING, "-", "--", ".", "n.a.", "nil", "<na>", "nat", "missing", "unknown", "0000-00-00"}
    | {"#n/a", "#na", "#null!", "#div/0!", "#value!", "#ref!", "#num!", "0000-00-00 00:00:00"}
)
# Two words for each answer, as people spell it.
TRUTH_WORDS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"), ("0", "1"))
# The cells of a column: texts, or values of JSON or of a table with types.
Cells = Sequence[Any] | np.ndarray
_UNREADABLE = object()
# A number as programs write it.
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.ASCII)
_NOT_NULLABLE = " The training data had no missing values in this column."
_TRUTH = {word: float(value) for pair in TRUTH_WORDS for value, word in enumerate(pair)}


@dataclass(frozen=True)
class RowInputs:
    """Rows that were read for a model.

    Attributes:
        inputs: an array for each input of the model by name: `inputs` float32 `(rows, columns)`
            with NaN for missing values, `texts` object `(rows, string columns)` of strings.
        problems: by the index of a row that cannot be predicted, what is wrong with it.
    """

    inputs: dict[str, np.ndarray]
    problems: dict[int, str]


def read_row_inputs(
    manifest: "Manifest",
    cells: Mapping[str, Cells],
    place: Callable[[int], str] = lambda _: "",
) -> RowInputs:
    """Read the cells of rows into the inputs of a model.

    Args:
        manifest: manifest of a model that takes rows.
        cells: the cells of each column by name: texts as in a CSV file; or the numbers, truth
            values, dates and None of JSON or of a table with types. The columns are those that
            `check_names` requires, and may be others.
        place: function from the index of a row to where it is, such as ` in line 7 of x.csv`, for
            the description of a problem.

    Examples:
        >>> rows = read_row_inputs(manifest, {"size": ["1,5", 2.5], "color": ["red", None]})
        >>> rows.inputs["texts"].tolist()
        [['red'], ['']]
    """
    table, nullable = row_format(manifest), set(manifest.nullable_columns)
    floats: list[np.ndarray] = []
    texts: list[np.ndarray] = []
    problems: dict[int, str] = {}
    for column in table.columns:
        values, wrong = read_column(column, cells[column.name], table.missing)
        (texts if column.kind == "text" else floats).append(values)
        missing = set()
        if not nullable.issuperset(column.columns):
            missing = set(np.flatnonzero(np.isnan(values).any(axis=1)).tolist()) - set(wrong)
        for row in sorted({*wrong, *missing}):
            why = _NOT_NULLABLE if row in missing else ""
            cell = cells[column.name][row]
            cell = cell.item() if isinstance(cell, np.generic) else cell
            received = f"{column.name}={cell!r:.80}{place(row)}"
            problems.setdefault(row, f"{_rule(column)} Received: {received}.{why}")
    # A model of texts alone has no column of numbers, and the other way round.
    arrays = {"inputs": np.concatenate(floats, axis=1).astype(np.float32)} if floats else {}
    arrays |= {"texts": np.stack(texts, axis=1)} if texts else {}
    return RowInputs({spec.name: arrays[spec.name] for spec in manifest.inputs}, problems)


def read_column(
    column: RawColumn, cells: Cells, missing: Iterable[str] = MISSING
) -> tuple[np.ndarray, list[int]]:
    """Read the cells of a column.

    Args:
        column: how to read them.
        cells: texts, or values of JSON or of a table with types, see `read_row_inputs`.
        missing: texts that stand for a missing value, in lower case; so does a number or a truth
            value with such a text.

    Returns:
        The values, and the indices of the cells that cannot be read. The values are object
        `(cells,)` of strings for texts, empty where one is missing; otherwise float64
        `(cells, len(column.columns))`, NaN where one is missing.
    """
    given = tuple(missing)
    if column.kind == "number" and isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf":
        return _read_numbers(cells, given)
    read, empty = _READERS[column.kind](column), "" if column.kind == "text" else None
    marks, typed_marks = _marks(column.kind, given)
    known: dict[str, Any] = {}
    values: list[Any] = []
    wrong = []
    for row, cell in enumerate(cells):
        is_text = isinstance(cell, str)
        if is_text and cell in known:
            value = known[cell]
        elif is_missing(cell, marks if is_text else typed_marks):
            value = empty
        else:
            value = read(cell.strip() if is_text else cell)
            value = _UNREADABLE if value is None else value
        if is_text:
            known[cell] = value
        if value is _UNREADABLE:
            wrong.append(row)
            value = empty
        values.append(value)
    return _to_array(column, values), wrong


@cache  # each column of each request has the marks of its table
def _marks(kind: str, missing: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the texts that mark a missing value, in cells that are texts and in others."""
    marks = with_plain(missing)
    of_kind = MISSING_NUMBERS if kind in ("number", "date") else frozenset()
    # A value with a type is never written like the marks that are left out.
    return frozenset({"", *marks, *of_kind}), frozenset(marks - MISSING_NUMBERS - {""})


@cache
def _marking_numbers(missing: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(float(mark) for mark in missing if _NUMBER.fullmatch(mark))


def _read_numbers(cells: np.ndarray, missing: tuple[str, ...]) -> tuple[np.ndarray, list[int]]:
    """Read an array of numbers as `read_column` does."""
    found = cells.astype(np.float64)
    if numbers := _marking_numbers(missing):
        marks = np.array(numbers)
        if cells.dtype.kind == "f":
            with np.errstate(over="ignore"):  # as the cells of float16 are that hold such a mark
                marks = marks.astype(cells.dtype)  # 0.1 is another number in float32
        found[np.isin(found, marks)] = np.nan
    wrong = np.flatnonzero(np.abs(found) > LARGEST).tolist()
    found[wrong] = np.nan
    return found[:, np.newaxis], wrong


def with_plain(marks: Iterable[str]) -> set[str]:
    """Return texts, and numbers among them also as `cell_text` writes them: -999.0 as -999."""
    marks = set(marks)
    return marks | {cell_text(float(mark)) or "" for mark in marks if _NUMBER.fullmatch(mark)}


def is_missing(cell: Any, marks: Collection[str]) -> bool:
    """Return whether a cell is None, NaN, or has one of the texts `marks`, in lower case."""
    if isinstance(cell, str):
        return cell.strip().lower() in marks
    try:
        is_nan = bool(cell != cell)  # noqa: PLR0124 - NaN differs from itself
    except TypeError:  # whether pandas' NA differs from itself is NA again
        is_nan = True
    return cell is None or is_nan or (bool(marks) and (cell_text(cell) or "").lower() in marks)


def cell_text(value: Any) -> str | None:
    """Return a value of JSON or of a table with types as the text of a CSV file.

    None and NaN become the empty text of a missing value, and whole numbers are written without a
    decimal point. Returns None for a value that no cell can hold, such as a list.
    """
    if isinstance(value, str):
        return value.strip()
    if is_missing(value, ()):
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, np.floating):
        value = float(str(value))  # the shortest number that is this float32
    is_exact = isinstance(value, float) and -LARGEST <= value <= LARGEST
    if is_exact and value == int(value):
        return str(int(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    is_scalar = isinstance(value, numbers.Real | decimal.Decimal | datetime.date | datetime.time)
    return str(value) if is_scalar else None


def plain_text(text: str) -> str:
    """Return a text that a program writes for a number or a truth value as `cell_text` writes it.

    Texts as people write them stay, such as `007` and `1.50`.

    Examples:
        >>> plain_text("10001.0"), plain_text("True")
        ('10001', 'true')
    """
    if text.lower() in ("true", "false"):
        return text.lower()
    # numpy writes 1e+06 for what Python writes as 1000000.0
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    is_written = math.isfinite(number) and (str(number) == text or "e+" in text)
    return (cell_text(number) or "") if is_written else text


def _rule(column: RawColumn) -> str:
    if column.kind == "boolean":
        return "Each cell must be true or false, yes or no, or 1 or 0."
    if column.kind == "date":
        return f"Each cell must be a date or time of the form {column.form}."
    if column.kind == "text":
        return "Each cell must be a text."
    example = f" like 1{column.thousands}234{column.decimal}5"
    is_plain = (column.decimal, column.thousands) == (".", "")
    unit = f", with the unit {column.unit} or none" if column.unit else ""
    like = "" if is_plain and not unit else example
    return f"Each cell must be a number from -1e18 to 1e18{like}{unit}."


def _number_reader(column: RawColumn) -> Callable[[Any], float | None]:
    def read(cell: Any) -> float | None:
        number: Any = None
        if isinstance(cell, str):
            number = parse_amount(cell, column.decimal, column.thousands, column.unit)
        elif isinstance(cell, numbers.Real | decimal.Decimal) and not isinstance(cell, bool):
            number = cell  # a truth value of numpy is no Real
        return float(number) if number is not None and abs(number) <= LARGEST else None

    return read


def _boolean_reader(_: RawColumn) -> Callable[[Any], float | None]:
    return lambda cell: parse_truth(cell_text(cell) or "")


def _date_reader(column: RawColumn) -> Callable[[Any], Moment | None]:
    def read(cell: Any) -> Moment | None:
        return parse_date(cell, column.form) if isinstance(cell, str) else moment_of(cell)

    return read


def _text_reader(column: RawColumn) -> Callable[[Any], str | None]:
    if not column.has_plain_texts:
        return cell_text

    def read(cell: Any) -> str | None:
        return plain_text(cell) if isinstance(cell, str) else cell_text(cell)

    return read


def parse_truth(text: str) -> float | None:
    """Return 1 or 0 for a text in `TRUTH_WORDS` or a number 1 or 0, in upper or lower case."""
    value = _TRUTH.get(text.lower(), parse_number(text))
    return value if value in (0.0, 1.0) else None


_READERS = {
    "number": _number_reader,
    "boolean": _boolean_reader,
    "date": _date_reader,
    "text": _text_reader,
}


def _to_array(column: RawColumn, values: list[Any]) -> np.ndarray:
    if column.kind == "text":
        return np.array(values, object)
    if column.kind == "date":
        moments = [MISSING_MOMENT if value is None else value for value in values]
        return date_parts(moments)[:, [PARTS.index(part) for part in column.parts]]
    return np.array(values, np.float64)[:, np.newaxis]  # None becomes NaN
