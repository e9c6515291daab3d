"""The three families as the command line names them, with the defaults that suit each."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from models import (
    DigitNetConfig,
    FeatureExtractorConfig,
    SoftmaxClassifierConfig,
    digit_net,
    feature_extractor,
    softmax_classifier,
)

from .training_config import DigitTrainingConfig, OptimizerConfig, TrainingConfig

ModelConfig = DigitNetConfig | FeatureExtractorConfig | SoftmaxClassifierConfig


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as on the command line.
        source: the data source used unless another is named.
        model: default configuration of the model.
        training: default configuration of the training.
        build: from the configuration to the model.
        takes: what the model's input may be: `rows`, `images`.
    """

    name: str
    source: str
    model: ModelConfig
    training: TrainingConfig
    build: Callable[..., keras.Model]
    takes: tuple[str, ...]


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="digits",
            source="digits8x8",
            model=DigitNetConfig(),
            training=DigitTrainingConfig(epochs=20, batch_size=64),
            build=digit_net,
            takes=("images",),
        ),
        Family(
            name="softmax",
            source="iris",
            model=SoftmaxClassifierConfig(),
            training=TrainingConfig(
                epochs=100, batch_size=16, optimizer=OptimizerConfig(learning_rate=0.03)
            ),
            build=softmax_classifier,
            takes=("rows",),
        ),
        Family(
            name="features",
            source="iris",
            model=FeatureExtractorConfig(),
            training=TrainingConfig(epochs=60, batch_size=16),
            build=feature_extractor,
            takes=("rows", "images"),
        ),
    )
}


def task_of(config: ModelConfig) -> str:
    """Return what the model's head is trained on: `multiclass`, `multilabel` or `regression`.

    `multilabel` stands for a sigmoid head, which takes two classes or several labels.
    """
    head = getattr(config, "head", "softmax")
    return {"softmax": "multiclass", "sigmoid": "multilabel", "linear": "regression"}[head]
