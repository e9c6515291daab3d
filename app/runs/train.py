"""Training from data source to run folder."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import keras

from app.config.families import FAMILIES, task_of
from app.config.run_config import RunConfig, flat_config
from app.data.datasets import Dataset
from app.data.sources import absolute_source, load_dataset
from app.data.splits import Splits, split_dataset
from app.distributed.team import Team, alone
from app.errors import DataError, RunError
from app.system.keras_defaults import keras_defaults
from app.system.locks import exclusive_lock
from app.system.memory import translate_out_of_memory
from app.system.signals import Interrupted, resume_command, sigterm_as_sigint
from app.training.fit import fit
from app.training.losses import make_loss, sample_weights
from app.training.model_sizes import fit_to_data

from .results import finish_run
from .run_folder import (
    CHECKPOINT,
    METRICS,
    Run,
    begin_run,
    check_room,
    new_run_folder,
    read_begun_run,
    report_run,
    unwritable,
)
from .training_sizes import scores_by_size

Callbacks = Sequence[keras.callbacks.Callback]


@keras_defaults()
def train(
    config: RunConfig,
    output: str | Path = "runs",
    callbacks: Callbacks = (),
    team: Team | None = None,
) -> Run:
    """Train the model of `config` and write its run folder; one thread at a time does.

    Args:
        config: see `app.config.run_config.make_config`.
        output: folder of runs; the new one is `<output>/<family>/<time>`.
        callbacks: passed to `keras.Model.fit`.
        team: the processes that train together, each of which calls this; None is this one alone.

    Returns:
        The finished run. After an error no run folder is left behind, unless an epoch was
        finished: then `resume` goes on from there.

    Raises:
        DataError: the data source cannot be used, or does not fit the family.
        ConfigError: head, loss and targets contradict each other, or devices cannot share a batch.
        RunError: the folder cannot be written, the loss is no longer finite, or processes would
            train different things.
        Interrupted: SIGINT or SIGTERM stopped it after a finished epoch.

    Examples:
        >>> run = train(make_config("digits", {"variant": "mlp"}))
        >>> run.metrics["test"]["accuracy"]
    """
    team = team or alone()
    team.check_batch_size(config.training)
    dataset = load_run_data(config)
    config = replace(config, data=absolute_source(config.data))
    splits = split_dataset(dataset, config.seed, config.training.validation_split)
    model = checked_model(config, dataset, splits)
    if not team.is_writer:
        folder = Path(team.from_writer(None))
        return _fit_and_finish(
            report_run(folder, config, dataset, splits), dataset, callbacks, team
        )
    folder = new_run_folder(Path(output), config.family)
    try:
        check_room(folder, model.count_params())
        with sigterm_as_sigint(), _alone(folder):
            run = report_run(folder, config, dataset, splits)
            begin_run(run)
            team.from_writer(str(folder))
            return _fit_and_finish(run, dataset, callbacks, team)
    except BaseException:
        if not ((folder / CHECKPOINT).exists() or (folder / METRICS).exists()):
            shutil.rmtree(folder)
        raise


@keras_defaults()
def resume(folder: str | Path, callbacks: Callbacks = (), team: Team | None = None) -> Run:
    """Go on with a run that was interrupted, to the metrics of the uninterrupted one.

    Args:
        folder: of the run, which every process must be able to read.
        callbacks: passed to `keras.Model.fit`.
        team: the processes that train together, as many as before or not; None is this one alone.

    Returns:
        The finished run; one that was finished before as it is.

    Raises:
        DataError: the data source cannot be used.
        ConfigError: devices cannot share a batch.
        RunError: the folder is no run, its data has changed since, its checkpoint is damaged, or
            another process is training it.
        Interrupted: SIGINT or SIGTERM stopped it again.
    """
    team = team or alone()
    run = read_begun_run(Path(folder))
    if run.is_finished:
        return run
    with _alone(run.folder) if team.is_writer else contextlib.nullcontext():
        run = read_begun_run(run.folder)  # which another process may have finished meanwhile
        if team.from_writer(run.is_finished):
            return run
        team.check_batch_size(run.config.training)
        dataset = load_run_data(run.config)
        run.check_data(dataset)
        return _fit_and_finish(run, dataset, callbacks, team)


def load_run_data(config: RunConfig) -> Dataset:
    """Read the data of a run as its head wants it.

    Raises:
        DataError: the source cannot be used, or has columns of text, which TensorFlow alone reads.
    """
    task, of_digits = task_of(config.model), config.family == "digits"
    dataset = load_dataset(config.data, config.reading, task, of_digits)
    backend = keras.backend.backend()
    if dataset.string_columns and backend != "tensorflow":
        raise DataError(
            "Columns of text need Keras' backend tensorflow, and one process. "
            f"Received: {backend}, and {', '.join(dataset.string_columns)} of {dataset.source}. "
            "Leave out --processes and KERAS_BACKEND, or give the words as columns of numbers."
        )
    return dataset


@keras_defaults()
def checked_model(config: RunConfig, dataset: Dataset, splits: Splits) -> keras.Model:
    """Return the model, not trained; refuse whatever contradicts itself.

    Raises:
        DataError: the family cannot take such data.
        ConfigError: head, loss and targets contradict each other.
        RunError: the model is too large for this machine.
    """
    family = FAMILIES[config.family]
    with translate_out_of_memory():
        model = family.build(fit_to_data(family, config.model, dataset, splits))
    make_loss(config.training, dataset.task)
    sample_weights(config.training, dataset, splits)
    return model


def _fit_and_finish(run: Run, dataset: Dataset, callbacks: Callbacks, team: Team) -> Run:
    team.announce(run.folder)
    checkpoint = run.folder / CHECKPOINT
    team.agree(_facts(run, checkpoint))
    # Whoever writes nothing needs no order to end.
    with _interruptible(run.folder) if team.is_writer else contextlib.nullcontext():
        if team.is_writer:
            log = keras.callbacks.TensorBoard(str(run.folder / "tensorboard"), write_graph=False)
            callbacks = [*callbacks, log]
        with translate_out_of_memory():
            fitted = fit(run.config, dataset, run.splits, callbacks, checkpoint, team)
            # What was measured once is neither measured again nor chosen otherwise.
            training = replace(run.config.training, precision=fitted.compilation.precision)
            run = replace(run, config=replace(run.config, training=training))
            sizes = scores_by_size(run.config, dataset, run.splits, team)
        if team.is_writer:
            run = finish_run(run, dataset, fitted, sizes)
        return replace(run, metrics=team.from_writer(run.metrics))


def _facts(run: Run, checkpoint: Path) -> dict[str, str]:
    """Return what must be the same wherever a run is trained; its data may lie elsewhere."""
    content = checkpoint.read_bytes() if checkpoint.exists() else b""
    settings = flat_config(replace(run.config, data=""))
    return {
        **{name: str(value) for name, value in settings.items()},
        "data (SHA-256)": run.data["sha256"],
        "checkpoint (SHA-256)": hashlib.sha256(content).hexdigest(),
    }


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from training the run."""
    taken = RunError(
        f"A run must be trained by one process at a time. Received: {folder}, "
        "which another is training."
    )
    return exclusive_lock(folder, taken, lambda error: unwritable(folder, error))


@contextlib.contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """Treat SIGTERM as SIGINT, and say how to go on."""
    with sigterm_as_sigint():
        try:
            yield
        except KeyboardInterrupt:
            if not (folder / CHECKPOINT).exists():
                raise
            raise Interrupted(f"Go on with: {resume_command(folder)}") from None
