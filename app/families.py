"""The three families as the command line names them, with the defaults that suit each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from models import (
    DigitNetConfig,
    FeatureExtractorConfig,
    SoftmaxClassifierConfig,
    digit_net,
    feature_extractor,
    softmax_classifier,
)

from .data.datasets import Dataset
from .errors import DataError
from .settings import OptimizerConfig, TrainingConfig

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
    build: Callable[[Any], keras.Model]
    takes: tuple[str, ...]


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="digits",
            source="digits8x8",
            model=DigitNetConfig(),
            training=TrainingConfig(epochs=20, batch_size=64),
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


def fit_to_data(family: Family, config: Any, dataset: Dataset) -> Any:
    """Return the model's configuration with the sizes that the data decides.

    Raises:
        DataError: the family cannot take such data.
    """
    if dataset.kind not in family.takes:
        raise DataError(
            f"The family {family.name!r} takes {' or '.join(family.takes)}. "
            f"Received: {dataset.source}, which holds {dataset.kind}."
        )
    shape = dataset.inputs.shape[1:]
    sizes: dict[str, Any] = {"num_classes": len(dataset.labels)}
    if isinstance(config, SoftmaxClassifierConfig):
        sizes["num_columns"] = shape[0]
    if isinstance(config, FeatureExtractorConfig):
        sizes["input_shape"] = shape
    return replace(config, **sizes)
