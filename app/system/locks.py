"""Locks a folder, so that only one process at a time works in it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from app.errors import AppError

LOCK = ".lock"


@contextlib.contextmanager
def exclusive_lock(
    folder: Path, taken: AppError, unwritable: Callable[[OSError], AppError], name: str = LOCK
) -> Iterator[None]:
    """Keep other processes out of a folder; the lock ends with this process, however it ends.

    Args:
        folder: folder to lock.
        taken: error to raise if another process holds the lock.
        unwritable: returns the error to raise if the lock file cannot be written.
        name: name of the lock file in the folder.

    Raises:
        AppError: `taken`, or what `unwritable` returns.
    """
    lock = FileLock(folder / name, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise taken from None
    except OSError as error:
        raise unwritable(error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows cannot remove an open file
            (folder / name).unlink()
        lock.release()
