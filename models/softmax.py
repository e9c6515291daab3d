"""The softmax classifier: standardized columns and a softmax layer."""

from dataclasses import dataclass, field

import keras

from .blocks import KernelConfig
from .checks import check_at_least
from .columns import ColumnsConfig, encode_columns
from .heads import classify
from .replicas import replicate
from .rows import RowsConfig, prepare_columns


@dataclass(frozen=True, kw_only=True)
class SoftmaxClassifierConfig(KernelConfig):
    """Configures `softmax_classifier`.

    Attributes:
        rows: columns of the input.
        num_classes: number of classes, at least 2.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    num_classes: int = 3

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_at_least("num_classes", self.num_classes, 2)

    @property
    def prepared_layer(self) -> str:
        """Name of the layer up to which inputs are prepared once, before training."""
        return self.rows.prepared_layer()

    @property
    def trained_layer(self) -> str:
        """Name of the layer whose output the loss compares with the targets."""
        return "probabilities"


def softmax_classifier(config: SoftmaxClassifierConfig, replicas: int = 0) -> keras.Model:
    """Build multinomial logistic regression.

    The layer `normalize` standardizes the columns inside the graph: adapt it to the training data
    before training. Until then it returns its input.

    Args:
        config: the model's configuration.
        replicas: number of replicas to build, see `models.replicas`; 0 builds an ordinary model.

    Returns:
        A model from the inputs of `prepare_columns` to a dict with `probabilities` float32
        `(batch, num_classes)`.

    Examples:
        >>> config = SoftmaxClassifierConfig(rows=RowsConfig(num_columns=4), num_classes=3)
        >>> softmax_classifier(config).output_shape
        {'probabilities': (None, 3)}
    """
    inputs, prepared = prepare_columns(config.rows)
    columns = encode_columns(prepared, config.rows, ColumnsConfig())
    probabilities = classify(replicate(columns, replicas), config.num_classes, config)
    return keras.Model(inputs, {"probabilities": probabilities}, name="softmax_classifier")
