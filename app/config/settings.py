"""Describes every setting of a family, from the dataclasses that define and check it."""

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from models.config.limits import limits_of

from .choice_rules import CHOICE_RULES
from .run_config import DECIDED_BY_DATA, PARTS, RunConfig, make_config

# What a docstring says of the names of constants and modules.
_FOR_PROGRAMMERS = re.compile(r"[,;] (?:see|one of) `[\w.]+`|\s+\(see `[\w.]+`\)|\s+See `[\w.]+`\.")
_RUN_VALUES = {
    "data": "a name or a path",
    "seed": "from 0 to 4,294,967,295",
    "start_from": "a path; empty for none",
    "figures": "true, false",
}


@dataclass(frozen=True)
class Setting:
    """A setting.

    Attributes:
        key: flat key, as in `--set`.
        default: value that the family gives it, as TOML and Python spell it.
        values: the values that it may have.
        meaning: what it does, a sentence or more.
        chosen: by which rule a value is chosen from the data instead; empty if none is.
        group: what it belongs to: `run`, `reading`, `model`, `training`, `optimizer` or
            `augmentation`.
    """

    key: str
    default: Any
    values: str
    meaning: str
    chosen: str
    group: str


def describe_settings(family: str) -> list[Setting]:
    """Return every setting of a family, in the order of its dataclasses.

    Raises:
        ConfigError: the family is unknown.
    """
    config = make_config(family)
    meanings = _meanings(RunConfig)
    run = [
        Setting(key, getattr(config, key), values, meanings[key], "", "run")
        for key, values in _RUN_VALUES.items()
    ]
    rules = CHOICE_RULES if family == "features" else {}
    parts = (_settings(getattr(config, group), group, rules) for group in PARTS)
    return [*run, *(setting for part in parts for setting in part)]


def _settings(config: Any, group: str, rules: dict[str, str], prefix: str = "") -> list[Setting]:
    kind: type = type(config)
    limits, meanings = limits_of(kind), _meanings(kind)
    found: list[Setting] = []
    nested: list[Setting] = []
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name in DECIDED_BY_DATA:
            continue
        if is_dataclass(value):
            nested += _settings(value, each.name, rules, f"{each.name}.")
            continue
        key = prefix + each.name
        allowed = "true, false" if isinstance(value, bool) else str(limits.get(each.name, ""))
        found.append(Setting(key, value, allowed, meanings[each.name], rules.get(key, ""), group))
    return found + nested


def _meanings(config: type) -> dict[str, str]:
    """Return what the docstrings of a dataclass and its bases say of each attribute."""
    meanings: dict[str, str] = {}
    for each in reversed(config.__mro__):
        text = inspect.cleandoc(each.__doc__ or "")
        _, _, section = text.partition("\nAttributes:\n")
        section = re.split(r"\n(?=\S)", section)[0]
        for entry in re.split(r"\n(?= {4}\S)", section):
            name, separator, meaning = entry.strip().partition(": ")
            if separator:
                meanings[name] = _FOR_PROGRAMMERS.sub("", " ".join(meaning.split()))
    return meanings
