"""Tells which columns of parquet files hold cells. Only modules that need pyarrow import it."""

import pyarrow as pa

_KINDS = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)


def holds_cells(found: pa.DataType) -> bool:
    """Return whether a column of this type holds numbers, texts, truth values or dates."""
    if pa.types.is_dictionary(found):
        return holds_cells(found.value_type)
    return any(is_kind(found) for is_kind in _KINDS)
