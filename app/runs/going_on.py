"""Settles what a run that is resumed goes on with, and writes that down."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.config.run_config import config_toml, flat_config
from app.config.run_files import CONFIG, DATA, METRICS, NEXT_CONFIG
from app.system.atomic_files import atomic_write, write_json
from app.training.checkpoint_state import config_that_goes_on
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
    going_on = config_that_goes_on(folder, settings)
    if going_on is None:
        return run
    config = with_untrained(going_on, folder)
    values, chosen = flat_config(config), set(run.data.get("chosen", ()))
    overridden = {
        key: value
        for key, value in flat_config(run.config).items()
        if key in chosen and value != values[key]
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
