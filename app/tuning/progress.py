"""Shows on the terminal how far a search is, and the best loss so far."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.training.progress_bar import TrainingProgress

from .definition import Definition
from .search import Show
from .trial_loop import Watch

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def make_show() -> Show:
    """Return what shows a search and its refit on standard error."""
    return Show(_showing_search, _showing_refit)


@contextmanager
def _showing_refit() -> Iterator[Sequence[TrainingProgress]]:
    with TrainingProgress() as progress:
        yield (progress,)


@contextmanager
def _showing_search(study: optuna.Study, definition: Definition) -> Iterator[Watch]:
    bar = Progress(
        TextColumn("trials"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("trials", total=definition.budget.trials, best="")

        def update() -> None:
            trials = study.get_trials(deepcopy=False)
            losses = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value]
            best = f"best validation loss {min(losses):.4f}" if losses else ""
            ended = sum(trial.state in _ENDED for trial in trials)
            bar.update(task, completed=ended, best=best)

        yield Watch(update, update)
        update()
