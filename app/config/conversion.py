"""Converts values to the types of a configuration's fields."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, TypeVar, get_type_hints

from app.errors import ConfigError
from models.config.limits import Limit, OneOf, limits_of
from serving.errors import one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter, ValidationError

_Config = TypeVar("_Config", bound="DataclassInstance")
# What a value must be, by the first word of pydantic's error type.
_WANTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "finite": "finite",
}
# What Python writes of an object that has no text of its own.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")
_TEXTS = (str, tuple[str, ...])
_WANTED_OF_ALL = {"int": "whole numbers", "float": "numbers", "string": "texts"}


def converted(config: _Config, changes: Mapping[str, object], prefix: str = "") -> _Config:
    """Return a dataclass with other values, converted to the types of its fields and checked.

    A number is taken for text, as in `freeze=3`, where a setting can be both.

    Args:
        config: the dataclass.
        changes: values by the name of their field.
        prefix: what precedes a field's name in a message, such as `optimizer.`.

    Raises:
        ConfigError: a value cannot be converted, or the dataclass refuses it.
    """
    # Most of the time of the command line would be that of this import.
    from pydantic import ValidationError

    texts = text_fields(type(config))
    values = {
        key: str(value) if key in texts and type(value) in (int, float) else value
        for key, value in changes.items()
    }
    try:
        found: _Config = _adapter(type(config)).validate_python({**asdict(config), **values})
    except ValidationError as error:
        raise ConfigError(_first_problem(error, prefix, limits_of(type(config)))) from None
    return found


@cache
def text_fields(kind: type) -> frozenset[str]:
    """Return the fields of text or of texts, but not those that are one of a few names."""
    named = {key for key, limit in limits_of(kind).items() if isinstance(limit, OneOf)}
    hints = get_type_hints(kind).items()
    return frozenset(key for key, hint in hints if hint in _TEXTS and key not in named)


@cache  # building one takes a hundred times as long as a conversion
def _adapter(kind: type[_Config]) -> "TypeAdapter[_Config]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _first_problem(error: "ValidationError", prefix: str, limits: Mapping[str, Limit]) -> str:
    problem = error.errors()[0]
    if "error" in problem.get("ctx", {}):  # raised by the dataclass itself, already a sentence
        return str(problem["ctx"]["error"])
    key = prefix + ".".join(part for part in problem["loc"] if isinstance(part, str))
    kind, message = problem["type"].partition("_")[0], problem["msg"]
    wanted = _WANTED.get(kind, message.removeprefix("Input should be "))
    if any(isinstance(part, int) for part in problem["loc"]):  # an element of a tuple
        wanted = _WANTED_OF_ALL.get(kind, wanted)
    limit = limits.get(str(problem["loc"][-1]))
    wanted = f"one of {limit}" if isinstance(limit, OneOf) else wanted
    return f"{key} must be {wanted}. Received: {key}={_shown(problem['input'])}."


def _shown(value: object) -> str:
    """Return a value in one line; of an object that is shown by its address, name and type."""
    text = repr(value)
    if isinstance(value, str):
        return text
    if _ADDRESS.search(text):
        kind = type(value).__name__
        return f"{getattr(value, '__name__', kind)}, of the type {kind}"
    return one_line(text)
