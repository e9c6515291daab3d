"""Shows on the terminal which studies, and which parts of them, are being run."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from .runner import Progress


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
        begun: dict[str, TaskID] = {}

        def end(name: str) -> None:
            bars.advance(all_studies)
            if name in begun:
                bars.remove_task(begun.pop(name))

        yield Progress(
            begin=lambda name, left: begun.update({name: bars.add_task(name, total=left)}),
            begin_part=lambda name, part: bars.update(begun[name], description=f"{name}: {part}"),
            end_part=lambda name: bars.advance(begun[name]),
            end=end,
        )
