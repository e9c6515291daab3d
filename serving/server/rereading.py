"""Files of settings that are read anew while the server runs."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import InputError, printable

_LOG = logging.getLogger("hornbill.server")
Value = TypeVar("Value")


class Reread(Generic[Value]):
    """What a file says. While it is invalid, what it said before stays.

    Attributes:
        value: the last valid content.
    """

    def __init__(self, read: Callable[[], Value], fallback: Value) -> None:
        """Read the file for the first time.

        Args:
            read: reads and checks the file; raises `InputError` if it is invalid.
            fallback: the value until the file is valid. A restarted process may find it invalid.
        """
        self._read = read
        self._error = ""
        self._was_valid = False
        self.value = fallback
        self.refresh()

    def refresh(self) -> None:
        """Read the file again. An invalid one is logged, once for each reason."""
        try:
            value = self._read()
        except InputError as error:
            if str(error) != self._error:
                stay = " The settings from before stay." if self._was_valid else ""
                _LOG.error("%s%s", printable(str(error)), stay)
            self._error = str(error)
            return
        if self._error:
            _LOG.info("The settings are valid again, and are used.")
        self._error, self._was_valid, self.value = "", True, value
