"""The complete definition of a study: what is searched, how, and for how long; to TOML and back."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w

from app.config.run_config import (
    RunConfig,
    combine_settings,
    config_toml,
    flat_config,
    flatten,
    make_config,
    read_config_file,
)
from app.errors import ConfigError, TuningError
from models.checks import check_above, check_choice, check_range

from .search_space import Space, parse_space, read_settings

METHODS = ("grid", "random", "tpe", "gp", "cmaes", "genetic")
# Enough for the Bayesian methods to leave their random beginning well behind.
TRIALS = 40
_SEARCH, _BUDGET = "search", "tuning"
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "trials": ((int,), "a whole number"),
    "minutes": ((int, float), "a number"),
    "folds": ((int,), "a whole number"),
    "pruning": ((bool,), "true or false"),
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How a space is searched, and for how long.

    Attributes:
        method: one of `METHODS`.
        trials: how many, pruned ones among them; None where only minutes count.
        minutes: after which no trial begins; None if they do not count.
        folds: of a cross validation; 1 measures on the validation split.
        pruning: whether a trial ends once its losses are above the median of the others'.

    Raises:
        TuningError: a value is unknown or out of range.
    """

    method: str = "tpe"
    trials: int | None = None
    minutes: float | None = None
    folds: int = 1
    pruning: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_kinds()
        if self.trials is None and self.minutes is None:
            object.__setattr__(self, "trials", TRIALS)
        try:
            check_choice("method", self.method, METHODS)
            if self.trials is not None:
                check_range("trials", self.trials, 1, 1_000_000)
            if self.minutes is not None:
                check_above("minutes", self.minutes, 0)
            check_range("folds", self.folds, 1, 100)
        except ValueError as error:
            raise TuningError(str(error)) from None

    def _check_kinds(self) -> None:
        for key, (kinds, wanted) in _KINDS.items():
            value = getattr(self, key)
            if value is not None and type(value) not in kinds:  # True would count as 1
                raise TuningError(f"{key} must be {wanted}. Received: {key}={value!r}.")


@dataclass(frozen=True)
class Definition:
    """What makes a study; a second worker needs nothing else.

    Attributes:
        base: the configuration around the fields that are searched.
        space: the fields.
        budget: how, and for how long.
    """

    base: RunConfig
    space: Space
    budget: Budget

    def configure(self, drawn: Mapping[str, Any]) -> RunConfig:
        """Return the configuration of a trial.

        Raises:
            ConfigError: the values contradict each other.
        """
        return _with(self.base, read_settings(self.space, drawn))


def make_definition(
    family: str | None,
    declared: Mapping[str, str],
    budget: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Definition:
    """Return the definition of a study from the command line and a TOML file, in this order.

    Args:
        family: the family; None takes the file's.
        declared: what is searched, see `parse_space`.
        budget: fields of `Budget`.
        file: TOML of settings, with tables `[search]` and `[tuning]`.
        settings: fixed values by flat key; `data` and `seed` (of the splits, the weights and the
            search) too.

    Raises:
        ConfigError: a setting is unknown or out of range, or the file cannot be read.
        TuningError: the space or the budget is impossible.
    """
    found = read_config_file(file) if file else {}
    searched = {**_take(found, _SEARCH), **declared}
    given = {**_take(found, _BUDGET), **(budget or {})}
    for key in settings or {}:
        if key in searched:
            raise TuningError(f"A field must be set or searched. Received: {key}, both.")
    # A file such as a run's config.toml holds every field; the searched ones are not meant.
    fixed = {key: value for key, value in found.items() if key not in searched}
    base = combine_settings(family, None, {**fixed, **(settings or {})})
    wrong = [key for key, text in searched.items() if not isinstance(text, str)]
    if wrong:
        raise TuningError(
            f"A search must be text such as int:1..9. Received: {wrong[0]}={searched[wrong[0]]!r}."
        )
    _check_known(searched, base)
    return _checked(Definition(base, parse_space(searched, base), _budget(given)))


def definition_toml(definition: Definition) -> str:
    """Return the definition as TOML, which `hornbill tune --config` and `read_definition` take."""
    budget = {k: v for k, v in asdict(definition.budget).items() if v is not None}
    searched = {field.key: field.text for field in definition.space}
    tables = {_BUDGET: budget, _SEARCH: searched}
    return f"{config_toml(definition.base)}\n{tomli_w.dumps(tables)}"


def read_definition(text: str) -> Definition:
    """Return the definition that `definition_toml` wrote.

    Raises:
        ConfigError: a setting is unknown, as in a study of another version.
        TuningError: the space or the budget is impossible.
    """
    found = flatten(tomllib.loads(text))
    searched, budget = _take(found, _SEARCH), _take(found, _BUDGET)
    base = combine_settings(None, None, found)
    return Definition(base, parse_space(searched, base), _budget(budget))


def _take(found: dict[str, Any], table: str) -> dict[str, Any]:
    """Take a table out of flat settings."""
    keys = [key for key in found if key.startswith(f"{table}.")]
    return {key.removeprefix(f"{table}."): found.pop(key) for key in keys}


def _budget(given: Mapping[str, Any]) -> Budget:
    try:
        return Budget(**given)
    except TypeError:
        unknown = sorted(set(given) - set(asdict(Budget())))
        raise TuningError(
            f"[{_BUDGET}] takes {', '.join(asdict(Budget()))}. Received: {unknown[0]}."
        ) from None


def _with(base: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    settings = {**flat_config(base), **changes}
    run = {key: settings.pop(key) for key in ("family", "data", "seed")}
    return make_config(run.pop("family"), settings, **run)


def _check_known(searched: Mapping[str, str], base: RunConfig) -> None:
    known = flat_config(base)
    for key in searched:
        if key not in known:
            make_config(base.family, {key: 0})  # which says what was meant


def _checked(definition: Definition) -> Definition:
    """Return the definition if each end of each range, and each choice, is a possible value."""
    for field in definition.space:
        for value in field.corners:
            try:
                _with(definition.base, {field.key: value})
            except ConfigError as error:
                raise TuningError(f"{error} It is searched as {field.text}.") from None
    return definition
