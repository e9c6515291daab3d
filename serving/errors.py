"""The errors of `serving`, each one line: the rule, the value received, the mend.

ServingError
└── InputError (also a ValueError)    what was handed in cannot be used
    └── ManifestError                 it is a bundle, and it is missing, broken or changed
"""


class ServingError(Exception):
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
