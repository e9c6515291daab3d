"""A worker: takes trials from a study until the budget is spent, and gives back those of the dead.

Any number of workers share a study through its storage alone. Each running trial carries a
heartbeat; one whose heartbeat stops is failed, and its values are queued to be tried again.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from app.data.datasets import Dataset
from app.errors import ConfigError, DataError, RunError, TuningError
from app.runs.train import load_run_data

from .definition import Definition, read_definition
from .samplers import make_sampler
from .search_space import dimensions
from .storage import StudyLocation, load_study
from .trials import Report, TrialData, evaluate, make_trial_data

# What a study says of itself: its definition as TOML, its data, and since when minutes count.
DEFINITION, DATA, BEGUN = "definition", "data_sha256", "begun"
# Marks a trial that two workers began at once where the budget had room for one.
SURPLUS = "surplus"
_BEAT_S, _DEAD_S = 10.0, 60.0
# A trial that ends its worker each time, as by its memory, must not end all of them.
_TRIES = 3
# Trials before any is pruned, and epochs of each: a median of less means little.
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 5, 2
_SPENT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class Watch:
    """Whom a worker tells.

    Attributes:
        after_epoch: called after each epoch.
        after_trial: called after each trial.
    """

    after_epoch: Callable[[], None] = lambda: None
    after_trial: Callable[[], None] = lambda: None


def open_study(place: StudyLocation, index: int = 0) -> tuple[optuna.Study, Definition]:
    """Return a study with the sampler of a worker, and its definition.

    Args:
        place: of the study.
        index: tells workers of a study apart, for two of one seed would propose the same; with 0
            a new study repeats.

    Raises:
        TuningError: there is no such study, it is of another program, or its storage is down.
    """
    study = load_study(place)
    text = study.user_attrs.get(DEFINITION)
    if text is None:
        raise TuningError(
            f"A study must be one that hornbill tune made. Received: {place.name} in {place.shown}."
        )
    definition = read_definition(text)
    begun = len(study.get_trials(deepcopy=False))
    entropy = [definition.base.seed, index, begun]
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    study.sampler = make_sampler(definition, seed)
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=_UNPRUNED_EPOCHS + 1
    )
    return study, definition


def worker_name() -> str:
    """Return a name that no other worker has, on any machine."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def work(place: StudyLocation, index: int = 0, name: str = "", watch: Watch | None = None) -> None:
    """Run trials until the budget is spent.

    Args:
        place: of the study.
        index: see `open_study`.
        name: of the worker; its own if empty.
        watch: whom to tell.

    Raises:
        DataError: the data cannot be read.
        TuningError: the data are others than the study's, or the storage is down.
    """
    study, definition = open_study(place, index)
    material = _load_material(study, definition)
    watch = watch or Watch()
    while may_begin(study, definition):
        requeue_stale_trials(study)
        trial = study.ask(dimensions(definition.space))
        if _is_surplus(study, trial, definition.budget.trials):
            trial.set_user_attr(SURPLUS, True)
            study.tell(trial, state=TrialState.FAIL)
            return
        with _kept(study, trial, name or worker_name()):
            _run_trial(study, trial, definition, material, watch)
        watch.after_trial()


def may_begin(study: optuna.Study, definition: Definition) -> bool:
    """Return whether the budget has room for one more trial, or a queued one waits."""
    budget = definition.budget
    if budget.minutes and time.time() >= study.user_attrs[BEGUN] + 60 * budget.minutes:
        return False
    trials = study.get_trials(deepcopy=False)
    if any(trial.state == TrialState.WAITING for trial in trials):
        return True
    return budget.trials is None or sum(t.state in _SPENT for t in trials) < budget.trials


def requeue_stale_trials(
    study: optuna.Study, is_dead: Callable[[FrozenTrial], bool] | None = None
) -> None:
    """Fail running trials whose worker is dead, and queue their values to be tried again.

    Args:
        study: of the trials.
        is_dead: tells of a trial whether its worker is; by its heartbeat if None.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if (is_dead or _has_no_heartbeat)(trial):
            _fail_and_requeue(study, trial, "its worker ended")


def _fail_and_requeue(study: optuna.Study, trial: FrozenTrial, reason: str) -> None:
    tries = int(trial.user_attrs.get("tries", 1))
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError) as error:
        if isinstance(error, TuningError):
            raise
        return  # another worker was first
    if tries < _TRIES:
        queued = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        notes = {"tries": tries + 1, "retry_of": trial.number, "retry_because": reason}
        study.enqueue_trial(queued, user_attrs=notes)


def _has_no_heartbeat(trial: FrozenTrial) -> bool:
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - float(trial.user_attrs.get("heartbeat", begun)) > _DEAD_S


def _load_material(study: optuna.Study, definition: Definition) -> TrialData:
    dataset = load_run_data(definition.base)
    check_data(study, definition, dataset)
    return make_trial_data(definition.base, dataset, definition.budget.folds)


def check_data(study: optuna.Study, definition: Definition, dataset: Dataset) -> None:
    """Require the data that the study began with.

    Raises:
        TuningError: they are others.
    """
    wanted, found = study.user_attrs[DATA], dataset.sha256()
    if found != wanted:
        raise TuningError(
            f"{definition.base.data} must hold the data that the study began with. "
            f"Received: SHA-256 {found[:12]}… instead of {wanted[:12]}…."
        )


def _is_surplus(study: optuna.Study, trial: optuna.Trial, limit: int | None) -> bool:
    """Return whether two workers took the last trial at once, and this is the later one."""
    others = study.get_trials(deepcopy=False, states=_SPENT)
    return limit is not None and sum(other.number < trial.number for other in others) >= limit


@contextlib.contextmanager
def _kept(study: optuna.Study, trial: optuna.Trial, worker: str) -> Iterator[None]:
    """Let a trial's heart beat; give the trial back if its worker is stopped in it.

    A machine that slept finds its trial given to another worker, and takes the next one.
    """
    trial.set_user_attr("worker", worker)
    trial.set_user_attr("heartbeat", time.time())
    is_over = threading.Event()
    heart = threading.Thread(target=_heartbeat, args=(trial, is_over), daemon=True)
    heart.start()
    try:
        yield
    except UpdateFinishedTrialError:
        pass
    except BaseException:
        with contextlib.suppress(TuningError):  # a storage that is down: the heartbeat tells
            _fail_and_requeue(study, _frozen(study, trial), "its worker was stopped")
        raise
    finally:
        is_over.set()
        heart.join()


def _heartbeat(trial: optuna.Trial, is_over: threading.Event) -> None:
    with contextlib.suppress(UpdateFinishedTrialError):
        while not is_over.wait(_BEAT_S):
            with contextlib.suppress(TuningError):  # a storage that is down may come back
                trial.set_user_attr("heartbeat", time.time())


def _frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return next(t for t in study.get_trials(deepcopy=False) if t.number == trial.number)


def _run_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    definition: Definition,
    material: TrialData,
    watch: Watch,
) -> None:
    kind = material.dataset.task
    keys = [field.key for field in definition.space]
    budget = definition.budget
    report = Report(trial, keys, kind, budget.pruning, budget.folds, watch.after_epoch)
    start = time.perf_counter()
    try:
        outcome = evaluate(definition.configure(trial.params), material, [report])
    except (optuna.TrialPruned, ConfigError, DataError, RunError) as error:
        # Values that cannot be trained are as poor as any; the search learns to avoid them.
        end: dict[str, Any] = {"state": TrialState.PRUNED}
        trial.set_user_attr("reason", str(error))
    else:
        end = {"values": outcome.loss}
        trial.set_user_attr("score", outcome.score)
    trial.set_user_attr("seconds", round(time.perf_counter() - start, 3))
    study.tell(trial, skip_if_finished=True, **end)
