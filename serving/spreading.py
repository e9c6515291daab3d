"""Spreads calls over threads, for work that releases Python's global interpreter lock."""

import threading
import time
from collections.abc import Callable
from typing import Any


def spread(call: Callable[[int], Any], count: int, threads: int) -> list[Any]:
    """Return `[call(0), …, call(count - 1)]`, run by up to `threads` threads.

    The caller's thread is one of them. The others end with the call: starting one takes about 50
    microseconds, and there is no pool to close or to lose in a fork.

    Raises:
        BaseException: the first error of a call, or an interruption of the caller's thread. No
            further call was started, and all running calls have ended.
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
            except BaseException as error:  # an interruption must stop the others too
                errors.append(error)

    _run_with_helpers(work, min(threads, count) - 1, errors)
    if errors:
        raise errors[0]
    return results


def _start(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Start threads until the machine has no room for more; return the started ones."""
    started = []
    for thread in threads:
        try:
            thread.start()
        except RuntimeError:
            break
        started.append(thread)
    return started


def _run_with_helpers(work: Callable[[], None], helpers: int, errors: list[BaseException]) -> None:
    """Run `work` in this thread and in `helpers` more; return when all have left it.

    An interruption is appended to `errors`, which makes `work` stop.
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
        # After an interrupted `join` or `start`, Python no longer waits for that thread at exit. If
        # Python ended while the thread runs a model, ONNX Runtime would abort.
        errors.append(error)
        while len(ended) < len(begun):
            time.sleep(0.001)
