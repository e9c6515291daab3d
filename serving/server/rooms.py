"""Bounds the memory of long bodies and long responses, all together."""

import asyncio
from collections import deque

from .errors import RequestError


class Room:
    """A number of bytes that requests share. Those that do not fit wait in turn.

    For use on one event loop.
    """

    def __init__(self, size: int, timeout_s: float) -> None:
        """Make an empty room.

        Args:
            size: bytes that may be taken at once. More are never needed by a single taker: one that
                asks for more gets all.
            timeout_s: seconds that a request waits at most.
        """
        self._size = size
        self._free = size
        self._timeout_s = timeout_s
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether requests wait."""
        return bool(self._queue)

    async def take(self, amount: int) -> int:
        """Return the number of bytes that were taken, to be given to `leave`.

        Raises:
            RequestError: there was no room in time.
        """
        amount = min(amount, self._size)
        if amount <= self._free and not self._queue:
            self._free -= amount
            return amount
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((amount, turn))
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn came at the same time
                self.leave(amount)
            else:
                self._queue.remove((amount, turn))
            if not isinstance(error, TimeoutError):
                raise
            raise RequestError(
                f"Long bodies and responses may have {self._size:,} bytes at once. "
                "Received: more. Try again later.",
                503,
                {"retry-after": "1"},
            ) from None
        return amount

    def leave(self, amount: int) -> None:
        """Give bytes back, and let those in whose turn it is."""
        self._free += amount
        while self._queue and self._queue[0][0] <= self._free:
            needed, turn = self._queue.popleft()
            if turn.done():  # given up
                continue
            self._free -= needed
            turn.set_result(None)
