"""What a checkpoint tells of its run, and whether the run can go on. It imports no Keras."""

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from app.config.going_on import config_to_go_on_with
from app.config.run_config import RunConfig, combine_settings
from app.config.run_files import CHECKPOINT, CONFIG, METRICS, NEXT_CONFIG
from app.errors import ConfigError, RunError
from serving.bundle import KERAS_MODEL
from serving.errors import cannot_read

_STATE = {"settings", "history", "has_ended", "compilation", "best", "seconds", "callbacks"}


def config_that_goes_on(folder: Path, settings: Mapping[str, Any]) -> RunConfig | None:
    """Return the configuration with which a run goes on; None if there is nothing to train.

    Args:
        folder: folder of the run, finished or not.
        settings: see `app.config.going_on.config_to_go_on_with`.

    Raises:
        ConfigError: a setting is unknown, must not change, or leaves nothing to train.
        RunError: the folder is no run, or the checkpoint is missing or damaged.
    """
    config = config_to_go_on_with(folder, settings)
    if all((folder / name).is_file() for name in (METRICS, KERAS_MODEL)):
        if not settings and not (folder / NEXT_CONFIG).is_file():
            return None
        _check_goes_on(folder, config)
    elif (folder / CHECKPOINT).is_file():
        check_epochs(config.training.epochs, trained_epochs(folder / CHECKPOINT))
    return config


def _check_goes_on(folder: Path, config: RunConfig) -> None:
    """Require that a finished run has something left to train.

    Raises:
        ConfigError: its epochs are trained, or it would stop as early as before.
        RunError: it has no checkpoint.
    """
    checkpoint, epochs = folder / CHECKPOINT, config.training.epochs
    if not checkpoint.is_file():
        raise RunError(
            f"A finished run needs its {CHECKPOINT} to go on. Received: {folder}, without one. "
            f"Begin a new run with its weights: --start-from {folder}."
        )
    trained = trained_epochs(checkpoint)
    if epochs == trained and (folder / NEXT_CONFIG).is_file():
        return  # it was interrupted after its last epoch
    if epochs <= trained:
        raise ConfigError(
            "A finished run goes on only for more epochs than it has trained. "
            f"Received: epochs={epochs} for {trained} trained epochs."
        )
    begun = combine_settings(None, folder / CONFIG)
    before, now = ((each.training.epochs, each.training.patience) for each in (begun, config))
    if before == now:
        raise ConfigError(
            f"The run has stopped early, after epoch {trained} of {epochs}. "
            f"Received: patience={config.training.patience}, as before. Set epochs or patience "
            "to another value to let it go on."
        )


def trained_epochs(path: Path) -> int:
    """Return the number of epochs of which a checkpoint tells.

    Raises:
        RunError: the file cannot be read.
    """
    return len(read_state(path)["history"])


def check_epochs(epochs: int, trained: int) -> None:
    """Require that a run which goes on has at least as many epochs as it has trained.

    Raises:
        RunError: it has fewer.
    """
    if epochs < trained:
        raise RunError(
            "epochs must be at least the number of epochs that the run has trained. "
            f"Received: epochs={epochs} for {trained} trained epochs."
        )


def read_state(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds beside arrays.

    Raises:
        RunError: the file cannot be read.
    """
    with readable(path) as archive:
        state: dict[str, Any] = json.loads(archive["state"].tobytes())
        if missing := _STATE - state.keys():
            raise ValueError(f"a file of another version, without {', '.join(sorted(missing))}")
        if not isinstance(state["callbacks"], dict):
            raise ValueError("a file of another version")
    return state


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Any]:
    """Yield the arrays of a checkpoint; what goes wrong is a `RunError`."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            yield archive
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise RunError(
            f"{cannot_read(path, error, 'a checkpoint')} Remove it to train from the start."
        ) from None
