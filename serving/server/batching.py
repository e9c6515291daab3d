"""Runs requests for one model together where that raises throughput.

What waits is run as one batch: on the event loop if that is over in a moment, else in a thread.
While a thread runs, the next batch gathers. Nothing waits for a batch to fill, so that a request
alone is answered at once and a batch grows with the load.
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
# Longer than this, and other requests would notice that the event loop does not answer.
_INLINE_MS = 3.0
# Of the time a row takes alone: less, and batches raise throughput.
_WORTH = 0.9


@dataclass(frozen=True)
class Cost:
    """What running rows takes on this machine.

    Attributes:
        alone_ms: of one row.
        row_ms: of each further row.
        row_size: numbers in a row that was measured; where axes are variable, others have more.
    """

    alone_ms: float
    row_ms: float
    row_size: int

    def of(self, rows: int, size: int) -> float:
        """Return the milliseconds that `rows` of `size` numbers take together.

        They are infinite where rows are larger than what was measured: nobody knows.
        """
        if size > rows * self.row_size:
            return math.inf
        return self.alone_ms + self.row_ms * (rows - 1)

    def most_rows(self, milliseconds: float) -> int:
        """Return how many rows a batch may have; 1 where batches raise no throughput."""
        if self.row_ms > _WORTH * self.alone_ms:
            return 1
        return 1 + int(max(0.0, milliseconds - self.alone_ms) / max(self.row_ms, 1e-6))


@dataclass(frozen=True)
class Limits:
    """What a queue may do.

    Attributes:
        request_rows: most rows of a request.
        batch_rows: most of a batch of several requests.
        threads: batches that may run in threads at once.
    """

    request_rows: int
    batch_rows: int
    threads: int


class _Waiting(NamedTuple):
    arrays: Arrays
    rows: int
    kind: dict[str, tuple[int, ...]]
    done: "asyncio.Future[list[np.ndarray]]"
    start: float


@dataclass
class Counts:
    """What a queue has done.

    Attributes:
        requests: answered.
        rows: of these.
        batches: run.
        seconds: from arrival to answer, over all requests.
        last_time: of an answer, seconds since 1970.
    """

    requests: int = 0
    rows: int = 0
    batches: int = 0
    seconds: float = 0.0
    last_time: float = 0.0


class Batcher:
    """The queue of one model. Used on one event loop.

    Attributes:
        counts: what it has done.
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
            run: the model.
            cost: measured of it.
            executor: where longer batches run.
            limits: of what it does.
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
        """Number of requests that wait."""
        return len(self._queue)

    async def infer(self, arrays: Arrays) -> list[np.ndarray]:
        """Return the model's outputs for one request.

        Args:
            arrays: one for each input, checked, with the same number of rows.

        Raises:
            RequestError: they are too many, or the model cannot be run on them.
        """
        loop = asyncio.get_running_loop()
        rows = len(next(iter(arrays.values())))
        check_rows(rows, self._limits.request_rows)
        # By name: a request may give its inputs in any order.
        kind = {name: array.shape[1:] for name, array in arrays.items()}
        done = loop.create_future()
        self._queue.append(_Waiting(arrays, rows, kind, done, time.perf_counter()))
        self._schedule(loop)
        outputs: list[np.ndarray] = await done
        return outputs

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Once everything that has arrived by now is in the queue.
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
        size = sum(array.size for waiting in batch for array in waiting.arrays.values())
        if self._cost.of(rows, size) <= _INLINE_MS:
            self._answer(batch, _outcome(self._run, batch))
        else:
            self._running += 1
            running = loop.run_in_executor(self._executor, _outcome, self._run, batch)
            running.add_done_callback(lambda done: self._finish(loop, batch, done.result()))
        self._schedule(loop)

    def _finish(
        self, loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting], outcome: "_Outcome"
    ) -> None:
        self._running -= 1
        self._answer(batch, outcome)
        self._schedule(loop)

    def _answer(self, batch: Sequence[_Waiting], outcome: "_Outcome") -> None:
        counts, now = self.counts, time.perf_counter()
        counts.last_time = time.time()
        for waiting, result in zip(batch, outcome, strict=True):
            if waiting.done.done():  # nobody waits any more
                continue
            if isinstance(result, Exception):
                # What the model says is the request's; anything else is a fault of the server.
                is_request = isinstance(result, ServingError)
                waiting.done.set_exception(RequestError(str(result)) if is_request else result)
                continue
            waiting.done.set_result(result)
            counts.requests += 1
            counts.rows += waiting.rows
            counts.seconds += now - waiting.start

    def _take(self) -> list[_Waiting]:
        """Take the first request, and those of its kind behind it, as far as a batch goes."""
        batch: list[_Waiting] = []
        rows = 0
        while self._queue:
            first = self._queue[0]
            if first.done.cancelled():
                self._queue.popleft()
                continue
            is_other = batch and first.kind != batch[0].kind
            if is_other or (batch and rows + first.rows > self._limits.batch_rows):
                break
            batch.append(self._queue.popleft())
            rows += first.rows
        return batch


_Outcome = list[list[np.ndarray] | Exception]


def _outcome(run: Run, batch: Sequence[_Waiting]) -> _Outcome:
    """Return the outputs, or the error, of each request."""
    if len(batch) == 1:
        return [_attempt(lambda: run(batch[0].arrays))]
    outputs = _attempt(lambda: run(_joined(batch)))
    if isinstance(outputs, Exception):  # one of them spoils it for the others
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
    except Exception as error:  # handed to whoever asked
        return error
