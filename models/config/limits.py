"""What values a setting may have: stated beside its field, checked and described from there.

A field is declared as `epochs: Annotated[int, Range(1, 1_000_000)] = 20`.
"""

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints

from models.checks import (
    check_above,
    check_at_least,
    check_choice,
    check_fraction,
    check_open_fraction,
    check_range,
    check_sizes,
)


class Limit(Protocol):
    """The values that a setting may have; `str` describes them."""

    def check(self, name: str, value: Any) -> None:
        """Raise `ValueError` unless a setting may have a value."""


@dataclass(frozen=True)
class OneOf:
    """One of several names."""

    names: Collection[str]

    def check(self, name: str, value: str) -> None:
        """Raise `ValueError` with a suggestion unless `value` is one of the names."""
        check_choice(name, value, self.names)

    def __str__(self) -> str:
        return ", ".join(self.names)


@dataclass(frozen=True)
class AtLeast:
    """A finite number that is not smaller than `minimum`."""

    minimum: float

    def check(self, name: str, value: float) -> None:
        """Raise `ValueError` unless `value` is finite and at least the minimum."""
        check_at_least(name, value, self.minimum)

    def __str__(self) -> str:
        return f"at least {self.minimum:g}"


@dataclass(frozen=True)
class Above:
    """A finite number larger than `bound`."""

    bound: float

    def check(self, name: str, value: float) -> None:
        """Raise `ValueError` unless `value` is finite and above the bound."""
        check_above(name, value, self.bound)

    def __str__(self) -> str:
        return f"above {self.bound:g}"


@dataclass(frozen=True)
class Range:
    """A number from `minimum` to `maximum`."""

    minimum: float
    maximum: float

    def check(self, name: str, value: float) -> None:
        """Raise `ValueError` unless `value` is in the range."""
        check_range(name, value, self.minimum, self.maximum)

    def __str__(self) -> str:
        return f"from {self.minimum:,.9g} to {self.maximum:,.9g}"


@dataclass(frozen=True)
class Fraction:
    """A number in [0, 1)."""

    def check(self, name: str, value: float) -> None:
        """Raise `ValueError` unless `value` is at least 0 and below 1."""
        check_fraction(name, value)

    def __str__(self) -> str:
        return "at least 0 and below 1"


@dataclass(frozen=True)
class OpenFraction:
    """A number in (0, 1), or several."""

    def check(self, name: str, value: float | Collection[float]) -> None:
        """Raise `ValueError` unless `value`, or each of several, is above 0 and below 1."""
        for each in value if isinstance(value, Collection) else (value,):
            check_open_fraction(name, each)

    def __str__(self) -> str:
        return "above 0 and below 1"


@dataclass(frozen=True)
class Sizes:
    """One or more whole numbers above 0."""

    def check(self, name: str, value: Collection[int]) -> None:
        """Raise `ValueError` unless each number is whole and above 0."""
        check_sizes(name, value)

    def __str__(self) -> str:
        return "whole numbers above 0"


@dataclass(frozen=True)
class Text:
    """What a sentence describes.

    Attributes:
        description: the sentence, without its full stop.
        parse: raises `ValueError` for a value that is not allowed; None if that depends on other
            settings, which the dataclass itself then checks.
    """

    description: str
    parse: Callable[[Any], object] | None = None

    def check(self, name: str, value: Any) -> None:  # noqa: ARG002
        """Raise `ValueError` if `parse` does."""
        if self.parse is not None:
            self.parse(value)

    def __str__(self) -> str:
        return self.description


@functools.cache
def limits_of(config: type) -> dict[str, Limit]:
    """Return the limits of a dataclass's fields by name; a field without one is not in it."""
    hints = get_type_hints(config, include_extras=True)
    return {
        name: limit
        for name, hint in hints.items()
        for limit in getattr(hint, "__metadata__", ())
        if hasattr(limit, "check")
    }


def check_limits(config: Any, prefix: str = "") -> None:
    """Require that the fields of a dataclass are within their limits.

    Args:
        config: the dataclass.
        prefix: what precedes the name of a field in a message, such as `optimizer.`.

    Raises:
        ValueError: a value is not allowed. The message names it and what would be.
    """
    kind: type = type(config)
    for name, limit in limits_of(kind).items():
        limit.check(f"{prefix}{name}", getattr(config, name))
