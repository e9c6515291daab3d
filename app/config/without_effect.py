"""Finds settings that are given, and that another setting leaves without effect."""

from typing import Any

from app.system.user_code import is_object, is_reference, shown_name

from .run_config import RunConfig, flat_config, make_config
from .training_config import DECAYING, OPTIMIZERS

_NAME = "optimizer.name"
_WITH_BATCHES = tuple(name for name in OPTIMIZERS if name != "gradient_descent")
# A setting, the other one on which it depends, and the values of that one with which it has an
# effect. Families have some of them.
_DEPENDENCIES: tuple[tuple[str, str, tuple[str | bool, ...]], ...] = (
    ("batch_size", "optimizer.name", _WITH_BATCHES),
    ("validation_window", "restore_best_weights", (True,)),
    ("optimizer.momentum", "optimizer.name", ("momentum", "nesterov", "muon")),
    ("optimizer.beta_2", "optimizer.name", ("adam", "adamw")),
    ("optimizer.weight_decay", "optimizer.name", DECAYING),
    ("optimizer.warmup", "optimizer.schedule", ("cosine",)),
    ("optimizer.decay_rate", "optimizer.schedule", ("step", "exponential", "plateau")),
    ("optimizer.decay_epochs", "optimizer.schedule", ("step", "exponential", "plateau")),
    ("initializer_stddev", "initializer", ("normal",)),
    ("groups", "normalization", ("group",)),
    ("stem", "variant", ("cnn",)),
    ("filters", "variant", ("cnn", "resnet")),
    ("convolutions", "variant", ("cnn",)),
    ("depth", "variant", ("resnet",)),
    ("width", "backbone", ("residual",)),
    ("depth", "backbone", ("residual",)),
    ("embedding_dim", "numeric_embedding", ("piecewise", "periodic")),
    ("num_bins", "numeric_embedding", ("piecewise", "periodic")),
    ("frequency_scale", "numeric_embedding", ("periodic",)),
    ("clip_values", "head", ("linear",)),
)


def settings_without_effect(config: RunConfig) -> list[str]:
    """Return a sentence on each given setting that another one leaves without effect.

    The settings of `config` are complete: those that suit the data are chosen. A setting that
    repeats the default of its family is not told of, since a whole file of settings has them all.
    """
    settings, defaults = flat_config(config), flat_config(make_config(config.family))
    changed = {key for key in config.given & settings.keys() if settings[key] != defaults[key]}
    is_own = config.training.optimizer.is_own
    idle = sorted(key for key in changed if is_own and _is_idle(key, settings[key]))
    found = [
        f"{_pair(settings, key)} has no effect with an optimizer of your own, "
        f"{shown_name(settings[_NAME])}, which has its own settings."
        for key in idle
    ]
    found += [
        f"{_pair(settings, key)} has no effect with {_pair(settings, other)}: it is for "
        f"{other}={'|'.join(map(_shown, values))}."
        for key, other, values in _DEPENDENCIES
        if key in changed and other in settings and settings[other] not in values
        if not is_own or "optimizer." not in key + other
    ]
    if "backbone_rate" in changed and not getattr(config.model, "has_two_phases", False):
        present = ", ".join(_pair(settings, key) for key in ("backbone", "weights", "freeze"))
        found.append(
            f"{_pair(settings, 'backbone_rate')} has no effect with {present}: it is for a "
            "backbone that was trained before and learns on."
        )
    return found


def settings_in_use(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by flat key without those that an optimizer of the user's own replaces.

    The optimizer has the name of its class, if it is an object.
    """
    if not is_reference(settings.get(_NAME)):
        return settings
    name = settings[_NAME]
    shown = {_NAME: shown_name(name) if is_object(name) else name}
    return {
        key: shown.get(key, value)
        for key, value in settings.items()
        if key == _NAME or not key.startswith("optimizer.")
    }


def _is_idle(key: str, value: Any) -> bool:
    """Return whether a setting is one that an optimizer of the user's own does not have."""
    is_constant = (key, value) == ("optimizer.schedule", "constant")
    return key.startswith("optimizer.") and key != _NAME and not is_constant


def _pair(settings: dict[str, Any], key: str) -> str:
    return f"{key}={_shown(settings[key])}"


def _shown(value: Any) -> str:
    """Return a value as it is set: TOML spells truth values in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)
