"""Finds what a run needs of the script that trains it, where another process does not look."""

import json
import re
import sys
import zipfile
from pathlib import Path

from app.config.training_config import TrainingConfig
from app.data.reading_progress import tell
from app.system.signals import resume_command
from app.system.user_code import is_object, shown_name

from .own_models import UNTRAINED
from .own_objects import serialized_objects

_SCRIPT = "__main__"
# Classes of no module that Keras could import, and functions, in the file of a saved model.
_NAMES = re.compile(
    rf'"module": (?:null|"{_SCRIPT}"), "class_name": "(\w+)"'
    r'|"class_name": "function", "config": "(\w+)"'
)


def tell_of_script(training: TrainingConfig, folder: Path) -> None:
    """Tell before a training what another process would miss.

    Args:
        training: settings of the training.
        folder: folder of the run, with the model and the objects that are written for others.
    """
    parts, code = parts_of_script(folder), code_of_script(training)
    if lost := sorted({*objects_of_process(training)} - {*code}):
        tell(
            f"{', '.join(lost)}: an object that another process cannot make again, so it cannot "
            "resume the run. Pass a class or a function of a module that makes it."
        )
    if parts or code:
        tell(
            f"{', '.join([*parts, *code])}: of the script itself, so another process "
            f"{'can neither resume nor export' if parts else 'cannot resume'} the run. Move such "
            "code to a module, a file of its own that the script imports."
        )


def how_to_resume(training: TrainingConfig, folder: Path, is_passed: bool = False) -> str:
    """Return what resumes a run: the command, or a call in the script if only that has its code.

    Args:
        training: settings of the training.
        folder: folder of the run.
        is_passed: whether Python code has passed the pipelines that the run is trained on.
    """
    data = ", data=…" if is_passed else ""
    if parts_of_script(folder) or code_of_script(training) or objects_of_process(training):
        return f"Resume in the script, with app.runs.resume({str(folder)!r}{data})"
    if is_passed:
        return f"Resume in Python, with app.runs.resume({str(folder)!r}{data})"
    return f"Resume with: {resume_command(folder)}"


def parts_of_script(folder: Path) -> list[str]:
    """Return the names of the script's layers and functions in the model of a run.

    Args:
        folder: folder of a run. Without a model of the user's there are none.
    """
    try:
        with zipfile.ZipFile(folder / UNTRAINED) as parts:
            config = parts.read("config.json").decode()
    except (OSError, KeyError, zipfile.BadZipFile):
        return []
    return _names_of_script(config)


def _names_of_script(config: str) -> list[str]:
    """Return the names of the script's classes and functions in a configuration of Keras."""
    own = {
        name
        for name, each in vars(sys.modules[_SCRIPT]).items()
        if getattr(each, "__module__", None) == _SCRIPT
    }
    return sorted(own & {name for found in _NAMES.findall(config) for name in found})


def code_of_script(training: TrainingConfig) -> list[str]:
    """Return the names of the script's losses, metrics, callbacks and optimizer in settings."""
    references = [training.loss, *training.metrics, *training.callbacks, training.optimizer.name]
    own = [each for each in references if each.startswith(f"{_SCRIPT}:")]
    return [shown_name(each).removeprefix(f"{_SCRIPT}:") for each in own]


def objects_of_process(training: TrainingConfig) -> list[str]:
    """Return the names of the objects in settings that no other process can make again."""
    made = serialized_objects(training)
    lost = [
        name
        for name, config in made.items()
        # A class inside a function has no name by which it could be imported.
        if config is None or "<locals>" in name or _names_of_script(json.dumps(config))
    ]
    return [shown_name(each) for each in [*lost, *filter(is_object, training.callbacks)]]
