"""Ends a search: writes its trials, trains with the best settings, and writes the report."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

import optuna

from app.config.run_config import config_toml
from app.distributed.team import Team
from app.errors import RunError, TuningError
from app.runs.run_folder import Run, unwritable
from app.runs.train import Callbacks, train
from app.system.signals import NOTHING_TO_RESUME
from serving.errors import HornbillError

from .definition import Definition
from .failures import keep_tracebacks
from .report import (
    TABLE,
    TRIALS_REPORT,
    draw_trials,
    write_report,
    write_trials,
    write_trials_report,
)
from .results import SearchResult, read_rows, read_search_result
from .trial_loop import task_of_search

BEST, REFIT = "best.toml", "refit"
ObserveRefit = Callable[[], contextlib.AbstractContextManager[Callbacks]]
# Fractions of the training split for the refit: enough to see whether its score still rises.
_TRAIN_SIZES = (0.1, 0.25, 0.5)


@dataclass(frozen=True)
class TuningResult:
    """A finished search.

    Attributes:
        folder: folder of the search.
        search: the trials, the best one and its settings.
        refit: run with the best settings. No trial has seen its test split.
        diagnosis: what the learning curves of the refit suggest, one sentence each.
    """

    folder: Path
    search: SearchResult
    refit: Run
    diagnosis: tuple[str, ...]


def finish(
    folder: Path, study: optuna.Study, definition: Definition, observe: ObserveRefit
) -> TuningResult:
    """Write the trials and the best settings, refit, and write the report, which marks the end.

    Args:
        folder: folder of the search.
        study: the search.
        definition: definition of the search.
        observe: returns a context manager around the refit, which yields Keras callbacks.

    Raises:
        TuningError: no trial finished.
        RunError: the folder cannot be written, or the refit failed.
    """
    task = task_of_search(study, definition)
    try:
        result = _write_trials(folder, study, definition, task)
        try:
            refit = _refit(folder, result, observe)
        except RunError:
            write_trials_report(folder, definition, result, task)
            raise
        diagnosis = write_report(folder, definition, result, refit)
    except OSError as error:
        raise RunError(f"{unwritable(folder, error)} {join_hint(str(folder))}") from None
    return TuningResult(folder, result, refit, diagnosis)


def _write_trials(
    folder: Path, study: optuna.Study, definition: Definition, task: str
) -> SearchResult:
    """Write all that is known before the refit."""
    write_trials(folder, read_rows(study, definition), task)
    try:
        keep_tracebacks(folder, study)
        result = read_search_result(study, definition)
    except TuningError as error:
        if not (folder / TABLE).exists():  # there was no trial
            raise
        ending = f"{str(error).rstrip('.')}. The trials are in {folder / TABLE}."
        raise TuningError(ending) from None
    (folder / BEST).write_text(config_toml(result.config), "utf-8")
    draw_trials(folder, study, definition, result, task)
    return result


def _refit(folder: Path, result: SearchResult, observe: ObserveRefit) -> Run:
    shutil.rmtree(folder / REFIT, ignore_errors=True)  # left by an interrupted refit
    sizes = result.config.training.train_sizes or (() if result.withheld else _TRAIN_SIZES)
    training = replace(result.config.training, train_sizes=sizes)
    config = replace(result.config, training=training)
    try:
        with observe() as callbacks:
            # On one device, like the trials.
            return train(config, folder / REFIT, callbacks, Team(), quiet=True)
    except HornbillError as error:
        # What is said of resuming the run is of no use: the next refit begins anew.
        reason = str(error).removesuffix(f" {NOTHING_TO_RESUME}")
        reason = reason.partition(" Resume with: ")[0].rstrip(".")
        raise RunError(
            f"The refit of the best trial failed: {reason}. "
            f"{TABLE}, {TRIALS_REPORT} and {BEST} are in {folder}. "
            f"{join_hint(str(folder))}"
        ) from error.__cause__


def join_hint(where: str) -> str:
    """Return how to go on with a search in a folder or a database."""
    return f"Resume with: hornbill tune --join {quote(where)}"
