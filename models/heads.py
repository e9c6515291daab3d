"""What sits on top of the features: a linear classifier, or a linear regression."""

from typing import Any

import keras
from keras import ops

from .blocks import KernelConfig, dense

HEADS = ("softmax", "sigmoid", "linear")


@keras.saving.register_keras_serializable(package="hornbill")
class BothClasses(keras.layers.Layer):
    """Completes the probability of the second of two classes with that of the first.

    Input shape: float `(…, 1)`.
    Output shape: float `(…, 2)`, each row summing to 1.
    """

    def call(self, probability: Any) -> Any:
        """Return `[1 - probability, probability]`."""
        return ops.concatenate([1.0 - probability, probability], axis=-1)


def classify(features: Any, num_classes: int, config: KernelConfig) -> Any:
    """Apply a softmax layer.

    Args:
        features: float `(batch, dimension)`, or `(batch, nets, dimension)`.
        num_classes: classes.
        config: how the weights start and are kept small.

    Returns:
        float32 `(…, num_classes)`, named `probabilities`, each row summing to 1.
    """
    return _head(features, num_classes, config, "probabilities", activation="softmax")


def tell_two_classes(features: Any, config: KernelConfig) -> Any:
    """Apply one sigmoid unit, the probability of the second of two classes.

    Returns:
        float32 `(…, 2)`, named `probabilities`, each row summing to 1.
    """
    second = _head(features, 1, config, "second_class", activation="sigmoid")
    return BothClasses(name="probabilities", dtype="float32")(second)


def tell_labels(features: Any, num_labels: int, config: KernelConfig) -> Any:
    """Apply a sigmoid unit for each label; a sample may have none, one or many.

    Returns:
        float32 `(…, num_labels)`, named `probabilities`, each element a probability.
    """
    return _head(features, num_labels, config, "probabilities", activation="sigmoid")


def regress(features: Any, num_values: int, config: KernelConfig) -> Any:
    """Apply a linear layer to standardized values, and bring them to the targets' own units.

    The layer `values` holds the targets' mean and variance: adapt it to the training data.
    Unadapted it passes the standardized values through.

    Returns:
        float32 `(…, num_values)`, named `values`; the layer before is `standard_values`.
    """
    standard = _head(features, num_values, config, "standard_values")
    return keras.layers.Normalization(invert=True, name="values", dtype="float32")(standard)


def divide_logits(model: keras.Model, output: str, temperature: float) -> None:
    """Divide the logits behind an output of probabilities, by dividing the weights they come from.

    The model changes in place. Guo et al., 2017: one temperature for all classes changes no order.

    Args:
        model: functional, with a dict of outputs.
        output: name of the one that softmax or sigmoid gives from a `Dense` layer.
        temperature: above 0; above 1 makes probabilities less extreme.

    Raises:
        ValueError: the output comes from other layers.
    """
    operation = model.output[output]._keras_history.operation
    while isinstance(operation, keras.layers.Activation | keras.layers.Softmax | BothClasses):
        operation = operation.input._keras_history.operation
    if not isinstance(operation, keras.layers.Dense):
        raise ValueError(
            "Logits must come from a Dense layer. "
            f"Received: {output} from {type(operation).__name__} {operation.name!r}."
        )
    operation.set_weights([weight / temperature for weight in operation.get_weights()])


def _head(features: Any, units: int, config: KernelConfig, name: str, **arguments: Any) -> Any:
    # float32 under mixed precision too: the losses need it.
    return dense(features, units, config, name, dtype="float32", **arguments)
