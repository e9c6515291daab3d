"""The settings that a run goes on with when it is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import ConfigError

from .refused_objects import is_object_of_keras
from .run_config import RunConfig, combine_settings, flat_config, flatten
from .run_files import CONFIG, NEXT_CONFIG, check_begun

# Settings that say how long and how fast training goes on; all others that train must stay.
PACE = ("epochs", "patience", "optimizer.learning_rate")
# Settings that may change while a run is trained.
CHANGEABLE = (*PACE, "figures")


def config_to_go_on_with(folder: Path, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration with which a run goes on.

    Args:
        folder: folder of the run, finished or not.
        settings: values by flat key that differ from the run's; empty takes the settings of the
            run, or those that it was going on with when it was interrupted.

    Raises:
        RunError: the folder is not a run.
        ConfigError: a setting is unknown or must not change.
    """
    check_begun(folder)
    next_config = folder / NEXT_CONFIG
    config = combine_settings(None, next_config if next_config.is_file() else folder / CONFIG)
    known, changes = flat_config(config), flatten(settings)
    if is_object_of_keras(changes.get("optimizer")):  # as `make_config` takes it
        changes["optimizer.name"] = changes.pop("optimizer")
    for key, value in changes.items():
        if key in known and key not in CHANGEABLE:
            raise ConfigError(
                f"{key} cannot change while a run is trained; only {', '.join(CHANGEABLE)} can. "
                f"Received: {key}={_shown(value)}. To begin a new run with its weights: "
                f"--start-from {folder}."
            )
    return combine_settings(None, None, {**known, **changes}) if changes else config


def _shown(value: Any) -> str:
    """Return a value in words; of an object its name or class, without its address."""
    if not is_object_of_keras(value):
        return str(value)
    return str(getattr(value, "__name__", type(value).__name__))
