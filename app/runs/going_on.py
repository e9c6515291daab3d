"""Settles what a run that is resumed goes on with, and writes that down."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.config.going_on import config_to_go_on_with
from app.config.run_config import RunConfig, config_toml, flat_config
from app.config.run_files import CHECKPOINT, CONFIG, DATA, METRICS, NEXT_CONFIG
from app.errors import ConfigError, RunError
from app.system.atomic_files import atomic_write, write_json
from app.training.checkpoint import check_epochs, trained_epochs
from app.training.own_models import with_untrained

from .run_folder import Run, read_begun_run, unwritable


def read_run_to_train(folder: Path, settings: Mapping[str, Any]) -> Run:
    """Return a run with the settings to go on with. Nothing on disk changes.

    Args:
        folder: folder of the run.
        settings: values by flat key that differ from the run's; empty takes the settings of the
            run, or those that it was going on with when it was interrupted.

    Returns:
        The run without metrics; or, if nothing is to be trained, the finished run.

    Raises:
        ConfigError: a setting is unknown, must not change, or leaves nothing to train.
        RunError: the folder is not a run of this version or is damaged, or it has no checkpoint to
            go on from.
    """
    run = read_begun_run(folder)
    config = with_untrained(config_to_go_on_with(folder, settings), folder)
    if run.is_finished:
        if not settings and not (folder / NEXT_CONFIG).is_file():
            return run
        _check_goes_on(run, config)
    elif (folder / CHECKPOINT).is_file():
        check_epochs(config.training.epochs, trained_epochs(folder / CHECKPOINT))
    settings, chosen = flat_config(config), set(run.data.get("chosen", ()))
    overridden = {
        key: value
        for key, value in flat_config(run.config).items()
        if key in chosen and value != settings[key]
    }
    data = {
        **run.data,
        "chosen": sorted(chosen - overridden.keys()),
        "overridden": {**run.data.get("overridden", {}), **overridden},
    }
    return replace(run, config=config, data=data, metrics={})


def write_settings(run: Run) -> None:
    """Write the settings that a run goes on with; those of a finished run stay beside them.

    Raises:
        RunError: the folder cannot be written.
    """
    folder, text = run.folder, config_toml(run.config)
    try:
        if (folder / METRICS).exists():
            atomic_write(folder / NEXT_CONFIG, text)
        elif text != (folder / CONFIG).read_text("utf-8"):
            write_json(folder / DATA, run.data)
            atomic_write(folder / CONFIG, text)
    except OSError as error:
        raise unwritable(folder, error) from None


def _check_goes_on(run: Run, config: RunConfig) -> None:
    """Require that a finished run has something left to train.

    Raises:
        ConfigError: its epochs are trained, or it would stop as early as before.
        RunError: it has no checkpoint.
    """
    checkpoint, epochs = run.folder / CHECKPOINT, config.training.epochs
    if not checkpoint.is_file():
        raise RunError(
            f"A finished run needs its {CHECKPOINT} to go on. Received: {run.folder}, without one. "
            f"Begin a new run with its weights: --start-from {run.folder}."
        )
    trained = trained_epochs(checkpoint)
    if epochs == trained and (run.folder / NEXT_CONFIG).is_file():
        return  # it was interrupted after its last epoch
    if epochs <= trained:
        raise ConfigError(
            "A finished run goes on only for more epochs than it has trained. "
            f"Received: epochs={epochs} for {trained} trained epochs."
        )
    before, now = ((each.training.epochs, each.training.patience) for each in (run.config, config))
    if before == now:
        raise ConfigError(
            f"The run has stopped early, after epoch {trained} of {epochs}. "
            f"Received: patience={config.training.patience}, as before. Set epochs or patience "
            "to another value to let it go on."
        )
