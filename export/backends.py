"""Predicts with Keras on another backend, such as the one that trained a model."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from serving.manifest import TensorSpec

from .errors import ExportError, explained

BACKENDS = ("jax", "tensorflow", "torch")
_PROGRAM = Path(__file__).with_name("backend_process.py")
_OWN = str(Path(__file__).absolute().parents[1])


def check_backend(backend: str | None) -> None:
    """Raise ExportError unless a backend is known and installed, or None."""
    if backend is None:
        return
    if backend not in BACKENDS:
        raise ExportError(
            f"trained_on must be one of {', '.join(BACKENDS)}. Received: {backend!r:.80}."
        )
    try:
        version(backend)
    except PackageNotFoundError:
        raise ExportError(
            f"Predictions are compared with the backend of the training. Received: {backend}, "
            f"which is not installed. Install {backend}, or leave trained_on out to compare with "
            "TensorFlow."
        ) from None


def predict_on(
    backend: str, model: keras.Model, leaves: list[np.ndarray], batch_size: int
) -> list[Any]:
    """Return the outputs of a model on another backend, run in a process of its own.

    Args:
        backend: One of `BACKENDS`.
        model: Functional model. Modules of its own classes must be importable.
        leaves: An array for each of `model.inputs`.
        batch_size: Number of samples in each call.

    Returns:
        The outputs, flattened.

    Raises:
        ExportError: The process fails; the message quotes its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("model.keras", "inputs.npz", "outputs.npz")]
        with explained(f"Keras must be able to save the model, to run it on {backend}"):
            model.save(paths[0])
        arrays: dict[str, Any] = {str(place): array for place, array in enumerate(leaves)}
        np.savez(paths[1], **arrays)
        modules = sorted(_modules_of(model))
        # Hornbill's last, whose packages may have the names of the user's.
        folders = sorted({_folder_of(name) for name in modules}, key=lambda one: (one == _OWN, one))
        arguments = [*paths, str(batch_size), os.pathsep.join(folders), *modules]
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        done = subprocess.run(  # -P: modules of the user may have names of those beside the program
            [sys.executable, "-P", str(_PROGRAM), *arguments],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise ExportError(
                f"Keras must be able to run the model on {backend}. Received: "
                f"{lines[-1].removeprefix('Exception encountered: '):.200}."
            )
        with np.load(paths[2]) as file:
            return [file[str(place)] for place in range(len(file.files))]


def require_runnable(
    backend: str | None, inputs: Sequence[TensorSpec], noise: Collection[str]
) -> None:
    """Raise ExportError if a model of these inputs can only run on TensorFlow."""
    unsuited = [spec for spec in inputs if spec.dtype == "string" or spec.name in noise]
    if backend not in (None, "tensorflow") and unsuited:
        kind = "noise" if unsuited[0].name in noise else "strings"
        raise ExportError(
            "A model that is compared with its predictions on another backend must take numbers, "
            f"and draw none. Received: {unsuited[0].name}, of {kind}, and trained_on={backend}. "
            "Leave trained_on out to compare with TensorFlow."
        )


def describe_backend(backend: str) -> str:
    """Return a backend with its version, such as `jax 0.10.2`."""
    return f"{backend} {version(backend)}"


def _modules_of(model: keras.Model) -> set[str]:
    """Return the modules of the classes that are not Keras' own."""
    config = keras.saving.serialize_keras_object(model)
    found = {*_named_in(config), *(type(layer).__module__ for layer in model._flatten_layers())}
    return {name for name in found if name.partition(".")[0] not in ("keras", "__main__")}


def _folder_of(module: str) -> str:
    """Return the folder in which Python has found a module, or its package."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return str(Path.cwd())
    path = Path(file).absolute()
    inside = path.parent if path.stem == "__init__" else path
    return str(inside.parents[module.count(".")])


def _named_in(config: Any) -> Iterator[str]:
    """Yield the modules of layers, and of their initializers and the like."""
    if isinstance(config, dict):
        if isinstance(module := config.get("module"), str):
            yield module
        config = list(config.values())
    if isinstance(config, list | tuple):
        for part in config:
            yield from _named_in(part)
