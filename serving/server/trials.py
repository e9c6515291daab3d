"""Tries versions in processes of their own before this process loads them.

Several are tried at once, and one that takes long makes room for the others.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import printable
from ..limited_process import LimitedProcess, LimitError, Limits, limits_for
from ..trial import start_process, try_version
from ..verify import Check

# Versions that are tried at once, and among them those that take long.
_AT_ONCE, _SLOW_AT_ONCE = 2, 1
# What a version may take before the others have their turn: a part of the limit, in seconds.
_QUICK_FRACTION, _QUICK_S = 1 / 6, 10.0
# After a failure the version before it is tried, and a repaired one again.
_IDLE_S = 10.0
# Requests come first.
_NICENESS = 5


@dataclass(frozen=True)
class Failure:
    """The reason why a version is not served.

    Attributes:
        reason: a sentence.
        kind: the check that failed: `files`, `contract`, `behavior` or `loading`; or `time`,
            `memory` or `crash`.
    """

    reason: str
    kind: str = "loading"


class Trials:
    """Tries versions, for use on one event loop."""

    def __init__(
        self,
        max_seconds: float | None = None,
        max_memory_gb: float | None = None,
        idle: list[LimitedProcess] | None = None,
    ) -> None:
        """Make it.

        Args:
            max_seconds: see `trial.verify_in_limits`.
            max_memory_gb: see `trial.verify_in_limits`.
            idle: processes from `trial.start_process` to use and to give back; None for own ones,
                which are ended some seconds after the last trial.
        """
        self._max_seconds = max_seconds
        self._max_memory_gb = max_memory_gb
        self._threads = ThreadPoolExecutor(_AT_ONCE + _SLOW_AT_ONCE, "hornbill-trials")
        self._quick = asyncio.Semaphore(_AT_ONCE)
        self._slow = asyncio.Semaphore(_SLOW_AT_ONCE)
        self._under_way = 0
        # They import onnxruntime once for all versions that are tried one after the other.
        self._idle = [] if idle is None else idle
        self._has_own = idle is None

    async def run(self, folder: Path, when_slow: Callable[[], None]) -> Failure | None:
        """Return why a version cannot be served, or None if it passes all checks and can be loaded.

        If the caller is cancelled, the process of the trial is ended.

        Args:
            folder: folder of the version.
            when_slow: called when it takes long.
        """
        self._under_way += 1
        try:
            return await self._run(folder, when_slow)
        finally:
            self._under_way -= 1
            asyncio.get_running_loop().call_later(_IDLE_S, self._end_idle)

    async def _run(self, folder: Path, when_slow: Callable[[], None]) -> Failure | None:
        loop = asyncio.get_running_loop()
        limits: Limits = await loop.run_in_executor(
            self._threads, limits_for, folder, self._max_seconds, self._max_memory_gb
        )
        quick = replace(
            limits, seconds=min(limits.seconds, max(_QUICK_S, _QUICK_FRACTION * limits.seconds))
        )
        async with self._quick:
            failure = await self._try(folder, quick)
        if failure is None or failure.kind != "time" or quick == limits:
            return failure
        when_slow()
        async with self._slow:
            return await self._try(folder, limits)

    async def _try(self, folder: Path, limits: Limits) -> Failure | None:
        process = self._idle.pop() if self._idle else start_process(_NICENESS)
        loop = asyncio.get_running_loop()
        try:
            failure: Failure | None = await loop.run_in_executor(
                self._threads, _try, process, folder, limits
            )
        except asyncio.CancelledError:
            process.kill()
            raise
        self._idle.append(process)
        return failure

    def _end_idle(self) -> None:
        while self._has_own and self._idle and not self._under_way:
            # In a thread: on a busy machine, it takes seconds until a process has ended.
            self._threads.submit(self._idle.pop().close)

    def close(self) -> None:
        """End the processes and the threads; whatever is under way must have been cancelled."""
        while self._has_own and self._idle:
            self._idle.pop().close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _try(process: LimitedProcess, folder: Path, limits: Limits) -> Failure | None:
    checks: list[Check] = []
    try:
        try_version(process, folder, folder, limits, checks.append, loads=True)
    except LimitError as error:
        return Failure(str(error), error.kind)
    failed = [check for check in checks if not check.passed]
    return Failure(printable(failed[0].detail), failed[0].name) if failed else None
