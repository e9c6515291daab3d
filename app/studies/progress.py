"""Shows on the terminal which studies, and which of their parts, are running."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from .runner import StudyObserver


@contextmanager
def showing_progress(studies: int, hidden: bool) -> Iterator[StudyObserver]:
    """Show progress bars on standard error.

    Args:
        studies: number of studies that will be run.
        hidden: whether to show nothing.

    Yields:
        The observer that moves the bars.
    """
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
    )
    with bars:
        yield _observer(bars, studies)


def _observer(bars: Progress, studies: int) -> StudyObserver:
    total = bars.add_task("studies", total=studies)
    running: dict[str, TaskID] = {}

    def finish(name: str) -> None:
        bars.advance(total)
        if name in running:  # a cached study never started
            bars.remove_task(running.pop(name))

    return StudyObserver(
        study_started=lambda name, left: running.update({name: bars.add_task(name, total=left)}),
        part_started=lambda name, part: bars.update(running[name], description=f"{name}: {part}"),
        part_finished=lambda name: bars.advance(running[name]),
        study_finished=finish,
    )
