"""Creates Keras optimizers and learning-rate schedules from their settings."""

from collections.abc import Sequence
from typing import Any

import keras

from app.config.training_config import DECAYING, OptimizerConfig
from app.errors import ConfigError
from models.heads import HEAD_LAYERS

from .muon import Muon

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
    """Return the optimizer of `config` for a run of `epochs` times `steps_per_epoch` steps."""
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


def optimizer_callbacks(config: OptimizerConfig) -> list[keras.callbacks.Callback]:
    """Return the callbacks that the schedule and the moving average need, in their order."""
    callbacks: list[keras.callbacks.Callback] = []
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
