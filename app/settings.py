"""The knobs of training, apart from those of the model."""

from dataclasses import dataclass, field

from models.checks import check_at_least, check_choice

LOSSES = ("cross_entropy", "mse")
OPTIMIZERS = ("sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights follow gradients.

    Attributes:
        name: one of `OPTIMIZERS`; `momentum` is SGD with momentum 0.9.
        learning_rate: size of a step, at the start.
        schedule: `constant`, or `cosine`: falling to 0 over the run along half a cosine
            (Loshchilov & Hutter, 2017).

    Raises:
        ValueError: a value is unknown or out of range.
    """

    name: str = "adam"
    learning_rate: float = 3e-3
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("optimizer.name", self.name, OPTIMIZERS)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                "optimizer.learning_rate must be above 0 and finite. "
                f"Received: optimizer.learning_rate={self.learning_rate!r}."
            )
        check_choice("optimizer.schedule", self.schedule, SCHEDULES)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples in a step.
        loss: `cross_entropy`, or `mse` between probabilities and one-hot targets.
        optimizer: how weights follow gradients.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    epochs: int = 20
    batch_size: int = 64
    loss: str = "cross_entropy"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check the values."""
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_choice("loss", self.loss, LOSSES)
