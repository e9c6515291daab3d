"""Reads the files of a third-party export: a Keras model, its labels, and samples."""

import contextlib
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

import models.own  # noqa: F401 - it registers the layers that a run puts around a user's model
from app.system.keras_defaults import keras_defaults
from app.system.user_packages import import_users_module
from export import ExportError
from export.functional import as_functional
from serving.errors import cannot_read, one_line

# Names of files in the format that Keras wrote before `.keras`.
HDF5 = (".h5", ".hdf5")
# What Keras says of code in a file, of classes and functions that it does not find, and of layers
# that only Keras 2 has.
_RUNS_CODE = re.compile(r"Requested the deserialization of a .*lambda", re.IGNORECASE)
_NOT_REGISTERED = re.compile(r"Could not (locate|interpret) |Unknown [a-z ]+: ")
_OF_KERAS_2 = re.compile(r"'[A-Za-z.]*(TFOpLambda|SlicingOpLambda)'")


@keras_defaults()
def read_model(
    path: Path, modules: Sequence[str] = (), unsafe: bool = False, inputs: Any = None
) -> Any:
    """Read a Keras model from a `.keras` file, or from an `.h5` file of a whole model.

    Args:
        path: path of the file.
        modules: modules to import first, which register the model's custom layers.
        unsafe: whether layers such as Lambda may run code from the file.
        inputs: what the model takes, see `export.signatures.arguments_of`; needed where Keras
            cannot build a class from what the file notes, and would leave its weights unread.

    Raises:
        ExportError: the file is not a Keras model, or needs code that is missing or not allowed.
    """
    if not path.exists():
        raise ExportError(f"The model file does not exist. Received: {path}.")
    if path.suffix not in HDF5 and not zipfile.is_zipfile(path):
        raise ExportError(
            f"A model must be a .keras file, written by keras.Model.save. Received: {path}."
        )
    for module in modules:
        try:
            with _importing_from_here():
                import_users_module(module)
        except Exception as error:  # whatever the module raises
            raise ExportError(
                "A module must be importable, such as package.layers. "
                f"Received: {module!r}: {type(error).__name__}: {error}."
            ) from None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* had a build config, but")
            model = keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
    except Exception as error:  # Keras raises whatever a layer's constructor does
        raise ExportError(_why_not_loaded(error, path, unsafe)) from None
    return _with_all_weights(model, path, inputs)


def _why_not_loaded(error: Exception, path: Path, unsafe: bool) -> str:
    """Return what Keras lacks, in a sentence, and what helps.

    Keras puts the cause last, behind the configs of all that contains it.
    """
    cause = _one_cause(error)
    if _RUNS_CODE.match(cause) and not unsafe:
        return (
            f"Loading a Lambda layer runs code from the file. Received: {path}, which has "
            "one. Allow it with --unsafe if you trust the file."
        )
    if "No model config" in cause:
        return (
            "An .h5 file must hold a whole model, written by keras.Model.save. "
            f"Received: {path}, which holds only weights. Load them into their model, and "
            "save that as .keras."
        )
    if _OF_KERAS_2.search(cause):
        return (
            "A model must be made of layers and operations of Keras 3. "
            f"Received: {path}: {cause}. Build it with keras.ops, and load its weights."
        )
    if _NOT_REGISTERED.match(cause):
        return (
            "Layers and functions of your own must be registered. "
            f"Received: {path}: {cause}. Name the module that registers them with --module."
        )
    return f"Keras {keras.__version__} cannot load the model. Received: {path}: {cause}."


def _one_cause(error: Exception) -> str:
    """Return the innermost cause that Keras names, without the configs and advice behind it."""
    cause = one_line(error).rpartition("Exception encountered: ")[2]
    for sign in (". Make sure custom ", ". Please ensure ", " Full object config: "):
        cause = cause.partition(sign)[0]
    return f"{cause:.200}".rstrip(". ")


def _with_all_weights(model: Any, path: Path, inputs: Any) -> Any:
    """Read the weights of layers that Keras could not build and has left out without a word."""
    if path.suffix in HDF5 or all(layer.built for layer in model._flatten_layers()):
        return model  # an .h5 file holds no class that Keras cannot build
    shapes = _weight_shapes(path)
    if len(shapes) <= len(model.variables) or not shapes.keys() - _own_shapes(model).keys():
        return model  # the other layers were never called, or have no weights
    as_functional(model, inputs)  # calls it, which builds the layers
    try:
        model.load_weights(path)
    except Exception as error:  # a layer may read its weights as it likes
        reason = _differing_shapes(_own_shapes(model), shapes) or f"{one_line(error):.200}"
        raise ExportError(
            f"The inputs must fit the weights of the file. Received: {path}: {reason}. "
            "Give with --input the sizes with which the model was trained."
        ) from None
    if unread := sorted(shapes.keys() - _own_shapes(model).keys()):
        raise ExportError(
            f"All weights of the file must be read. Received: {path}, with weights of "
            f"{_layer(unread[0])!r} that the model lacks. Give each argument of call with --input."
        )
    return model


def _weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array in a `.keras` file, without those of its optimizer."""
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
        return _shapes(file)


def _shapes(file: Any) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    with h5py.File(file) as weights:
        weights.visititems(lambda name, item: _note_array(name, item, found))
    return found


def _note_array(name: str, item: Any, found: dict[str, tuple[int, ...]]) -> None:
    if isinstance(item, h5py.Dataset) and not name.startswith(("optimizer", "compile_metrics")):
        found[name] = item.shape


def _own_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array that a model would write.

    They are more than its variables: some layers write statistics, and twice.
    """
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "model.weights.h5"
        model.save_weights(beside)
        return _shapes(beside)


def _differing_shapes(own: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> str:
    """Return which layers, the first three, have weights of other shapes than in a file.

    What Keras raises names the layer, but seldom its shapes.
    """
    found = [
        f"layer {_layer(name)!r} has weights {shapes[name]} there, and {shape} with these inputs"
        for name, shape in own.items()
        if shapes.get(name, shape) != shape
    ]
    return "; ".join(found[:3])


def _layer(name: str) -> str:
    """Return the layer that an array in a file belongs to: `layers/dense/vars/0` to `dense`."""
    return name.partition("/vars/")[0].replace("layers/", "")


@contextlib.contextmanager
def _importing_from_here() -> Iterator[None]:
    """Import modules from the current folder too, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have removed it
            sys.path.remove(here)


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the labels in a text file, one on each line, in the order of the model's output.

    Raises:
        ExportError: the file cannot be read, is empty, or has a label that is not printable.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(cannot_read(path, error, "a text of labels, one on each line")) from None
    if not lines:
        raise ExportError(f"The file of labels is empty. Received: {path}.")
    for number, line in enumerate(lines, 1):
        if not line.strip() or not line.isprintable():
            raise ExportError(
                "Each label must be a printable text. "
                f"Received: {line!r} in line {number} of {path}."
            )
    return tuple(lines)


def read_columns(names: str) -> tuple[str, ...]:
    """Return the names of columns: those of a text file, one on each line, or comma-separated.

    Raises:
        ExportError: the file cannot be read, or a name is empty or repeated.
    """
    if Path(names).is_file():
        found = read_labels(Path(names))
    else:
        found = tuple(name.strip() for name in names.split(","))
    repeated = [name for name in found if found.count(name) > 1]
    if repeated or not all(found):
        received = f"{repeated[0]!r} twice" if repeated else "an empty one"
        raise ExportError(f"Each column must have a name of its own. Received: {received}.")
    return found


def read_samples(path: Path) -> Any:
    """Return the arrays of an `.npz` file by name, or a single array as it is.

    Raises:
        ExportError: the file cannot be read, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip, its compressions and numpy's header each raise their own
        kind = "an .npz file, written by numpy.savez"
        raise ExportError(cannot_read(path, error, kind)) from None
    return arrays if len(arrays) != 1 else next(iter(arrays.values()))
