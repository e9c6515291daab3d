"""Knows files and folders that no user has made for a program to read."""

# Those that Windows and macOS put among the files of the user, in lower case.
_OF_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "icon\r", "__macosx"})


def is_hidden(name: str) -> bool:
    """Return whether the name of a file or folder begins with a dot, or is one of the system's."""
    return name.startswith(".") or name.lower() in _OF_SYSTEM
