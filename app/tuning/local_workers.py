"""Workers side by side on one machine: started, watched, replaced when they are killed."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import optuna

from app.errors import TuningError
from app.system.signals import defer_signals
from app.system.threads import share_of_threads

from .definition import Definition
from .storage import StudyLocation
from .trial_loop import Watch, may_begin, open_study, requeue_stale_trials, work, worker_name
from .worker_process import STUDY

_POLL_S = 0.3
# Workers that are replaced; where more are killed, something kills them all.
_REPLACEMENTS = 5
_WRONG_INPUT = 2
_PATIENCE_S = 10


@dataclass(frozen=True)
class _Member:
    """A worker's process.

    Attributes:
        name: as its trials say.
        process: that runs it.
        said: its standard error.
    """

    name: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def last_words(self) -> str:
        """Return the last line that it wrote, once it has ended."""
        with self.said as said:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End the process if it still runs, by force if it must be."""
        self.said.close()
        self.process.terminate()
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run_workers(place: StudyLocation, count: int, watch: Watch, first: int = 0) -> None:
    """Let workers run trials until the budget is spent; one alone works in this process.

    Args:
        place: of the study.
        count: workers; each gets an equal share of the cores.
        watch: whom to tell.
        first: index of the first, see `app.tuning.trial_loop.open_study`.

    Raises:
        AppError: a worker cannot go on, with its reason.
        TuningError: workers were killed again and again.
    """
    if count == 1:
        work(place, first, watch=watch)
        return
    study, definition = open_study(place)
    crew: list[_Member] = []

    def start(index: int) -> None:
        with defer_signals():  # else one that was started might not be known
            crew.append(_start(place, first + index, count))

    try:
        for index in range(count):
            start(index)
        _watch_over(crew, study, definition, watch, start)
    finally:
        for member in crew:
            member.stop()
        _revive_trials_of(study, crew)


def _start(place: StudyLocation, index: int, count: int) -> _Member:
    name = worker_name()
    told = {"address": place.address, "study": place.name, "index": index, "name": name}
    environment = {**os.environ, **share_of_threads(count), STUDY: json.dumps(told)}
    said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
    process = subprocess.Popen(
        [sys.executable, "-m", "app.tuning.worker_process"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
    )
    return _Member(name, process, said)


def _watch_over(
    crew: list[_Member],
    study: optuna.Study,
    definition: Definition,
    watch: Watch,
    start: Callable[[int], None],
) -> None:
    """Wait until nobody works and nothing is left, and replace who ended too soon."""
    replaced = 0
    while crew:
        time.sleep(_POLL_S)
        watch.after_epoch()
        for member in [member for member in crew if member.process.poll() is not None]:
            crew.remove(member)
            _revive_trials_of(study, [member])
            words = member.last_words()
            if member.process.returncode == _WRONG_INPUT:
                raise TuningError(words)
            if not may_begin(study, definition):
                continue
            if replaced == _REPLACEMENTS:
                raise TuningError(
                    f"Workers must live through their trials. Received: {replaced} that ended, "
                    f"this one with status {member.process.returncode}: {words}. "
                    "Use fewer --workers if they lack memory. What was finished is kept."
                )
            replaced += 1
            start(len(crew) + replaced)


def _revive_trials_of(study: optuna.Study, members: list[_Member]) -> None:
    names = {member.name for member in members}
    requeue_stale_trials(study, lambda trial: trial.user_attrs.get("worker") in names)
