"""Trials that own code or an unforeseen exception ended: notes them, and keeps their tracebacks.

A search goes on without them, unless its first trials all fail: then the others would as well.
"""

import traceback
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from app.errors import (
    ConfigError,
    DataError,
    OwnCodeError,
    OwnSettingError,
    RunError,
    TuningError,
)
from serving.errors import one_line, printable

TRACEBACKS = "tracebacks"
# Attributes of a trial: its exception on one line, its type, and the end of the traceback.
FAILURE, _KIND, _TRACEBACK = "failure", "failure_kind", "traceback"
# Errors of code that the user has written, which say nothing about the values of a trial.
_OF_OWN_CODE = (OwnCodeError, OwnSettingError)
# After this many trials, all with the same type of exception, a search ends.
_FEW = 3
_MAX_LINE, _MAX_TRACEBACK = 300, 20_000  # characters; databases limit the length of a text
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def number_of(trial: FrozenTrial) -> int:
    """Return the number of a trial for people, who count from 1 on, rather than from 0."""
    return trial.number + 1


def is_failure(error: Exception) -> bool:
    """Return whether an error that ends a trial says nothing about the trial's values.

    Settings that contradict each other or cannot be trained do.
    """
    foreseen = (optuna.TrialPruned, ConfigError, DataError, RunError)
    return isinstance(error, _OF_OWN_CODE) or not isinstance(error, foreseen)


def note_failure(trial: optuna.Trial, error: Exception) -> str:
    """Store the exception of a trial with its traceback; return it on one line."""
    line = describe(error)
    trial.set_user_attr(FAILURE, line)
    raised = (error.__cause__ if isinstance(error, _OF_OWN_CODE) else None) or error
    trial.set_user_attr(_KIND, type(raised).__name__)
    trial.set_user_attr(_TRACEBACK, "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:])
    return line


def describe(error: Exception) -> str:
    """Return the type and the message of an exception on one line; only the message of ours."""
    message = one_line(error)
    is_ours = isinstance(error, _OF_OWN_CODE)
    return printable(message if is_ours else f"{type(error).__name__}: {message}")[:_MAX_LINE]


def is_hopeless(study: optuna.Study) -> bool:
    """Return whether all trials that have ended failed with the same type of exception."""
    ended = study.get_trials(deepcopy=False, states=_ENDED)
    kinds = {trial.user_attrs.get(_KIND) for trial in ended}
    return len(ended) >= _FEW and len(kinds) == 1 and None not in kinds


def keep_tracebacks(folder: Path, study: optuna.Study) -> None:
    """Write the traceback of each failed trial as `tracebacks/trial-<number>.txt` in a folder.

    Raises:
        TuningError: all trials failed with the same type of exception.
        OSError: the folder cannot be written.
    """
    failed = failed_trials(study)
    for trial in failed:
        (folder / TRACEBACKS).mkdir(exist_ok=True)
        _traceback_file(folder, trial).write_text(trial.user_attrs[_TRACEBACK], "utf-8")
    if is_hopeless(study):
        raise TuningError(
            f"The first trials must not all fail. Received: {len(failed)} trials that ended with "
            f"{failed[-1].user_attrs[FAILURE].rstrip('.')}. "
            f"The traceback is in {_traceback_file(folder, failed[-1])}. "
            "Mend the cause, and begin a new search."
        )


def failed_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that ended with an exception, by number."""
    return [t for t in study.get_trials(deepcopy=False) if _TRACEBACK in t.user_attrs]


def _traceback_file(folder: Path, trial: FrozenTrial) -> Path:
    return folder / TRACEBACKS / f"trial-{number_of(trial)}.txt"
