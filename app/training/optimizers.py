"""Creates Keras optimizers and learning-rate schedules from their settings."""

from collections.abc import Sequence
from typing import Any

import keras

from app.config.training_config import DECAYING, OptimizerConfig
from app.errors import ConfigError
from app.system.user_code import shown_name
from models.heads import HEAD_LAYERS

from .muon import Muon
from .own_optimizers import has_schedule, inner_optimizer, own_optimizer

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
        ConfigError: see `app.training.own_optimizers.own_optimizer`.
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


class AveragesAtEpochEnd(keras.callbacks.SwapEMAWeights):
    """Puts averaged weights into the model for what is kept of an epoch.

    It goes with a user's SwapEMAWeights, which puts them there for the validation only.
    """

    def __init__(self) -> None:
        super().__init__(swap_on_epoch=True)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing: the user's callback does it."""

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        """Do nothing."""


def averages_at_epoch_end(
    config: OptimizerConfig, callbacks: Sequence[keras.callbacks.Callback]
) -> list[AveragesAtEpochEnd]:
    """Return what keeps averaged weights where a user's callback only validates them.

    Args:
        config: settings of the optimizer.
        callbacks: those of the user.
    """
    swapping = _swapping(callbacks)
    is_needed = bool(swapping) and not any(each.swap_on_epoch for each in swapping)
    return [AveragesAtEpochEnd()] if is_needed and _is_averaged(config) else []


def _swapping(
    callbacks: Sequence[keras.callbacks.Callback],
) -> list[keras.callbacks.SwapEMAWeights]:
    return [each for each in callbacks if isinstance(each, keras.callbacks.SwapEMAWeights)]


def _is_averaged(config: OptimizerConfig) -> bool:
    """Return whether an optimizer averages the weights over its steps."""
    if config.is_own:
        return bool(inner_optimizer(own_optimizer(config.name)).use_ema)
    return bool(config.ema_momentum)


def optimizer_callbacks(
    config: OptimizerConfig, others: Sequence[keras.callbacks.Callback] = ()
) -> list[keras.callbacks.Callback]:
    """Return the callbacks that the schedule and the moving average need, in their order.

    Args:
        config: settings of the optimizer.
        others: callbacks of the user. One that swaps averaged weights in makes ours superfluous:
            two would swap them out again.
    """
    callbacks: list[keras.callbacks.Callback] = []
    if not config.is_own and config.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                factor=config.decay_rate,
                patience=config.decay_epochs,
                min_delta=0.0,
            )
        )
    if _is_averaged(config) and not _swapping(others):
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
        if has_schedule(own_optimizer(config.name)):
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
