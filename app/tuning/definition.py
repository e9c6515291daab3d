"""Defines a search: base configuration, search space and budget. Converts it to and from TOML."""

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from app.config.chosen_defaults import check_head_epochs, head_epochs_of
from app.config.families import is_own_model
from app.config.run_config import (
    RunConfig,
    combine_settings,
    config_toml,
    flat_config,
    flatten,
    make_config,
    read_config_file,
)
from app.config.without_effect import settings_without_effect
from app.errors import ConfigError, TuningError
from models.checks import check_above, check_choice, check_range

from .search_space import Field, Space, parse_space, read_settings

METHODS = ("grid", "random", "tpe", "gp", "cmaes", "genetic")
# Enough for the Bayesian methods to continue well beyond their random start.
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
        trials: maximum number of trials, including pruned ones; None sets no limit.
        minutes: time after which no new trial starts; None sets no limit.
        folds: number of cross-validation folds; 1 uses the validation split.
        pruning: whether a trial ends early once its loss is above the median of the others.

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
        for key, (kinds, expected) in _KINDS.items():
            value = getattr(self, key)
            if value is not None and type(value) not in kinds:  # isinstance would accept True as 1
                raise TuningError(f"{key} must be {expected}. Received: {key}={value!r}.")


@dataclass(frozen=True)
class Definition:
    """Everything that a worker must know about a search.

    Attributes:
        base: configuration, in which the searched settings are replaced for each trial.
        space: searched settings; empty for those of `app.tuning.default_space`, which are settled
            once the data is known.
        budget: method and limits of the search.
        fixed: settings that the default space leaves out, since the user has given them.
    """

    base: RunConfig
    space: Space
    budget: Budget
    fixed: frozenset[str] = frozenset()

    def configure(self, drawn: Mapping[str, Any]) -> RunConfig:
        """Return the configuration of a trial from the values that Optuna drew for it.

        Raises:
            ConfigError: the values contradict each other.
        """
        changes = read_settings(self.space, drawn)
        training: Any = self.base.training
        if "epochs" in changes and getattr(training, "head_epochs", False):
            changes = self._with_head_epochs(changes)
        return _with(self.base, changes)

    def _with_head_epochs(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Return settings with epochs of the head that suit all epochs, as in a run.

        Raises:
            ConfigError: those that are set are more than all.
        """
        training: Any = self.base.training
        found = {"head_epochs": training.head_epochs, **changes}
        was_chosen = training.head_epochs == head_epochs_of(training.epochs)
        if was_chosen and "head_epochs" not in changes:
            found["head_epochs"] = head_epochs_of(changes["epochs"])
        check_head_epochs(found["head_epochs"], changes["epochs"])
        return found


def make_definition(
    family: str | None,
    declared: Mapping[str, str],
    budget: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Definition:
    """Return the definition of a search; arguments override the TOML file.

    Args:
        family: model family; None takes it from the file.
        declared: search space, see `parse_space`; empty for a default one, if the file has none.
        budget: fields of `Budget`.
        file: TOML of settings, with tables `[search]` and `[tuning]`.
        settings: fixed values by flat key, including `data` and `seed`. The seed decides splits,
            weights and the search.

    Raises:
        ConfigError: a setting is unknown or out of range, or the file cannot be read.
        TuningError: the space or the budget is impossible.
    """
    from_file = read_config_file(file) if file else {}
    searched = {**_take(from_file, _SEARCH), **declared}
    given = {**_take(from_file, _BUDGET), **(budget or {})}
    for key in settings or {}:
        if key in searched:
            raise TuningError(
                f"A setting must be either fixed or searched. Received: {key}, which is both."
            )
    # A file such as a run's config.toml holds every setting; --search overrides it.
    fixed = {key: value for key, value in from_file.items() if key not in searched}
    base = combine_settings(family, None, {**fixed, **(settings or {})})
    wrong = [key for key, text in searched.items() if not isinstance(text, str)]
    if wrong:
        raise TuningError(
            f"A search must be text such as int:1..9. Received: {wrong[0]}={searched[wrong[0]]!r}."
        )
    if is_own_model(base.family):
        raise TuningError(
            "A search needs a family, digits, softmax or features, whose settings it changes. "
            f"Received: {base.family}, a model of your own."
        )
    _check_known(searched, base)
    space = parse_space(searched, base) if searched else ()
    return checked(Definition(base, space, _budget(given), frozenset(settings or {})))


def definition_toml(definition: Definition) -> str:
    """Return the definition as TOML, which `hornbill tune --config` and `read_definition` read."""
    budget = {k: v for k, v in asdict(definition.budget).items() if v is not None}
    searched = {field.key: field.text for field in definition.space}
    tables = {_BUDGET: budget, _SEARCH: searched}
    return f"{config_toml(definition.base)}\n{tomli_w.dumps(tables)}"


def read_definition(text: str) -> Definition:
    """Return the definition that `definition_toml` wrote.

    Raises:
        ConfigError: a setting is unknown, as in a search of another version.
        TuningError: the space or the budget is impossible.
    """
    settings = flatten(tomllib.loads(text))
    searched, budget = _take(settings, _SEARCH), _take(settings, _BUDGET)
    base = combine_settings(None, None, settings)
    return Definition(base, parse_space(searched, base), _budget(budget))


def _take(settings: dict[str, Any], table: str) -> dict[str, Any]:
    """Remove a table from flat settings and return it."""
    keys = [key for key in settings if key.startswith(f"{table}.")]
    return {key.removeprefix(f"{table}."): settings.pop(key) for key in keys}


def _budget(given: Mapping[str, Any]) -> Budget:
    try:
        return Budget(**given)
    except TypeError:
        unknown = sorted(set(given) - set(asdict(Budget())))
        raise TuningError(
            f"[{_BUDGET}] can contain {', '.join(asdict(Budget()))}. Received: {unknown[0]}."
        ) from None


def _with(base: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    settings = {**flat_config(base), **changes}
    run = {key: settings.pop(key) for key in ("family", "data", "seed")}
    return make_config(run.pop("family"), settings, **run)


def _check_known(searched: Mapping[str, str], base: RunConfig) -> None:
    known = flat_config(base)
    for key in searched:
        if key not in known:
            make_config(base.family, {key: 0})  # raises an error that suggests a similar key


def checked(definition: Definition) -> Definition:
    """Return the definition after checking the ends of each range and every choice.

    Raises:
        TuningError: the setting does not take such a value.
    """
    for field in definition.space:
        for value in field.corners:
            try:
                _with(definition.base, {field.key: value})
            except ConfigError as error:
                raise TuningError(f"{error} It is searched as {field.text}.") from None
    return definition


def check_effects(definition: Definition) -> None:
    """Require that each searched setting has an effect.

    Args:
        definition: the search, whose base has the settings that suit the data.

    Raises:
        TuningError: one has none, so that all trials would be equal.
    """
    for field in definition.space:
        if reason := _without_effect(definition, field):
            raise TuningError(
                f"A search needs settings that have an effect. Received: {field.key}={field.text}. "
                f"{reason}"
            )


def _without_effect(definition: Definition, field: Field) -> str:
    """Return why no value of a field has an effect; empty if some has one.

    The setting on which it depends may be searched as well: each of its values is tried.
    """
    others = [
        {other.key: value}
        for other in definition.space
        if other is not field
        for value in other.corners
    ]
    reason = ""
    for value, beside in itertools.product(field.corners, [{}, *others]):
        try:
            config = _with(definition.base, {**beside, field.key: value})
        except ConfigError:  # not each corner goes with each other one
            continue
        found = settings_without_effect(replace(config, given=frozenset({field.key})))
        # A value that is the default is not told of.
        if not found and value != flat_config(make_config(config.family))[field.key]:
            return ""
        reason = reason or " ".join(found)
    return reason
