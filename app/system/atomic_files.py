"""Writes files atomically: a reader finds the old file or the whole new one, whatever happens."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with `atomic_write`."""
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def atomic_write(path: Path, text: str) -> None:
    """Replace the file at `path` with `text` in UTF-8.

    Raises:
        OSError: the file cannot be written. The old one is untouched.
    """
    with atomic_path(path) as new:
        new.write_text(text, "utf-8")


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success that file is synced to disk and replaces `path`.

    Raises:
        OSError: the file cannot be written. The old one is untouched.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        yield new
        sync(new)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # in a read-only folder
            new.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Force a file to disk, so that it survives a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
