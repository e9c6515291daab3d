"""The deep feature extractor: hidden layers that learn features, and a softmax on top of them."""

from dataclasses import dataclass

import keras

from .blocks import HiddenConfig, classify, feature_stack
from .checks import check_at_least, check_sizes


@dataclass(frozen=True, kw_only=True)
class FeatureExtractorConfig(HiddenConfig):
    """Configures `feature_extractor`.

    Attributes:
        input_shape: `(columns,)` for rows, `(height, width)` for grey images.
        num_classes: classes, at least 2.
        hidden: units of the hidden layers; the last is the dimension of the features.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    input_shape: tuple[int, ...] = (4,)
    num_classes: int = 3
    hidden: tuple[int, ...] = (64, 32)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_sizes("input_shape", self.input_shape)
        if len(self.input_shape) > 2:
            raise ValueError(
                "input_shape must be (columns,) or (height, width). "
                f"Received: input_shape={self.input_shape!r}."
            )
        check_at_least("num_classes", self.num_classes, 2)
        check_sizes("hidden", self.hidden)


def feature_extractor(config: FeatureExtractorConfig) -> keras.Model:
    """Build a fully connected network whose last hidden layer is the learned representation.

    Rows are standardised by the layer `normalize`, which is adapted to the training data before
    training (unadapted it passes its input through); grey levels are scaled to [0, 1].

    Args:
        config: the model's configuration.

    Returns:
        A model from `inputs` float32 `(batch, columns)`, or `image` uint8
        `(batch, height, width)`, to a dict with `probabilities` float32 `(batch, num_classes)`
        and `features` float32 `(batch, hidden[-1])`.

    Example:
        >>> model = feature_extractor(FeatureExtractorConfig(input_shape=(13,), hidden=(32, 8)))
        >>> model.output_shape
        {'probabilities': (None, 3), 'features': (None, 8)}
    """
    if len(config.input_shape) == 1:
        inputs = keras.Input(config.input_shape, dtype="float32", name="inputs")
        x = keras.layers.Normalization(name="normalize")(inputs)
    else:
        inputs = keras.Input(config.input_shape, dtype="uint8", name="image")
        x = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
        x = keras.layers.Flatten(name="pixels")(x)
    features = feature_stack(x, config.hidden, config)
    probabilities = classify(features, config.num_classes, config, config.dropout)
    outputs = {"probabilities": probabilities, "features": features}
    return keras.Model(inputs, outputs, name="feature_extractor")
