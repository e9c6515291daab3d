"""The errors of Hornbill, each one line: the rule, the value received, the fix.

HornbillError
├── ServingError
│   └── InputError (also a ValueError)    what was passed in cannot be used
│       └── ManifestError                 a bundle is missing, broken or changed
├── export.errors.ExportError             a model cannot be exported
└── app.errors.AppError                   training, tuning, studies or batch jobs cannot go on
"""


class HornbillError(Exception):
    """Anything that Hornbill reports about its input.

    Attributes:
        exit_status: of the command line: 2 for invalid input, 1 for a check that failed.
    """

    exit_status = 2


class ServingError(HornbillError):
    """Anything that this package reports."""


class InputError(ServingError, ValueError):
    """An array, image, file or path cannot be used. Nothing was changed by the call."""


class ManifestError(InputError):
    """A bundle is missing, unreadable, changed or contradicts itself."""


def printable(text: str) -> str:
    """Spell out control characters: what others wrote must not move the cursor or add lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: object) -> str:
    """Return what an error of another library says, on one line; its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
