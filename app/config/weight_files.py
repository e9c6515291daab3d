"""Checks the files of weights that a configuration names. It imports nothing heavy."""

from pathlib import Path

from app.errors import ConfigError
from models.config.features import MODEL_SUFFIX, WEIGHTS_SUFFIX

from .run_config import RunConfig, flat_config


def check_weight_files(config: RunConfig) -> None:
    """Require the files of weights that a configuration names. They are not opened.

    Raises:
        ConfigError: one does not exist.
    """
    settings = flat_config(config)
    for key in ("backbone", "weights", "start_from"):
        file = settings.get(key, "")
        if file.endswith((MODEL_SUFFIX, WEIGHTS_SUFFIX)) and not Path(file).is_file():
            raise ConfigError(f"{key} must be a file that exists. Received: {file}.")
