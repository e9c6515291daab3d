"""Reads the regular expressions that are no more than a literal or a set of characters."""

import re
import string
from dataclasses import dataclass

_CLASSES = {"s": "\t\n\f\r ", "d": string.digits, "w": string.ascii_letters + string.digits + "_"}
_POSIX = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "digit": string.digits,
    "lower": string.ascii_lowercase,
    "punct": string.punctuation,
    "space": "\t\n\v\f\r ",
    "upper": string.ascii_uppercase,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_MOST = 256  # characters of a range; each of them is a split and a join
_SPECIAL = frozenset(".^$*+?()[]{}|\\")
# One element of a set: a class of POSIX, an escaped character, or a character.
_ELEMENT = re.compile(r"\[:(?P<posix>\w+):\]|\\(?P<escaped>.)|(?P<plain>[^\\])", re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """What a regular expression matches.

    Attributes:
        literals: The texts, any of which it matches.
        is_repeated: Whether it matches any number of them in a row.
    """

    literals: tuple[str, ...]
    is_repeated: bool = False


def read_pattern(expression: str) -> Pattern | None:
    """Return what a regular expression of RE2 matches, if that is a literal or a set of characters.

    A set may be followed by `+`. None for any other expression.

    Example:
        >>> read_pattern(r"[.,]+")
        Pattern(literals=('.', ','), is_repeated=True)
    """
    body = expression.removesuffix("+")
    is_repeated = body != expression and not body.endswith("\\")
    body = body if is_repeated else expression
    characters = _set_of(body)
    if characters is not None:
        return Pattern(tuple(characters), is_repeated)
    literal = _literal(body)
    if not literal or (is_repeated and len(literal) > 1):
        return None
    return Pattern((literal,), is_repeated)


def _literal(body: str) -> str | None:
    """Return the text of an expression without operators."""
    found = []
    for match in _ELEMENT.finditer(body):
        character = _character(match)
        if character is None or match["posix"] or (match["plain"] in _SPECIAL):
            return None
        found.append(character)
    return "".join(found) if not body.endswith("\\") or body.endswith("\\\\") else None


def _set_of(body: str) -> list[str] | None:
    r"""Return the characters of a set such as `[a-z]`, `[[:punct:]]` or `\s`."""
    if re.fullmatch(r"\\[sdw]", body):
        return list(_CLASSES[body[1]])
    if len(body) < 3 or body[0] != "[" or body[-1] != "]" or body[1] == "^":
        return None
    elements = list(_ELEMENT.finditer(body[1:-1]))
    found: list[str] = []
    while elements:
        element = elements.pop(0)
        known = _class_of(element)
        is_range = len(elements) > 1 and elements[0]["plain"] == "-"
        first = last = _character(element)
        if is_range and known is None:
            last = _character(elements[1])
            del elements[:2]
        if known is None and first is not None and last is not None and first <= last:
            known = "".join(map(chr, range(ord(first), ord(last) + 1)))
        has_ended = element["plain"] == "]" and len(found) > 0
        if known is None or has_ended or len(known) > _MOST:
            return None
        found += known
    return list(dict.fromkeys(found))


def _class_of(element: re.Match[str]) -> str | None:
    r"""Return the characters of a class such as `[:punct:]` or `\d`; None if it is none."""
    if element["posix"]:
        return _POSIX.get(element["posix"])
    return _CLASSES.get(element["escaped"] or "")


def _character(match: re.Match[str]) -> str | None:
    """Return the character of an element; None if it is none."""
    escaped: str | None = match["escaped"]
    if escaped is None:
        return match["plain"]
    return _ESCAPES.get(escaped) if escaped.isalnum() else escaped
