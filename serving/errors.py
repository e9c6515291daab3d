"""The errors of Hornbill, each one line: the rule, the value received, the fix.

HornbillError
├── ServingError
│   └── InputError (also a ValueError)    what was passed in cannot be used
│       └── ManifestError                 a bundle is missing, broken or changed
│           └── DamagedError              a packed bundle is not as it was written
├── export.errors.ExportError             a model cannot be exported
└── app.errors.AppError                   training, tuning, studies or batch jobs cannot go on
"""

import re
from collections.abc import Sequence

# Number of items that an error names; the others are counted.
_NAMED = 3
# What colors text in a terminal, as messages of Keras do.
_COLORS = re.compile(r"\x1b\[[\d;]*m")


class HornbillError(Exception):
    """Base of all errors that Hornbill raises on purpose.

    Attributes:
        exit_status: exit status of the command line: 2 for invalid input, 1 for a failed check.
    """

    exit_status = 2


class ServingError(HornbillError):
    """Base of the errors of this package."""


class InputError(ServingError, ValueError):
    """An array, image, file or path cannot be used. Nothing was changed by the call."""


class NoRowsError(InputError):
    """A file that can be read has no rows: nothing to predict, but nothing that is wrong."""


class ManifestError(InputError):
    """A bundle is missing, unreadable, changed or inconsistent."""


class DamagedError(ManifestError):
    """A packed bundle is there, but its bytes are not those that `pack` wrote."""


def printable(text: str) -> str:
    """Escape control characters, so that foreign text cannot move the cursor or add lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cannot_read(path: object, error: Exception, kind: str = "") -> str:
    """Return the message for a file or folder that cannot be read.

    Args:
        path: its path.
        error: what reading it raised.
        kind: what its content must be, such as `TOML`; used if the system could read the file.
    """
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist."
    is_content = kind and getattr(error, "strerror", None) is None
    return f"{path} cannot be read{f' as {kind}' if is_content else ''}: {reason_of(error)}."


def cannot_write(path: object, error: OSError) -> str:
    """Return the message for a file or folder that cannot be written."""
    return f"{path} cannot be written: {reason_of(error)}."


def reason_of(error: Exception) -> str:
    """Return an error's reason on one line, as the end of a sentence without its full stop."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.object[error.start]:#04x} at position {error.start} is not UTF-8"
    if text := getattr(error, "strerror", None):  # such as "Permission denied"
        return f"{text[0].lower()}{text[1:]}"
    return one_line(error)[:200].rstrip(".")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def either(names: Sequence[str]) -> str:
    """Return two names or more of which one is to be chosen: `a, b or c`."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def first_few(items: Sequence[object], separator: str = ", ") -> str:
    """Return the first three items and how many more there are: `a, b, c, and 2 more`."""
    more = [f"and {len(items) - _NAMED:,} more"] if len(items) > _NAMED else []
    return separator.join([*map(str, items[:_NAMED]), *more])


def describe_all(problems: Sequence[object]) -> str:
    """Return the message of one problem; of several, how many there are and the first ones."""
    if len(problems) == 1:
        return str(problems[0])
    return f"There are {len(problems):,} problems: {first_messages(problems)}."


def first_messages(problems: Sequence[object]) -> str:
    """Return the first three problems, without the full stops, and how many more there are."""
    return first_few([str(problem).rstrip(".") for problem in problems], "; ")


def one_line(error: object) -> str:
    """Return the message of another library's error on one line, or its type if it is empty."""
    return " ".join(_COLORS.sub("", str(error)).split()) or type(error).__name__
