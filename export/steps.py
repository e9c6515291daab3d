"""Tells an observer which step of an export begins."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_observer: ContextVar[Callable[[str], None] | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observed_steps(observer: Callable[[str], None]) -> Iterator[None]:
    """Call `observer` with the name of each step that begins in the context, in the same thread."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def begin_step(name: str) -> None:
    """Tell the observer, if there is one, that a step begins, such as `converting to ONNX`."""
    observer = _observer.get()
    if observer is not None:
        observer(name)
