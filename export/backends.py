"""Predicts with Keras on another backend, such as the one that trained a model."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .errors import ExportError

BACKENDS = ("jax", "tensorflow", "torch")
_PROGRAM = Path(__file__).with_name("backend_process.py")


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
        model.save(paths[0])
        arrays: dict[str, Any] = {str(place): array for place, array in enumerate(leaves)}
        np.savez(paths[1], **arrays)
        arguments = [*paths, str(batch_size), *sorted(_modules_of(model))]
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        done = subprocess.run(
            [sys.executable, str(_PROGRAM), *arguments],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise ExportError(
                f"Keras must be able to run the model on {backend}. Received: {lines[-1]:.200}."
            )
        with np.load(paths[2]) as file:
            return [file[str(place)] for place in range(len(file.files))]


def describe_backend(backend: str) -> str:
    """Return a backend with its version, such as `jax 0.10.2`."""
    return f"{backend} {version(backend)}"


def _modules_of(model: keras.Model) -> set[str]:
    """Return the modules of the classes that are not Keras' own."""
    config = keras.saving.serialize_keras_object(model)
    found = {*_named_in(config), *(type(layer).__module__ for layer in model._flatten_layers())}
    return {name for name in found if name.partition(".")[0] not in ("keras", "__main__")}


def _named_in(config: Any) -> Iterator[str]:
    """Yield the modules of layers, and of their initializers and the like."""
    if isinstance(config, dict):
        if isinstance(module := config.get("module"), str):
            yield module
        config = list(config.values())
    if isinstance(config, list | tuple):
        for part in config:
            yield from _named_in(part)
