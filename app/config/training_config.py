"""Settings of the training; those of the model are in `models`."""

from dataclasses import dataclass, field
from typing import Annotated

from app.system.user_code import is_reference, shown_name
from models import AugmentationConfig, ImageAugmentationConfig
from models.checks import check_at_least
from models.config.limits import (
    Above,
    AtLeast,
    Fraction,
    OneOf,
    OpenFraction,
    Range,
    Text,
    check_limits,
)

from .keras_names import LOSSES, check_loss, check_metrics, check_references
from .threshold_rules import THRESHOLDS, parse_rule

# Settings that name code of users.
OWN_CODE = ("loss", "metrics", "callbacks", "optimizer.name")
# Values of `loss` and `metrics` for people.
_OF_LOSS = f"{', '.join(LOSSES)}, another loss of Keras, or file.py:name"
_OTHERS = "another one of Keras such as keras.optimizers:Ftrl, or file.py:name"
_OF_METRICS = "metrics of Keras, or file.py:name"
OPTIMIZERS = (
    "gradient_descent",
    "sgd",
    "momentum",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "nadam",
    "adamax",
    "adafactor",
    "lamb",
    "lion",
    "muon",
)
# Optimizers whose steps subtract a fraction of each weight, `weight_decay`.
DECAYING = ("adamw", "lamb", "lion", "muon")
# Those of them that subtract none by default, as in Keras.
WITHOUT_DECAY = ("lamb", "lion")
# Losses that label smoothing applies to.
SMOOTHED = ("cross_entropy", "binary_cross_entropy")
SCHEDULES = ("constant", "step", "exponential", "cosine", "plateau")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class _OptimizerName(OneOf):
    """One of several names, or a reference to an optimizer of the user's own."""

    def check(self, name: str, value: str) -> None:
        """Raise `ValueError` with a suggestion unless `value` is either."""
        if is_reference(value):
            return
        try:
            super().check(name, value)
        except ValueError as error:
            raise ValueError(f"{error} It may also be {_OTHERS}.") from None

    def __str__(self) -> str:
        return f"{super().__str__()}, {_OTHERS}"


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of the optimizer and its learning-rate schedule.

    Attributes:
        name: optimizer, one of `OPTIMIZERS`, or one of your own by a reference, which has its own
            settings and learning rate: those of this class then do nothing. `gradient_descent`
            takes one step for each pass over the whole training split; `momentum` and `nesterov`
            are SGD with `momentum`; `muon` makes the steps of kernels orthogonal, see
            `app.training.muon`.
        learning_rate: peak learning rate.
        momentum: fraction of the last step that is added to the next one (`momentum`, `nesterov`
            and `muon` only).
        beta_2: decay of the average of the squared gradients (`adam` and `adamw` only). 0.95 suits
            large learning rates, 0.999 is the usual value.
        weight_decay: fraction of each weight that a step subtracts, times the learning rate
            (`adamw`, `lamb`, `lion` and `muon` only: Loshchilov & Hutter, 2019). Its default is 0
            for `lamb` and `lion`, as in Keras.
        clip_norm: largest global norm of the gradients; longer gradients are scaled down. 0 turns
            clipping off.
        ema_momentum: momentum of the exponential moving average of the weights, which is
            evaluated and saved in their place (Polyak & Juditsky, 1992). 0 turns averaging off.
        schedule: learning-rate schedule. `constant` keeps the rate; `step` multiplies it by
            `decay_rate` every `decay_epochs` epochs; `exponential` does the same gradually;
            `cosine` lets it fall to 0 along half a cosine over the run (Loshchilov & Hutter,
            2017); `plateau` multiplies it by `decay_rate` when the validation loss has not fallen
            for `decay_epochs` epochs.
        warmup: fraction of the run in which the learning rate first rises from 0 (`cosine` only).
        decay_rate: factor of the learning rate, see `schedule`.
        decay_epochs: number of epochs between decays, see `schedule`.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    name: Annotated[str, _OptimizerName(OPTIMIZERS)] = "adam"
    learning_rate: Annotated[float, Above(0)] = 3e-3
    momentum: Annotated[float, Fraction()] = 0.9
    beta_2: Annotated[float, Fraction()] = 0.999
    weight_decay: Annotated[float, Fraction()] = 0.004
    clip_norm: Annotated[float, AtLeast(0)] = 0.0
    ema_momentum: Annotated[float, Fraction()] = 0.0
    schedule: Annotated[str, OneOf(SCHEDULES)] = "cosine"
    warmup: Annotated[float, Fraction()] = 0.0
    decay_rate: Annotated[float, OpenFraction()] = 0.5
    decay_epochs: Annotated[int, Range(1, 1_000_000)] = 10

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self, "optimizer.")

    @property
    def is_own(self) -> bool:
        """Whether the optimizer is one of the user's own."""
        return is_reference(self.name)

    @property
    def remedy(self) -> str:
        """What to change if the loss or the predictions are not finite."""
        if self.is_own:
            return (
                f"Lower the learning rate of {shown_name(self.name)}, or clip its gradients, such "
                "as by its argument global_clipnorm=1."
            )
        return "Lower optimizer.learning_rate, or set optimizer.clip_norm=1."


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of the training.

    Attributes:
        epochs: number of epochs.
        repeat: passes over the training split in each epoch. On tiny data sets, several passes
            save the time of evaluations and callbacks.
        batch_size: number of samples in a step.
        loss: loss function, one of `LOSSES`; other losses of Keras are given by their names, those
            of your own by a reference, see `app.system.user_code`. `auto` is the cross entropy that
            suits the head, or `mse` for a linear head; `cross_entropy` is the categorical cross
            entropy.
        metrics: further metrics to show while training, by the name in Keras or by a reference.
        callbacks: callbacks of your own, by a reference.
        label_smoothing: fraction of each target that is spread over all classes (Szegedy et al.,
            2016). It applies to the cross entropies.
        class_weight: `balanced` weights each sample in inverse proportion to how common its class
            is; `none` gives all samples the same weight.
        threshold: how the probability from which on a class or label is predicted is chosen, see
            `app.config.threshold_rules.parse_rule`. 0.5 predicts the more probable of two classes.
        patience: number of epochs without a lower validation loss after which training stops; 0
            trains to the end.
        restore_best_weights: whether the weights of the epoch with the lowest validation loss are
            kept, rather than those of the last epoch.
        validation_window: number of epochs, odd, whose mean validation loss counts for the one in
            their middle when `restore_best_weights` chooses. On few validation samples, a single
            low loss is luck.
        precision: precision of the layers between input and head. `auto` is `float32`, but where
            training takes longer than half a minute it measures `mixed_bfloat16` and uses it if
            steps are at least 20% faster.
        xla: whether XLA compiles TensorFlow's training steps; a run then no longer repeats to the
            last bit. The steps of JAX are always compiled by XLA.
        steps_per_execution: number of steps that run between two returns to Python.
        validation_split: fraction of the samples outside the test split to use for validation.
        train_sizes: fractions of the training split on which further models are trained, to plot
            the score by the number of training samples.
        optimizer: settings of the optimizer.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    epochs: Annotated[int, Range(1, 1_000_000)] = 20
    repeat: Annotated[int, Range(1, 1_000_000)] = 1
    batch_size: Annotated[int, AtLeast(1)] = 64
    loss: Annotated[str, Text(_OF_LOSS, check_loss)] = "auto"
    metrics: Annotated[tuple[str, ...], Text(_OF_METRICS, check_metrics)] = ()
    callbacks: Annotated[tuple[str, ...], Text("file.py:name", check_references)] = ()
    label_smoothing: Annotated[float, Fraction()] = 0.0
    class_weight: Annotated[str, OneOf(CLASS_WEIGHTS)] = "none"
    threshold: Annotated[float | str, Text(THRESHOLDS, parse_rule)] = 0.5
    patience: Annotated[int, AtLeast(0)] = 0
    restore_best_weights: bool = False
    validation_window: Annotated[int, Text("an odd number, at least 1")] = 1
    precision: Annotated[str, OneOf(PRECISIONS)] = "auto"
    xla: bool = False
    steps_per_execution: Annotated[int, AtLeast(1)] = 1
    validation_split: Annotated[float, OpenFraction()] = 0.1
    train_sizes: Annotated[tuple[float, ...], OpenFraction()] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        check_limits(self)
        if self.label_smoothing and self.loss not in ("auto", *SMOOTHED):
            raise ValueError(
                "label_smoothing applies to cross entropy only. "
                f"Received: label_smoothing={self.label_smoothing}, loss={self.loss!r}."
            )
        check_at_least("validation_window", self.validation_window, 1)
        if self.validation_window % 2 == 0:
            raise ValueError(
                "validation_window must be odd, so that it has a middle. "
                f"Received: validation_window={self.validation_window}."
            )
        if len(set(self.train_sizes)) < len(self.train_sizes):
            raise ValueError(
                "train_sizes must name each fraction once. "
                f"Received: train_sizes={self.train_sizes!r}."
            )

    @property
    def augments(self) -> bool:
        """Whether training steps see samples that are changed at random."""
        return False


@dataclass(frozen=True, kw_only=True)
class DigitTrainingConfig(TrainingConfig):
    """Settings of the training of a digit net.

    Attributes:
        augmentation: how much augmentation changes the digits of a training step.
    """

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    @property
    def augments(self) -> bool:
        """Whether training steps see digits that are changed at random."""
        return self.augmentation != AugmentationConfig()


@dataclass(frozen=True, kw_only=True)
class FeatureTrainingConfig(TrainingConfig):
    """Settings of the training of a feature extractor.

    Attributes:
        head_epochs: number of epochs at the beginning in which a backbone that was trained before
            keeps its weights, so that a head that knows nothing yet does not spoil them.
        backbone_rate: factor of the learning rate for such a backbone afterwards (Howard & Ruder,
            2018).
        progressive_resizing: whether images have two thirds of their sides in the first two thirds
            of the epochs (`backbone=residual` only; Tan & Le, 2021).
        augmentation: how much augmentation changes the images of a training step.

    Raises:
        ValueError: a value is out of range.
    """

    head_epochs: Annotated[int, AtLeast(0)] = 0
    backbone_rate: Annotated[float, Above(0)] = 0.1
    progressive_resizing: bool = False
    augmentation: ImageAugmentationConfig = field(default_factory=ImageAugmentationConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        mixing = next((key for key in ("mixup", "cutmix") if getattr(self.augmentation, key)), None)
        if mixing and self.batch_size == 1:
            raise ValueError(
                f"augmentation.{mixing} mixes the images of a batch, which must be at least 2. "
                "Received: batch_size=1."
            )

    @property
    def augments(self) -> bool:
        """Whether training steps see images that are changed at random."""
        return self.augmentation != ImageAugmentationConfig()
