"""Shows callbacks the model that their author knows, rather than that of the training steps."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras


class FollowStop(keras.callbacks.Callback):
    """Ends training when a callback has set `stop_training` of the model that it sees.

    Args:
        shown: that model.
    """

    def __init__(self, shown: keras.Model) -> None:
        super().__init__()
        self._shown = shown
        shown.stop_training = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look after a step."""
        self._follow()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look after an epoch."""
        self._follow()

    def _follow(self) -> None:
        if self._shown.stop_training:
            self.model.stop_training = True


@contextlib.contextmanager
def shown_to(
    callbacks: Sequence[keras.callbacks.Callback], shown: keras.Model, trained: keras.Model
) -> Iterator[None]:
    """Let `self.model` of callbacks be `shown`, with the optimizer of `trained`, inside a context.

    Args:
        callbacks: the callbacks.
        shown: a model that shares its weights with `trained`. A `FollowStop` of it must be among
            the callbacks of `fit`.
        trained: the model whose `fit` runs.
    """
    for callback in callbacks:
        callback.set_model = _setter(callback, shown)
        if hasattr(callback, "_set_monitor_op"):
            callback._set_monitor_op = _judge(callback, trained)
    lent: dict[str, Any] = {"optimizer": trained.optimizer}
    if hasattr(trained, "jax_state_sync"):
        lent["jax_state_sync"] = _syncing(trained, shown)
    own = {name: vars(shown)[name] for name in lent if name in vars(shown)}
    for name, value in lent.items():
        setattr(shown, name, value)
    try:
        yield
    finally:
        for name in lent:
            delattr(shown, name)
        for name, value in own.items():
            setattr(shown, name, value)
        for callback in callbacks:
            del callback.set_model
            vars(callback).pop("_set_monitor_op", None)


def _judge(callback: Any, trained: keras.Model) -> Any:
    """Return a function with which Keras finds out whether more of what is monitored is better.

    The metrics of `trained` tell it.
    """

    def judge(self: Any = callback) -> None:  # by `self`, errors are blamed on a callback
        shown, self._model = self._model, trained
        try:
            type(self)._set_monitor_op(self)
        finally:
            self._model = shown

    return judge


def _syncing(*models: Any) -> Any:
    """Return a function that gives the models the weights that JAX keeps elsewhere in an epoch.

    Keras calls it when a callback asks for its model.
    """
    functions = [model.jax_state_sync for model in models]

    def sync() -> None:
        for function in functions:
            function()

    return sync


def _setter(callback: keras.callbacks.Callback, shown: keras.Model) -> Any:
    return lambda _: type(callback).set_model(callback, shown)
