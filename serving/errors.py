"""The errors of Hornbill, each one line: the rule, the value received, the fix.

HornbillError
├── ServingError
│   └── InputError (also a ValueError)    what was passed in cannot be used
│       └── ManifestError                 a bundle is missing, broken or changed
├── export.errors.ExportError             a model cannot be exported
└── app.errors.AppError                   training, tuning, studies or batch jobs cannot go on
"""


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


class ManifestError(InputError):
    """A bundle is missing, unreadable, changed or inconsistent."""


def printable(text: str) -> str:
    """Escape control characters, so that foreign text cannot move the cursor or add lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: object) -> str:
    """Return the message of another library's error on one line, or its type if it is empty."""
    return " ".join(str(error).split()) or type(error).__name__
