"""Checks names of files, which can be any bytes, and knows those that no user has made."""

from collections.abc import Iterable

from app.errors import DataError

# Files and folders that Windows and macOS put among those of the user, in lower case.
_OF_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "icon\r", "__macosx"})


def is_hidden(name: str) -> bool:
    """Return whether a file or folder begins with a dot, or is one that the system has made."""
    return name.startswith(".") or name.lower() in _OF_SYSTEM


def check_names(names: Iterable[str]) -> None:
    """Require names in UTF-8, since names of files can be any bytes.

    Raises:
        DataError: a name is not valid UTF-8.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"Names must be UTF-8. Received: {name!a}.") from None
