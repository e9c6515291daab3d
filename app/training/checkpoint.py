"""The checkpoint of a run: one file from which training continues as if never interrupted.

It holds the variables of model and optimizer, including the states of random generators, the state
of the callbacks, the weights to keep and the history.
"""

import contextlib
import itertools
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np

from app.config.going_on import PACE
from app.config.run_config import RunConfig, flat_config
from app.data.reading_progress import tell
from app.errors import RunError
from app.system.atomic_files import atomic_path
from app.system.signals import resume_command
from app.system.user_code import shown_name
from serving.errors import cannot_write

from .callbacks import Seconds
from .checkpoint_state import check_epochs, read_state, readable
from .compilation import Compilation
from .kept_weights import KeptWeights
from .own_errors import is_ours
from .progressive_resizing import first_of_size, work_of

_MAY_CHANGE = ("data", "figures", *PACE)
# What the end of a run depends on: another value lets a run go on that has stopped early.
_LIMITS = ("epochs", "patience")
_OWN_SCHEDULE = "own"
# A checkpoint takes longer than an epoch of a tiny model.
_SECONDS_BETWEEN = 1.0
# State that Keras' callbacks keep between epochs, and reset when training begins. Classes that
# inherit from them keep it in the same attributes.
_CALLBACK_STATE: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    keras.callbacks.ModelCheckpoint: ("best",),  # a new object would overwrite a better model
}


# Longer lists, such as the losses of all steps, would take longer to write than an epoch.
_LONGEST_LIST = 10_000


class Checkpoint(keras.callbacks.Callback):
    """Collects the history and the weights to keep, and writes the checkpoint.

    It writes after the first epoch, after the last, and in between at most once a second. What it
    has not written yet, `write_noted` writes. It must come after all callbacks that change weights
    or stop the training, such as the one that swaps averaged weights in.

    Args:
        path: path of the file. If it exists, training continues from it. None writes no file.
        config: configuration of the run. Except for `PACE`, it must be the same as when the file
            was written.
        writes: whether this process writes the file; in a team, only one process does.

    Attributes:
        history: one row for each epoch.
        has_ended: whether training has stopped early.
        compilation: precision and compiler, which stay the same when training continues; None if
            they are not chosen yet.
        kept: the weights to keep.
        seconds: time that the epochs of the history took.
        first_whole: first epoch with images of full size, counted from 0; None if images do not
            grow, or nothing is trained.

    Raises:
        RunError: the file cannot be read, was written with other settings, or has more epochs.
    """

    def __init__(self, path: Path | None, config: RunConfig, writes: bool = True) -> None:
        super().__init__()
        self.writes = writes
        self.path = path
        self.kept = KeptWeights(config.training)
        self.history: list[dict[str, Any]] = []
        self.has_ended = False
        self.compilation: Compilation | None = None
        self.seconds = Seconds()
        self.first_whole: int | None = None
        self._config = config
        self._settings = _lasting_settings(config)
        self._pace = _pace(config)
        self._written = -math.inf
        self._others: dict[str, keras.callbacks.Callback] = {}
        self._at_begin: dict[str, dict[str, Any]] = {}
        self._own_keys: dict[str, set[str]] = {}
        self._at_end: list[np.ndarray] = []
        self._noted: tuple[dict[str, list[np.ndarray]], dict[str, Any]] | None = None
        self._read: dict[str, Any] | None = None
        if path is not None and path.exists():
            self._restore(_read_checkpoint(path))

    def remember(
        self, callbacks: Sequence[keras.callbacks.Callback], passed: bool = False
    ) -> Sequence[keras.callbacks.Callback]:
        """Return `callbacks`, whose state the checkpoint holds from now on too.

        Args:
            callbacks: the callbacks. Of those of Keras, and of classes that inherit from them, the
                state is known. Of a user's class it is every plain attribute that has changed
                since the training began: arguments, and times of its beginning, are those of the
                present object.
            passed: whether Python code passes them, which may pass others when a run is resumed.
                They are recognized by what they monitor and write.
        """
        for callback in callbacks:
            if isinstance(callback, tuple(_CALLBACK_STATE)) or _is_users(callback):
                name = type(callback).__name__
                if passed:
                    about = (getattr(callback, key, "") for key in ("monitor", "filepath"))
                    name = " ".join(["passed", name, *filter(None, about)])
                numbered = (f"{name} {number}" for number in itertools.count(2))
                names = itertools.chain([name], numbered)
                self._others[next(each for each in names if each not in self._others)] = callback
        return callbacks

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restore variables and callbacks, after the callbacks have reset themselves."""
        self._at_begin = {name: _own_state(each) for name, each in self._others.items()}
        if self._read is None:
            return
        optimizer = self._config.training.optimizer
        _assign("model", self.model.variables, self._read["model"])
        _assign(
            "optimizer",
            self.model.optimizer.variables,
            self._read["optimizer"],
            f" {shown_name(optimizer.name)} must make the one that the run began with. Has its "
            "code changed since?"
            if optimizer.is_own
            else "",
        )
        state = self._read["state"]
        for name, callback in self._others.items():  # early stopping may be new
            if f"{name} 2" in self._others and f"{name} 2" not in state["callbacks"]:
                continue  # a checkpoint of an earlier version, with the state of the last only
            # Earlier versions did not keep it.
            own = state.get("own", {}).get(name, {})
            vars(callback).update(own)
            self._own_keys[name] = set(own)
            if getattr(callback, "start_from_epoch", 0) >= len(self.history):
                continue  # it counts nothing yet, as earlier versions did
            vars(callback).update(state["callbacks"].get(name, {}))
            if best := self._read.get(_best_of(name)):
                callback.best_weights = best
        before = state.get("pace", self._pace)  # checkpoints of earlier versions do not say
        self._change_pace(before, state.get("learning_rate"), state["has_ended"])
        self._read = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add a row to the history, choose the weights to keep, and write."""
        values = {name: np.asarray(value, float).tolist() for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **values})
        self.has_ended = bool(self.model.stop_training)
        is_last = self.has_ended or epoch + 1 == self.params["epochs"]
        first = first_of_size(self.params, epoch)
        losses = [row.get("val_loss", math.inf) for row in self.history[first:]]
        is_whole = work_of(self.params, epoch, epoch + 1) == 1
        self.kept.add(self.model.get_weights(), losses, is_last, is_whole)
        is_due = time.monotonic() - self._written > _SECONDS_BETWEEN
        self._note()
        if is_due or is_last:
            self.write_noted()

    def note_end(self) -> None:
        """Take note of the weights before users' callbacks see the end of the training."""
        self._at_end = self.model.get_weights()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Keep and write the weights that a user's callback has set at the end."""
        if not self._at_end:
            return
        weights = self.model.get_weights()
        if not all(map(np.array_equal, weights, self._at_end)):
            self.kept.weights = weights
            self._note()
            self.write_noted()

    def write_noted(self) -> None:
        """Write the file, unless it tells of the last complete epoch already.

        Raises:
            RunError: it cannot be written.
        """
        if self._noted is not None and self.path is not None:
            _write_checkpoint(self.path, *self._noted)
            self._noted, self._written = None, time.monotonic()

    def _note(self) -> None:
        """Take note of what the file holds: in the middle of an epoch, it is other weights."""
        if self.writes and self.path is not None:
            self._noted = self._arrays(), self._state()

    def _restore(self, read: dict[str, Any]) -> None:
        self._read = read
        state = read["state"]
        self.compilation = Compilation(**state["compilation"])
        # The settings of a finished run have the precision that was chosen.
        chosen = {"precision": self.compilation.precision}
        for name, value in self._settings.items():
            began = state["settings"].get(name)
            if value not in (began, chosen.get(name, began)):
                raise RunError(
                    "An interrupted run can only be resumed with the settings that it began with. "
                    f"Received: {name}={value!r} instead of {began!r}. "
                    "Restore the run's config.toml, or train a new run."
                )
        self.history, self.has_ended = state["history"], state["has_ended"]
        check_epochs(self._pace["epochs"], len(self.history))
        before = state.get("pace", self._pace)
        self.has_ended &= all(before[name] == self._pace[name] for name in _LIMITS)
        self.kept.weights, self.kept.best = read["kept"], state["best"]
        size = len(read["kept"])
        self.kept.recent = [
            read["recent"][start : start + size] for start in range(0, len(read["recent"]), size)
        ]
        self.seconds = Seconds(**state["seconds"])
        self.first_whole = state.get("first_whole")  # earlier versions do not say

    def _change_pace(self, before: dict[str, Any], rate: float | None, had_ended: bool) -> None:
        """Apply the settings that have changed since the file was written, and tell so.

        Args:
            before: values of `PACE` when the file was written.
            rate: learning rate of the next step by these settings; None if it is not known.
            had_ended: whether the training had stopped early.
        """
        settings = self._config.training.optimizer
        changed = [
            name
            for name in PACE
            if before[name] != self._pace[name]
            # An optimizer of the user's own has its own rate; the setting was never used.
            if not (settings.is_own and name == "optimizer.learning_rate")
        ]
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scale
        schedules = keras.optimizers.schedules.LearningRateSchedule
        has_schedule = isinstance(optimizer._learning_rate, schedules)
        if "optimizer.learning_rate" in changed and not has_schedule:
            optimizer.learning_rate = self._pace["optimizer.learning_rate"]
        for callback in self._others.values():
            if isinstance(callback, keras.callbacks.EarlyStopping) and changed and had_ended:
                callback.wait = 0  # it counts from here on
        if changed and self.writes:
            schedule = settings.schedule
            if settings.is_own and has_schedule:
                schedule = _OWN_SCHEDULE
            tell(
                f"Training goes on after epoch {len(self.history)}, up to epoch "
                f"{self._pace['epochs']}. {_describe_rates(schedule, rate, self._learning_rate())}"
            )

    def _learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _arrays(self) -> dict[str, list[np.ndarray]]:
        variables = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        arrays = {
            name: [np.array(keras.ops.convert_to_numpy(variable)) for variable in group]
            for name, group in variables.items()
        }
        recent = [array for weights in self.kept.recent for array in weights]
        best = {
            _best_of(name): callback.best_weights
            for name, callback in self._others.items()
            if _are_weights(getattr(callback, "best_weights", None))
        }
        return {**arrays, "kept": self.kept.weights, "recent": recent, **best}

    def _state(self) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "pace": self._pace,
            "learning_rate": self._learning_rate(),
            "history": [*self.history],
            "has_ended": self.has_ended,
            "compilation": asdict(self.compilation) if self.compilation else None,
            "best": self.kept.best,
            "seconds": asdict(self.seconds),
            "first_whole": self.first_whole,
            "callbacks": {name: _state_of(each) for name, each in self._others.items()},
            "own": {name: self._changed(name) for name in self._others},
        }

    def _changed(self, name: str) -> dict[str, Any]:
        """Return the plain attributes of a user's callback that its training has ever changed."""
        state, begun = _own_state(self._others[name]), self._at_begin.get(name, {})
        keys = self._own_keys.setdefault(name, set())
        keys |= {key for key, value in state.items() if key not in begun or begun[key] != value}
        return {key: value for key, value in state.items() if key in keys}


def _state_of(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return the state that a callback has from Keras, by attribute.

    A class of a user's may keep something else in such an attribute, which stays its own affair.
    """
    kinds = [kind for kind in _CALLBACK_STATE if isinstance(callback, kind)]
    keys = itertools.chain.from_iterable(_CALLBACK_STATE[kind] for kind in kinds)
    attributes = vars(callback)
    return {key: attributes[key] for key in keys if _is_number(attributes.get(key, ""))}


def _is_users(callback: keras.callbacks.Callback) -> bool:
    """Return whether the class of a callback is neither one of Keras nor of this project."""
    return not type(callback).__module__.startswith("keras.") and not is_ours(callback)


def _own_state(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return copies of the plain attributes that a user's class adds to those of Keras."""
    if not _is_users(callback):
        return {}
    left_out, found = _names_of_keras(type(callback)), {}
    for key, value in vars(callback).items():
        if key not in left_out:
            with contextlib.suppress(TypeError):
                found[key] = _plain(value)
    return found


def _names_of_keras(kind: type) -> set[str]:
    """Return the attributes that methods of Keras use in a class that inherits from it.

    They are not all state: `EarlyStopping` turns the sign of its `min_delta` in each training.
    """
    methods = (
        method
        for each in kind.__mro__
        if each.__module__.startswith("keras.")
        for method in vars(each).values()
    )
    return {
        name
        for each in methods
        if isinstance(each, FunctionType)
        for name in each.__code__.co_names
    }


def _plain(value: Any) -> Any:
    """Return a copy of None, a number, a text, or a list or dict of such.

    Raises:
        TypeError: JSON would not give it back as it is.
    """
    if isinstance(value, np.bool_ | np.integer | np.floating):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list and len(value) <= _LONGEST_LIST:
        return [_plain(each) for each in value]
    if type(value) is dict and len(value) <= _LONGEST_LIST and {*map(type, value)} <= {str}:
        return {key: _plain(each) for key, each in value.items()}
    raise TypeError


def _is_number(value: Any) -> bool:
    """Return whether a value is None, a truth value or a number, as Keras' callbacks have."""
    return value is None or (np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf")


def _are_weights(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, np.ndarray) for each in value)


def _best_of(callback: str) -> str:
    """Return the name of the weights that a callback restores at the end."""
    return f"best of {callback}"


def _pace(config: RunConfig) -> dict[str, Any]:
    """Return the settings that say how long and how fast a run is trained."""
    settings = flat_config(config)
    return {name: settings[name] for name in PACE}


def _lasting_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings that must stay the same, as they are read back from JSON.

    The data is compared by its content.
    """
    settings = {k: v for k, v in flat_config(config).items() if k not in _MAY_CHANGE}
    lasting: dict[str, Any] = json.loads(json.dumps(settings))
    return lasting


def _describe_rates(schedule: str, before: float | None, now: float) -> str:
    """Return a sentence about the learning rate of a run that goes on."""
    subject = {"cosine": "The cosine spans all epochs, so the learning rate"}.get(
        schedule, "The learning rate"
    )
    if schedule == _OWN_SCHEDULE:
        return f"The optimizer's own schedule goes on: the rate of the next step is {now:.3g}."
    if before is None:
        return f"{subject} is {now:.3g}."
    if math.isclose(before, now, rel_tol=1e-6, abs_tol=1e-12):
        return f"{subject} stays at {now:.3g}."
    return f"{subject} goes from {before:.3g} to {now:.3g}."


def _assign(
    what: str, variables: Sequence[Any], arrays: Sequence[np.ndarray], fix: str = ""
) -> None:
    if [tuple(v.shape) for v in variables] != [a.shape for a in arrays]:
        raise RunError(
            f"The checkpoint belongs to a different {what}. "
            f"Received: {len(arrays)} arrays for {len(variables)} variables, or other shapes.{fix}"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _write_checkpoint(
    path: Path, arrays: dict[str, list[np.ndarray]], state: dict[str, Any]
) -> None:
    content = {
        f"{group}_{number}": array
        for group, members in arrays.items()
        for number, array in enumerate(members)
    }
    try:
        with atomic_path(path) as new, new.open("wb") as file:
            text = json.dumps(state, default=float)
            np.savez(file, state=np.frombuffer(text.encode(), np.uint8), **content)  # type: ignore[arg-type]
    except OSError as error:
        kept = "There is no earlier checkpoint, so there is nothing to resume."
        if path.exists():
            kept = f"The previous checkpoint is intact. Resume with: {resume_command(path.parent)}"
        raise RunError(f"{cannot_write(path, error)} {kept}") from None


def _read_checkpoint(path: Path) -> dict[str, Any]:
    groups: dict[str, Any] = {"model": [], "optimizer": [], "kept": [], "recent": []}
    with readable(path) as archive:
        for name in archive.files:  # in the order in which they were written
            if name != "state":
                groups.setdefault(name.rpartition("_")[0], []).append(archive[name])
    return {**groups, "state": read_state(path)}
