"""Shows the progress of a search on the terminal: finished trials and the best loss so far."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.training.progress import training_progress
from app.training.progress_bar import TrainingProgress
from app.training.progress_log import TrainingLog

from .definition import Definition
from .failures import FAILURE, failed_trials, number_of
from .search import Observer
from .trial_loop import OnProgress, task_of_search
from .trials import write_objective

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def terminal_observer() -> Observer:
    """Return an observer that draws bars on standard error, or writes lines into a pipe or log."""
    return Observer(_show_search, _show_refit)


def describe_space(study: optuna.Study, definition: Definition) -> list[str]:
    """Return a line for each setting that is searched, and one if the defaults are tried first."""
    width = max(len(field.key) for field in definition.space)
    lines = [f"search: {field.key:{width}} {field.text}" for field in definition.space]
    trials = study.get_trials(deepcopy=False)
    has_first = trials and definition.budget.method != "grid"
    if has_first and trials[0].state == TrialState.WAITING:
        lines.append("The first trial has the defaults that suit the data.")
    return lines


@contextmanager
def _show_refit() -> Iterator[Sequence[TrainingProgress | TrainingLog]]:
    with training_progress() as progress:
        yield (progress,)


@contextmanager
def _show_search(study: optuna.Study, definition: Definition) -> Iterator[OnProgress]:
    console = Console(stderr=True)

    def write(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    for line in describe_space(study, definition):
        write(line)
    bar = Progress(
        TextColumn("trials"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
        console=console,
        disable=not console.is_terminal,  # it would draw its last state into a log
    )
    total = definition.budget.trials
    told, named = 0, len(failed_trials(study))
    targets = task_of_search(study, definition)
    with bar:
        task = bar.add_task("trials", total=total, best="")

        def update() -> None:
            nonlocal told, named
            trials = study.get_trials(deepcopy=False)
            losses = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value]
            best = f"best {write_objective(targets, min(losses))}" if losses else ""
            ended = sum(trial.state in _ENDED for trial in trials)
            bar.update(task, completed=ended, best=best)
            failed = failed_trials(study)
            for trial in failed[named:]:
                write(f"trial {number_of(trial)} failed: {trial.user_attrs[FAILURE]}")
            named = len(failed)
            if ended > told and bar.disable:
                told = ended
                count = f"{ended} of {total}" if total else f"{ended}"
                write(f"trials: {count}, {best}".rstrip(", "))

        yield update
        update()
