"""The model that a run begins with: what its run or bundle says of its settings and its data."""

import json
import tomllib
from pathlib import Path
from typing import Any

from app.errors import ConfigError
from models.config.features import MODEL_SUFFIX, WEIGHTS_SUFFIX
from serving.bundle import MANIFEST
from serving.errors import cannot_read

from .families import is_own_model

_CONFIG, _DATA = "config.toml", "data.json"
# Beside those of the model, the settings that its architecture depends on.
_OF_IMAGES = ("image_size",)
# Settings of a model that may be files. A bundle names them without their folders.
_FILES = ("backbone", "weights")


def settings_beside(model: str) -> dict[str, Any]:
    """Return the settings of the run or the bundle that a `.keras` file belongs to.

    Args:
        model: path of the file.

    Returns:
        The settings, `family` among them, by key; those of optimizer and augmentation may be
        nested. Empty if the file is alone.

    Raises:
        ConfigError: a file of the run or the bundle cannot be read.
    """
    path = Path(model).with_name(_CONFIG)
    if path.is_file():
        return _read(path, "TOML", tomllib.loads)
    settings: dict[str, Any] = _manifest(model).get("config", {})
    return settings


def data_beside(model: str) -> dict[str, Any]:
    """Return what the run or the bundle of a `.keras` file says of its data.

    Args:
        model: path of the file.

    Returns:
        The content of `data.json` or of `manifest.json`, which share `labels` and `columns`; empty
        if the file is alone.

    Raises:
        ConfigError: a file of the run or the bundle cannot be read.
    """
    path = Path(model).with_name(_DATA)
    return _read(path, "JSON", json.loads) if path.is_file() else _manifest(model)


def family_of(model: str) -> str | None:
    """Return the family of a model; None if its file is alone."""
    return settings_beside(model).get("family")


def architecture(model: str, family: str, keys: set[str]) -> dict[str, Any]:
    """Return the settings that make a model of the same architecture.

    Args:
        model: path of a `.keras` file.
        family: family of the model to build.
        keys: settings of models of that family.

    Raises:
        ConfigError: the model belongs to another family, or was trained on a backbone, or from
            weights, that are not there.
    """
    settings = settings_beside(model)
    own = settings.get("family", family)
    if own != family and not (is_own_model(own) and is_own_model(family)):
        raise ConfigError(
            f"start_from must be a model of the same family, {family}. "
            f"Received: {model}, of the family {own}."
        )
    found = {key: value for key, value in settings.items() if key in (*keys, *_OF_IMAGES)}
    for key in _FILES:
        value = str(found.get(key, ""))
        if value.endswith((MODEL_SUFFIX, WEIGHTS_SUFFIX)) and not Path(value).is_file():
            raise ConfigError(
                f"start_from needs the {key} that its model began with. "
                f"Received: {model}, of {value}, which is not there. Give it: --set {key}=PATH."
            )
    return found


def _manifest(model: str) -> dict[str, Any]:
    path = Path(model).with_name(MANIFEST)
    return _read(path, "JSON", json.loads) if path.is_file() else {}


def _read(path: Path, kind: str, parse: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = parse(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(cannot_read(path, error, kind)) from None
    return found
