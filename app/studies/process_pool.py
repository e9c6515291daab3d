"""Runs several studies at once, in one process per core."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from app.errors import StudyError
from app.system.notes import hide_notes
from app.system.signals import defer_signals
from app.system.tensorflow_import import import_tensorflow_quietly
from app.system.threads import share_of_threads
from serving.cores import available_cores

from .catalogue import NAMES
from .runner import StudyObserver, check_run, run_study
from .study import Result

# The longest study takes a quarter of the total time, so further processes would only wait for it.
_MAX_PROCESSES = 4
_POLL_S = 2.0
# The queue through which a worker process reports progress: the name of a callback of
# `StudyObserver`, and its arguments.
_events: "SimpleQueue[tuple[str, tuple[Any, ...]] | None]"


def _import_and_run(*arguments: Any) -> Result:
    import_tensorflow_quietly()
    hide_notes()
    return run_study(*arguments)


def run_studies(
    names: Sequence[str],
    output: Path,
    seeds: int | None = None,
    quick: bool = False,
    observer: StudyObserver | None = None,
    run: Callable[..., Any] = _import_and_run,
) -> list[Result]:
    """Run studies as `run_study` does, in as many processes as there are cores, at most four.

    A script must call this below `if __name__ == "__main__":`, since each new process imports the
    script (see "Safe importing of main module" in the documentation of Python's multiprocessing).

    Args:
        names: names from `catalogue.NAMES`, each once.
        output: folder of studies.
        seeds: see `run_study`.
        quick: see `run_study`.
        observer: follows the progress; called from another thread.
        run: runs one study in its process, with the arguments of `run_study`.

    Returns:
        The results, in the order of `names`.

    Raises:
        StudyError: one of the studies cannot be run, see `run_study`; then none is started. Or one
            failed, or a process was killed. The other studies are stopped; finished parts are kept.
    """
    check_run(names, output, seeds)
    observer = observer or StudyObserver()
    count = min(available_cores(), len(names), _MAX_PROCESSES)
    if count <= 1:
        return [run(name, output, seeds, quick, observer) for name in names]
    with _pool(count, observer) as (pool, workers):
        # A process that is interrupted while it starts prints a traceback.
        with defer_signals(), _interrupt_blocked():
            # Later studies take longer. The short ones are submitted last, so that no process idles
            # long.
            futures = {
                name: pool.submit(_observed, run, name, output, seeds, quick)
                for name in sorted(names, key=NAMES.index, reverse=True)
            }
        _wait(futures.values(), workers())
    return [futures[name].result() for name in names]


def _wait(futures: Iterable[Future[Any]], workers: Iterable[BaseProcess]) -> None:
    """Wait for all futures.

    Raises:
        BrokenProcessPool: a worker has ended. The pool itself does not always notice.
        Exception: the exception of the first future that fails.
    """
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        if pending and not done and any(worker.exitcode is not None for worker in workers):
            raise BrokenProcessPool


@contextmanager
def _interrupt_blocked() -> Iterator[None]:
    """Block SIGINT in this thread and, for good, in the processes that it starts.

    Ctrl-C in a terminal reaches them too, before they can ignore it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _pool(
    count: int, observer: StudyObserver
) -> Iterator[tuple[ProcessPoolExecutor, Callable[[], set[BaseProcess]]]]:
    """Start a pool whose processes report to the observer; stop all of them if anything fails.

    Yields:
        The pool, and a function that returns its running processes.
    """
    others = set(multiprocessing.active_children())

    def workers() -> set[BaseProcess]:
        return set(multiprocessing.active_children()) - others

    # A forked process would lack the threads of TensorFlow.
    context = multiprocessing.get_context("spawn")
    events = context.SimpleQueue()
    listener = threading.Thread(target=_forward, args=(events, observer), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(count, context, _start_worker, (events, count))
    try:
        yield pool, workers
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in workers():
            process.terminate()  # safe at any moment, since files are written atomically
            process.join()
        if isinstance(error, BrokenProcessPool):
            raise _broken(count) from None
        raise
    pool.shutdown()
    events.put(None)
    listener.join()


def _broken(count: int) -> StudyError:
    return StudyError(
        "Every process of the studies must run to completion. "
        f"Received: one of {count} was killed, perhaps for lack of memory, or could not start, as "
        'in a script without `if __name__ == "__main__":`. Finished parts are kept.'
    )


def _forward(events: "SimpleQueue[Any]", observer: StudyObserver) -> None:
    """Call the observer for each event, until None arrives."""
    while (event := events.get()) is not None:
        callback, arguments = event
        getattr(observer, callback)(*arguments)


def _start_worker(events: "SimpleQueue[Any]", count: int) -> None:
    global _events  # noqa: PLW0603 - a pool passes arguments to its initializer only
    _events = events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops this one
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.update(share_of_threads(count))  # read when TensorFlow is imported


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _observed(run: Callable[..., Any], *arguments: Any) -> Any:
    """Call `run` with an observer that reports to the parent process."""
    callbacks = {field.name: partial(_send, field.name) for field in fields(StudyObserver)}
    return run(*arguments, StudyObserver(**callbacks))


def _send(callback: str, *arguments: Any) -> None:
    _events.put((callback, arguments))
