"""Runs requests for one model together where that raises throughput, and long ones in parts.

All waiting requests are run as one batch: on the event loop if it is quick, or in a thread. While
threads run, the next batch builds up. Nothing waits for a batch to fill: a single request is run at
once, and batches grow with the load. Which queue gets the next thread: see `turns`.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import ServingError
from .errors import RequestError
from .tensors import check_rows
from .turns import Turns, Work

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], list[np.ndarray]]
Check = Callable[[Arrays], None]
# A longer batch on the event loop would delay other requests noticeably; one of more rows might be
# longer than was measured.
_INLINE_MS, _INLINE_ROWS = 3.0, 64
# A longer request is run in parts of this length.
_PART_MS = 20.0
# Further rows take at least this fraction of the time of one row, whatever was measured.
_MIN_ROW_RATIO = 0.002
# Rows of a batch and of the first part of a request, at most: the time of more is not known well.
_MAX_ROWS = 1024
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

    def rows_within(self, milliseconds: float, size: int) -> int:
        """Return how many rows of `size` numbers take this time, from 1 to 1,024.

        Rows that are larger than the measured ones are assumed to take longer in proportion.
        """
        row_ms = max(self.row_ms, _MIN_ROW_RATIO * self.alone_ms, 1e-6)
        scale = max(1.0, size / max(self.row_size, 1))
        rows = 1 + int(max(0.0, milliseconds - scale * self.alone_ms) / (scale * row_ms))
        return min(rows, _MAX_ROWS)

    def max_rows(self, milliseconds: float) -> int:
        """Return the largest batch within this time, up to 1,024 rows.

        Returns 1 if batches do not raise throughput.
        """
        if self.row_ms > _MAX_ROW_RATIO * self.alone_ms:
            return 1
        rows = 1 + int(max(0.0, milliseconds - self.alone_ms) / max(self.row_ms, 1e-6))
        return min(rows, _MAX_ROWS)


@dataclass(frozen=True)
class Limits:
    """Limits of a queue.

    Attributes:
        request_rows: largest number of rows in a request.
        batch_rows: largest number of rows in a batch of several requests.
        is_whole: whether no request may be run in parts.
    """

    request_rows: int
    batch_rows: int
    is_whole: bool = False


class _Waiting(NamedTuple):
    """A request in the queue; only requests of the same shapes and function share a batch."""

    arrays: Arrays
    rows: int
    shapes: dict[str, tuple[int, ...]]
    run: Run
    done: "asyncio.Future[list[np.ndarray]]"
    start: float


@dataclass(eq=False)
class _Long:
    """A request that is run in parts.

    Attributes:
        waiting: the request.
        part_rows: number of rows in the next part.
        place: number of rows that were run.
        outputs: the outputs, filled up to `place`.
    """

    waiting: _Waiting
    part_rows: int
    place: int = 0
    outputs: list[np.ndarray] = field(default_factory=list)

    def run_part(self, check: Check) -> None:
        """Run the next part, and choose the length of the one after it by the time it took."""
        if not self.place:  # an error must name a sample of the request, not one of a part
            check(self.waiting.arrays)
        start, end = self.place, min(self.place + self.part_rows, self.waiting.rows)
        began = time.perf_counter()
        part = {name: array[start:end] for name, array in self.waiting.arrays.items()}
        arrays = self.waiting.run(part)
        milliseconds = 1000 * (time.perf_counter() - began)
        if not self.outputs and end == self.waiting.rows:
            self.outputs = arrays
        elif not self.outputs:
            shapes = [(self.waiting.rows, *array.shape[1:]) for array in arrays]
            self.outputs = [
                np.empty(shape, array.dtype) for shape, array in zip(shapes, arrays, strict=True)
            ]
        if self.outputs is not arrays:
            for output, array in zip(self.outputs, arrays, strict=True):
                output[start:end] = array
        self.place = end
        self.part_rows = max(1, int((end - start) * min(2.0, _PART_MS / max(milliseconds, 1e-3))))


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

    def __init__(self, run: Run, check: Check, cost: Cost, turns: Turns, limits: Limits) -> None:
        """Make an empty queue.

        Args:
            run: runs the model on a batch.
            check: raises an error if the model cannot be run on a request; for one that is run in
                parts.
            cost: measured cost of the model.
            turns: runs longer batches; shared by all queues.
            limits: limits of the queue.
        """
        self._run = run
        self._check = check
        self._cost = cost
        self._turns = turns
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._long: deque[_Long] = deque()
        self._is_scheduled = self._has_asked = self._has_asked_long = False
        self.counts = Counts()

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return len(self._queue) + len(self._long)

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
        waiting = _Waiting(arrays, rows, shapes, run or self._run, done, time.perf_counter())
        if rows > 1 and rows > (part_rows := self._part_rows(arrays, rows)):
            self._long.append(_Long(waiting, rows if self._limits.is_whole else part_rows))
            self._ask_long()
        else:
            self._queue.append(waiting)
            self._schedule(loop)
        outputs: list[np.ndarray] = await done
        return outputs

    def _part_rows(self, arrays: Arrays, rows: int) -> int:
        size = sum(array.size for array in arrays.values()) // rows
        return self._cost.rows_within(_PART_MS, size)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Called soon rather than now, so that the queue first gets all requests that have arrived.
        if self._queue and not self._is_scheduled and not self._has_asked:
            self._is_scheduled = True
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the next batch here if it is quick; or else ask for a thread."""
        self._is_scheduled = False
        count, rows, size = self._next()
        if not count:
            return
        if rows > _INLINE_ROWS or self._cost.of(rows, size) > _INLINE_MS:
            self._has_asked = True
            self._turns.ask(self._begin)
            return
        batch = self._take(count)
        self._complete(batch, _outcome(batch))
        self._schedule(loop)

    def _begin(self) -> Work | None:
        """Return the work of the next batch: what waits when a thread is free."""
        self._has_asked = False
        batch = self._take(self._next()[0])
        self._schedule(asyncio.get_running_loop())
        if not batch:  # the clients have gone
            return None
        return partial(_outcome, batch), partial(self._complete, batch)

    def _ask_long(self) -> None:
        if self._long and not self._has_asked_long:
            self._has_asked_long = True
            self._turns.ask(self._begin_long, is_long=True)

    def _begin_long(self) -> Work | None:
        """Return the work of the next part of a long request."""
        self._has_asked_long = False
        while self._long and self._long[0].waiting.done.cancelled():
            self._long.popleft()
        if not self._long:
            return None
        long = self._long.popleft()
        self._ask_long()
        self._count_batch([] if long.place else [long.waiting])
        part = partial(long.run_part, self._check)
        return partial(_attempt, part), partial(self._end_part, long)

    def _end_part(self, long: _Long, outcome: Exception | None) -> None:
        if isinstance(outcome, Exception):
            self._complete([long.waiting], [outcome])
        elif long.place == long.waiting.rows:
            self._complete([long.waiting], [long.outputs])
        else:
            self._long.append(long)
            self._ask_long()

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

    def _next(self) -> tuple[int, int, int]:
        """Return the number of requests, of their rows and of their numbers in the next batch.

        It has the first request and those after it with the same shapes, up to a full batch.
        """
        while self._queue and self._queue[0].done.cancelled():
            self._queue.popleft()
        count = rows = size = 0
        for waiting in self._queue:
            first = self._queue[0]
            is_other = waiting.shapes != first.shapes or waiting.run is not first.run
            if count and (is_other or rows + waiting.rows > self._limits.batch_rows):
                break
            count += 1
            rows += waiting.rows
            size += sum([array.size for array in waiting.arrays.values()])
        return count, rows, size

    def _take(self, count: int) -> list[_Waiting]:
        if not count:
            return []
        batch = [self._queue.popleft() for _ in range(count)]
        self._count_batch(batch)
        return batch

    def _count_batch(self, begun: Sequence[_Waiting]) -> None:
        """Count a batch, and how long the requests waited whose first one it is."""
        now = time.perf_counter()
        self.counts.batches += 1
        self.counts.queue_seconds += sum([now - waiting.start for waiting in begun])


_Outcome = Sequence[list[np.ndarray] | Exception]
Result = TypeVar("Result")


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


def _attempt(call: Callable[[], Result]) -> Result | Exception:
    try:
        return call()
    except Exception as error:  # passed on to the request
        return error
