"""Parses the search space: settings of the configuration, each with the values it may take."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from app.config.reading_config import ReadingConfig
from app.config.run_config import RunConfig, flat_config, parse_settings
from app.errors import TuningError
from models.checks import suggest

KINDS = ("int", "uniform", "log", "choice", "layers")
# Settings that determine the samples and the splits. Trials that differ in them could not be
# compared.
_FIXED = (
    *("family", "data", "seed", "validation_split", "train_sizes"),
    *(field.name for field in fields(ReadingConfig)),
)


@dataclass(frozen=True)
class Field:
    """A searched setting.

    Attributes:
        key: flat key, as in `--set`.
        text: the values to search, such as `log:1e-4..1e-1`.
        dimensions: what Optuna draws for it, by name; usually one dimension named like the key.
        read: returns the value of the setting from the drawn values, in the order of `dimensions`.
        place: returns the drawn values, by dimension, that give a value of the setting; empty if
            none do.
        corners: values to check before the search begins: the ends of a range, or every choice.
    """

    key: str
    text: str
    dimensions: Mapping[str, BaseDistribution]
    read: Callable[..., Any]
    place: Callable[[Any], dict[str, Any]]
    corners: tuple[Any, ...]


Space = tuple[Field, ...]


def parse_space(declared: Mapping[str, str], base: RunConfig) -> Space:
    """Return the searched settings.

    Args:
        declared: by key, `int:LOW..HIGH`, `uniform:LOW..HIGH`, `log:LOW..HIGH`, `choice:A|B`, or
            for a list of layers `layers:LOW..HIGHxLOW..HIGH`: number of layers, units of each.
        base: configuration that the settings belong to.

    Raises:
        TuningError: nothing is declared, or a declaration is impossible.

    Examples:
        >>> space = parse_space({"hidden": "layers:1..3x16..256"}, make_config("digits"))
        >>> sorted(space[0].dimensions)
        ['hidden.layers', 'hidden.units']
    """
    if not declared:
        raise TuningError(
            "A search needs at least one setting. Received: none. "
            "Add one, such as --search optimizer.learning_rate=log:1e-4..1e-1."
        )
    known = flat_config(base)
    return tuple(_parse_field(key, text, known.get(key)) for key, text in declared.items())


def parse_searches(pairs: Iterable[str]) -> dict[str, str]:
    """Parse `key=kind:values` texts.

    Raises:
        TuningError: a text has no `=`, or a key is given twice.
    """
    declared: dict[str, str] = {}
    for pair in pairs:
        key, separator, text = (part.strip() for part in pair.partition("="))
        if not separator or not key:
            raise TuningError(f"--search must be KEY=KIND:VALUES. Received: {pair!r}.")
        if key in declared:
            raise TuningError(f"--search must name each setting once. Received: {key} twice.")
        declared[key] = text
    return declared


def read_settings(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each setting from the values drawn for its dimensions."""
    return {field.key: field.read(*(drawn[name] for name in field.dimensions)) for field in space}


def place_settings(space: Space, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the values of all dimensions that give these settings; None if they are outside."""
    drawn: dict[str, Any] = {}
    for field in space:
        placed = field.place(settings[field.key])
        if not placed or not all(_holds(field.dimensions[n], value) for n, value in placed.items()):
            return None
        drawn |= placed
    return drawn


def _holds(dimension: Any, value: Any) -> bool:
    if isinstance(dimension, CategoricalDistribution):
        return value in dimension.choices
    return bool(dimension.low <= value <= dimension.high)


def dimensions(space: Space) -> dict[str, BaseDistribution]:
    """Return the dimensions that Optuna draws, by name."""
    return {name: each for field in space for name, each in field.dimensions.items()}


def relative_position(value: Any, each: Any) -> float:
    """Return the position of a value in its range or among its choices, from 0 to 1."""
    if isinstance(each, CategoricalDistribution):
        return each.choices.index(value) / max(1, len(each.choices) - 1)
    low, high, at = ((math.log(x) if each.log else x) for x in (each.low, each.high, value))
    return float((at - low) / (high - low))


def _parse_field(key: str, text: str, default: Any) -> Field:
    kind, _, values = text.partition(":")
    if key in _FIXED:
        raise TuningError(
            f"{key} cannot be searched: it decides which data the trials are measured on. "
            f"Received: {key}={text}. Use --set."
        )
    if kind not in KINDS:
        raise TuningError(
            f"The values to search must begin with one of {', '.join(KINDS)}. "
            f"Received: {key}={text}.{suggest(kind, KINDS)}"
        )
    parse = {"choice": _choices, "layers": _layers}.get(kind, _numbers)
    return parse(key, text, values, default)


def _choices(key: str, text: str, values: str, default: Any) -> Field:
    names = [name.strip() for name in values.split("|")]
    if "," in text and "|" not in text and not isinstance(default, tuple):
        raise TuningError(
            f"Choices must be separated by |. Received: {key}={text}. "
            f"Use 'choice:{'|'.join(part.strip() for part in values.split(','))}', in quotes for "
            "the shell."
        )
    corners = tuple(_parse_choice(key, name) for name in names if name)
    is_repeated = any(corner in corners[:number] for number, corner in enumerate(corners))
    if len(corners) < len(names) or is_repeated:
        raise TuningError(f"Choices must be distinct and not empty. Received: {key}={text}.")

    def place(value: Any) -> dict[str, Any]:
        wanted = list(value) if isinstance(value, tuple) else value
        return {key: names[corners.index(wanted)]} if wanted in corners else {}

    dimension = CategoricalDistribution(names)
    return Field(key, text, {key: dimension}, lambda n: _parse_choice(key, n), place, corners)


def _parse_choice(key: str, name: str) -> Any:
    value = parse_settings([f"{key}={name}"])[key]
    if isinstance(value, list):  # 64,32 arrives as text from the command line
        return [int(each) if str(each).isdigit() else each for each in value]
    return value


def _numbers(key: str, text: str, values: str, default: Any) -> Field:
    is_whole = _is_whole(default)
    kind = text.partition(":")[0]
    if kind == "uniform" and is_whole:
        raise TuningError(
            f"{key} takes whole numbers. Received: {key}={text}. Use int:{values}, or log:{values}."
        )
    each = _range(key, text, values, is_whole or kind == "int", kind == "log")
    return Field(key, text, {key: each}, _same, lambda value: {key: value}, (each.low, each.high))


def _layers(key: str, text: str, values: str, default: Any) -> Field:
    if not isinstance(default, tuple):
        raise TuningError(
            f"layers can only search a list of layers. Received: {key}={text}. Use int."
        )
    count, _, units = values.partition("x")
    depth = _range(key, text, count, is_whole=True)
    if depth.low < 0:
        raise TuningError(f"The number of layers must be 0 or more. Received: {key}={text}.")
    # Doubling the units has about the same effect at 16 and at 160.
    width = _range(key, text, units, is_whole=True, is_log=True)
    parts = {f"{key}.layers": depth, f"{key}.units": width}
    low, high = int(width.low), int(width.high)
    # The deepest and widest model is not checked, since it may be too large for the machine.
    corners = (_stack(int(depth.low), low), _stack(int(depth.high), low), _stack(1, high))

    def place(value: Sequence[int]) -> dict[str, Any]:
        return dict(zip(parts, (len(value), value[0]), strict=True)) if len({*value}) == 1 else {}

    return Field(key, text, parts, _stack, place, corners)


def _same(value: Any) -> Any:
    return value


def _stack(layers: int, units: int) -> list[int]:
    return [units] * layers


def _is_whole(default: Any) -> bool:
    members: Sequence[Any] = default if isinstance(default, tuple) else (default,)
    return bool(members) and all(type(member) is int for member in members)


def _range(
    key: str, text: str, values: str, is_whole: bool, is_log: bool = False
) -> IntDistribution | FloatDistribution:
    ends = values.partition("..")[::2]
    try:
        low, high = map(int if is_whole else float, ends)
    except ValueError:
        numbers = "whole numbers" if is_whole else "numbers"
        raise TuningError(
            f"A range must be LOW..HIGH, two {numbers}. Received: {key}={text}."
        ) from None
    if not -float("inf") < low < high < float("inf"):
        raise TuningError(
            f"The ends of a range must be finite, the lower one first. Received: {key}={text}."
        )
    if is_log and low <= 0:
        raise TuningError(f"A logarithmic range must begin above 0. Received: {key}={text}.")
    if is_whole:
        return IntDistribution(int(low), int(high), log=is_log)
    return FloatDistribution(low, high, log=is_log)
