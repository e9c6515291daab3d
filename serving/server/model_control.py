"""Which models clients have asked to load, where they decide that: one list for all processes."""

import json
import os
from collections.abc import Sequence
from pathlib import Path


class ModelControl:
    """The requests to load and unload models, in the order in which they came.

    They are lines of a file that all processes append to, so that a process that is restarted
    serves what the others serve.
    """

    def __init__(self, names: Sequence[str], path: Path | None) -> None:
        """Make a list.

        Args:
            names: models that are loaded from the start.
            path: file of the requests; None if this is the only process, which forgets them.
        """
        self._path = path
        self._lines: list[bytes] = []
        self._done = 0
        self.wanted = set(names)

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
            lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        loaded: set[str] = set()
        for name, is_load in map(json.loads, lines[self._done :]):
            (self.wanted.add if is_load else self.wanted.discard)(name)
            (loaded.add if is_load else loaded.discard)(name)
        self._done = len(lines)
        return loaded
