"""The loop of a worker: it runs trials of a search until the budget is spent.

Any number of workers can share a search, and communicate only through its storage. Each running
trial has a heartbeat. When the heartbeat stops, the trial is marked as failed and its values are
queued again.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from app.config.families import task_of
from app.data.datasets import Dataset
from app.errors import ConfigError, TuningError
from app.runs.train import load_run_data

from .definition import Definition, read_definition
from .failures import is_failure, is_hopeless, note_failure
from .samplers import make_sampler
from .search_space import dimensions
from .storage import StudyLocation, load_study
from .trials import Report, TrialData, evaluate, make_trial_data

# Attributes of a search: its definition as TOML, the hash and the task of its data, and its start
# in seconds.
DEFINITION, DATA, TASK, BEGUN = "definition", "data_sha256", "task", "begun"
# Marks a trial that two workers began at the same time when the budget had room for only one.
SURPLUS = "surplus"
_HEARTBEAT_S, _STALE_S = 10.0, 60.0
# A trial that kills its worker each time, for example by using too much memory, must not kill all.
_MAX_ATTEMPTS = 3
# No trial is pruned before this many trials and epochs: the median of fewer means little.
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 5, 2
_SPENT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)


# Called after each epoch and after each trial.
OnProgress = Callable[[], None]


def task_of_search(study: optuna.Study, definition: Definition) -> str:
    """Return the task of a search: `multiclass`, `multilabel` or `regression`.

    Searches of earlier versions do not say what their targets are; their model does.
    """
    return str(study.user_attrs.get(TASK) or task_of(definition.base.model))


def ignore_progress() -> None:
    """Show nothing."""


def open_study(location: StudyLocation, index: int = 0) -> tuple[optuna.Study, Definition]:
    """Return a search with the sampler of a worker, and its definition.

    Args:
        location: where the search is stored.
        index: index of the worker. Workers with different indices propose different values;
            worker 0 of a new search always proposes the same values.

    Raises:
        TuningError: the search does not exist, another program or version made it, or its storage
            does not respond.
    """
    study = load_study(location)
    text = study.user_attrs.get(DEFINITION)
    if text is None:
        raise TuningError(
            "The search was not made by hornbill tune. "
            f"Received: {location.name} in {location.shown}."
        )
    definition = _read_definition(text, location)
    begun = len(study.get_trials(deepcopy=False))
    entropy = [definition.base.seed, index, begun]
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    study.sampler = make_sampler(definition, seed)
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=_UNPRUNED_EPOCHS + 1
    )
    return study, definition


def _read_definition(text: str, location: StudyLocation) -> Definition:
    try:
        return read_definition(text)
    except (ConfigError, TuningError) as error:
        raise TuningError(
            f"Another version of Hornbill made the search {location.without_password}. {error} "
            "Finish it with that version, or start another search."
        ) from None


def worker_name() -> str:
    """Return a name that no other worker has, on any machine."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def work(
    location: StudyLocation,
    index: int = 0,
    name: str = "",
    on_progress: OnProgress = ignore_progress,
) -> None:
    """Run trials until the budget is spent.

    Args:
        location: where the search is stored.
        index: index of the worker, see `open_study`.
        name: name of the worker; if empty, one is generated.
        on_progress: called after each epoch and after each trial.

    Raises:
        DataError: the data cannot be read.
        TuningError: the data differ from the search's, or the storage does not respond.
    """
    study, definition = open_study(location, index)
    data = _load_data(study, definition)
    while may_begin(study, definition):
        requeue_stale_trials(study)
        trial = study.ask(dimensions(definition.space))
        if _is_surplus(study, trial, definition.budget.trials):
            trial.set_user_attr(SURPLUS, True)
            study.tell(trial, state=TrialState.FAIL)
            return
        with _heartbeat(study, trial, name or worker_name()):
            _run_trial(study, trial, definition, data, on_progress)
        on_progress()


def may_begin(study: optuna.Study, definition: Definition) -> bool:
    """Return whether the time is not over, and a trial is queued or allowed by the budget.

    None may begin once the first trials have all failed with the same type of exception.
    """
    budget = definition.budget
    if budget.minutes and time.time() >= study.user_attrs[BEGUN] + 60 * budget.minutes:
        return False
    if is_hopeless(study):
        return False
    trials = study.get_trials(deepcopy=False)
    if any(trial.state == TrialState.WAITING for trial in trials):
        return True
    return budget.trials is None or sum(t.state in _SPENT for t in trials) < budget.trials


def requeue_stale_trials(
    study: optuna.Study, is_dead: Callable[[FrozenTrial], bool] | None = None
) -> None:
    """Mark running trials whose worker is dead as failed, and queue their values again.

    Args:
        study: the search that has the trials.
        is_dead: whether the worker of a trial is dead; None decides by the heartbeat.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if (is_dead or _has_no_heartbeat)(trial):
            _fail_and_requeue(study, trial, "its worker ended")


def _fail_and_requeue(study: optuna.Study, trial: FrozenTrial, reason: str) -> None:
    attempts = int(trial.user_attrs.get("tries", 1))
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError) as error:
        if isinstance(error, TuningError):
            raise
        return  # another worker was first
    if attempts < _MAX_ATTEMPTS:
        queued = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        attributes = {"tries": attempts + 1, "retry_of": trial.number, "retry_because": reason}
        study.enqueue_trial(queued, user_attrs=attributes)


def _has_no_heartbeat(trial: FrozenTrial) -> bool:
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - float(trial.user_attrs.get("heartbeat", begun)) > _STALE_S


def _load_data(study: optuna.Study, definition: Definition) -> TrialData:
    dataset = load_run_data(definition.base)
    check_data(study, definition, dataset)
    return make_trial_data(definition.base, dataset, definition.budget.folds)


def check_data(study: optuna.Study, definition: Definition, dataset: Dataset) -> None:
    """Require the data that the search began with.

    Raises:
        TuningError: the data differ.
    """
    expected, actual = study.user_attrs[DATA], dataset.sha256()
    if actual != expected:
        raise TuningError(
            f"{definition.base.data} must hold the data that the search began with. "
            f"Received: SHA-256 {actual[:12]}… instead of {expected[:12]}…."
        )


def _is_surplus(study: optuna.Study, trial: optuna.Trial, limit: int | None) -> bool:
    """Return whether two workers began the last trial at the same time, and this one was later."""
    others = study.get_trials(deepcopy=False, states=_SPENT)
    return limit is not None and sum(other.number < trial.number for other in others) >= limit


@contextlib.contextmanager
def _heartbeat(study: optuna.Study, trial: optuna.Trial, worker: str) -> Iterator[None]:
    """Send heartbeats of a trial; queue its values again if its worker is stopped.

    If the machine slept, another worker may have taken over the trial; then this worker moves on.
    """
    trial.set_user_attr("worker", worker)
    trial.set_user_attr("heartbeat", time.time())
    is_over = threading.Event()
    sender = threading.Thread(target=_send_heartbeats, args=(trial, is_over), daemon=True)
    sender.start()
    try:
        yield
    except UpdateFinishedTrialError:
        pass
    except BaseException:
        with contextlib.suppress(TuningError):  # if the storage is down, the heartbeat stops
            _fail_and_requeue(study, _frozen(study, trial), "its worker was stopped")
        raise
    finally:
        is_over.set()
        sender.join()


def _send_heartbeats(trial: optuna.Trial, is_over: threading.Event) -> None:
    with contextlib.suppress(UpdateFinishedTrialError):
        while not is_over.wait(_HEARTBEAT_S):
            with contextlib.suppress(TuningError):  # the storage may come back
                trial.set_user_attr("heartbeat", time.time())


def _frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return next(t for t in study.get_trials(deepcopy=False) if t.number == trial.number)


def _run_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    definition: Definition,
    data: TrialData,
    on_progress: OnProgress,
) -> None:
    keys = [field.key for field in definition.space]
    budget = definition.budget
    report = Report(trial, keys, data.dataset.task, budget.pruning, budget.folds, on_progress)
    start = time.perf_counter()
    try:
        outcome = evaluate(definition.configure(trial.params), data, [report])
    except (TuningError, UpdateFinishedTrialError):  # say nothing about the values of the trial
        raise
    except Exception as error:
        # Values that cannot be trained count as poor, so that the search learns to avoid them.
        end: dict[str, Any] = {"state": TrialState.PRUNED}
        reason = note_failure(trial, error) if is_failure(error) else str(error)
        trial.set_user_attr("reason", reason)
    else:
        end = {"values": outcome.loss}
        trial.set_user_attr("score", outcome.score)
    trial.set_user_attr("seconds", round(time.perf_counter() - start, 3))
    study.tell(trial, skip_if_finished=True, **end)
