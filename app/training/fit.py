"""Fits a model to the training split: the one training loop of the project."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from app.config.run_config import RunConfig
from app.data.datasets import Dataset
from app.data.pipelines import StreamPipeline, TrainingPipeline, seed_everything
from app.data.reading_progress import tell
from app.data.splits import Splits
from app.distributed.team import Team
from app.system.keras_defaults import keras_defaults
from app.system.signals import defer_signals
from models.errors import OwnModelError
from serving.errors import counted

from .callbacks import MONITORING, Clock, NextEpoch, NumericLogs, Seconds, check_monitors
from .checkpoint import Checkpoint
from .compilation import Compilation, choose_compilation, count_products
from .job import Job
from .losses import named_as_before
from .optimizers import averages_at_epoch_end, check_rate_callbacks, optimizer_callbacks
from .own_errors import is_ours, naming_lost_files, naming_own_code
from .own_losses import own_callback
from .own_models import own_net
from .progressive_resizing import GrowingImages
from .shown_model import FollowStop, shown_to

Callbacks = Sequence[keras.callbacks.Callback]


@dataclass(frozen=True)
class FitResult:
    """A trained model.

    Attributes:
        model: the model, from its raw input to the dict of outputs.
        history: one row for each epoch: epoch, loss, a metric, and both on the validation split.
        seconds: wall time of all epochs in seconds, validation included. Epochs before an
            interruption count too.
        examples_per_s: training samples per second of training steps. The first step, which
            includes compilation, does not count; 0 if there was no other.
        wait_fraction: fraction of the time of these steps that was spent waiting for data; None if
            a user's pipeline was read, around which nothing is measured.
        compilation: the precision and the compiler that were chosen.
        processes: number of processes that trained together.
        smaller_epochs: number of epochs at the beginning that had smaller images.
    """

    model: keras.Model
    history: list[dict[str, Any]]
    seconds: float
    examples_per_s: float
    wait_fraction: float | None
    compilation: Compilation
    processes: int = 1
    smaller_epochs: int = 0


@keras_defaults()
def fit(
    config: RunConfig,
    dataset: Dataset,
    splits: Splits,
    callbacks: Callbacks = (),
    checkpoint: Path | None = None,
    team: Team | None = None,
) -> FitResult:
    """Build the model of `config` and train it; the same seed gives the same weights.

    Threads take turns, see `keras_defaults`.

    Args:
        config: the run's configuration.
        dataset: the samples.
        splits: indices of the training, validation and test samples. Without validation samples,
            nothing is validated.
        callbacks: callbacks for `keras.Model.fit`.
        checkpoint: the file to write after each epoch. If it exists, training continues from it.
            None writes no checkpoint.
        team: the processes that train together, each of which calls this; None trains in this
            process only, on one device.

    Raises:
        DataError: the family cannot take such data.
        ConfigError: the loss or the class weights do not suit the targets.
        RunError: the loss is no longer finite, or the checkpoint cannot be written or read.
    """
    return fit_job(Job(config, dataset, splits, team), callbacks, checkpoint)


def fit_job(job: Job, callbacks: Callbacks = (), checkpoint: Path | None = None) -> FitResult:
    """Train a job. See `fit`."""
    saver = Checkpoint(checkpoint, job.config, job.team.is_writer)
    training = named_as_before(job.config.training, saver.history)
    job.config = replace(job.config, training=training)
    own = [own_callback(name) for name in job.config.training.callbacks]
    check_rate_callbacks(job.config.training.optimizer, [*own, *callbacks])
    if any(isinstance(each, MONITORING) for each in (*own, *callbacks)):
        check_monitors([*own, *callbacks], job.log_names())
    callbacks = [*saver.remember(own), *saver.remember(callbacks, passed=True)]
    with naming_own_code(job.config, callbacks, saver.history, job.stream is not None):
        return _fit_job(job, saver, callbacks)


def _fit_job(job: Job, saver: Checkpoint, callbacks: Callbacks) -> FitResult:
    chosen = saver.compilation or _choose(job)
    # Each process has made its own measurement. All use the writer's choice, and no process begins
    # a step before every process is ready.
    saver.compilation = compilation = Compilation(**job.team.from_writer(asdict(chosen)))
    with job.team.scope():
        _train(job, saver, compilation, callbacks)
    return _result(job, saver, compilation)


def _choose(job: Job) -> Compilation:
    """Return the precision and the compiler, measured on models that are then discarded."""

    def build(candidate: Compilation) -> keras.Model:
        return job.compile(job.build(candidate), candidate)

    steps = job.steps_per_epoch * job.config.training.epochs
    products = count_products(job.model) * job.batch_size
    try:
        chosen = choose_compilation(job.config.training, build, job.some_batch(), steps, products)
        if job.is_own and chosen.precision != "float32":
            job.build(chosen)
    except OwnModelError as error:
        tell(f"Training is in float32: {error}")
        return Compilation("float32", job.config.training.xla)
    return chosen


def _train(job: Job, saver: Checkpoint, compilation: Compilation, callbacks: Callbacks) -> None:
    """Train `job.model`."""
    full = _to_train(job, compilation)
    # The measurement drew random numbers.
    seed_everything(job.config.seed, compilation.xla, job.is_exact)
    trained = job.compile(full, compilation)
    epochs = range(len(saver.history), 0 if saver.has_ended else job.config.training.epochs)
    if epochs:
        try:
            _run_epochs(job, full, trained, epochs, saver, callbacks)
        finally:  # whatever stops it, no complete epoch is lost
            with defer_signals():
                saver.write_noted()
    trained.set_weights(saver.kept.weights)
    if full is not job.model:
        job.model.set_weights(full.get_weights())


def _to_train(job: Job, compilation: Compilation) -> keras.Model:
    """Return the job's model, or a copy of it in another precision or on all devices."""
    if compilation.precision == "float32" and job.team.shard.is_whole:
        return job.model
    model = job.build(compilation)
    for variable, value in zip(model.variables, job.model.variables, strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # computes with its variables from here on
    return model


def _run_epochs(
    job: Job,
    full: keras.Model,
    trained: keras.Model,
    epochs: range,
    saver: Checkpoint,
    callbacks: Callbacks,
) -> None:
    """Train `trained`, the steps of `full`, for some epochs."""
    pipeline = job.training_batches()
    every = _callbacks(job, pipeline, saver, callbacks)
    others = [callback for callback in callbacks if not is_ours(callback)]
    shown = (own_net(full) if job.is_own else None) or full
    if others:
        every.insert(every.index(saver), FollowStop(shown))
        every.insert(0, keras.callbacks.LambdaCallback(on_train_end=lambda _: saver.note_end()))
    with naming_lost_files(job.arrays[0], lambda: saver.history), shown_to(others, shown, trained):
        trained.fit(
            pipeline.batches,
            validation_data=job.validation_batches(),
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            steps_per_epoch=job.steps_per_epoch,  # otherwise Keras creates twice as many iterators
            shuffle=False,  # the pipeline shuffles
            verbose=0,
            callbacks=every,
        )
    patience = next((c for c in every if isinstance(c, keras.callbacks.EarlyStopping)), None)
    # A run that goes on knows where it stopped before; trainings on parts of the data are no runs.
    stopped = 0 if patience is None else patience.stopped_epoch  # counted from 0; never the first
    if patience is not None and saver.path and 0 < stopped == len(saver.history) - 1 < epochs[-1]:
        # Another class, or a baseline, has reasons of its own.
        is_plain = type(patience) is keras.callbacks.EarlyStopping and patience.baseline is None
        reason = (
            f"{patience.monitor} has not improved for {counted(patience.wait, 'epoch')}"
            if is_plain
            else f"{type(patience).__name__} has ended it, which monitors {patience.monitor}"
        )
        tell(f"Training stopped after epoch {len(saver.history)} of {epochs.stop}: {reason}.")


def _callbacks(
    job: Job,
    pipeline: TrainingPipeline | StreamPipeline,
    saver: Checkpoint,
    callbacks: Callbacks,
) -> list[keras.callbacks.Callback]:
    """Return all callbacks in the order in which they must run.

    Those of users come before those that write down what they add to the logs. The checkpoint comes
    before those that tell of an epoch: what was told is kept.
    """
    training = job.config.training
    others = [callback for callback in callbacks if not is_ours(callback)]
    growing, first_whole = [], 0
    if job.shrink is not None:
        shape, trained = job.model.inputs[0].shape[1:], len(saver.history)
        growing = [GrowingImages(job.shrink, shape, training.epochs, trained, saver.first_whole)]
        saver.first_whole = first_whole = growing[0].first_whole
    changing = optimizer_callbacks(training.optimizer, others)
    averages = averages_at_epoch_end(training.optimizer, others)
    if training.patience:
        # Losses on smaller images are others, and a net that has seen only these is not done. Nor
        # is one whose backbone has not learned yet.
        first = max(first_whole, job.head_epochs)
        stopping = keras.callbacks.EarlyStopping(
            "val_loss", patience=training.patience, start_from_epoch=first
        )
        changing.append(stopping)
    return [
        *job.guards(),
        *growing,
        NextEpoch(pipeline),
        Clock(saver.seconds, pipeline.wait),
        *saver.remember(changing),
        *others,
        *([NumericLogs()] if others else []),
        *saver.remember(averages),
        saver,
        *(_swapping_back(each) for each in averages),
        *(callback for callback in callbacks if is_ours(callback)),
    ]


def _swapping_back(averages: keras.callbacks.SwapEMAWeights) -> keras.callbacks.Callback:
    """Return what takes averaged weights out of the model after the checkpoint has kept them."""
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: averages.on_epoch_begin(epoch)
    )


def _result(job: Job, saver: Checkpoint, compilation: Compilation) -> FitResult:
    seconds: Seconds = saver.seconds
    spent = max(seconds.steps, 1e-9)  # 0 if there was a single step
    examples = job.samples_per_epoch * seconds.passes
    return FitResult(
        model=job.model,
        history=saver.history,
        seconds=seconds.epochs,
        examples_per_s=examples / spent,
        wait_fraction=min(seconds.waiting / spent, 1.0) if job.stream is None else None,
        compilation=compilation,
        processes=job.team.shard.processes,
        smaller_epochs=min(saver.first_whole or 0, len(saver.history)),
    )
