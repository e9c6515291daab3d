"""Training from data source to run folder."""

import contextlib
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from filelock import FileLock, Timeout

from .config import RunConfig
from .data.datasets import Dataset
from .data.sources import absolute_source, load_dataset
from .data.splits import Splits, split_dataset
from .errors import RunError
from .families import FAMILIES, fit_to_data, targets_of
from .fitting import fit
from .objectives import make_loss, sample_weights
from .runs import (
    CHECKPOINT,
    Run,
    begin_run,
    check_room,
    finish_run,
    new_run_folder,
    read_begun_run,
    unwritable,
)
from .sizes import scores_by_size

_LOCK = ".lock"

Callbacks = Sequence[keras.callbacks.Callback]


def train(config: RunConfig, output: str | Path = "runs", callbacks: Callbacks = ()) -> Run:
    """Train the model of `config` and write its run folder.

    Args:
        config: see `app.config.make_config`.
        output: folder of runs; the new one is `<output>/<family>/<time>`.
        callbacks: passed to `keras.Model.fit`.

    Returns:
        The finished run. After an error no run folder is left behind, unless an epoch was
        finished: then `resume` goes on from there.

    Raises:
        DataError: the data source cannot be used, or does not fit the family.
        ConfigError: head, loss and targets contradict each other.
        RunError: the folder cannot be written, or the loss is no longer finite.
        Interrupted: SIGINT or SIGTERM stopped it after a finished epoch.

    Example:
        >>> run = train(make_config("digits", {"variant": "mlp"}))
        >>> run.metrics["test"]["accuracy"]
    """
    dataset = load_run_data(config)
    config = replace(config, data=absolute_source(config.data))
    splits = split_dataset(dataset, config.seed, config.training.validation)
    model = check_run(config, dataset, splits)
    folder = new_run_folder(Path(output), config.family)
    try:
        check_room(folder, model.count_params())
        with _alone(folder):
            run = begin_run(folder, config, dataset, splits)
            return _fit_and_finish(run, dataset, callbacks)
    except BaseException:
        if not (folder / CHECKPOINT).exists():
            shutil.rmtree(folder)
        raise


def resume(folder: str | Path, callbacks: Callbacks = ()) -> Run:
    """Go on with a run that was interrupted, to the metrics of the uninterrupted one.

    Args:
        folder: of the run.
        callbacks: passed to `keras.Model.fit`.

    Returns:
        The finished run; one that was finished before as it is.

    Raises:
        DataError: the data source cannot be used.
        RunError: the folder is no run, its data has changed since, its checkpoint is damaged, or
            another process is training it.
        Interrupted: SIGINT or SIGTERM stopped it again.
    """
    run = read_begun_run(Path(folder))
    if run.is_finished:
        return run
    with _alone(run.folder):
        run = read_begun_run(run.folder)  # which another process may have finished meanwhile
        if run.is_finished:
            return run
        dataset = load_run_data(run.config)
        run.check_data(dataset)
        return _fit_and_finish(run, dataset, callbacks)


def load_run_data(config: RunConfig) -> Dataset:
    """Read the data of a run as its head wants it.

    Raises:
        DataError: the source cannot be used.
    """
    return load_dataset(config.data, config.reading, targets_of(config.model))


def check_run(config: RunConfig, dataset: Dataset, splits: Splits) -> keras.Model:
    """Refuse whatever contradicts itself, before anything is written.

    Returns:
        The model, not trained.

    Raises:
        DataError: the family cannot take such data.
        ConfigError: head, loss and targets contradict each other.
    """
    family = FAMILIES[config.family]
    model = family.build(fit_to_data(family, config.model, dataset, splits))
    make_loss(config.training, dataset.kind_of_targets)
    sample_weights(config.training, dataset, splits)
    return model


def _fit_and_finish(run: Run, dataset: Dataset, callbacks: Callbacks) -> Run:
    checkpoint = run.folder / CHECKPOINT
    with _interruptible(run.folder):
        log = keras.callbacks.TensorBoard(str(run.folder / "tensorboard"), write_graph=False)
        fitted = fit(run.config, dataset, run.splits, [*callbacks, log], checkpoint)
        return finish_run(run, dataset, fitted, scores_by_size(run.config, dataset, run.splits))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from training the run; the lock ends with this one, however it ends."""
    lock = FileLock(folder / _LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"A run must be trained by one process at a time. Received: {folder}, "
            "which another is training."
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            (folder / _LOCK).unlink()
        lock.release()


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal and can go on."""


@contextlib.contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """Treat SIGTERM as SIGINT, and say how to go on."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()  # others cannot handle signals
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    except KeyboardInterrupt:
        if not (folder / CHECKPOINT).exists():
            raise
        raise Interrupted(f"Go on with: hornbill train --resume {folder}") from None
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
