"""Reads JSON values into frozen dataclasses, strictly.

It uses no library, because receivers check a bundle with only numpy and onnxruntime installed.
"""

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import ManifestError

T = TypeVar("T")


def decode(cls: type[T], value: Any, where: str) -> T:
    """Convert a JSON value, as `json.loads` returns it, into a dataclass.

    Supports dataclasses, `tuple[X, ...]`, `dict[str, X]`, plain types, unions of them, and
    `object` for any value. An integer is accepted as a float. Unknown keys are ignored, and a
    missing key takes its field's default, so that a later release may add one.

    Args:
        cls: type of the result.
        value: the JSON value.
        where: name of the value, for the error.

    Raises:
        ManifestError: a key without a default is missing, or a value has the wrong type.
    """
    result: T = _decode(cls, value, where)
    return result


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        return _decode_dataclass(kind, value, where)
    if origin is tuple and isinstance(value, list):
        if not all(type(item) is arguments[0] for item in value):  # most are, and there may be many
            value = [_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
        return tuple(value)
    if origin is dict and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    kinds = arguments if origin is types.UnionType else (kind,)
    for member in kinds:
        if member is not kind and is_dataclass(member) and isinstance(value, dict):
            return _decode_dataclass(member, value, where)
    if object in kinds or type(value) in kinds:
        return value
    if float in kinds and type(value) is int and abs(value) < 2**1023:
        return float(value)
    name = str(kind) if origin else kind.__name__
    raise ManifestError(f"{where} must be {name}. Received: {value!r:.80}.")


def _decode_dataclass(kind: Any, value: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    required = [field.name for field in fields(kind) if _has_no_default(field)]
    missing = [name for name in required if name not in value]
    if missing:
        raise ManifestError(f"{where} must have the key {missing[0]!r}.")
    given = {name: hint for name, hint in hints.items() if name in value}
    return kind(
        **{name: _decode(hint, value[name], f"{where}.{name}") for name, hint in given.items()}
    )


def _has_no_default(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
