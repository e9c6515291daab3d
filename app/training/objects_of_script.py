"""Finds what a run needs of the script that trains it, where another process does not look."""

import re
import sys
import zipfile
from pathlib import Path

from app.config.training_config import TrainingConfig
from app.data.reading_progress import tell
from app.system.signals import resume_command
from app.system.user_code import shown_name

from .own_models import UNTRAINED

_SCRIPT = "__main__"
# Classes of no module that Keras could import, and functions, in the file of a saved model.
_NAMES = re.compile(
    rf'"module": (?:null|"{_SCRIPT}"), "class_name": "(\w+)"'
    r'|"class_name": "function", "config": "(\w+)"'
)


def tell_of_script(training: TrainingConfig, folder: Path) -> None:
    """Tell before a training what another process would miss."""
    parts, code = parts_of_script(folder), code_of_script(training)
    if parts or code:
        tell(
            f"{', '.join([*parts, *code])}: of the script itself, so another process "
            f"{'can neither resume nor export' if parts else 'cannot resume'} the run. Move such "
            "code to a module, a file of its own that the script imports."
        )


def how_to_resume(training: TrainingConfig, folder: Path) -> str:
    """Return what resumes a run: the command, or a call in the script if only that has its code."""
    if parts_of_script(folder) or code_of_script(training):
        return f"Resume in the script, with app.runs.resume({str(folder)!r})"
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
