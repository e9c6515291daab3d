"""Fits a model to the training split: the one training step and loop of the project."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config.families import FAMILIES
from app.config.run_config import RunConfig
from app.config.training_config import TrainingConfig
from app.data.arrays import Array
from app.data.datasets import Dataset
from app.data.pipelines import (
    EVALUATION_BATCH_SIZE,
    TrainingPipeline,
    evaluation_pipeline,
    seed_everything,
)
from app.data.splits import Splits
from app.distributed.steps import SharedModel
from app.distributed.team import Team
from app.system.keras_defaults import keras_defaults

from .callbacks import Clock, FiniteLoss, NextEpoch
from .checkpoint import Checkpoint
from .compilation import Compilation, choose_compilation
from .fused_batch_norm import with_fused_normalization
from .losses import make_loss, make_metrics, numeric_targets, sample_weights
from .model_sizes import fit_to_data
from .optimizers import make_optimizer, optimizer_callbacks
from .preprocessing import adapt, prepare

# Steps that moving statistics remember. Of fewer than ten they would be chance.
_MIN_REMEMBERED, _MAX_REMEMBERED = 10, 100


@dataclass(frozen=True)
class FitResult:
    """A trained model.

    Attributes:
        model: from the raw input to the dict of outputs.
        history: one row an epoch: epoch, loss, a metric, and both on the validation split. Of nets
            side by side the loss is their sum, and in place of the metric `net_losses` is the
            loss of each.
        seconds: wall time of the epochs, validation included, and those before an interruption.
        examples_per_s: samples trained on in a second of training steps, the first step, which is
            compiled, left out; 0 if there was no other.
        wait_fraction: share of the time of these steps in which they waited for data.
        compilation: the precision and the compiler that were chosen.
        processes: that trained together.
    """

    model: keras.Model
    history: list[dict[str, Any]]
    seconds: float
    examples_per_s: float
    wait_fraction: float
    compilation: Compilation
    processes: int = 1


@dataclass(frozen=True)
class _Job:
    """What is trained, on what.

    Attributes:
        config: the run's configuration.
        model_config: with the sizes that the data decides.
        model: in float32, its statistics adapted.
        arrays: prepared inputs, targets, and weights of samples if they differ.
        splits: which samples are for what.
        task: `multiclass`, `multilabel` or `regression`.
        team: who trains.
    """

    config: RunConfig
    model_config: Any
    model: keras.Model
    arrays: list[Array]
    splits: Splits
    task: str
    team: Team

    @property
    def nets(self) -> int:
        """Nets that stand side by side; 0 is one without an axis of nets."""
        return int(self.model_config.nets)

    @property
    def batch_size(self) -> int:
        """Samples in a step."""
        training, count = self.config.training, len(self.splits.train)
        is_full = training.optimizer.name == "gradient_descent"
        return count if is_full else min(training.batch_size, count)

    @property
    def evaluation_batch_size(self) -> int:
        """Samples in a step of evaluation."""
        return self.team.shard.batch_size(EVALUATION_BATCH_SIZE)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; the last may be on fewer samples."""
        passes = self.config.training.repeat
        return -(-len(self.splits.train) // self.batch_size) * passes


@keras_defaults()
def fit(
    config: RunConfig,
    dataset: Dataset,
    splits: Splits,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Path | None = None,
    team: Team | None = None,
) -> FitResult:
    """Build the model of `config` and train it; the same seed gives the same weights.

    In one thread at a time, see `keras_defaults`.

    Args:
        config: the run's configuration.
        dataset: the samples.
        splits: which of them are for what; of nets side by side `train` and `validation` may have
            a column for each, `(samples, nets)`, and those with one column share its samples, but
            not their order. Without samples for validation there is none.
        callbacks: passed to `keras.Model.fit`.
        checkpoint: file that is written after each epoch; if it is there, training goes on from
            it. None keeps none.
        team: the processes that train together, each of which calls this; None is one, on one
            device.

    Raises:
        DataError: the family cannot take such data.
        ConfigError: the loss or the class weights do not suit the targets.
        RunError: the loss is no longer finite, or the checkpoint cannot be written or read.
    """
    job = _prepare_job(config, dataset, splits, team or Team())
    saver = Checkpoint(checkpoint, config, job.team.is_writer)
    chosen = saver.compilation or _choose(job)
    # Each process measured; and none may begin a step before all are ready for it.
    compilation = Compilation(**job.team.from_writer(asdict(chosen)))
    saver.compilation = compilation
    with job.team.scope():
        return _fit(job, saver, compilation, callbacks)


def _fit(
    job: _Job,
    saver: Checkpoint,
    compilation: Compilation,
    callbacks: Sequence[keras.callbacks.Callback],
) -> FitResult:
    config, splits, shard = job.config, job.splits, job.team.shard
    full = _to_train(job, compilation)
    seed_everything(config.seed, compilation.xla)  # whatever the choice took
    trained = _trained_part(job, full, compilation)

    epochs = range(len(saver.history), 0 if saver.has_ended else config.training.epochs)
    train, validation = _for_nets(splits.train, job.nets), _for_nets(splits.validation, job.nets)
    passes = config.training.repeat
    pipeline = TrainingPipeline(job.arrays, train, job.batch_size, config.seed, passes, shard)
    if epochs:
        trained.fit(
            pipeline.batches,
            validation_data=(
                evaluation_pipeline(job.arrays[:2], validation, job.evaluation_batch_size, shard)
                if len(validation)
                else None
            ),
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,  # the pipeline shuffles
            verbose=0,
            callbacks=[
                *([FiniteLoss()] if not job.nets else []),  # one net must not stop the others
                NextEpoch(pipeline),
                Clock(saver.seconds, pipeline.wait),
                *saver.remember(_changing(config.training)),
                *callbacks,
                saver,
            ],
        )
    trained.set_weights(saver.weights)
    if full is not job.model:
        job.model.set_weights(full.get_weights())
    seconds = saver.seconds
    spent = max(seconds.steps, 1e-9)  # none, of a single step
    return FitResult(
        model=job.model,
        history=saver.history,
        seconds=seconds.epochs,
        examples_per_s=len(splits.train) * passes * seconds.passes / spent,
        wait_fraction=min(seconds.waiting / spent, 1.0),
        compilation=compilation,
        processes=shard.processes,
    )


def _prepare_job(config: RunConfig, dataset: Dataset, splits: Splits, team: Team) -> _Job:
    seed_everything(config.seed)
    family = FAMILIES[config.family]
    seen = replace(splits, train=np.unique(splits.train))  # by any of several nets
    model_config = fit_to_data(family, config.model, dataset, seen)
    model = family.build(model_config)
    adapt(model, dataset, seen.train)
    arrays: list[Array] = [
        prepare(model, model_config.prepared_layer, dataset),
        numeric_targets(dataset, model),
    ]
    weights = sample_weights(config.training, dataset, splits)
    if weights is not None:
        arrays.append(weights)
    job = _Job(config, model_config, model, arrays, splits, dataset.task, team)
    _follow_within_an_epoch(model, job.steps_per_epoch)
    return job


def _choose(job: _Job) -> Compilation:
    train = _for_nets(job.splits.train, job.nets)
    batch = [array[train[: job.batch_size]] for array in job.arrays]

    def build(candidate: Compilation) -> keras.Model:
        # A model of its own, for its steps must not count.
        return _trained_part(job, _built(job, candidate), candidate)

    steps = job.steps_per_epoch * job.config.training.epochs
    return choose_compilation(job.config.training, build, batch, steps)


def _built(job: _Job, compilation: Compilation) -> keras.Model:
    with compilation.policy():
        model = FAMILIES[job.config.family].build(job.model_config)
    _follow_within_an_epoch(model, job.steps_per_epoch)
    return model


def _follow_within_an_epoch(model: keras.Model, steps: int) -> None:
    """Let the moving statistics of batch normalization be those of the last epoch.

    With the momentum that Keras has they are those of a hundred steps: on few samples of weights
    of many epochs ago, with which the net knows less than it has learned.
    """
    momentum = 1 - 1 / min(max(steps, _MIN_REMEMBERED), _MAX_REMEMBERED)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum


def _for_nets(indices: np.ndarray, nets: int) -> np.ndarray:
    if not nets or indices.ndim == 2:
        return indices
    return np.repeat(indices[:, np.newaxis], nets, axis=1)


def _to_train(job: _Job, compilation: Compilation) -> keras.Model:
    """Return the model, or its equal that computes in another precision or on all devices."""
    if compilation.precision == "float32" and job.team.shard.is_whole:
        return job.model
    model = _built(job, compilation)
    for variable, value in zip(model.variables, job.model.variables, strict=True):
        variable.assign(keras.ops.convert_to_numpy(value))
    return model


def _trained_part(job: _Job, model: keras.Model, compilation: Compilation) -> keras.Model:
    """Return the layers that learn, behind the augmentation, compiled; they share their weights."""
    training = job.config.training
    begin = "nets" if job.nets else job.model_config.prepared_layer
    prepared = model.get_layer(begin).output
    learning = keras.Model(prepared, model.get_layer(job.model_config.trained_layer).output)
    if keras.backend.backend() == "tensorflow" and not compilation.xla:  # XLA fuses it itself
        learning = with_fused_normalization(learning)
    inputs = keras.Input(prepared.shape[1:], dtype="float32")
    trained = _model_of_steps(job, inputs, learning(training.augment(inputs)))
    loss = make_loss(training, job.task)
    trained.compile(
        optimizer=_make_optimizer(job, compilation),
        loss=loss,
        loss_weights=[float(job.nets or 1)],  # the sum over nets, so that each learns as if alone
        metrics=make_metrics(job.task, loss, job.nets),
        jit_compile=compilation.xla,
        steps_per_execution=training.steps_per_execution,
    )
    # A step that made the optimizer's state itself would be traced twice.
    trained.optimizer.build(trained.trainable_variables)
    return trained


def _make_optimizer(job: _Job, compilation: Compilation) -> keras.optimizers.Optimizer:
    training = job.config.training
    optimizer = make_optimizer(training.optimizer, job.steps_per_epoch, training.epochs)
    if compilation.precision != "mixed_float16":
        return optimizer
    # Keras does this of its own accord only where the whole model has that precision.
    return keras.optimizers.LossScaleOptimizer(optimizer)


def _model_of_steps(job: _Job, inputs: Any, outputs: Any) -> keras.Model:
    shard = job.team.shard
    if shard.is_whole:
        return keras.Model(inputs, outputs)
    model = SharedModel(inputs, outputs)
    model.training_sizes = shard.filled_sizes(len(job.splits.train), job.batch_size)
    model.evaluation_sizes = shard.filled_sizes(
        len(job.splits.validation), job.evaluation_batch_size
    )
    return model


def _changing(config: TrainingConfig) -> list[keras.callbacks.Callback]:
    """Return the callbacks that change how training goes on."""
    callbacks = optimizer_callbacks(config.optimizer)
    if config.patience:
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=config.patience))
    return callbacks
