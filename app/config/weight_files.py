"""Checks the files of weights and of code that a configuration names. It imports nothing heavy."""

from collections.abc import Sequence
from pathlib import Path

from app.errors import ConfigError
from app.system.user_code import check_reference, is_reference
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


def check_code_files(config: RunConfig) -> None:
    """Require the Python files that a configuration names, and the names. Nothing is imported.

    Raises:
        ConfigError: one does not exist.
    """
    training = config.training
    named: dict[str, Sequence[str]] = {"data": (config.data,), "loss": (training.loss,)}
    named |= {"metrics": training.metrics, "callbacks": training.callbacks}
    named["optimizer.name"] = (training.optimizer.name,)
    for key, references in named.items():
        for reference in filter(is_reference, references):
            check_reference(reference, key)
