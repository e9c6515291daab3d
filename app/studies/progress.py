"""Shows on the terminal which study, and which part of it, is being run."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from .running import Progress


@contextmanager
def showing_progress(studies: int, hidden: bool) -> Iterator[Progress]:
    """Give what to tell a run of so many studies, and show it on standard error.

    Args:
        studies: how many.
        hidden: whether nothing is shown.
    """
    console = Console(stderr=True)
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
    )
    with bars:
        all_studies = bars.add_task("studies", total=studies)
        parts = bars.add_task("", total=None, visible=False)

        def begin(name: str, left: int) -> None:
            bars.reset(parts, total=left, description=name, visible=True)

        yield Progress(
            begin=begin,
            begin_part=lambda name, part: bars.update(parts, description=f"{name}: {part}"),
            end_part=lambda: bars.advance(parts),
            end=lambda: bars.advance(all_studies),
        )
