"""Which columns of a table a model takes, and how their cells are written.

`serving.columns` reads the cells. A model of images does not need it, and loads faster without.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import InputError
from .missing_marks import MISSING

if TYPE_CHECKING:
    from .manifest import Manifest

KINDS = ("number", "boolean", "date", "text")


@dataclass(frozen=True)
class RawColumn:
    """How a column of a table is read.

    Attributes:
        name: name of the column in the table.
        kind: `number`; `boolean`, which becomes 0 or 1; `date`, which becomes `parts`; or `text`.
        decimal: decimal sign of numbers, `.` or `,`.
        thousands: separator of thousands of numbers; empty for none.
        form: form of dates, one of `serving.date_text.FORMS`.
        parts: the parts of dates that the model takes, among `serving.date_text.PARTS`.
        unit: the word that may stand behind each number, such as `kg`; empty for none.
        has_plain_texts: whether texts are read as `plain_text` writes them. Bundles of earlier
            releases know texts as the table had them.
    """

    name: str
    kind: str
    decimal: str = "."
    thousands: str = ""
    form: str = ""
    parts: tuple[str, ...] = ()
    unit: str = ""
    has_plain_texts: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's numeric columns that it becomes; empty for a text."""
        if self.kind == "date":
            return tuple(f"{self.name}.{part}" for part in self.parts)
        return () if self.kind == "text" else (self.name,)


@dataclass(frozen=True)
class RowFormat:
    """How the rows of a table are read.

    Attributes:
        columns: the columns that the model needs, in the order of its inputs. Others are ignored.
        missing: cells that stand for a missing value, in lower case; an empty cell always does.
    """

    columns: tuple[RawColumn, ...]
    missing: tuple[str, ...] = MISSING


def row_format(manifest: "Manifest") -> RowFormat:
    """Return how rows are read for a model; a bundle that does not say takes plain numbers.

    Raises:
        InputError: the model does not take rows.
    """
    if manifest.row_format is not None:
        return manifest.row_format
    if not (manifest.columns or manifest.string_columns):
        raise InputError(f"The model must take rows. Received: {manifest.name}, which does not.")
    floats = (RawColumn(name, "number") for name in manifest.columns)
    texts = (RawColumn(name, "text") for name in manifest.string_columns)
    return RowFormat((*floats, *texts))


def check_names(manifest: "Manifest", names: Iterable[str], source: str) -> list[str]:
    """Require all columns that a model needs, in any order; return those that it ignores.

    Args:
        manifest: manifest of a model that takes rows.
        names: names of the columns that are there.
        source: what has these columns, for the error.

    Raises:
        InputError: columns are absent. All of them are named.
    """
    return require_names([column.name for column in row_format(manifest).columns], names, source)


def require_names(needed: Sequence[str], names: Iterable[str], source: str) -> list[str]:
    """Require columns, in any order; return those that are not needed.

    Args:
        needed: names of the columns that must be there.
        names: names of the columns that are there.
        source: what has these columns, for the error.

    Raises:
        InputError: columns are absent. All of them are named.
    """
    found = list(names)
    absent = [name for name in needed if name not in found]
    if absent:
        raise InputError(
            f"{source} must have the columns {', '.join(needed)}. "
            f"Received: no {', '.join(map(repr, absent))}."
        )
    return [name for name in found if name not in needed]


def are_columns(manifest: "Manifest", names: Iterable[str]) -> bool:
    """Return whether names are those of a table's columns, instead of the model's inputs.

    A column may have the name of an input, such as `texts`.

    Args:
        manifest: manifest of any model.
        names: names of what is given.
    """
    if not (manifest.columns or manifest.string_columns):
        return False
    found, inputs = set(names), {spec.name for spec in manifest.inputs}
    if found.isdisjoint(inputs) or found == inputs:
        return found != inputs
    return found.issuperset(column.name for column in row_format(manifest).columns)
