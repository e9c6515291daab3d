"""Ends a pass that takes too long."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

_end: ContextVar[float] = ContextVar("end", default=float("inf"))

T = TypeVar("T")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let `check_time` raise TimeoutError in the context once `seconds` have passed."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def check_time() -> None:
    """Raise TimeoutError if the time is up."""
    if time.monotonic() > _end.get():
        raise TimeoutError("it took too long")


def in_time(items: Iterable[T]) -> Iterator[T]:
    """Yield each item of a list that is copied first; raise TimeoutError once the time is up."""
    for item in list(items):
        check_time()
        yield item
