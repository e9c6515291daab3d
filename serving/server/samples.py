"""What the page offers to try a model with: golden samples, and the columns of its rows."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from ..date_text import write_date
from ..errors import InputError
from ..golden import DRAWN, REAL_SAMPLES
from ..inputs import DIGIT_NET, image_shape
from ..manifest import Manifest
from ..row_format import RawColumn, row_format

Arrays = Mapping[str, np.ndarray]
_MAX_SAMPLES = 8
_MAX_IMAGE_BYTES = 500_000
_FROM_SAMPLES = "the samples that are shown"
# Images of the size of MNIST, and the least share of pixels that are paper, about black or white.
_DRAWN_SHAPES, _PAPER, _BLACK, _WHITE = ((28, 28), (28, 28, 1)), 1 / 3, 32, 223


def takes_rows(manifest: Manifest) -> bool:
    """Return whether the model takes rows of a table and its task is known."""
    return manifest.task != "unknown" and bool(manifest.columns or manifest.string_columns)


def image_shape_of(manifest: Manifest) -> tuple[int, ...] | None:
    """Return the shape of an image; None if the model takes no images or its task is unknown."""
    if manifest.task == "unknown":
        return None
    try:
        return image_shape(manifest)
    except InputError:
        return None


def describe_samples(manifest: Manifest, golden: Arrays) -> bytes:
    """Return samples, and the columns of rows, as JSON.

    Has `images`, a list of PNG files as base64, and `ink`, for a model of images: a drawing must be
    `dark` on white or `bright` on black, or is nothing that the model knows, where `ink` is empty.
    For a model of rows it has `rows`, each a text for each column as in the table, `columns`, and
    `measured_on`, which says where the ranges and texts of the columns are from. Samples that do
    not come from data are left out.

    Args:
        manifest: manifest of the model.
        golden: the golden inputs by name.
    """
    found: dict[str, Any] = {"images": [], "ink": "", "rows": [], "columns": [], "measured_on": ""}
    shown = _choose(manifest, golden)
    if takes_rows(manifest):
        found |= _describe_rows(manifest, shown)
    elif image_shape_of(manifest) is not None:
        (images,) = shown.values()
        found["images"] = [_png(image) for image in images if image.size <= _MAX_IMAGE_BYTES]
        found["ink"] = _ink(manifest, images)
    return msgspec.json.encode(found)


def _choose(manifest: Manifest, golden: Arrays) -> Arrays:
    """Return a few samples that come from data."""
    count = min(manifest.proof.samples, REAL_SAMPLES, *map(len, golden.values()))
    if count < 0 or manifest.proof.source.startswith(DRAWN) or manifest.whole_batches:
        count = 0
    indices = np.unique(np.linspace(0, count - 1, min(count, _MAX_SAMPLES)).round().astype(int))
    return {name: array[indices] for name, array in golden.items()}


def _ink(manifest: Manifest, images: np.ndarray) -> str:
    """Return how a drawing is sent. Only a digit net turns ink of either kind into its own."""
    if manifest.family == DIGIT_NET:
        return "dark"
    is_size = manifest.task == "multiclass" and image_shape_of(manifest) in _DRAWN_SHAPES
    if not is_size or not len(images):
        return ""
    shares = {"bright": np.mean(images < _BLACK), "dark": np.mean(images > _WHITE)}
    ink = max(shares, key=shares.__getitem__)
    return ink if shares[ink] >= _PAPER else ""


def _png(image: np.ndarray) -> str:
    """Return an image, uint8 `(height, width)` or `(height, width, channels)`, as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(axis=2) if image.shape[2:] == (1,) else image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _describe_rows(manifest: Manifest, samples: Arrays) -> dict[str, Any]:
    cells = manifest.training_cells
    if cells is None:
        ranges, texts = _ranges(manifest, samples), _texts(manifest, samples)
    else:
        ranges = {column.name: (column.low, column.high) for column in cells.ranges}
        texts = {column.name: list(column.texts) for column in cells.texts}
    columns = row_format(manifest).columns
    nullable = set(manifest.nullable_columns)
    described = [
        {
            "name": column.name,
            "kind": column.kind,
            "decimal": column.decimal,
            "thousands": column.thousands,
            "unit": column.unit,
            "form": column.form,
            "is_nullable": column.kind == "text" or nullable.issuperset(column.columns),
            "range": _range(column, ranges),
            "texts": texts.get(column.name, []),
        }
        for column in columns
    ]
    return {
        "rows": _rows(manifest, columns, samples),
        "columns": described,
        "measured_on": _FROM_SAMPLES if cells is None else cells.measured_on,
    }


def _range(
    column: RawColumn, ranges: Mapping[str, tuple[float, float]]
) -> tuple[float, float] | None:
    """Return the ends of the numbers of a column, or of the years of one of dates."""
    if column.kind == "date":
        return ranges.get(f"{column.name}.year")
    return ranges.get(column.name) if column.kind == "number" else None


def _ranges(manifest: Manifest, samples: Arrays) -> dict[str, tuple[float, float]]:
    found = {}
    for place, name in enumerate(manifest.columns):
        numbers = samples["inputs"][:, place]
        numbers = numbers[~np.isnan(numbers)]
        if len(numbers):
            found[name] = float(str(numbers.min())), float(str(numbers.max()))
    return found


def _texts(manifest: Manifest, samples: Arrays) -> dict[str, list[str]]:
    return {
        name: sorted({text for text in samples["texts"][:, place] if text})
        for place, name in enumerate(manifest.string_columns)
    }


def _rows(
    manifest: Manifest, columns: tuple[RawColumn, ...], samples: Arrays
) -> list[dict[str, str]]:
    """Return the cells of each sample as a table has them, from what the model takes."""
    numbers, texts = manifest.columns, manifest.string_columns
    rows = []
    for sample in range(len(next(iter(samples.values())))):
        row = {}
        for column in columns:
            if column.kind == "text":
                row[column.name] = samples["texts"][sample, texts.index(column.name)]
            else:
                places = [numbers.index(name) for name in column.columns]
                row[column.name] = _cell(column, samples["inputs"][sample, places])
        rows.append(row)
    return rows


def _cell(column: RawColumn, values: np.ndarray) -> str:
    """Return the cell that becomes these float32 numbers; empty if it is missing."""
    if column.kind == "date":
        return write_date(column.parts, values.tolist(), column.form)
    (value,) = values
    if np.isnan(value):
        return ""
    if column.kind == "boolean":
        return "true" if value else "false"
    return np.format_float_positional(value, trim="-").replace(".", column.decimal)
