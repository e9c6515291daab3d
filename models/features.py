"""The deep feature extractor: hidden layers that learn features, and a head on top of them."""

from dataclasses import dataclass, field
from typing import Any

import keras

from .blocks import HiddenConfig, feature_stack
from .checks import check_at_least, check_choice, check_sizes
from .heads import HEADS, classify, regress, tell_labels, tell_two_classes
from .replicas import replicate
from .rows import RowsConfig, prepare_rows


@dataclass(frozen=True, kw_only=True)
class FeatureExtractorConfig(HiddenConfig):
    """Configures `feature_extractor`.

    Attributes:
        rows: the columns of the input, unless it is an image.
        image_shape: `(height, width)` of a gray image; empty for rows.
        head: `softmax` for one of several classes; `sigmoid` for one of two classes, or with
            `many_labels` for each label alone; `linear` for values (regression).
        num_outputs: classes, labels or values.
        many_labels: whether a sample may have several labels, or none.
        hidden: units of the hidden layers; the last is the dimension of the features. None makes a
            linear model, whose features are the columns as they are prepared.
        residual: whether a hidden layer adds to what it takes, where the width stays (He et al.,
            2016).

    Raises:
        ValueError: a value is unknown or out of range.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    image_shape: tuple[int, ...] = ()
    head: str = "softmax"
    num_outputs: int = 2
    many_labels: bool = False
    hidden: tuple[int, ...] = (64, 32)
    residual: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.image_shape:
            check_sizes("image_shape", self.image_shape)
            if len(self.image_shape) != 2:
                raise ValueError(
                    "image_shape must be (height, width). "
                    f"Received: image_shape={self.image_shape!r}."
                )
        check_choice("head", self.head, HEADS)
        one_is_enough = self.head == "linear" or self.many_labels
        check_at_least("num_outputs", self.num_outputs, 1 if one_is_enough else 2)
        if self.head == "sigmoid" and not self.many_labels and self.num_outputs != 2:
            raise ValueError(
                "head=sigmoid must have two classes, or several columns of labels. "
                f"Received: {self.num_outputs} classes. Use head=softmax."
            )
        if self.many_labels and self.head != "sigmoid":
            raise ValueError(
                f"Several labels a sample need head=sigmoid. Received: head={self.head!r}."
            )
        if self.hidden:
            self.check_widths("hidden", self.hidden)

    @property
    def prepared_layer(self) -> str:
        """Name of the layer up to which an input is prepared alike in each epoch."""
        return "pixels" if self.image_shape else self.rows.prepared_layer

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output is compared with the targets."""
        return "standard_values" if self.head == "linear" else "probabilities"


def feature_extractor(config: FeatureExtractorConfig, replicas: int = 0) -> keras.Model:
    """Build a fully connected network whose last hidden layer is the learned representation.

    Rows are standardized by the layer `normalize`, which is adapted to the training data before
    training (unadapted it passes its input through); gray levels are scaled to [0, 1].

    Args:
        config: the model's configuration.
        replicas: number of replicas to build, see `models.replicas`; 0 builds an ordinary model.

    Returns:
        A model from the inputs of `prepare_rows`, or from `image` uint8 `(batch, height, width)`,
        to a dict with `features` float32 `(batch, hidden[-1])` and what the head gives:
        `probabilities` or `values`, float32 `(batch, num_outputs)`.

    Example:
        >>> rows = RowsConfig(num_columns=13)
        >>> model = feature_extractor(FeatureExtractorConfig(rows=rows, hidden=(32, 8)))
        >>> model.output_shape
        {'probabilities': (None, 2), 'features': (None, 8)}
    """
    if config.image_shape:
        inputs: Any = keras.Input(config.image_shape, dtype="uint8", name="image")
        x = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
        x = keras.layers.Flatten(name="pixels")(x)
    else:
        inputs, x = prepare_rows(config.rows)
    features = feature_stack(replicate(x, replicas), config.hidden, config, config.residual)
    x = features
    if config.dropout:
        x = keras.layers.Dropout(config.dropout, name="features_dropout")(x)
    name, answer = _apply_head(x, config)
    return keras.Model(inputs, {name: answer, "features": features}, name="feature_extractor")


def _apply_head(features: Any, config: FeatureExtractorConfig) -> tuple[str, Any]:
    if config.head == "linear":
        return "values", regress(features, config.num_outputs, config)
    if config.many_labels:
        return "probabilities", tell_labels(features, config.num_outputs, config)
    if config.head == "sigmoid":
        return "probabilities", tell_two_classes(features, config)
    return "probabilities", classify(features, config.num_outputs, config)
