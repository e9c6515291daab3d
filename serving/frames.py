"""Takes tables of pandas, polars and pyarrow, and rows as dicts, without importing a library."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import InputError, first_few

# The numpy types of numbers whose decimals Python would make longer, by what pandas, polars and
# pyarrow call them.
_NARROW = {
    name + backend: dtype
    for name, dtype in (
        ("float32", "float32"),
        ("float", "float32"),
        ("float16", "float16"),
        ("halffloat", "float16"),
    )
    for backend in ("", "[pyarrow]")
}


def table_columns(table: Any, names: Sequence[str] = ()) -> dict[str, Sequence[Any]]:
    """Return the values of each column of a table by name, with None for a missing value.

    Args:
        table: a DataFrame of pandas or polars, a table of pyarrow, a dict from names to the values
            of columns, a list of rows that are dicts from names to values, or one such row; with
            `names` also a list of rows, or an array `(rows, columns)`, without names.
        names: names of the columns of rows that have none, in their order.

    Raises:
        InputError: the table is of another type, its rows or columns differ in length, a column
            has no name of its own, or there is no row.
    """
    pairs: Iterable[tuple[Any, Any]]
    if hasattr(table, "to_pydict"):  # pyarrow
        pairs = zip(table.column_names, map(arrow_values, table.columns), strict=True)
    elif hasattr(table, "iter_columns"):  # polars
        pairs = (
            (column.name, _shortest(column.to_list(), column.dtype))
            for column in table.iter_columns()
        )
    elif hasattr(table, "columns") and hasattr(table, "iloc"):  # pandas
        pairs = [(name, _values(table.iloc[:, n])) for n, name in enumerate(table.columns)]
    elif isinstance(table, Mapping) and any(map(_is_column, table.values())):
        pairs = table.items()
    elif isinstance(table, Mapping):
        pairs = _by_column([table]).items()
    elif isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table):
        pairs = _by_column(table).items()
    elif isinstance(table, Sequence) and any(isinstance(row, Mapping) for row in table):
        is_dict = isinstance(table[0], Mapping)
        other = next(n for n, row in enumerate(table) if isinstance(row, Mapping) != is_dict)
        first, then = ("a dict", "no dict") if is_dict else ("no dict", "a dict")
        raise InputError(
            "Rows must all be dicts, or all lists of cells. "
            f"Received: {first} in row 0 and {then} in row {other}."
        )
    elif names and _is_list(table):
        pairs = _by_place(table, names)
    else:
        raise InputError(
            "Rows must be a DataFrame, a dict of columns or a list of dicts. "
            f"Received: {type(table).__name__}."
        )
    found = [(str(name), _cells(name, values)) for name, values in pairs]
    columns: dict[str, Sequence[Any]] = dict(found)
    lengths = sorted({len(values) for values in columns.values()})
    if len(columns) < len(found) or len(lengths) != 1 or not lengths[0]:
        received = "a name twice" if len(columns) < len(found) else f"lengths {lengths}"
        raise InputError(
            "A table must name each column once and have as many values in each, at least one. "
            f"Received: {received}."
        )
    return columns


def is_table(value: Any) -> bool:
    """Return whether a value is a DataFrame or a table, which has named columns and types."""
    return hasattr(value, "columns") and hasattr(value, "shape")


def _values(series: Any) -> list[Any]:
    """Return the values of a pandas series; its missing values, of several types, become None."""
    values: list[Any] = series.astype(object).where(series.notna(), None).tolist()
    return _shortest(values, series.dtype)


def arrow_values(column: Any) -> list[Any]:
    """Return the values of a column of pyarrow, with None for a missing one.

    Numbers of float32 and float16 are the shortest decimal ones, as a CSV file has them: 0.1
    instead of 0.10000000149011612.

    Raises:
        UnicodeDecodeError: a text is not in UTF-8.
        OverflowError: a date, in its time zone, is beyond the year 9999.
    """
    return _shortest(column.to_pylist(), column.type)


def _shortest(values: list[Any], kind: Any) -> list[Any]:
    name = _NARROW.get(str(kind).lower())
    if name is None:
        return values
    import numpy as np  # noqa: PLC0415 - most tables do not need it

    narrow = np.dtype(name).type
    return [None if value is None else float(str(narrow(value))) for value in values]


def check_same_names(rows: Sequence[Mapping[str, Any]]) -> None:
    """Require at least one row, and the same names in all.

    Raises:
        InputError: there is no row, or a row has other names; the message says which.
    """
    if not rows:
        raise InputError("There must be at least one row. Received: none.")
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            others = [name for name in rows[0] if name not in row]
            others += [name for name in row if name not in rows[0]]
            raise InputError(
                "All rows must have the same columns. "
                f"Received: row {number} and row 0, which differ in {first_few(others)}."
            )


def _by_column(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    check_same_names(rows)
    return {name: [row[name] for row in rows] for name in rows[0]}


def _by_place(rows: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the columns of rows without names, which have a cell for each of `names`."""
    if getattr(rows, "ndim", 0) == 2 and rows.shape[1] == len(names):
        return list(zip(names, rows.T, strict=True))
    for number, row in enumerate(rows):
        is_row = _is_list(row)
        if not is_row or len(row) != len(names):
            received = f"{len(row)} cells" if is_row else f"{row!r:.40}"
            raise InputError(
                f"A row must be a list of {len(names)} cells ({', '.join(names)}), or a dict. "
                f"Received: {received} in row {number}."
            )
    return [(name, [row[place] for row in rows]) for place, name in enumerate(names)]


def _is_list(values: Any) -> bool:
    """Return whether values are a sequence or an array; numpy is not imported to find out."""
    is_sequence = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    return is_sequence or getattr(values, "ndim", 0) > 0


def _is_column(values: Any) -> bool:
    return isinstance(values, Iterable) and not isinstance(values, str | bytes)


def _cells(name: Any, values: Any) -> list[Any]:
    if not _is_column(values):
        raise InputError(
            "A dict must hold either columns of cells or one row. "
            f"Received: a single cell for {name}: {values!r:.40}."
        )
    return list(values)
