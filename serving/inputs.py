"""Reads files into the arrays that a model takes: images, or rows of CSV files."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from .csv_lines import line_places, read_columns, read_header
from .errors import InputError, NoRowsError, counted, describe_all, first_few
from .image_sources import ImageSource
from .images import IMAGE_SUFFIXES, fit_and_pad, read_enough
from .manifest import Manifest, describe_spec
from .named_columns import (
    TEXTS,
    needed_columns,
    read_cells,
    read_texts,
    takes_named_columns,
)
from .parity import Inputs, as_inputs
from .photographs import find_digit, read_photograph, shows_ink
from .row_format import require_names

# An image that is enlarged more than this many times is a blur, unlike those of the training.
MAX_ENLARGEMENT = 4
# The family whose models get only the digit of an image.
DIGIT_NET = "digit_net"

Found = TypeVar("Found")


def read_inputs(
    paths: Sequence[str | Path],
    manifest: Manifest,
    note: Callable[[str], None] = lambda _: None,
    set_aside: Callable[[str | Path, InputError], None] | None = None,
) -> tuple[Inputs, list[str]]:
    """Read files for a model.

    Args:
        paths: image files for a model of images; CSV files for a model of rows. The header of a CSV
            file must have the model's columns, in any order; other columns are ignored. Cells are
            read as in training, see `serving.columns`. For a model whose inputs are single texts or
            numbers the columns are its inputs; for one text a `.txt` file, a text in each line.
        manifest: manifest of the model.
        note: is called with what the user should know, such as the columns that are ignored, or
            images that are enlarged more than `MAX_ENLARGEMENT` times.
        set_aside: is called with each image file that cannot be read, and why; the others are read.
            Without it, or if none can be read, that is an error, as it always is for rows.

    Returns:
        The inputs for `Predictor.predict`, and a name for each sample: the file, with the line
        number for rows.

    Raises:
        InputError: files are missing or unreadable, or do not fit the model; the message says how
            many, and names the first ones.
    """
    if _takes_rows(manifest):
        tables = _read_each(paths, lambda path: list(_read_rows(Path(path), manifest, note)))
        parts = [(path, *part) for path, table in tables for part in table]
        named = {
            spec.name: np.concatenate([inputs[spec.name] for _, _, inputs in parts])
            for spec in manifest.inputs
        }
        names = [f"{path}:{line}" for path, lines, _ in parts for line in lines]
        return as_inputs(named), names
    found = _read_each(paths, lambda path: _read_noted(path, manifest), set_aside)
    paths, images = [path for path, _ in found], [image for _, image in found]
    _note_enlarged(paths, images, note)
    _note_scenes(paths, images, note)
    return np.stack([image.pixels for image in images]), [str(path) for path in paths]


def takes_files(manifest: Manifest) -> bool:
    """Return whether files can be read for a model: of rows, of texts or of images."""
    return _takes_rows(manifest) or takes_images(manifest)


def takes_images(manifest: Manifest) -> bool:
    """Return whether a model takes images."""
    try:
        return not _takes_rows(manifest) and bool(image_shape(manifest))
    except InputError:
        return False


def _takes_rows(manifest: Manifest) -> bool:
    named = manifest.columns or manifest.string_columns
    return bool(named) or takes_named_columns(manifest)


def _read_each(
    paths: Sequence[str | Path],
    read: Callable[[str | Path], Found],
    set_aside: Callable[[str | Path, InputError], None] | None = None,
) -> list[tuple[str | Path, Found]]:
    """Return each path that can be read, with what was read."""
    found: list[tuple[str | Path, Found]] = []
    problems: list[tuple[str | Path, InputError]] = []
    for path in paths:
        try:
            found.append((path, read(path)))
        except InputError as error:
            problems.append((path, error))
    if problems and (set_aside is None or not found):
        if len(problems) == 1:
            raise problems[0][1]
        raise InputError(describe_all([error for _, error in problems]))
    if set_aside is not None:
        for path, problem in problems:
            set_aside(path, problem)
    return found


class _Image(NamedTuple):
    """An image for a model, the size of the file's, and whether a digit net can be meant for it."""

    pixels: np.ndarray
    height: int
    width: int
    shows_ink: bool


def _read_noted(source: ImageSource, manifest: Manifest) -> _Image:
    decoded = _decode(source, manifest)
    height, width = decoded.shape[:2]
    is_scene = manifest.family == DIGIT_NET and not shows_ink(decoded)
    return _Image(_fit(decoded, manifest), height, width, not is_scene)


def _note_enlarged(
    paths: Sequence[str | Path], images: Sequence[_Image], note: Callable[[str], None]
) -> None:
    """Note which files are far smaller than the model's images."""
    height, width = images[0].pixels.shape[:2]
    small = [
        f"{path} ({image.width}x{image.height})"
        for path, image in zip(paths, images, strict=True)
        if min(height / image.height, width / image.width) > MAX_ENLARGEMENT
    ]
    if small:
        are = "is" if len(small) == 1 else "are"
        note(
            f"{counted(len(small), 'image')} {are} enlarged more than {MAX_ENLARGEMENT} times to "
            f"{width}x{height}, so that predictions may mean little: {first_few(small)}."
        )


def _note_scenes(
    paths: Sequence[str | Path], images: Sequence[_Image], note: Callable[[str], None]
) -> None:
    """Note which files are no digits, which a digit net takes for some digit nevertheless."""
    scenes = [path for path, image in zip(paths, images, strict=True) if not image.shows_ink]
    if scenes:
        note(
            f"{counted(len(scenes), 'image')} {'shows' if len(scenes) == 1 else 'show'} no ink on "
            f"even paper, so that predictions of digits may mean nothing: {first_few(scenes)}."
        )


def read_model_image(source: ImageSource, manifest: Manifest) -> np.ndarray:
    """Read an image and resize it to a model's input.

    A digit net gets only the digit of a photograph or a scan; other models get the whole image.

    Returns:
        uint8 `(height, width)`, or `(height, width, channels)` with 1 or 3 channels: the shape of
        the model's input.

    Raises:
        InputError: the image cannot be read, or the model does not take images.
    """
    return _fit(_decode(source, manifest), manifest)


def _decode(source: ImageSource, manifest: Manifest) -> np.ndarray:
    shape = image_shape(manifest)
    return read_photograph(source) if manifest.family == DIGIT_NET else read_enough(source, shape)


def _fit(pixels: np.ndarray, manifest: Manifest) -> np.ndarray:
    shape = image_shape(manifest)
    fit = find_digit if manifest.family == DIGIT_NET else fit_and_pad
    return fit(pixels, (shape[0], shape[1])).reshape(shape)


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
            "Files can only be read for a model of columns, texts or images. "
            f"Received: {manifest.name}, which takes {describe_spec(spec)}. "
            "Call serving.Predictor with arrays."
        )
    return sizes


def _read_rows(
    path: Path, manifest: Manifest, note: Callable[[str], None]
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Yield the numbers of some lines of a CSV file, and the inputs that they hold."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{manifest.name} takes rows: CSV files. Received: {path}, an image.")
    if path.suffix.lower() == ".parquet":
        raise InputError(
            "A parquet file needs a file for its predictions, such as --output "
            f"predictions.parquet. Received: {path} without one."
        )
    if path.suffix.lower() == TEXTS and takes_named_columns(manifest):
        yield from read_texts(path, manifest)
        return
    is_empty = True
    for part in _read_table(path, manifest, note):
        is_empty = False
        yield part
    if is_empty:
        raise NoRowsError(f"{path} must have at least one row below its header. Received: no rows.")


def _read_table(
    path: Path, manifest: Manifest, note: Callable[[str], None]
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    ignored = require_names(needed_columns(manifest), read_header(path), str(path))
    if ignored:
        note(f"{path} has other columns too, which are ignored: {', '.join(ignored)}.")
    for lines, cells in read_columns(path):
        rows = read_cells(manifest, cells, line_places(path, lines))
        if rows.problems:
            raise InputError(describe_all([rows.problems[row] for row in sorted(rows.problems)]))
        yield lines, rows.inputs
