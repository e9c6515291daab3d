"""Checks names of files, which can be any bytes."""

from collections.abc import Iterable

from app.errors import DataError


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


def as_text(name: object) -> str:
    """Return a name, or what contains it, as text that can be written. Names can be any bytes."""
    return str(name).encode("utf-8", "backslashreplace").decode()
