"""Bounds the memory of long bodies and long responses, all together."""

import asyncio
from collections import deque
from typing import NamedTuple

from .errors import RequestError


class _Waiting(NamedTuple):
    """A taker that waits.

    Attributes:
        needed: bytes that must be free before its turn comes.
        amount: bytes that it takes then.
        turn: is done when it has taken them, or has been given up.
    """

    needed: int
    amount: int
    turn: "asyncio.Future[None]"


class Room:
    """A number of bytes that requests share. Those that do not fit wait in turn.

    A request that has room and waits for more keeps others waiting. Two of them could wait for each
    other, so that one at a time may take more than is free: all requests together have at most
    twice the size.

    For use on one event loop.

    Attributes:
        size: bytes that may be taken at once. More are never needed by a single taker.
    """

    def __init__(self, size: int, timeout_s: float) -> None:
        """Make an empty room.

        Args:
            size: bytes that may be taken at once.
            timeout_s: seconds that a request waits at most.
        """
        self.size = size
        self._free = size  # below 0 while one has more than was free
        self._timeout_s = timeout_s
        # Those that have room already come first.
        self._growing: deque[_Waiting] = deque()
        self._entering: deque[_Waiting] = deque()

    @property
    def is_full(self) -> bool:
        """Whether requests wait."""
        return bool(self._growing or self._entering)

    async def take(self, amount: int) -> int:
        """Return the number of bytes that were taken, to be given to `leave`.

        Args:
            amount: bytes to take; one that asks for more than the size gets all.

        Raises:
            RequestError: there was no room in time.
        """
        amount = min(amount, self.size)
        if amount <= self._free and not self.is_full:
            self._free -= amount
            return amount
        return await self._wait(self._entering, amount, amount)

    async def grow(self, amount: int, most: int) -> int:
        """Return the number of bytes that one who has room took in addition.

        Args:
            amount: bytes to take if they are free.
            most: bytes to take if they are not, so that it never asks again.

        Raises:
            RequestError: there was no room in time.
        """
        if amount <= self._free and not self._growing:
            self._free -= amount
            return amount
        return await self._wait(self._growing, 0, most)

    async def _wait(self, queue: deque[_Waiting], needed: int, amount: int) -> int:
        turn = asyncio.get_running_loop().create_future()
        queue.append(_Waiting(needed, amount, turn))
        self._let_in()
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except BaseException as error:
            if turn.cancelled():  # it is done, so that the others do not wait for it
                self._let_in()
            else:  # its turn came at the same time
                self.leave(amount)
            if not isinstance(error, TimeoutError):
                raise
            raise RequestError(
                f"Long bodies and responses may have {self.size:,} bytes at once. "
                "Received: more. Try again later.",
                503,
                {"retry-after": "1"},
            ) from None
        return amount

    def leave(self, amount: int) -> None:
        """Give bytes back, and let those in whose turn it is."""
        self._free += amount
        self._let_in()

    def _let_in(self) -> None:
        for queue in self._growing, self._entering:
            while queue and (queue[0].turn.done() or queue[0].needed <= self._free):
                _, amount, turn = queue.popleft()
                if not turn.done():
                    self._free -= amount
                    turn.set_result(None)
