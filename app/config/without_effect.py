"""Finds settings that are given, and that another setting leaves without effect."""

from .run_config import RunConfig, flat_config, make_config
from .training_config import DECAYING

# A setting, the other one on which it depends, and the values of that one with which it has an
# effect. Families have some of them.
_DEPENDENCIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
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
)


def settings_without_effect(config: RunConfig) -> list[str]:
    """Return a sentence on each given setting that another one leaves without effect.

    The settings of `config` are complete: those that suit the data are chosen. A setting that
    repeats the default of its family is not told of, since a whole file of settings has them all.
    """
    settings, defaults = flat_config(config), flat_config(make_config(config.family))
    return [
        f"{key}={settings[key]} has no effect with {other}={settings[other]}: it is for "
        f"{other}={'|'.join(values)}."
        for key, other, values in _DEPENDENCIES
        if key in config.given and other in settings
        if settings[key] != defaults[key] and settings[other] not in values
    ]
