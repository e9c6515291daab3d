"""Reads what others bring to an export: a Keras model, its labels, samples to prove it on."""

import contextlib
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.system.keras_defaults import keras_defaults
from export import ExportError
from serving.errors import one_line


@keras_defaults()
def read_model(path: Path, modules: Sequence[str] = (), unsafe: bool = False) -> Any:
    """Read a Keras model from a `.keras` file.

    Args:
        path: of the file.
        modules: to import first, which register the model's own layers.
        unsafe: whether layers may run code that the file brings along, as Lambda does.

    Raises:
        ExportError: the file is no such model, or needs code that is not allowed or not there.
    """
    if not path.exists():
        raise ExportError(f"A model must be a .keras file. Received: {path}, not there.")
    if not zipfile.is_zipfile(path):
        raise ExportError(
            f"A model must be a .keras file, as keras.Model.save writes it. Received: {path}."
        )
    for module in modules:
        try:
            with _importing_from_here():
                import_module(module)
        except Exception as error:  # whatever the module raises
            raise ExportError(
                f"A module must be importable, such as package.layers. "
                f"Received: {module!r}: {type(error).__name__}: {error}."
            ) from None
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
    except Exception as error:  # Keras raises whatever a layer's constructor does
        reason = one_line(error)
        if "lambda" in reason.lower() and not unsafe:
            raise ExportError(
                f"Loading a Lambda layer runs code from the file. Received: {path}, which has "
                "one. Allow it with --unsafe if you trust the file."
            ) from None
        if "Could not locate" in reason:
            raise ExportError(
                f"The model's own layers must be registered before it is read. Received: {path}: "
                f"{reason:.160}… Name the module that registers them with --module."
            ) from None
        raise ExportError(
            f"A model must be one that Keras {keras.__version__} reads. "
            f"Received: {path}: {reason:.200}."
        ) from None


@contextlib.contextmanager
def _importing_from_here() -> Iterator[None]:
    """Find modules in the current folder too, as `python -m` does and a console script does not."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have taken it away
            sys.path.remove(here)


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file: one label each, in the order of the model's answer.

    Raises:
        ExportError: the file cannot be read or is empty.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(
            f"Labels must be a text file, one a line. Received: {path}: {error}."
        ) from None
    if not lines:
        raise ExportError(f"Labels must be a text file, one a line. Received: {path}, empty.")
    for number, line in enumerate(lines, 1):
        if not line.strip() or not line.isprintable():
            raise ExportError(
                "Each label must be a printable text. "
                f"Received: {line!r} in line {number} of {path}."
            )
    return tuple(lines)


def read_samples(path: Path) -> Any:
    """Return the arrays of an `.npz` file, by name; of a file with one array, the array.

    Raises:
        ExportError: the file cannot be read, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # of zip, of its compressions, or of a header that numpy evaluates
        raise ExportError(
            f"Samples must be an .npz file, as numpy.savez writes it. Received: {path}: {error}."
        ) from None
    return arrays if len(arrays) != 1 else next(iter(arrays.values()))
