"""The registry of model families: their names, defaults and builders."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from app.errors import ConfigError
from models import DigitNetConfig, FeatureExtractorConfig, SoftmaxClassifierConfig
from models.errors import BackboneError

from .training_config import (
    DigitTrainingConfig,
    FeatureTrainingConfig,
    OptimizerConfig,
    TrainingConfig,
)

ModelConfig = DigitNetConfig | FeatureExtractorConfig | SoftmaxClassifierConfig


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: name on the command line.
        source: default data source.
        model: default configuration of the model.
        training: default configuration of the training.
        builder: function that builds the model of a configuration, `module:name`.
        takes: kinds of input that the model accepts: `rows`, `images`.
    """

    name: str
    source: str
    model: ModelConfig
    training: TrainingConfig
    builder: str
    takes: tuple[str, ...]

    @property
    def build(self) -> Callable[..., Any]:
        """The function that builds the `keras.Model` of a configuration. It imports Keras."""
        function: Callable[..., Any] = resolve_name(self.builder)
        return function


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="digits",
            source="digits8x8",
            model=DigitNetConfig(),
            training=DigitTrainingConfig(epochs=20, batch_size=64),
            builder="models.digits:digit_net",
            takes=("images",),
        ),
        Family(
            name="softmax",
            source="iris",
            model=SoftmaxClassifierConfig(),
            training=TrainingConfig(
                epochs=100, batch_size=16, optimizer=OptimizerConfig(learning_rate=0.03)
            ),
            builder="models.softmax:softmax_classifier",
            takes=("rows",),
        ),
        Family(
            name="features",
            source="iris",
            model=FeatureExtractorConfig(),
            training=FeatureTrainingConfig(epochs=60, batch_size=16),
            builder="models.features:feature_extractor",
            takes=("rows", "images"),
        ),
    )
}


def build_model(family: str, config: ModelConfig) -> Any:
    """Return a new `keras.Model` of a family.

    Raises:
        ConfigError: the backbone cannot be built.
    """
    try:
        return FAMILIES[family].build(config)
    except BackboneError as error:
        raise ConfigError(str(error)) from None


def task_of(config: ModelConfig) -> str:
    """Return the task of the model's head: `multiclass`, `multilabel` or `regression`.

    A sigmoid head counts as `multilabel`, although it can also separate two classes.
    """
    head = getattr(config, "head", "softmax")
    return {"softmax": "multiclass", "sigmoid": "multilabel", "linear": "regression"}[head]
