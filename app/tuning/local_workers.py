"""A pool of worker processes on one machine: started, watched, and replaced when killed."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna

from app.errors import TuningError
from app.system.child_process import ChildProcess
from app.system.signals import defer_signals
from app.system.threads import share_of_threads

from .definition import Definition
from .storage import StudyLocation
from .trial_loop import (
    OnProgress,
    ignore_progress,
    may_begin,
    open_study,
    requeue_stale_trials,
    work,
    worker_name,
)
from .worker_process import PROGRAM, STUDY

_POLL_S = 0.3
# Maximum number of workers to replace. If more die, something keeps killing them.
_MAX_REPLACEMENTS = 5


@dataclass(frozen=True)
class _Worker:
    """A worker process.

    Attributes:
        name: name that is stored with its trials.
        child: the running program.
    """

    name: str
    child: ChildProcess


def run_workers(
    location: StudyLocation,
    count: int,
    on_progress: OnProgress = ignore_progress,
    first: int = 0,
    program: Sequence[str] = PROGRAM,
) -> None:
    """Run trials in workers until the budget is spent. A single worker runs in this process.

    Args:
        location: where the search is stored.
        count: number of workers; each gets an equal share of the cores.
        on_progress: called regularly while they work.
        first: index of the first worker, see `app.tuning.trial_loop.open_study`.
        program: command of a worker process, which finds its search in `HORNBILL_STUDY`.

    Raises:
        AppError: a worker cannot continue; the error states its reason.
        TuningError: workers were killed repeatedly.
    """
    if count == 1:
        work(location, first, on_progress=on_progress)
        return
    study, definition = open_study(location)
    pool: list[_Worker] = []

    def start(index: int) -> None:
        with defer_signals():  # an interrupted start could leave a process that nobody stops
            pool.append(_start(location, first + index, count, program))

    try:
        for index in range(count):
            start(index)
        _watch(pool, study, definition, on_progress, start)
    finally:
        for worker in pool:
            worker.child.stop()
        _requeue_trials_of(study, pool)


def _start(location: StudyLocation, index: int, count: int, program: Sequence[str]) -> _Worker:
    name = worker_name()
    payload = {"address": location.address, "study": location.name, "index": index, "name": name}
    environment = {**share_of_threads(count), STUDY: json.dumps(payload)}
    return _Worker(name, ChildProcess(program, environment))


def _watch(
    pool: list[_Worker],
    study: optuna.Study,
    definition: Definition,
    on_progress: OnProgress,
    start: Callable[[int], None],
) -> None:
    """Wait until all workers have ended and no trial is left; replace those that end too soon."""
    replaced = 0
    while pool:
        time.sleep(_POLL_S)
        on_progress()
        for worker in [worker for worker in pool if not worker.child.is_running]:
            pool.remove(worker)
            worker.child.kill()  # closes its pipe
            _requeue_trials_of(study, [worker])
            if worker.child.exit_status == TuningError.exit_status:
                raise TuningError(worker.child.last_line)
            if not may_begin(study, definition):
                continue
            if replaced == _MAX_REPLACEMENTS:
                raise TuningError(
                    f"Workers must not end in a trial. Received: {replaced} that ended and "
                    f"were replaced, the last with status {worker.child.exit_status}: "
                    f"{worker.child.last_line}. Use fewer --workers if memory is short. Finished "
                    "trials are kept."
                )
            replaced += 1
            start(len(pool) + replaced)


def _requeue_trials_of(study: optuna.Study, workers: Sequence[_Worker]) -> None:
    names = {worker.name for worker in workers}
    requeue_stale_trials(study, lambda trial: trial.user_attrs.get("worker") in names)
