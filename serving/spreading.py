"""Spreads calls over threads, for work that releases the interpreter's lock."""

import threading
import time
from collections.abc import Callable
from typing import Any


def spread(call: Callable[[int], Any], count: int, threads: int) -> list[Any]:
    """Return `[call(0), …, call(count - 1)]`, run by up to `threads` threads.

    The caller's thread is one of them. The others end with the call: to start one takes some 50
    microseconds, and nothing has to be closed or to survive a fork.

    Raises:
        BaseException: the first that a call raised, or an interruption of the caller's thread;
            calls not yet begun are left out, and none is under way any more.
    """
    results: list[Any] = [None] * count
    numbers = iter(range(count))  # shared: each thread takes the next
    errors: list[BaseException] = []

    def work() -> None:
        for number in numbers:
            if errors:
                return
            try:
                results[number] = call(number)
            except BaseException as error:  # an interruption too must stop the others
                errors.append(error)

    _run_with_helpers(work, min(threads, count) - 1, errors)
    if errors:
        raise errors[0]
    return results


def _start(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Start threads, and return those that the machine had room for; the caller's does the rest."""
    started = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            break
        started.append(thread)
    return started


def _run_with_helpers(work: Callable[[], None], helpers: int, errors: list[BaseException]) -> None:
    """Run `work`, also in so many threads besides; return once no thread is in it any more.

    An interruption joins `errors`, which is what `work` stops at.
    """
    begun: list[None] = []
    ended: list[None] = []

    def help_out() -> None:
        begun.append(None)
        work()
        ended.append(None)

    threads = [threading.Thread(target=help_out) for _ in range(helpers)]
    try:
        started = _start(threads)
        work()
        for thread in started:
            thread.join()
    except BaseException as error:
        # Python takes a thread for ended whose `join` was interrupted, and does not know one yet
        # whose `start` was: it would end beneath a call into ONNX Runtime, which aborts.
        errors.append(error)
        while len(ended) < len(begun):
            time.sleep(0.001)
