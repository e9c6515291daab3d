"""The softmax classifier: standardized columns and a softmax layer."""

import keras

from .columns import encode_columns
from .config.columns import ColumnsConfig
from .config.softmax import SoftmaxClassifierConfig
from .heads import classify
from .replicas import replicate
from .rows import prepare_columns


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
