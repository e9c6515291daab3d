"""Shares the threads that run batches among the queues of all models.

Queues whose requests are short, and queues with long requests, which are run in parts, take turns.
So a short request waits for at most three batches, however many long ones wait: one that runs, one
part of a long request, and its own. Within each kind the queues take turns too: with short requests
for other models, one batch of each comes before. A batch takes `max_delay_ms` at most, and a part
20 ms; or the time of one sample, or of one request for a model that must not be split, if that is
longer.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

# A function for a thread, and one that gets its result on the event loop.
Work = tuple[Callable[[], Any], Callable[[Any], None]]
# Called when a thread is free. Returns None if there is nothing to do any more.
Begin = Callable[[], Work | None]


class Turns:
    """The threads for batches, for use on one event loop."""

    def __init__(self, executor: Executor, threads: int) -> None:
        """Share the threads of an executor.

        Args:
            executor: runs batches.
            threads: largest number of batches that run at once.
        """
        self._executor = executor
        self._free = threads
        self._short: deque[Begin] = deque()
        self._long: deque[Begin] = deque()
        self._was_long = False
        self._is_granting = False

    def ask(self, begin: Begin, is_long: bool = False) -> None:
        """Call `begin` when it is its turn, perhaps at once; its work runs in a thread."""
        (self._long if is_long else self._short).append(begin)
        self._grant()

    def _grant(self) -> None:
        if self._is_granting:  # called by a `begin`, whose caller goes on
            return
        self._is_granting = True
        while self._free and (self._short or self._long):
            self._was_long = bool(self._long) and not (self._short and self._was_long)
            work = (self._long if self._was_long else self._short).popleft()()
            if work is not None:
                call, done = work
                self._free -= 1
                running = asyncio.get_running_loop().run_in_executor(self._executor, call)
                running.add_done_callback(partial(self._end, done))
        self._is_granting = False

    def _end(self, done: Callable[[Any], None], running: "asyncio.Future[Any]") -> None:
        self._free += 1
        if not running.cancelled():  # the server ends
            done(running.result())
        self._grant()
