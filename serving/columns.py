"""Turns the cells of a table into what a model takes: numbers and texts."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .csv_lines import LARGEST, MISSING, parse_number
from .errors import InputError
from .manifest import Manifest


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


def check_names(manifest: Manifest, names: Iterable[str], source: str) -> list[str]:
    """Require all columns that a model needs, in any order; return those that it ignores.

    Args:
        manifest: manifest of a model that takes rows.
        names: names of the columns that are there.
        source: what has these columns, for the error.

    Raises:
        InputError: columns are absent; all are named.
    """
    needed, found = (*manifest.columns, *manifest.string_columns), list(names)
    absent = [name for name in needed if name not in found]
    if absent:
        raise InputError(
            f"{source} must have the columns {', '.join(needed)}. "
            f"Received: no {', '.join(map(repr, absent))}."
        )
    return [name for name in found if name not in needed]


def read_row_inputs(
    manifest: Manifest,
    cells: Mapping[str, Sequence[str]],
    place: Callable[[int], str] = lambda _: "",
) -> RowInputs:
    """Read the cells of rows into the inputs of a model.

    Args:
        manifest: manifest of a model that takes rows.
        cells: the cells of each column by name. There are those of `check_names`, and may be
            others.
        place: function from the index of a row to where it is, such as ` in line 7 of x.csv`, for
            the description of a problem.
    """
    problems: dict[int, str] = {}
    numbers = [_numbers(manifest, name, cells[name], place, problems) for name in manifest.columns]
    texts = [
        ["" if text.lower() in MISSING else text for text in cells[name]]
        for name in manifest.string_columns
    ]
    arrays = {"inputs": np.array(numbers, np.float32).T, "texts": np.array(texts, object).T}
    return RowInputs({spec.name: arrays[spec.name] for spec in manifest.inputs}, problems)


def _numbers(
    manifest: Manifest,
    name: str,
    cells: Sequence[str],
    place: Callable[[int], str],
    problems: dict[int, str],
) -> list[float]:
    values = []
    for row, cell in enumerate(cells):
        is_missing, number = cell.lower() in MISSING, parse_number(cell)
        is_valid = number is not None and abs(number) <= LARGEST
        if not is_valid and not (is_missing and name in manifest.nullable_columns):
            why = " The training data had no missing values in this column." if is_missing else ""
            problems.setdefault(
                row,
                "Each cell must be a number from -1e18 to 1e18. "
                f"Received: {name}={cell!r}{place(row)}.{why}",
            )
        values.append(number if is_valid and number is not None else math.nan)
    return values
