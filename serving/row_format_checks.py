"""Checks that the table of a manifest is one that this release can read."""

from typing import TYPE_CHECKING

from .date_text import FORMS, PARTS
from .errors import ManifestError
from .number_text import FORMATS
from .row_format import KINDS
from .unit_text import is_unit

if TYPE_CHECKING:
    from .manifest import Manifest


def check_row_format(manifest: "Manifest") -> None:
    """Raise `ManifestError` unless a table's columns become exactly those of the model."""
    table = manifest.row_format
    if table is None:
        return
    for column in table.columns:
        is_known = (
            column.kind in KINDS
            and (column.decimal, column.thousands) in FORMATS
            and column.form in ((*FORMS,) if column.kind == "date" else ("",))
            and set(column.parts) <= set(PARTS)
            and (not column.unit or (column.kind == "number" and is_unit(column.unit)))
        )
        if not is_known:
            raise ManifestError(
                f"row_format must have columns of kinds, forms and units that this release knows. "
                f"Received: {column!r:.160}."
            )
    numbers = tuple(name for column in table.columns for name in column.columns)
    texts = tuple(column.name for column in table.columns if column.kind == "text")
    for key, found in (("columns", numbers), ("string_columns", texts)):
        if found != getattr(manifest, key):
            raise ManifestError(
                f"row_format must make the manifest's {key}, {getattr(manifest, key)!r:.80}. "
                f"Received: {found!r:.80}."
            )


def check_target_units(manifest: "Manifest") -> None:
    """Raise `ManifestError` unless the units are those of values that the model predicts."""
    labels = manifest.labels if manifest.task == "regression" else ()
    for label, unit in manifest.target_units.items():
        if label not in labels or not is_unit(unit):
            raise ManifestError(
                "target_units must be units of values by label. "
                f"Received: {label!r:.80}: {unit!r:.80}."
            )
