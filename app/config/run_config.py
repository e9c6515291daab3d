"""The complete configuration of a run: read from settings, written as TOML.

Users see flat keys (`variant`, `epochs`, `optimizer.learning_rate`). Inside, there is
one dataclass each for reading the data, for the model and for training. Only this module
translates between the two.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from app.errors import ConfigError
from app.system.user_code import absolute_reference, is_reference, reference_to, shown_name
from models.checks import check_choice, suggest
from models.config.features import WEIGHTS_SUFFIX
from serving.errors import cannot_read, one_line
from serving.frames import is_table

from .conversion import converted, text_fields
from .families import FAMILIES, ModelConfig, family_name, family_named, is_own_model
from .reading_config import ReadingConfig
from .refused_objects import is_object_of_keras, refuse_objects
from .renamed_keys import refuse_renamed
from .training_config import OWN_CODE, WITHOUT_DECAY, TrainingConfig

# The data determines these: a setting could only contradict it.
DECIDED_BY_DATA = ("num_classes", "num_outputs", "many_labels", "rows", "image_shape", "file")
PARTS = ("reading", "model", "training")
RUN_KEYS = ("family", "data", "seed", "start_from", "figures")
# Python's names of truth values, which TOML spells in lower case.
_BOOLS = {"True": True, "False": False}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on.

    Attributes:
        family: one of `FAMILIES`, or a user's model, see `app.config.families.family_named`.
        data: name or path of the data source; in Python also a DataFrame, arrays or pipelines,
            which are written into the folder of the run, see `app.runs.train`.
        seed: seed of the split, the initial weights, the order of samples and dropout.
        reading: how the source is read.
        model: configuration of the model, without the sizes that the data determines.
        training: configuration of the training.
        start_from: run, bundle or `.keras` file whose weights the run begins with; empty begins
            with random ones.
        figures: whether a finished run draws the figures of its report.
        given: keys that the user has set.
        chosen: keys whose values were chosen from the data.
        overridden: what would have been chosen, by key, where the user has set another value.

    Examples:
        >>> config = make_config("digits", {"variant": "mlp", "optimizer.learning_rate": 1e-3})
        >>> config.model.variant, config.training.optimizer.learning_rate
        ('mlp', 0.001)
    """

    family: str
    data: Any
    seed: int
    reading: ReadingConfig
    model: ModelConfig
    training: TrainingConfig
    start_from: str = ""
    figures: bool = True
    given: frozenset[str] = field(default=frozenset(), compare=False)
    chosen: frozenset[str] = field(default=frozenset(), compare=False)
    overridden: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def learns_head_only(self) -> bool:
        """Whether the features of a frozen backbone are computed once, before training."""
        return bool(getattr(self.model, "is_frozen", False)) and not self.training.augments


def make_config(
    family: Any,
    settings: Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    seed: int = 0,
) -> RunConfig:
    """Return the family's default configuration with settings applied.

    Args:
        family: `digits`, `softmax` or `features`; or a model of your own: a function that returns a
            `keras.Model`, a model, `file.py:function`, `package.module:function`, or the path of a
            `.keras` file to go on from.
        settings: values by flat key, such as `{"optimizer.learning_rate": 1e-3}`, or nested as in
            `config.toml`. Text is converted to the type of the setting. The values of
            `loss`, `metrics`, `callbacks` and `optimizer` may be functions, classes and objects.
            With `start_from`, a run or a bundle, the settings of its model are the defaults.
        data: name or path of the data source; a DataFrame of pandas or polars or a table of
            pyarrow; arrays or pipelines, see `app.data.own_data.write_own_data`; or None for the
            family's default source.
        seed: seed of the split, the initial weights, the order of samples and dropout.

    Raises:
        ConfigError: the family or a key is unknown, or a value is mistyped or out of range.
    """
    given = flatten(settings or {})
    refuse_renamed(given)
    if is_object_of_keras(given.get("optimizer")):
        given["optimizer.name"] = given.pop("optimizer")
    figures = given.pop("figures", True)
    start_from = given.pop("start_from", "") or ""
    if start_from:
        start_from = _model_file(start_from, "start_from")
    seed = _to_python(seed)
    family = family_name(family)
    _check_run_keys(family, data, seed, start_from, figures)
    defaults = family_named(family)
    if start_from:
        from .starting_models import architecture  # which needs numpy

        own = architecture(start_from, family, set(_settable(defaults.model)) - given.keys())
        given = {**own, **given}
    config = RunConfig(
        family=family,
        data=defaults.source if data is None else str(data) if isinstance(data, Path) else data,
        seed=seed,
        start_from=start_from,
        figures=figures,
        reading=ReadingConfig(),
        model=defaults.model,
        training=defaults.training,
        given=frozenset(given),
    )
    has_none = given.get("optimizer.name") in WITHOUT_DECAY
    changed: dict[str, Any] = {"optimizer.weight_decay": 0.0} if has_none else {}
    config = change_config(config, {**changed, **given})
    if config.training.optimizer.is_own and "optimizer.schedule" not in given:
        return change_config(config, {"optimizer.schedule": "constant"})  # its own, if any
    return config


def change_config(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a configuration with other settings.

    Args:
        config: the configuration.
        settings: values by flat key; text is converted to the type of the setting.

    Raises:
        ConfigError: a key is unknown, or a value is mistyped or out of range.
    """
    keys = {name: _settable(getattr(config, name)) for name in PARTS}
    known = {key: value for part in keys.values() for key, value in part.items()}
    changes: dict[str, dict[str, Any]] = {name: {} for name in PARTS}
    refuse_objects(settings)
    for key, value in settings.items():
        if key not in known:
            hint = _suggest_key(key, known)
            raise ConfigError(f"{key!r} is not a setting of {shown_name(config.family)}.{hint}")
        part = next(name for name in PARTS if key in keys[name])
        plain = _plain(key, value)
        changes[part][key] = _converted(key, plain, known[key])
    parts = {name: _change(getattr(config, name), changes[name]) for name in PARTS}
    return replace(config, **parts)


def _shown(data: Any) -> str:
    """Return a value in one line; of an array its dtype and shape."""
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return f"{type(data).__name__} {data.dtype} {tuple(data.shape)}"
    return one_line(f"{data!r:.80}")


def _check_run_keys(family: Any, data: Any, seed: Any, start_from: Any, figures: Any) -> None:
    if not is_own_model(family):
        try:
            check_choice("family", family, FAMILIES)
        except ValueError as error:
            own = " A model of your own is file.py:function, module:function or a .keras file."
            raise ConfigError(f"{error}{own}") from None
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ConfigError(
            f"seed must be a whole number from 0 to 4294967295. Received: seed={seed!r}."
        )
    is_own = isinstance(data, tuple | list | Mapping) or hasattr(data, "element_spec")
    if not isinstance(data, str | Path | None) and not is_table(data) and not is_own:
        raise ConfigError(
            "data must be text or a DataFrame, arrays (x, y) or a tf.data.Dataset, such as "
            f"from_generator makes of a generator. Received: data={_shown(data)}."
        )
    if not isinstance(start_from, str):
        raise ConfigError(f"start_from must be a path. Received: start_from={start_from!r:.80}.")
    _check_bool("figures", figures)


def _check_bool(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false. Received: {key}={value!r}.")


def _converted(key: str, value: Any, default: Any) -> Any:
    """Return the value as a bool or a list if the setting's default is one."""
    # pydantic would take 1 and "on" for true, and true for 1.
    if isinstance(default, bool):
        value = _BOOLS.get(value, value) if isinstance(value, str) else value
        _check_bool(key, value)
    elif isinstance(value, bool):
        raise ConfigError(f"{key} must not be true or false. Received: {key}={value}.")
    if isinstance(default, tuple) and not isinstance(value, list | tuple):
        return [] if value == "" else [value]
    return value


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse `key=value` texts. A value is TOML, bare text, or a list separated by commas.

    Where a setting is text, such as the name of a column, what is typed stays so: 1.50 or true.

    Raises:
        ConfigError: a text has no `=`.

    Examples:
        >>> parse_settings(["epochs=3", "hidden=64,32", "variant=mlp"])
        {'epochs': 3, 'hidden': ['64', '32'], 'variant': 'mlp'}
    """
    settings = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"A setting must be key=value. Received: {pair!r}.")
        settings[key.strip()] = _parse_value(text.strip(), key.strip() in _text_keys())
    return settings


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file by flat key.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has settings of an earlier version.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(cannot_read(path, error, "TOML")) from None
    settings = flatten(tables)
    refuse_renamed(settings, str(path))
    return settings


def combine_settings(
    family: str | None,
    file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    data: str | None = None,
    seed: int | None = None,
) -> RunConfig:
    """Return the configuration of a TOML file and of settings that override it.

    Args:
        family: name of the family; None takes it from the file, or from the run or the bundle that
            `start_from` names.
        file: a TOML file of settings, which may name `family`, `data` and `seed` too.
        settings: values by flat key, which override the file; `data` and `seed` may be among them.
        data: name or path of the data source, which overrides file and settings.
        seed: seed, which overrides file and settings.

    Raises:
        ConfigError: the file cannot be read or is for another family, no family is given, or a
            setting is wrong.
    """
    merged = {**(read_config_file(file) if file else {}), **(settings or {})}
    family = None if family is None else family_name(family)
    own_family = merged.pop("family", family)
    if own_family is None and (start := merged.get("start_from")):
        from .starting_models import family_of

        own_family = family_of(_model_file(start, "start_from"))
    if family is not None and family_name(own_family) != family:
        raise ConfigError(
            f"The settings must be for the family {family!r}. Received: family={own_family!r}."
        )
    if own_family is None:
        raise ConfigError(
            "Missing argument 'FAMILY'. Give digits, softmax, features, or a model of your own, "
            "FILE.py:FUNCTION."
        )
    own_data, own_seed = merged.pop("data", None), merged.pop("seed", 0)
    return make_config(
        own_family,
        merged,
        data=own_data if data is None else data,
        seed=own_seed if seed is None else seed,
    )


def flat_config(config: RunConfig) -> dict[str, Any]:
    """Return every setting of a run by flat key, the most important first."""
    run = {key: getattr(config, key) for key in RUN_KEYS}
    parts = (_settable(getattr(config, name)) for name in PARTS)
    return {**run, **{key: value for part in parts for key, value in part.items()}}


def config_toml(config: RunConfig) -> str:
    """Return the complete configuration as TOML; a run can be repeated from it."""
    tables: dict[str, Any] = {}
    for key, value in flat_config(config).items():
        table, _, name = key.rpartition(".")
        (tables.setdefault(table, {}) if table else tables)[name] = value
    import tomli_w

    return tomli_w.dumps(tables)


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by flat key, such as `optimizer.learning_rate`."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _plain(key: str, value: Any) -> Any:
    """Return the value of a setting as it is kept: paths are absolute, objects have a reference."""
    if key == "backbone":
        return _model_file(value)
    if key == "weights" and str(value).endswith(WEIGHTS_SUFFIX):
        return str(Path(value).absolute())
    if key in OWN_CODE:
        values = value if isinstance(value, list | tuple) else [value]
        references = [_reference(each) for each in values]
        return references if isinstance(value, list | tuple) else references[0]
    return _to_python(value)


def _reference(value: Any) -> Any:
    """Return a reference to an object; texts and numbers, which are checked later, as they are."""
    if isinstance(value, str):
        return absolute_reference(value) if is_reference(value) else value
    return value if isinstance(value, bool | int | float | None) else reference_to(value)


def _model_file(value: Any, setting: str = "backbone") -> Any:
    from .extractors import model_file  # which needs numpy

    return model_file(value, setting)


def _to_python(value: Any) -> Any:
    """Return numpy numbers and arrays as Python numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _parse_value(text: str, is_text: bool) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [item.strip() for item in text.split(",")] if "," in text else text
    return value if isinstance(value, str | list) or not is_text else text


@cache
def _text_keys() -> frozenset[str]:
    """Return the settings that are text or texts, in all families."""
    parts = [part for family in FAMILIES.values() for part in (family.model, family.training)]
    kinds = {ReadingConfig, *map(type, parts)}
    return frozenset({"data", "start_from"}.union(*map(text_fields, kinds)))


def _settable(config: Any) -> dict[str, Any]:
    values = {key: value for key, value in asdict(config).items() if key not in DECIDED_BY_DATA}
    return flatten(values)


def _change(config: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
    """Return `config` with `changes` by flat key."""
    own = {key: value for key, value in changes.items() if "." not in key}
    for each in fields(config):
        nested = getattr(config, each.name)
        if is_dataclass(nested):
            start = f"{each.name}."
            inner = {k.removeprefix(start): v for k, v in changes.items() if k.startswith(start)}
            config = replace(config, **{each.name: _change(nested, inner, start)})
    return converted(config, own, prefix) if own else config


def _suggest_key(key: str, known: Mapping[str, Any]) -> str:
    """Return a hint: the families that have a setting, or a similar key."""
    if key.startswith("class_weight."):
        return (
            " Set class_weight=balanced, or give weights of samples as data=(x, y, weights), such "
            "as np.array([1.0, 2.0])[y]."
        )
    if key == "optimizer":
        return (
            " Set optimizer.name=adam, another name or file.py:name, or give an optimizer, "
            '{"optimizer": keras.optimizers.Adam(1e-3)}.'
        )
    if key.rpartition(".")[2] == "lr":
        return " Did you mean 'optimizer.learning_rate'?"
    owners = [
        name
        for name, family in FAMILIES.items()
        if key in _settable(family.model) | _settable(family.training)
    ]
    nested = [name for name in known if name.endswith(f".{key}")]
    if nested:
        return f" Did you mean {nested[0]!r}?"
    return f" It is a setting of {' and '.join(owners)}." if owners else suggest(key, known)
