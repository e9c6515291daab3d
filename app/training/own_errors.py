"""Errors that code or files of users cause while a model is trained, in one line."""

import contextlib
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from app.config.families import is_own_model
from app.config.run_config import RunConfig
from app.data.arrays import Array, array_parts
from app.errors import OwnCodeError, RunError
from app.system.user_code import describe_error, is_reference, shown_name
from serving.errors import HornbillError

# What TensorFlow says of a pipeline that ends elsewhere than it did when it was counted.
_OTHER_COUNTS = re.compile(
    r"expected to contain (\d+) elements? but contained (?:only|at least) (\d+)"
)
# What errors say that end when a file is back or there is room. TensorFlow passes them on as texts,
# and its own class for lost files stands for missing operators too.
_PASSING = re.compile(
    r"No such file or directory|No space left on device|Disk quota exceeded|"
    r"\b(?:OS|IO|FileNotFound|Permission|Timeout|Connection\w*)Error: "
)


@contextlib.contextmanager
def naming_own_code(
    config: RunConfig,
    callbacks: Sequence[keras.callbacks.Callback],
    history: Sequence[Any],
    is_streamed: bool,
) -> Iterator[None]:
    """Turn what a user's callback, model, loss, metric or pipeline raises into one line.

    What a callback of `app` raises is not the user's, such as the end of a trial that is poor.

    Args:
        config: configuration of the run.
        callbacks: the user's callbacks.
        history: rows of the epochs that have ended, as they are when an error is raised.
        is_streamed: whether a user's pipeline is read.

    Raises:
        OwnCodeError: the code raised an error. It is lasting, unless a callback raised it, which
            can be mended, or the reason is one that passes, such as a file that is missing.
    """
    try:
        with _whole_tracebacks():
            yield
    except HornbillError:
        raise
    except (Exception, SystemExit) as error:
        if _callback_in(error, [each for each in callbacks if is_ours(each)]) is not None:
            raise
        when = f"in epoch {len(history) + 1}"
        if len(history) == config.training.epochs:
            when = "after the last epoch"
        callback = _callback_in(error, callbacks)
        if callback is not None:
            name = type(callback).__name__
            raise OwnCodeError(
                f"A callback must not raise. Received: {name} {when}, {describe_error(error)}"
            ) from error
        if is_streamed and (counts := _OTHER_COUNTS.search(str(error))):
            raise OwnCodeError(
                f"train must have as many batches in each epoch, {counts[1]} as counted before the "
                f"first. Received: {counts[2]} {when}.",
                is_lasting=True,
            ) from error
        code = _own_code(config, is_streamed)
        if not code:
            raise
        raise OwnCodeError(
            f"Keras must be able to train with {', '.join(map(shown_name, code))}. "
            f"Received: an error {when}, {describe_error(error)}",
            is_lasting=not _passes(error),
        ) from error


@contextlib.contextmanager
def naming_lost_files(inputs: Array, can_resume: Callable[[], object]) -> Iterator[None]:
    """Name a file that is gone when its image is decoded again, of which TensorFlow says nothing.

    Args:
        inputs: the inputs.
        can_resume: tells, after an error, whether there is anything to resume.

    Raises:
        RunError: a row of `inputs` could not be computed.
    """
    try:
        yield
    except RunError:
        raise
    except Exception:
        problems = [getattr(array, "problem", None) for array in array_parts(inputs)]
        if problem := next(filter(None, problems), None):
            then = "resume the run" if can_resume() else "train again"
            raise RunError(
                "Images that are decoded in each epoch must stay as they are. "
                f"Received: {problem} Put it back, and {then}."
            ) from None
        raise


def _passes(error: BaseException) -> bool:
    return isinstance(error, OSError) or _PASSING.search(str(error)) is not None


def _own_code(config: RunConfig, is_streamed: bool) -> list[str]:
    training = config.training
    code = [config.family] if is_own_model(config.family) else []
    code += filter(is_reference, (training.loss, *training.metrics, training.optimizer.name))
    return [*code, "the pipeline"] if is_streamed else code


def is_ours(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback is a part of this project, rather than a user's."""
    return type(callback).__module__.startswith("app.")


def _callback_in(
    error: BaseException, callbacks: Sequence[keras.callbacks.Callback]
) -> keras.callbacks.Callback | None:
    """Return the callback that the traceback of an error leads to."""
    sought = {id(each): each for each in callbacks}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        names = frame.f_locals
        caller = names.get("self")
        # The functions of a LambdaCallback, and calls with wrong arguments, have no such frame.
        is_calling = isinstance(caller, keras.callbacks.CallbackList)
        found = sought.get(id(names.get("callback") if is_calling else caller))
        if found is not None:
            return found
    return None


@contextlib.contextmanager
def _whole_tracebacks() -> Iterator[None]:
    """Keep the frames of Keras in tracebacks, which tell whose code it has called."""
    if not keras.config.is_traceback_filtering_enabled():
        yield
        return
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        keras.config.enable_traceback_filtering()
