"""Reads files into the arrays that a model takes: images, or rows of CSV files."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .csv_lines import LARGEST, MISSING, parse_number, read_header, read_rows
from .errors import InputError
from .images import IMAGE_SUFFIXES, ImageSource, read_image, read_pixels
from .manifest import Manifest, describe_spec
from .parity import Inputs
from .photographs import find_digit


def read_inputs(paths: Sequence[str | Path], manifest: Manifest) -> tuple[Inputs, list[str]]:
    """Read files for a model.

    Args:
        paths: image files for a model of images; CSV files for a model of rows. The header of a CSV
            file must have the model's columns, in any order; other columns are ignored. Empty
            cells, NA, n/a, NaN, null, none and ? are missing values.
        manifest: manifest of the model.

    Returns:
        The inputs for `Predictor.predict`, and a name for each sample: the file, with the line
        number for rows.

    Raises:
        InputError: a file is missing or unreadable, or does not fit the model.
    """
    if manifest.columns or manifest.string_columns:
        rows = [row for path in paths for row in _read_rows(Path(path), manifest)]
        return _to_arrays([cells for _, cells in rows], manifest), [name for name, _ in rows]
    images = [read_model_image(path, manifest) for path in paths]
    return np.stack(images), [str(path) for path in paths]


def read_model_image(source: ImageSource, manifest: Manifest) -> np.ndarray:
    """Read an image and resize it to a model's input.

    A digit net gets only the digit of a photograph or a scan; other models get the whole image.

    Returns:
        uint8 `(height, width)`, or `(height, width, channels)` with 1 or 3 channels: the shape of
        the model's input.

    Raises:
        InputError: the image cannot be read, or the model does not take images.
    """
    shape = image_shape(manifest)
    if manifest.family == "digit_net":
        return find_digit(read_pixels(source), (shape[0], shape[1]))
    return read_image(source, shape)


def check_images(images: Sequence[ImageSource]) -> None:
    """Check that `images` is a list that is not empty; a path would be read letter by letter.

    Raises:
        InputError: `images` is not a list, or is empty.
    """
    if not isinstance(images, Sequence) or isinstance(images, str | bytes | bytearray):
        raise InputError(
            f"Images must be in a list. Received: {type(images).__name__}. "
            "Put a single image in brackets."
        )
    if not images:
        raise InputError("There must be at least one image. Received: none.")


def image_shape(manifest: Manifest) -> tuple[int, ...]:
    """Return the shape of an image that a model takes.

    Returns:
        `(height, width)`, or `(height, width, channels)` with 1 channel (gray) or 3 (RGB).

    Raises:
        InputError: the model does not take images.
    """
    spec = manifest.inputs[0]
    sizes = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    is_fixed = spec.dtype == "uint8" and len(sizes) == len(spec.shape) - 1
    is_image = is_fixed and (len(sizes) == 2 or (len(sizes) == 3 and sizes[2] in (1, 3)))
    if len(manifest.inputs) > 1 or not is_image:
        raise InputError(
            "Files can only be read for a model of columns or images. "
            f"Received: {manifest.name}, which takes {describe_spec(spec)}. "
            "Call serving.Predictor with arrays."
        )
    return sizes


def _to_arrays(rows: Sequence[tuple[list[float], list[str]]], manifest: Manifest) -> Inputs:
    arrays = {
        "inputs": np.array([numbers for numbers, _ in rows], np.float32),
        "texts": np.array([texts for _, texts in rows], object),
    }
    named: dict[str, np.ndarray] = {spec.name: arrays[spec.name] for spec in manifest.inputs}
    return named if len(named) > 1 else next(iter(named.values()))


def _read_rows(
    path: Path, manifest: Manifest
) -> Iterator[tuple[str, tuple[list[float], list[str]]]]:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{manifest.name} takes rows: CSV files. Received: {path}, an image.")
    columns = (*manifest.columns, *manifest.string_columns)
    header = read_header(path)
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(
            f"{path} must be a CSV with the columns {', '.join(columns)}. "
            f"Received: no column {missing[0]!r}."
        )
    count = 0
    for line, cells in read_rows(path, len(header)):
        count += 1
        row = dict(zip(header, cells, strict=True))
        yield f"{path}:{line}", (_numbers(path, line, row, manifest), _texts(row, manifest))
    if not count:
        raise InputError(f"{path} must have at least one row below its header. Received: none.")


def _numbers(path: Path, line: int, row: dict[str, str], manifest: Manifest) -> list[float]:
    values = []
    for name in manifest.columns:
        if name in manifest.nullable_columns and row[name].lower() in MISSING:
            values.append(math.nan)
            continue
        value = parse_number(row[name])
        if value is None or not abs(value) <= LARGEST:
            is_missing = row[name].lower() in MISSING
            why = " The training data had no missing values in this column." if is_missing else ""
            raise InputError(
                "Each cell must be a number from -1e18 to 1e18. "
                f"Received: {name}={row[name]!r} in line {line} of {path}.{why}"
            )
        values.append(value)
    return values


def _texts(row: dict[str, str], manifest: Manifest) -> list[str]:
    texts = [row[name] for name in manifest.string_columns]
    return ["" if text.lower() in MISSING else text for text in texts]
