"""Runs requests for one model together where that raises throughput.

All waiting requests are run as one batch: on the event loop if it is quick, or in a thread.
While a thread runs, the next batch builds up. Nothing waits for a batch to fill: a single request
is run at once, and batches grow with the load.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from ..errors import ServingError
from .errors import RequestError
from .tensors import check_rows

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], list[np.ndarray]]
# A longer batch on the event loop would delay other requests noticeably.
_INLINE_MS = 3.0
# Batches raise throughput if a further row takes less than this fraction of the time of one row.
_MAX_ROW_RATIO = 0.9


@dataclass(frozen=True)
class Cost:
    """The time to run rows on this machine.

    Attributes:
        alone_ms: time of a single row.
        row_ms: time of each further row.
        row_size: numbers in a measured row; with variable axes other rows may have more.
    """

    alone_ms: float
    row_ms: float
    row_size: int

    def of(self, rows: int, size: int) -> float:
        """Return the milliseconds for a batch of `rows` rows that have `size` numbers in total.

        Returns infinity for rows larger than the measured ones, whose time is unknown.
        """
        if size > rows * self.row_size:
            return math.inf
        return self.alone_ms + self.row_ms * (rows - 1)

    def max_rows(self, milliseconds: float) -> int:
        """Return the largest batch within this time; 1 if batches do not raise throughput."""
        if self.row_ms > _MAX_ROW_RATIO * self.alone_ms:
            return 1
        return 1 + int(max(0.0, milliseconds - self.alone_ms) / max(self.row_ms, 1e-6))


@dataclass(frozen=True)
class Limits:
    """Limits of a queue.

    Attributes:
        request_rows: largest number of rows in a request.
        batch_rows: largest number of rows in a batch of several requests.
        threads: largest number of batches that run in threads at once.
    """

    request_rows: int
    batch_rows: int
    threads: int


class _Waiting(NamedTuple):
    """A request in the queue; only requests of the same shapes and function share a batch."""

    arrays: Arrays
    rows: int
    shapes: dict[str, tuple[int, ...]]
    run: Run
    done: "asyncio.Future[list[np.ndarray]]"
    start: float


@dataclass
class Counts:
    """Statistics of a queue.

    Attributes:
        requests: number of completed requests.
        rows: number of their rows.
        batches: number of batches.
        seconds: time from arrival to completion, summed over all requests.
        queue_seconds: time from arrival to the start of a batch, summed over all requests.
        last_time: time of the last completion, seconds since 1970.
    """

    requests: int = 0
    rows: int = 0
    batches: int = 0
    seconds: float = 0.0
    queue_seconds: float = 0.0
    last_time: float = 0.0
    _reported_s: float = 0.0

    def new_queue_seconds(self) -> float:
        """Return what was added to `queue_seconds` since the last call, for metrics."""
        new = self.queue_seconds - self._reported_s
        self._reported_s = self.queue_seconds
        return new


class Batcher:
    """The queue of one model, for use on one event loop.

    Attributes:
        counts: statistics of the queue.
    """

    def __init__(
        self,
        run: Run,
        cost: Cost,
        executor: Executor,
        limits: Limits,
    ) -> None:
        """Make an empty queue.

        Args:
            run: runs the model on a batch.
            cost: measured cost of the model.
            executor: runs longer batches.
            limits: limits of the queue.
        """
        self._run = run
        self._cost = cost
        self._executor = executor
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._running = 0
        self._is_scheduled = False
        self.counts = Counts()

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return len(self._queue)

    async def infer(self, arrays: Arrays, run: Run | None = None) -> list[np.ndarray]:
        """Return the model's outputs for one request.

        Args:
            arrays: a checked array for each input, all with the same number of rows.
            run: runs this request, which then shares its batch with no other; None for the
                function of the queue.

        Raises:
            RequestError: there are too many rows, or the model cannot be run on them.
        """
        loop = asyncio.get_running_loop()
        rows = len(next(iter(arrays.values())))
        check_rows(rows, self._limits.request_rows)
        # By name: a request may list its inputs in any order.
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        done = loop.create_future()
        self._queue.append(
            _Waiting(arrays, rows, shapes, run or self._run, done, time.perf_counter())
        )
        self._schedule(loop)
        outputs: list[np.ndarray] = await done
        return outputs

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Called soon rather than now, so that the queue first gets all requests that have arrived.
        if self._queue and not self._is_scheduled and self._running < self._limits.threads:
            self._is_scheduled = True
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_scheduled = False
        batch = self._take()
        if not batch:
            return
        rows = sum(waiting.rows for waiting in batch)
        self.counts.batches += 1
        now = time.perf_counter()
        for waiting in batch:
            self.counts.queue_seconds += now - waiting.start
        size = sum(array.size for waiting in batch for array in waiting.arrays.values())
        if self._cost.of(rows, size) <= _INLINE_MS:
            self._complete(batch, _outcome(batch))
        else:
            self._running += 1
            running = loop.run_in_executor(self._executor, _outcome, batch)
            running.add_done_callback(lambda done: self._finish(loop, batch, done.result()))
        self._schedule(loop)

    def _finish(
        self, loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting], outcome: "_Outcome"
    ) -> None:
        self._running -= 1
        self._complete(batch, outcome)
        self._schedule(loop)

    def _complete(self, batch: Sequence[_Waiting], outcome: "_Outcome") -> None:
        counts, now = self.counts, time.perf_counter()
        counts.last_time = time.time()
        for waiting, result in zip(batch, outcome, strict=True):
            if waiting.done.done():  # cancelled: nobody waits any more
                continue
            if isinstance(result, Exception):
                # A model's error is caused by the request; any other is a fault of the server.
                is_request = isinstance(result, ServingError)
                waiting.done.set_exception(RequestError(str(result)) if is_request else result)
                continue
            waiting.done.set_result(result)
            counts.requests += 1
            counts.rows += waiting.rows
            counts.seconds += now - waiting.start

    def _take(self) -> list[_Waiting]:
        """Take the first request and those after it with the same shapes, up to a full batch."""
        batch: list[_Waiting] = []
        rows = 0
        while self._queue:
            first = self._queue[0]
            if first.done.cancelled():
                self._queue.popleft()
                continue
            is_other = batch and (first.shapes != batch[0].shapes or first.run is not batch[0].run)
            if is_other or (batch and rows + first.rows > self._limits.batch_rows):
                break
            batch.append(self._queue.popleft())
            rows += first.rows
        return batch


_Outcome = list[list[np.ndarray] | Exception]


def _outcome(batch: Sequence[_Waiting]) -> _Outcome:
    """Return the outputs or the error of each request."""
    run = batch[0].run
    if len(batch) == 1:
        return [_attempt(lambda: run(batch[0].arrays))]
    outputs = _attempt(lambda: run(_joined(batch)))
    if isinstance(outputs, Exception):  # one request made the batch fail: run each alone
        return [_attempt(partial(run, item.arrays)) for item in batch]
    ends = np.cumsum([item.rows for item in batch]).tolist()
    starts = [0, *ends[:-1]]
    return [
        [array[start:end] for array in outputs] for start, end in zip(starts, ends, strict=True)
    ]


def _joined(batch: Sequence[_Waiting]) -> Arrays:
    names = batch[0].arrays
    return {name: np.concatenate([item.arrays[name] for item in batch]) for name in names}


def _attempt(call: Callable[[], list[np.ndarray]]) -> list[np.ndarray] | Exception:
    try:
        return call()
    except Exception as error:  # passed on to the request
        return error
