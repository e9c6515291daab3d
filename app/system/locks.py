"""A folder that one process at a time works in."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from app.errors import AppError

LOCK = ".lock"


@contextlib.contextmanager
def exclusive_lock(
    folder: Path, taken: AppError, unwritable: Callable[[OSError], AppError]
) -> Iterator[None]:
    """Keep other processes out of a folder; the lock ends with this one, however it ends.

    Args:
        folder: that is locked.
        taken: raised if another process works in it.
        unwritable: makes what is raised if it cannot be locked.

    Raises:
        AppError: as given.
    """
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise taken from None
    except OSError as error:
        raise unwritable(error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            (folder / LOCK).unlink()
        lock.release()
