"""Files of settings that are read anew while the server runs."""

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import InputError, printable

_LOG = logging.getLogger("hornbill.server")
Value = TypeVar("Value")


class Reread(Generic[Value]):
    """What a file says. While it is invalid, what it said before stays.

    A change counts when it is seen twice, since most programs empty a file before they write it.
    All processes of a server keep what it said in one place, for those that start while it is
    invalid.

    Attributes:
        value: the last valid content.
    """

    def __init__(
        self, read: Callable[[], Value], fallback: Value, kept: Path | None = None
    ) -> None:
        """Read the file for the first time.

        Args:
            read: reads and checks the file; raises `InputError` if it is invalid.
            fallback: the value until the file is valid, if nothing is kept.
            kept: file that keeps the last valid content for further processes, in a folder that
                only these can write to; None if there is only one process.
        """
        self._read = read
        self._kept = kept
        self._error = ""
        self._was_valid = False
        self.value = fallback
        self._seen = self._look()
        if self._seen[1] and kept is not None and kept.exists():
            self._was_valid, self.value = True, pickle.loads(kept.read_bytes())  # noqa: S301  # own
            self._seen = self.value, self._seen[1]
        self._follow(*self._seen)

    def refresh(self) -> None:
        """Read the file again. An invalid one is logged, once for each reason."""
        found = self._look()
        if found == self._seen:
            self._follow(*found)
        self._seen = found

    def _look(self) -> tuple[Value, str]:
        """Return what the file says, or what it said before with the reason why it is invalid."""
        try:
            return self._read(), ""
        except InputError as error:
            return self.value, str(error)

    def _follow(self, value: Value, error: str) -> None:
        if error and error != self._error:
            stay = " The settings from before stay." if self._was_valid else ""
            _LOG.error("%s%s", printable(error), stay)
        elif self._error and not error:
            _LOG.info("The settings are valid again, and are used.")
        if not error and not (self._was_valid and value == self.value):
            self._keep(value)
        self._was_valid |= not error
        self._error, self.value = error, value

    def _keep(self, value: Value) -> None:
        if self._kept is not None:
            beside = self._kept.with_name(f"{self._kept.name}.{os.getpid()}")
            beside.write_bytes(pickle.dumps(value))
            beside.replace(self._kept)
