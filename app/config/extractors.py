"""Models that were trained before, as backbones: where their files are, and what they take."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import ConfigError
from app.system.user_code import bare_reference, is_reference
from models.config.features import MODEL_SUFFIX
from serving.bundle import KERAS_MODEL, MANIFEST, version_numbers
from serving.unit_text import required_unit

from .run_files import CONFIG


def model_file(backbone: Any, what: str = "backbone") -> Any:
    """Return the absolute path of a trained model if `backbone` names its file, run or bundle.

    Args:
        backbone: the value of a setting; what is not a path is returned as it is.
        what: the setting.

    Raises:
        ConfigError: a folder holds no trained model, or a path does not exist. A `.keras` file may
            be gone, which only trainings need.
    """
    if not isinstance(backbone, str | Path):
        return backbone
    path = Path(backbone)
    if path.is_dir():
        path = _model_in(path, what)
    elif len(path.parts) > 1 and path.suffix != MODEL_SUFFIX and not path.exists():
        raise ConfigError(
            f"{what} must be a run, a bundle or a .keras file. "
            f"Received: {path}, which does not exist."
        )
    return str(path.absolute()) if path.suffix == MODEL_SUFFIX else str(backbone)


def _model_in(folder: Path, setting: str) -> Path:
    versions = version_numbers(folder)
    version = folder / str(versions[-1]) if versions else folder
    if (version / KERAS_MODEL).is_file():
        return version / KERAS_MODEL
    what = "Give the folder of a finished run, or a bundle."
    if (version / MANIFEST).is_file():
        what = f"Only bundles of models with features hold {KERAS_MODEL}. Give its run or file."
    subject = "A backbone" if setting == "backbone" else setting
    raise ConfigError(
        f"{subject} must be a model that was trained before. Received: {folder}. {what}"
    )


def bare_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run without the folders of its models, which are private.

    The model of a run or of a bundle keeps its name: `features/20260101-120000/model.keras`.
    """
    paths = {
        key: Path(settings[key])
        for key in ("backbone", "weights", "start_from")
        if "/" in settings.get(key, "")
    }
    bare: dict[str, Any] = {
        key: "/".join(path.parts[-3:]) if _has_name(path) else path.name
        for key, path in paths.items()
    }
    family = settings.get("family", "")
    if family.endswith(MODEL_SUFFIX):
        bare["family"] = Path(family).name
    elif is_reference(family):
        bare["family"] = bare_reference(family)
    if "loss" in settings:
        bare["loss"] = bare_reference(settings["loss"])
        bare |= {key: [*map(bare_reference, settings[key])] for key in ("metrics", "callbacks")}
    if is_reference(settings.get("optimizer.name")):
        bare["optimizer.name"] = bare_reference(settings["optimizer.name"])
    return {**settings, **bare}


def _has_name(model: Path) -> bool:
    """Return whether a file is the model of a run or of a bundle, whose folders name it."""
    beside = (model.with_name(name) for name in (CONFIG, MANIFEST))
    return model.name == KERAS_MODEL and any(file.is_file() for file in beside)


def check_columns_taken(backbone: str, columns: Sequence[str], texts: Sequence[str]) -> None:
    """Require that rows have the columns that a trained backbone has learned from, in its order.

    Args:
        backbone: path of a `.keras` file. One without a run or a bundle does not know its columns.
        columns: names of the numeric columns.
        texts: names of the columns of text.

    Raises:
        ConfigError: columns are absent, additional, or in another order.
    """
    found = _data_of(backbone)
    taken = [*found.get("columns", ()), *found.get("string_columns", ())]
    given = [*columns, *texts]
    if taken in ([], given):
        return
    absent = [repr(name) for name in taken if name not in given]
    additional = [repr(name) for name in given if name not in taken]
    received = "another order"
    if absent or additional:
        parts = (f"no {', '.join(absent)}" if absent else "", ", ".join(additional))
        received = " but ".join(filter(None, parts))
    raise ConfigError(
        f"The rows must have the columns of {backbone}, in the same order: "
        f"{', '.join(taken)}. Received: {received}."
    )


def check_units_taken(model: str, columns: Mapping[str, str], targets: Mapping[str, str]) -> None:
    """Require the units that a trained model has learned from, in upper or lower case.

    Args:
        model: path of a `.keras` file. One without a run or a bundle does not know its units.
        columns: the unit of each column whose cells have one, by name.
        targets: the same of values. Those of other names than the model's are other values.

    Raises:
        ConfigError: a column or a target has another unit. The message names both.
    """
    found = _data_of(model)
    rows = (found.get("row_format") or {}).get("columns", ())
    known = {column["name"]: column.get("unit", "") for column in rows}
    known |= found.get("target_units", {}) | found.get("units", {})
    own = {name: unit for name, unit in targets.items() if name in found.get("labels", ())}
    for name, unit in {**columns, **own}.items() if found else ():
        if rule := required_unit(unit, known.get(name, "")):
            raise ConfigError(
                f"{name} must be {rule}, as {model} has learned it. Received: {name} in {unit}."
            )


def _data_of(model: str) -> dict[str, Any]:
    """Return what the run or the bundle of a `.keras` file says of its data; empty without one."""
    files = (Path(model).with_name(name) for name in (MANIFEST, "data.json"))
    known = next((file for file in files if file.is_file()), None)
    found: dict[str, Any] = {} if known is None else json.loads(known.read_text("utf-8"))
    return found
