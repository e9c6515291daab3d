"""Which models clients have asked to load, where they decide that: one list for all processes."""

import json
import math
import os
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


class ModelControl:
    """The requests to load and unload models, in the order in which they came.

    They are lines of a file that all processes append to, so that a process that is restarted
    serves what the others serve. Beside it each process has a file that tells how many of the
    lines it has followed.

    Attributes:
        wanted: names of the models to be loaded.
    """

    def __init__(self, names: Sequence[str], path: Path | None) -> None:
        """Make a list.

        Args:
            names: models that are loaded from the start.
            path: file of the requests; None if this is the only process, which forgets them.
        """
        self._path = path
        self._lines: list[bytes] = []
        self._names: list[str] = []  # of the requests that were read
        self._begun = self._followed = self._size = 0
        self.wanted = set(names)
        # With the id of the process, by which the others see whether it has ended.
        named = None if path is None else f"{path.name}-{os.getpid()}-{uuid4().hex}"
        self._own = None if path is None else path.with_name(str(named))
        self._tell()

    def request(self, name: str, *, is_load: bool) -> None:
        """Add a request. It takes effect with the next `update`."""
        line = json.dumps([name, is_load]).encode() + b"\n"
        if self._path is None:
            self._lines.append(line)
            return
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def update(self) -> set[str]:
        """Follow new requests; return the models that are to be loaded again."""
        lines = self._lines
        if self._path is not None:
            content = self._path.read_bytes() if self._path.exists() else b""
            self._size = len(content)
            lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        loaded: set[str] = set()
        for name, is_load in map(json.loads, lines[len(self._names) :]):
            self._names.append(name)
            (self.wanted.add if is_load else self.wanted.discard)(name)
            (loaded.add if is_load else loaded.discard)(name)
        return loaded

    def has_news(self) -> bool:
        """Return whether there are requests that this process has not read."""
        if self._path is None:
            return len(self._names) < len(self._lines)
        return self._path.exists() and self._path.stat().st_size > self._size

    def begin(self) -> None:
        """Note that what was read has an effect: models are being loaded, or no longer served."""
        self._begun = len(self._names)

    def report(self, loading: Container[str]) -> None:
        """Tell the other processes which requests this one has followed.

        Args:
            loading: names of the models that are being loaded.
        """
        before = self._followed
        while self._followed < self._begun and self._names[self._followed] not in loading:
            self._followed += 1
        if self._followed > before:
            self._tell()

    def _tell(self) -> None:
        if self._own is not None:
            self._own.write_text(str(self._followed))

    def is_followed(self, count: int) -> bool:
        """Return whether every process has followed the first `count` requests."""
        if self._path is None:
            return True
        files = self._path.parent.glob(f"{self._path.name}-*")
        return all(_followed_in(file) >= count for file in files)

    @property
    def count(self) -> int:
        """Number of the requests that were read."""
        return len(self._names)

    def close(self) -> None:
        """Take part no longer."""
        if self._own is not None:
            with suppress(FileNotFoundError):
                self._own.unlink()


def _followed_in(file: Path) -> float:
    """Return how many requests a process has followed; infinity if it has ended."""
    try:
        os.kill(int(file.name.split("-")[-2]), 0)
        return int(file.read_text() or "0")  # empty while it is written
    except (ProcessLookupError, FileNotFoundError):
        return math.inf
