"""A training job: a model, its data in the form that training needs, and the processes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config.families import build_model, family_named
from app.config.run_config import RunConfig
from app.data.arrays import Array, samples_at_once
from app.data.augmentation import augment_inputs
from app.data.datasets import Dataset
from app.data.pipelines import (
    EVALUATION_BATCH_SIZE,
    StreamPipeline,
    TrainingPipeline,
    evaluation_pipeline,
    seed_everything,
)
from app.data.splits import Splits
from app.distributed.steps import SharedMixingModel, SharedModel
from app.distributed.team import Team
from models.config import OwnModelConfig
from models.features import BACKBONE_FEATURES, COMPUTED_FEATURES
from models.image_mixing import MixingModel
from models.members import MembersInTraining
from models.own import in_precision, prepared_tensors

from .callbacks import FiniteLoss
from .compilation import Compilation
from .fused_batch_norm import with_fused_normalization
from .linear_start import start_linear
from .losses import (
    MemberLoss,
    MemberMetric,
    extra_metrics,
    in_units,
    make_loss,
    make_metric,
    numeric_targets,
    sample_weights,
    trained_output,
    units_of_values,
)
from .model_sizes import fit_to_data, rows_beside
from .optimizers import make_optimizer
from .own_models import adapt_normalizations, own_layers
from .preprocessing import adapt, adapt_to_features, prepare
from .progressive_resizing import Shrink, for_any_size
from .starting_weights import start_with
from .streams import StreamModel, TargetForm
from .two_phases import in_two_phases

# The moving statistics of batch normalization average over a number of steps in this range: fewer
# would be noise, and more would include weights of many epochs ago.
_MIN_STEPS, _MAX_STEPS = 10, 100
# A step of Muon changes weights by several percent, so statistics are out of date sooner.
_MUON_STEPS = 10


class Job:
    """One model and everything that its training needs.

    Building a job seeds all random generators, builds the model and prepares the inputs.

    Args:
        config: the run's configuration.
        dataset: the samples.
        splits: indices of the training, validation and test samples.
        team: the processes that train together; None trains in this process only,
            on one device.
        model: an untrained model of the run's family in float32, built for this data after
            `seed_everything`; None builds it.

    Attributes:
        config, splits, team: as given.
        task: `multiclass`, `multilabel` or `regression`.
        model_config: the model's configuration with the sizes that the data determines.
        model: the model in float32, its normalization adapted to the training split.
        stream: the training batches of a user's pipeline; None if they are made of `arrays`.
        has_weights: whether samples have weights of their own, beside those of classes.
        output: what the model returns for the loss.
        arrays: prepared inputs, numeric targets, and sample weights unless all are equal.
        loss_weight: factor of the loss.
        shrink: the layer that makes images smaller in training; None if their size stays.

    Raises:
        DataError: the family cannot take such data.
        ConfigError: the class weights do not suit the targets, or the backbone cannot be built.
    """

    loss_weight = 1.0

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        splits: Splits,
        team: Team | None = None,
        model: keras.Model | None = None,
    ) -> None:
        self.stream, self.has_weights = dataset.stream, dataset.has_weights
        seed_everything(config.seed, is_exact=self.is_exact)
        self.config, self.splits, self.task = config, splits, dataset.task
        self.team = team or Team()
        self.shrink = Shrink() if getattr(config.training, "progressive_resizing", False) else None
        train = np.unique(splits.train)
        self.model_config = fit_to_data(
            family_named(config.family),
            config.model,
            dataset,
            replace(splits, train=train),
            rows_beside(config.start_from),
        )
        self.model = self.build() if model is None else self._with_momentum(model)
        self.output = trained_output(self.model, self.model_config.trained_layer, self.task)
        adapt(self.model, dataset, train)
        if self.is_own:
            adapt_normalizations(self.model, dataset, train)
        if config.start_from:
            start_with(self.model, config.start_from)
        self.arrays: list[Array] = [
            prepare(self.model, self.prepared(self.model), dataset),
            numeric_targets(dataset, self.model, self.output.units if self.is_own else 0),
        ]
        weights = sample_weights(config.training, dataset, splits)
        if not config.start_from:
            adapt_to_features(self.model, BACKBONE_FEATURES, dataset, train, self.arrays[0])
            targets = dataset.targets if self.task == "multiclass" else self.arrays[1]
            prepared = self.trained_input(self.model)
            start_linear(self.model, prepared, (self.arrays[0], targets), weights, train, self.task)
        if weights is not None:
            self.arrays.append(weights)

    @property
    def is_own(self) -> bool:
        """Whether the model is a user's."""
        return isinstance(self.model_config, OwnModelConfig)

    @property
    def is_exact(self) -> bool:
        """Whether the same seed gives the same weights to the last bit."""
        return self.stream is None

    @property
    def has_two_phases(self) -> bool:
        """Whether a backbone that was trained before learns on, after its head."""
        return bool(getattr(self.model_config, "has_two_phases", False))

    @property
    def head_epochs(self) -> int:
        """Epochs at the beginning in which only the head learns."""
        training: Any = self.config.training
        return training.head_epochs if self.has_two_phases else 0

    @property
    def member_layer(self) -> str:
        """Name of the layer with the outputs of an ensemble's members; empty if there is none."""
        return str(getattr(self.model_config, "member_layer", ""))

    @property
    def batch_size(self) -> int:
        """Samples in a step."""
        training, count = self.config.training, len(self.splits.train)
        is_full = training.optimizer.name == "gradient_descent"
        return count if is_full else min(training.batch_size, count)

    @property
    def evaluation_batch_size(self) -> int:
        """Samples in a step of evaluation."""
        most = samples_at_once(self.arrays[0].shape, EVALUATION_BATCH_SIZE)
        return self.team.shard.batch_size(most)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch; the last step of each pass may have fewer samples."""
        if self.stream is not None:
            return self.stream.steps
        passes = self.config.training.repeat
        return -(-len(self.splits.train) // self.batch_size) * passes

    @property
    def samples_per_epoch(self) -> int:
        """Samples of an epoch, each counted in every pass."""
        if self.stream is not None:
            return self.stream.samples
        return len(self.splits.train) * self.config.training.repeat

    def training_batches(self) -> TrainingPipeline | StreamPipeline:
        """Return the batches of an epoch."""
        if self.stream is not None:
            return StreamPipeline(self.stream)
        return TrainingPipeline(
            self.arrays,
            self.batch_indices(self.splits.train),
            self.batch_size,
            self.config.seed,
            self.config.training.repeat,
            self.team.shard,
        )

    def validation_batches(self) -> Any:
        """Return the batches of the validation split; None if it is empty."""
        validation = self.batch_indices(self.splits.validation)
        if not len(validation):
            return None
        # With the weights of training, so that the best epoch is that of the same loss.
        return evaluation_pipeline(
            self.arrays, validation, self.evaluation_batch_size, self.team.shard
        )

    def some_batch(self) -> Any:
        """Return inputs and targets of one step, and its sample weights if there are any."""
        if self.stream is not None:
            return next(iter(self.stream.batches))
        train = self.batch_indices(self.splits.train)
        return [array[train[: self.batch_size]] for array in self.arrays]

    def build(self, compilation: Compilation | None = None) -> keras.Model:
        """Return a new model, with layers in the precision of `compilation`; float32 if None."""
        compilation = compilation or Compilation("float32", xla=False)
        with compilation.policy():
            model = self.build_family()
        if self.is_own:
            is_wide = compilation.precision == "float32"
            return model if is_wide else in_precision(model, compilation.precision)
        return self._with_momentum(model)

    def _with_momentum(self, model: keras.Model) -> keras.Model:
        """Return the model, whose batch normalization averages over steps that suit the data."""
        # With Keras' default momentum, the statistics average over about a hundred steps. On a
        # small data set that includes weights of many epochs ago, and predictions get worse.
        most = _MUON_STEPS if self.config.training.optimizer.name == "muon" else _MAX_STEPS
        momentum = 1 - 1 / min(max(self.steps_per_epoch, _MIN_STEPS), most)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = momentum
        return model

    def build_family(self) -> keras.Model:
        """Return a new model of the run's family."""
        if not self.is_own:
            return build_model(self.config.family, self.model_config)
        with own_layers(self.config.family, Path(self.model_config.file)):
            return build_model(self.config.family, self.model_config)

    def prepared(self, model: keras.Model) -> Any:
        """Return the tensor in `model` that is computed once for each sample before training."""
        if self.is_own:
            return prepared_tensors(model)
        if self.config.learns_head_only:
            return model.get_layer(BACKBONE_FEATURES).input
        return model.get_layer(self.model_config.prepared_layer).output

    def trained_input(self, model: keras.Model) -> Any:
        """Return the tensor in `model` where training begins."""
        return self.prepared(model)

    def batch_indices(self, indices: np.ndarray) -> np.ndarray:
        """Return the indices of a split in the form that the pipelines need."""
        return indices

    def metric(self, loss: keras.losses.Loss) -> keras.metrics.Metric:  # noqa: ARG002
        """Return the metric that training shows next to the loss."""
        return make_metric(self.task, self.arrays[1].shape[-1], self.output.activation)

    def metrics(self, loss: keras.losses.Loss) -> list[keras.metrics.Metric]:
        """Return all metrics that training shows."""
        extra = extra_metrics(self.config.training, self.task, self.output)
        units = units_of_values(self.model) if self.task == "regression" else None
        if units is not None:
            extra = [in_units(metric, units) for metric in extra]
        return [self.metric(loss), *extra]

    def log_names(self) -> list[str]:
        """Return the names of the values in the logs of an epoch, to which callbacks may add."""
        loss = make_loss(self.config.training, self.task, self.output, self.has_weights)
        names = ["loss", *(metric.name for metric in self.metrics(loss))]
        validated = names if len(self.splits.validation) else []
        return [*names, *(f"val_{name}" for name in validated)]

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Return the optimizer, with a schedule that spans the whole run."""
        training = self.config.training
        return make_optimizer(training.optimizer, self.steps_per_epoch, training.epochs)

    def _optimizer_of(self, model: keras.Model, variables: list[Any]) -> Any:
        """Return the optimizer of `variables`, which spares a backbone that was trained before."""
        training: Any = self.config.training
        if not self.has_two_phases:
            return self.optimizer()
        backbone = keras.Model(model.inputs, model.get_layer(BACKBONE_FEATURES).input)
        steps = self.head_epochs * self.steps_per_epoch
        return in_two_phases(
            self.optimizer(),
            variables,
            backbone.trainable_variables,
            steps,
            training.backbone_rate,
        )

    def guards(self) -> list[keras.callbacks.Callback]:
        """Return the callbacks that stop a run that can no longer succeed."""
        return [FiniteLoss(self.config)]

    def compile(self, model: keras.Model, compilation: Compilation) -> keras.Model:
        """Return a compiled model of the augmentation and the layers of `model` that learn.

        It shares its weights with `model`.
        """
        training = self.config.training
        prepared = self.trained_input(model)
        names = filter(None, (self.member_layer, self.model_config.trained_layer))
        outputs = [model.get_layer(name).output for name in names]
        learning = keras.Model(prepared, outputs if self.member_layer else outputs[0])
        if self.shrink is not None:
            learning = for_any_size(learning)
        if keras.backend.backend() == "tensorflow" and not compilation.xla:  # XLA fuses it itself
            learning = with_fused_normalization(learning)
        inputs = _inputs_for(prepared, COMPUTED_FEATURES if self.config.learns_head_only else None)
        if self.member_layer:
            learning = MembersInTraining(learning)
        trained = self._model_of_steps(inputs, learning)
        loss = make_loss(training, self.task, self.output, self.has_weights)
        metrics = self.metrics(loss)
        if self.member_layer:
            loss, metrics = MemberLoss(loss), [MemberMetric(metric) for metric in metrics]
        optimizer = self._optimizer_of(model, trained.trainable_variables)
        is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if compilation.precision == "mixed_float16" and not is_scaled:
            # Keras does this automatically only if the whole model has that precision.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        trained.compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=[self.loss_weight],
            metrics=metrics,
            jit_compile=compilation.xla,
            steps_per_execution=training.steps_per_execution,
        )
        # If the first step created the optimizer's state, it would be traced twice.
        trained.optimizer.build(trained.trainable_variables)
        if isinstance(trained, StreamModel):
            trained.build_losses()
        return trained

    def _model_of_steps(self, inputs: Any, learning: keras.Model) -> keras.Model:
        training, shard, splits = self.config.training, self.team.shard, self.splits
        if self.stream is not None:
            streamed = StreamModel(inputs, learning(inputs))
            streamed.form = self.target_form()
            return streamed
        images = inputs if self.shrink is None else self.shrink(inputs)
        augmented, shares = augment_inputs(images, training)
        outputs = learning(augmented)
        if shares is not None:
            outputs = keras.layers.Concatenate(dtype="float32")([outputs, shares])
        if shard.is_whole:
            kind = keras.Model if shares is None else MixingModel
            return kind(inputs, outputs)
        shared = SharedModel if shares is None else SharedMixingModel
        model = shared(inputs, outputs)
        model.training_sizes = shard.filled_sizes(len(splits.train), self.batch_size)
        model.evaluation_sizes = shard.filled_sizes(
            len(splits.validation), self.evaluation_batch_size
        )
        return model

    def target_form(self) -> TargetForm:
        """Return how the targets of a pipeline become those that the loss takes."""
        units = units_of_values(self.model)
        if units is None:
            return TargetForm(self.task, self.output.units)
        return TargetForm(self.task, self.output.units, units.mean, units.deviation)


def _inputs_for(prepared: Any, name: str | None) -> Any:
    """Return the inputs of a model of steps, for a prepared tensor or a dict of them.

    Images stay 8-bit until a step reads them: float32 would take four times the memory.
    """
    if isinstance(prepared, dict):
        return {
            name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
            for name, tensor in prepared.items()
        }
    dtype = prepared.dtype if "int" in prepared.dtype else "float32"
    return keras.Input(prepared.shape[1:], dtype=dtype, name=name)
