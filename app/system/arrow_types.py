"""Opens parquet files, and tells which of their columns hold cells or images. It needs pyarrow."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Images that are taken out of a row group together, as they were encoded.
IMAGES_AT_ONCE = 64
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
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def open_row_groups(path: str | Path) -> pq.ParquetFile:
    """Open a parquet file to read one row group after the other, with the checksums of its pages.

    By default, pyarrow reads ahead and keeps the whole file in memory.
    """
    return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)


def holds_cells(found: pa.DataType) -> bool:
    """Return whether a column of this type holds numbers, texts, truth values or dates."""
    if pa.types.is_dictionary(found):
        return holds_cells(found.value_type)
    return any(is_kind(found) for is_kind in _KINDS)


def holds_images(found: pa.DataType) -> bool:
    """Return whether a column of this type may hold images: bytes, or a struct with `bytes`."""
    if pa.types.is_struct(found):
        return any(each.name == "bytes" and holds_images(each.type) for each in found)
    return any(is_kind(found) for is_kind in _BYTES)
