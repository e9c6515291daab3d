"""The knobs of training, apart from those of the model."""

from dataclasses import dataclass, field
from typing import Any

from models.augment import AugmentationConfig, augment
from models.checks import (
    check_above,
    check_at_least,
    check_choice,
    check_fraction,
    check_open_fraction,
    check_range,
)

LOSSES = ("auto", "cross_entropy", "binary_cross_entropy", "mse", "kl_divergence")
OPTIMIZERS = (
    "gradient_descent",
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
)
SCHEDULES = ("constant", "step", "exponential", "cosine", "plateau")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights follow gradients.

    Attributes:
        name: one of `OPTIMIZERS`: `gradient_descent` takes one step a pass, over the whole
            training split; `momentum` and `nesterov` are SGD with `momentum`.
        learning_rate: size of a step, at its largest.
        momentum: share of the last step that the next one keeps (`momentum`, `nesterov`).
        weight_decay: share of each weight that a step takes away, times the learning rate
            (`adamw`: Loshchilov & Hutter, 2019).
        clip_norm: largest norm of all gradients together; longer ones are shortened; 0 is off.
        ema_momentum: share of the average of the weights over past steps that a step keeps; the
            average is what is evaluated and saved (Polyak & Juditsky, 1992); 0 is off.
        schedule: of the learning rate: `constant`; `step`: times `decay_rate` every
            `decay_epochs` epochs; `exponential`: the same in small steps; `cosine`: falling to 0
            over the run along half a cosine (Loshchilov & Hutter, 2017); `plateau`: times
            `decay_rate` once the validation loss has not fallen for `decay_epochs` epochs.
        warmup: share of the run in which the learning rate first rises from 0 (`cosine`).
        decay_rate: see `schedule`.
        decay_epochs: see `schedule`, in epochs.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    name: str = "adam"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.004
    clip_norm: float = 0.0
    ema_momentum: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    decay_rate: float = 0.5
    decay_epochs: int = 10

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("optimizer.name", self.name, OPTIMIZERS)
        check_above("optimizer.learning_rate", self.learning_rate, 0)
        check_fraction("optimizer.momentum", self.momentum)
        check_fraction("optimizer.weight_decay", self.weight_decay)
        check_at_least("optimizer.clip_norm", self.clip_norm, 0)
        check_fraction("optimizer.ema_momentum", self.ema_momentum)
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)
        check_fraction("optimizer.warmup", self.warmup)
        check_open_fraction("optimizer.decay_rate", self.decay_rate)
        check_range("optimizer.decay_epochs", self.decay_epochs, 1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the training split, times `repeat`.
        repeat: passes over the training split that make an epoch: where it is tiny, more of them
            spare the time of evaluation and callbacks.
        batch_size: samples in a step.
        loss: `auto`: cross entropy, or for a linear head `mse`; else one of `LOSSES`, where
            `cross_entropy` is the categorical one.
        label_smoothing: share of each target that is spread over all classes
            (Szegedy et al., 2016); of the cross entropies.
        class_weight: `none`, or `balanced`: a sample counts in inverse proportion to how common
            its class is.
        patience: epochs without a better validation loss after which training stops; 0 is never.
        restore_best_weights: whether the weights of the epoch with the best validation loss are
            kept, instead of those of the last.
        precision: of the layers between input and head: `auto` is `float32`, or where training
            takes longer than a minute `mixed_bfloat16` if that is measured to save a fifth.
        xla: whether XLA compiles TensorFlow's steps; without it a run is repeated to the last
            bit. It always compiles those of JAX.
        steps_per_execution: steps that the device takes before Python is asked again.
        validation_split: share of the samples outside the test split that is kept for validation.
        train_sizes: shares of the training split to train on besides, each from the start,
            for a picture of the score against the number of samples.
        optimizer: how weights follow gradients.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    epochs: int = 20
    repeat: int = 1
    batch_size: int = 64
    loss: str = "auto"
    label_smoothing: float = 0.0
    class_weight: str = "none"
    patience: int = 0
    restore_best_weights: bool = False
    precision: str = "auto"
    xla: bool = False
    steps_per_execution: int = 1
    validation_split: float = 0.1
    train_sizes: tuple[float, ...] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        check_range("epochs", self.epochs, 1, 1_000_000)
        check_range("repeat", self.repeat, 1, 1_000_000)
        check_at_least("batch_size", self.batch_size, 1)
        check_choice("loss", self.loss, LOSSES)
        check_fraction("label_smoothing", self.label_smoothing)
        if self.label_smoothing and self.loss in ("mse", "kl_divergence"):
            raise ValueError(
                "label_smoothing needs a loss of cross entropy. "
                f"Received: label_smoothing={self.label_smoothing}, loss={self.loss!r}."
            )
        check_choice("class_weight", self.class_weight, ("none", "balanced"))
        check_at_least("patience", self.patience, 0)
        check_choice("precision", self.precision, PRECISIONS)
        check_at_least("steps_per_execution", self.steps_per_execution, 1)
        check_open_fraction("validation_split", self.validation_split)
        for share in self.train_sizes:
            check_open_fraction("train_sizes", share)
        if len(set(self.train_sizes)) < len(self.train_sizes):
            raise ValueError(
                "train_sizes must name each share once. "
                f"Received: train_sizes={self.train_sizes!r}."
            )

    def augment(self, inputs: Any) -> Any:
        """Return what a training step sees of prepared inputs: here, the inputs themselves."""
        return inputs


@dataclass(frozen=True, kw_only=True)
class DigitTrainingConfig(TrainingConfig):
    """How a model of digits is trained.

    Attributes:
        augmentation: how far a training step bends its digits.
    """

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def augment(self, inputs: Any) -> Any:
        """Return `inputs`, float32 `(batch, side, side)` of ink, bent at random."""
        return augment(inputs, self.augmentation)
