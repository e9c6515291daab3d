"""Fits a model to the training split: the one training loop of the project."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras

from app.config.run_config import RunConfig
from app.data.datasets import Dataset
from app.data.pipelines import TrainingPipeline, evaluation_pipeline, seed_everything
from app.data.splits import Splits
from app.distributed.team import Team
from app.system.keras_defaults import keras_defaults

from .callbacks import Clock, NextEpoch, Seconds
from .checkpoint import Checkpoint
from .compilation import Compilation, choose_compilation, count_products
from .job import Job
from .optimizers import optimizer_callbacks

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
        wait_fraction: fraction of the time of these steps that was spent waiting for data.
        compilation: the precision and the compiler that were chosen.
        processes: number of processes that trained together.
    """

    model: keras.Model
    history: list[dict[str, Any]]
    seconds: float
    examples_per_s: float
    wait_fraction: float
    compilation: Compilation
    processes: int = 1


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
    chosen = saver.compilation or _choose(job)
    # Each process has made its own measurement. All use the writer's choice, and no process begins
    # a step before every process is ready.
    saver.compilation = compilation = Compilation(**job.team.from_writer(asdict(chosen)))
    with job.team.scope():
        _train(job, saver, compilation, callbacks)
    return _result(job, saver, compilation)


def _choose(job: Job) -> Compilation:
    """Return the precision and the compiler, measured on models that are then discarded."""
    train = job.batch_indices(job.splits.train)
    batch = [array[train[: job.batch_size]] for array in job.arrays]

    def build(candidate: Compilation) -> keras.Model:
        return job.compile(job.build(candidate), candidate)

    steps = job.steps_per_epoch * job.config.training.epochs
    products = count_products(job.model) * job.batch_size
    return choose_compilation(job.config.training, build, batch, steps, products)


def _train(job: Job, saver: Checkpoint, compilation: Compilation, callbacks: Callbacks) -> None:
    """Train `job.model`."""
    full = _to_train(job, compilation)
    seed_everything(job.config.seed, compilation.xla)  # the measurement drew random numbers
    trained = job.compile(full, compilation)
    epochs = range(len(saver.history), 0 if saver.has_ended else job.config.training.epochs)
    if epochs:
        _run_epochs(job, trained, epochs, saver, callbacks)
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
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # computes with its variables from here on
    return model


def _run_epochs(
    job: Job, trained: keras.Model, epochs: range, saver: Checkpoint, callbacks: Callbacks
) -> None:
    training, shard = job.config.training, job.team.shard
    train, validation = map(job.batch_indices, (job.splits.train, job.splits.validation))
    pipeline = TrainingPipeline(
        job.arrays, train, job.batch_size, job.config.seed, training.repeat, shard
    )
    validation_data = None
    if len(validation):
        validation_data = evaluation_pipeline(
            job.arrays[:2], validation, job.evaluation_batch_size, shard
        )
    trained.fit(
        pipeline.batches,
        validation_data=validation_data,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        steps_per_epoch=len(pipeline.batches),  # otherwise Keras creates twice as many iterators
        shuffle=False,  # the pipeline shuffles
        verbose=0,
        callbacks=_callbacks(job, pipeline, saver, callbacks),
    )


def _callbacks(
    job: Job, pipeline: TrainingPipeline, saver: Checkpoint, callbacks: Callbacks
) -> list[keras.callbacks.Callback]:
    """Return all callbacks in the order in which they must run: the checkpoint comes last."""
    training = job.config.training
    changing = optimizer_callbacks(training.optimizer)
    if training.patience:
        changing.append(keras.callbacks.EarlyStopping("val_loss", patience=training.patience))
    return [
        *job.guards(),
        NextEpoch(pipeline),
        Clock(saver.seconds, pipeline.wait),
        *saver.remember(changing),
        *callbacks,
        saver,
    ]


def _result(job: Job, saver: Checkpoint, compilation: Compilation) -> FitResult:
    seconds: Seconds = saver.seconds
    spent = max(seconds.steps, 1e-9)  # 0 if there was a single step
    examples = len(job.splits.train) * job.config.training.repeat * seconds.passes
    return FitResult(
        model=job.model,
        history=saver.history,
        seconds=seconds.epochs,
        examples_per_s=examples / spent,
        wait_fraction=min(seconds.waiting / spent, 1.0),
        compilation=compilation,
        processes=job.team.shard.processes,
    )
