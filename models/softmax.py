"""The softmax classifier: normalised columns and one softmax layer."""

from dataclasses import dataclass

import keras

from .blocks import KernelConfig, classify
from .checks import check_at_least


@dataclass(frozen=True, kw_only=True)
class SoftmaxClassifierConfig(KernelConfig):
    """Configures `softmax_classifier`.

    Attributes:
        num_columns: columns of the input.
        num_classes: classes, at least 2.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    num_columns: int = 4
    num_classes: int = 3

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_at_least("num_columns", self.num_columns, 1)
        check_at_least("num_classes", self.num_classes, 2)


def softmax_classifier(config: SoftmaxClassifierConfig) -> keras.Model:
    """Build multinomial logistic regression.

    The layer `normalize` standardises the columns inside the graph: adapt it to the training data
    before training. Unadapted it passes its input through.

    Args:
        config: the model's configuration.

    Returns:
        A model from `inputs` float32 `(batch, num_columns)` to a dict with `probabilities`
        float32 `(batch, num_classes)`.

    Example:
        >>> model = softmax_classifier(SoftmaxClassifierConfig(num_columns=4, num_classes=3))
        >>> model.output_shape
        {'probabilities': (None, 3)}
    """
    inputs = keras.Input((config.num_columns,), dtype="float32", name="inputs")
    normalized = keras.layers.Normalization(name="normalize")(inputs)
    probabilities = classify(normalized, config.num_classes, config)
    return keras.Model(inputs, {"probabilities": probabilities}, name="softmax_classifier")
