"""Spreads calls over threads, for work that releases the interpreter's lock."""

import threading
from collections.abc import Callable
from typing import Any


def spread(call: Callable[[int], Any], count: int, threads: int) -> list[Any]:
    """Return `[call(0), …, call(count - 1)]`, run by up to `threads` threads.

    The caller's thread is one of them. The others end with the call: to start one takes some 50
    microseconds, and nothing has to be closed or to survive a fork.

    Raises:
        Exception: the first that a call raised; calls not yet begun are left out.
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

    helpers = [threading.Thread(target=work) for _ in range(min(threads, count) - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
    return results
