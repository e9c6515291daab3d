"""The knobs of training, apart from those of the model."""

from dataclasses import dataclass, field
from typing import Any

from models.augment import AugmentationConfig, augment
from models.checks import (
    check_above,
    check_at_least,
    check_choice,
    check_fraction,
    check_range,
    check_share,
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
SWITCH = ("off", "on")


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
        averaging: share of the average of the weights over past steps that a step keeps; the
            average is what is evaluated and saved (Polyak & Juditsky, 1992); 0 is off.
        schedule: of the learning rate: `constant`; `step`: times `factor` every `every` epochs;
            `exponential`: the same in small steps; `cosine`: falling to 0 over the run along half
            a cosine (Loshchilov & Hutter, 2017); `plateau`: times `factor` once the validation
            loss has not fallen for `every` epochs.
        warmup: share of the run in which the learning rate first rises from 0 (`cosine`).
        factor: see `schedule`.
        every: see `schedule`, in epochs.
        learning_rates: of nets side by side, one for each, in place of `learning_rate`; empty if
            all have that.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    name: str = "adam"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 0.004
    clip_norm: float = 0.0
    averaging: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    factor: float = 0.5
    every: int = 10
    learning_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("optimizer.name", self.name, OPTIMIZERS)
        check_above("optimizer.learning_rate", self.learning_rate, 0)
        check_fraction("optimizer.momentum", self.momentum)
        check_fraction("optimizer.weight_decay", self.weight_decay)
        check_at_least("optimizer.clip_norm", self.clip_norm, 0)
        check_fraction("optimizer.averaging", self.averaging)
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)
        check_fraction("optimizer.warmup", self.warmup)
        check_share("optimizer.factor", self.factor)
        check_range("optimizer.every", self.every, 1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the training split, times `passes`.
        passes: passes over the training split that make an epoch: where it is tiny, more of them
            spare the time of evaluation and callbacks.
        batch_size: samples in a step.
        loss: `auto`: cross entropy, or for a linear head `mse`; else one of `LOSSES`, where
            `cross_entropy` is the categorical one.
        label_smoothing: share of each target that is spread over all classes
            (Szegedy et al., 2016); of the cross entropies.
        class_weights: `none`, or `balanced`: a sample counts in inverse proportion to how common
            its class is.
        patience: epochs without a better validation loss after which training stops; 0 is never.
        keep: which weights are kept: those of the `last` epoch, or of the `best` validation loss.
        precision: of the layers between input and head: `auto` is `float32`, or where training
            takes longer than a minute `mixed_bfloat16` if that is measured to save a fifth.
        xla: whether TensorFlow's steps are compiled by XLA: `off`, which repeats a run to the last
            bit, or `on`. JAX's always are.
        steps_per_execution: steps that the device takes before Python is asked again.
        validation: share of the samples outside the test split that is kept for validation.
        training_shares: shares of the training split to train on besides, each from the start,
            for a picture of the score against the number of samples.
        optimizer: how weights follow gradients.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    epochs: int = 20
    passes: int = 1
    batch_size: int = 64
    loss: str = "auto"
    label_smoothing: float = 0.0
    class_weights: str = "none"
    patience: int = 0
    keep: str = "last"
    precision: str = "auto"
    xla: str = "off"
    steps_per_execution: int = 1
    validation: float = 0.1
    training_shares: tuple[float, ...] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        check_range("epochs", self.epochs, 1, 1_000_000)
        check_range("passes", self.passes, 1, 1_000_000)
        check_at_least("batch_size", self.batch_size, 1)
        check_choice("loss", self.loss, LOSSES)
        check_fraction("label_smoothing", self.label_smoothing)
        if self.label_smoothing and self.loss in ("mse", "kl_divergence"):
            raise ValueError(
                "label_smoothing needs a loss of cross entropy. "
                f"Received: label_smoothing={self.label_smoothing}, loss={self.loss!r}."
            )
        check_choice("class_weights", self.class_weights, ("none", "balanced"))
        check_at_least("patience", self.patience, 0)
        check_choice("keep", self.keep, ("last", "best"))
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("xla", self.xla, SWITCH)
        check_at_least("steps_per_execution", self.steps_per_execution, 1)
        check_share("validation", self.validation)
        for share in self.training_shares:
            check_share("training_shares", share)
        if len(set(self.training_shares)) < len(self.training_shares):
            raise ValueError(
                "training_shares must name each share once. "
                f"Received: training_shares={self.training_shares!r}."
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
