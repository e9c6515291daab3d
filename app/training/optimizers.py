"""Creates Keras optimizers and learning-rate schedules from their settings."""

from collections.abc import Sequence
from typing import Any

import keras

from app.config.training_config import DECAYING, OptimizerConfig
from app.errors import ConfigError, OwnSettingError
from app.system.user_code import describe_error, load_object, shown_name
from models.heads import HEAD_LAYERS

from .muon import Muon
from .own_losses import called

_OPTIMIZERS: dict[str, Any] = {
    "gradient_descent": keras.optimizers.SGD,
    "sgd": keras.optimizers.SGD,
    "momentum": keras.optimizers.SGD,
    "nesterov": keras.optimizers.SGD,
    "adagrad": keras.optimizers.Adagrad,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "adamax": keras.optimizers.Adamax,
    "adafactor": keras.optimizers.Adafactor,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "muon": Muon,
}


def make_optimizer(
    config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of `config` for a run of `epochs` times `steps_per_epoch` steps.

    Raises:
        ConfigError: see `own_optimizer`.
    """
    if config.is_own:
        return own_optimizer(config.name)
    arguments: dict[str, Any] = {}
    if config.name in ("momentum", "nesterov"):
        arguments |= {"momentum": config.momentum, "nesterov": config.name == "nesterov"}
    if config.name in ("adam", "adamw"):
        arguments["beta_2"] = config.beta_2
    if config.name in DECAYING:
        arguments["weight_decay"] = config.weight_decay
    if config.name == "muon":
        arguments |= {
            "momentum": config.momentum,
            "adam_weight_decay": config.weight_decay,
            "exclude_layers": [f"(^|/){head}/" for head in HEAD_LAYERS],
            # Five, the default of Keras, take longer and train no better.
            "ns_steps": 3,
        }
    if config.clip_norm:
        arguments["global_clipnorm"] = config.clip_norm
    if config.ema_momentum:
        arguments |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    rate = _learning_rate(config, steps_per_epoch, epochs)
    return _OPTIMIZERS[config.name](rate, **arguments)


def own_optimizer(name: str) -> keras.optimizers.Optimizer:
    """Return a user's optimizer by a reference to a class, a function that makes one, or itself.

    Each call returns a new one, since an optimizer belongs to the variables of one model.

    Raises:
        ConfigError: the reference names something else, or an object that cannot be made again.
    """
    setting = "optimizer.name"
    named = load_object(name, setting)
    is_object = isinstance(named, keras.optimizers.Optimizer)
    found = called(shown_name(name), setting, named) if not is_object and callable(named) else named
    if not isinstance(found, keras.optimizers.Optimizer):
        raise ConfigError(
            f"{setting} must name a keras.optimizers.Optimizer, or a function that returns one. "
            f"Received: {shown_name(name)}, of the type {type(found).__name__}."
        )
    return found if not is_object and not found.built else _copied(found, name)


def _copied(optimizer: keras.optimizers.Optimizer, name: str) -> keras.optimizers.Optimizer:
    """Return a new optimizer with the settings of another one."""
    try:
        settings = optimizer.get_config()
        if _has_schedule(optimizer):  # perhaps of a class that Keras would not find
            settings["learning_rate"] = optimizer._learning_rate
        return type(optimizer).from_config(settings)
    except Exception as error:  # whatever the user's class raises
        reason = describe_error(error).rstrip(".")
        raise OwnSettingError(
            "An optimizer must be one that its get_config makes again. Received: "
            f"{shown_name(name)}, which raised {reason}. Name a function that "
            "returns a new one."
        ) from error


def _has_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether something else than a number is the learning rate of an optimizer."""
    return not isinstance(optimizer._learning_rate, keras.Variable)


def optimizer_callbacks(config: OptimizerConfig) -> list[keras.callbacks.Callback]:
    """Return the callbacks that the schedule and the moving average need, in their order."""
    callbacks: list[keras.callbacks.Callback] = []
    if config.is_own:
        is_averaged = own_optimizer(config.name).use_ema
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if is_averaged else []
    if config.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                factor=config.decay_rate,
                patience=config.decay_epochs,
                min_delta=0.0,
            )
        )
    if config.ema_momentum:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    return callbacks


def check_rate_callbacks(
    config: OptimizerConfig, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Require a learning rate that callbacks of Keras can set, if there are such callbacks.

    Raises:
        ConfigError: a schedule sets it.
    """
    setting = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
    found = next((callback for callback in callbacks if isinstance(callback, setting)), None)
    if found is not None and config.is_own:
        if _has_schedule(own_optimizer(config.name)):
            raise ConfigError(
                f"{type(found).__name__} needs a learning rate without a schedule. Received: "
                f"optimizer.name={shown_name(config.name)}, which has one. Give it a number."
            )
        return
    if found is not None and config.schedule not in ("constant", "plateau"):
        raise ConfigError(
            f"{type(found).__name__} needs a learning rate without a schedule. Received: "
            f"optimizer.schedule={config.schedule}. Set optimizer.schedule=constant."
        )


def _learning_rate(config: OptimizerConfig, steps_per_epoch: int, epochs: int) -> Any:
    schedules = keras.optimizers.schedules
    if config.schedule == "cosine":
        steps = steps_per_epoch * epochs
        warmup = int(config.warmup * steps)
        if warmup:
            return schedules.CosineDecay(
                0.0, steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
            )
        return schedules.CosineDecay(config.learning_rate, steps)
    if config.schedule in ("step", "exponential"):
        return schedules.ExponentialDecay(
            config.learning_rate,
            config.decay_epochs * steps_per_epoch,
            config.decay_rate,
            staircase=config.schedule == "step",
        )
    return config.learning_rate
