"""Runs several studies at once, in a process for each core."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from app.errors import StudyError
from app.system.signals import defer_signals
from app.system.tensorflow_import import import_tensorflow_quietly
from app.system.threads import share_of_threads
from serving.cores import available_cores

from .catalogue import NAMES
from .runner import Progress, run_study
from .study import Result

# The longest study takes a quarter of the time of all: more processes would wait for it.
_MOST = 4
# What a process of the pool tells of its progress: a method of `Progress` and its arguments.
_told: "SimpleQueue[tuple[str, tuple[Any, ...]] | None]"


def run_studies(
    names: Sequence[str],
    output: Path,
    seeds: int | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> list[Result]:
    """Run studies as `run_study` does, as many at once as there are cores, at most four.

    A script calls it below `if __name__ == "__main__":`, since processes are started that import
    the script (Python's "Safe importing of main module").

    Args:
        names: of `catalogue.NAMES`, each once.
        output: folder of studies.
        seeds: see `run_study`.
        quick: see `run_study`.
        progress: whom to tell, from a thread of its own.

    Returns:
        What came out of each, in the order of `names`.

    Raises:
        StudyError: as of `run_study`, at the first study that fails, or a process was killed. What
            was finished is kept.
    """
    progress = progress or Progress()
    count = min(available_cores(), len(names), _MOST)
    if count == 1:
        import_tensorflow_quietly()
        return [run_study(name, output, seeds, quick, progress) for name in names]
    with _pool(count, progress) as pool:
        with defer_signals():  # a process whose start is cut off dies with a traceback
            # Later studies take longer: last come those that no process waits for.
            runs = {
                name: pool.submit(_run, name, output, seeds, quick)
                for name in sorted(names, key=NAMES.index, reverse=True)
            }
        for run in as_completed(runs.values()):
            run.result()
    return [runs[name].result() for name in names]


@contextmanager
def _pool(count: int, progress: Progress) -> Iterator[ProcessPoolExecutor]:
    """Give processes that tell of their progress, and end them at once where something fails."""
    others = set(multiprocessing.active_children())
    # Not forked: TensorFlow's threads would be lost.
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(told, progress), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(count, context, _begin_process, (told, count))
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()  # parts and files are written whole or not at all
            process.join()
        if isinstance(error, BrokenProcessPool):
            raise StudyError(
                f"The processes of studies must live until they end. Received: one of {count} that "
                "was killed, perhaps for want of memory, or did not start, as in a script without "
                '`if __name__ == "__main__":`. What was finished before is kept.'
            ) from None
        raise
    pool.shutdown()
    told.put(None)
    listener.join()


def _listen(told: "SimpleQueue[Any]", progress: Progress) -> None:
    while (event := told.get()) is not None:
        name, arguments = event
        getattr(progress, name)(*arguments)


def _begin_process(told: "SimpleQueue[Any]", count: int) -> None:
    global _told  # noqa: PLW0603 - what a process of a pool begins with has no other place
    _told = told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(share_of_threads(count))
    import_tensorflow_quietly()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(name: str, output: Path, seeds: int | None, quick: bool) -> Result:
    tell = Progress(**{event.name: partial(_tell, event.name) for event in fields(Progress)})
    return run_study(name, output, seeds, quick, tell)


def _tell(event: str, *arguments: Any) -> None:
    _told.put((event, arguments))
