"""Heads: the output layers on top of the features, for classification and regression."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from .blocks import dense
from .config.layers import KernelConfig
from .graph import producer
from .members import average_members
from .scaling import ClipToRange

# Names of the layers whose weights are those of a head.
HEAD_LAYERS = (
    "probabilities",
    "second_class",
    "standard_values",
    "member_probabilities",
    "member_second_class",
    "member_values",
)


@keras.saving.register_keras_serializable(package="hornbill")
class BothClasses(keras.layers.Layer):
    """Turns the probability of the second of two classes into the probabilities of both.

    Input shape: float `(…, 1)`.
    Output shape: float `(…, 2)`, each row summing to 1.
    """

    def call(self, probability: Any) -> Any:
        """Return `[1 - probability, probability]`."""
        return ops.concatenate([1.0 - probability, probability], axis=-1)


# float32 holds no smaller positive numbers at full precision, and for p near 1 it leaves 1 - p at
# most 24 bits.
_SMALLEST, _SMALLEST_REST = 1e-37, 2.0**-25
# Layers of logits, and those between them and the probabilities.
_OF_LOGITS = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
)
_AFTER_LOGITS = (
    keras.layers.Activation,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.Softmax,
    BothClasses,
)


def classify(
    features: Any, num_classes: int, config: KernelConfig, is_ensemble: bool = False
) -> Any:
    """Apply a softmax layer.

    Args:
        features: float `(batch, dimension)`, or `(batch, replicas, dimension)`.
        num_classes: number of classes.
        config: how the weights are initialized and regularized.
        is_ensemble: whether the replicas are the members of an ensemble, whose mean is returned.

    Returns:
        float32 `(…, num_classes)`, named `probabilities`, each row summing to 1.
    """
    name = _name_of("probabilities", is_ensemble)
    each = _head(features, num_classes, config, name, activation="softmax")
    return average_members(each, "probabilities") if is_ensemble else each


def binary_probabilities(features: Any, config: KernelConfig, is_ensemble: bool = False) -> Any:
    """Apply one sigmoid unit, which gives the probability of the second of two classes.

    Args:
        features: float `(batch, dimension)`, or `(batch, replicas, dimension)`.
        config: how the weights are initialized and regularized.
        is_ensemble: whether the replicas are the members of an ensemble, whose mean is returned.

    Returns:
        float32 `(…, 2)`, named `probabilities`, each row summing to 1.
    """
    name = _name_of("second_class", is_ensemble)
    second = _head(features, 1, config, name, activation="sigmoid")
    each = BothClasses(name=_name_of("probabilities", is_ensemble), dtype="float32")(second)
    return average_members(each, "probabilities") if is_ensemble else each


def label_probabilities(
    features: Any, num_labels: int, config: KernelConfig, is_ensemble: bool = False
) -> Any:
    """Apply a sigmoid unit for each label; a sample may have any number of labels.

    Args:
        features: float `(batch, dimension)`, or `(batch, replicas, dimension)`.
        num_labels: number of labels.
        config: how the weights are initialized and regularized.
        is_ensemble: whether the replicas are the members of an ensemble, whose mean is returned.

    Returns:
        float32 `(…, num_labels)`, named `probabilities`, each element a probability.
    """
    name = _name_of("probabilities", is_ensemble)
    each = _head(features, num_labels, config, name, activation="sigmoid")
    return average_members(each, "probabilities") if is_ensemble else each


def regress(
    features: Any,
    num_values: int,
    config: KernelConfig,
    is_ensemble: bool = False,
    clip_values: bool = False,
) -> Any:
    """Apply a linear layer that gives standardized values, and scale them to the targets' units.

    The layer `values` holds the mean and variance of the targets. Adapt it to the training data;
    until then it returns the standardized values.

    Args:
        features: float `(batch, dimension)`, or `(batch, replicas, dimension)`.
        num_values: number of values.
        config: how the weights are initialized and regularized.
        is_ensemble: whether the replicas are the members of an ensemble, whose mean is returned.
        clip_values: whether values are clipped to the range of the targets in the training data,
            by the layer `clipped_values`, which is to be adapted as well.

    Returns:
        float32 `(…, num_values)`; the standardized values are the layer `standard_values`.
    """
    standard = _head(
        features, num_values, config, "member_values" if is_ensemble else "standard_values"
    )
    if is_ensemble:
        standard = average_members(standard, "standard_values")
    scale = keras.layers.Normalization(invert=True, name="values", dtype="float32")
    values = scale(standard)
    return ClipToRange(name="clipped_values")(values) if clip_values else values


def _name_of(name: str, is_ensemble: bool) -> str:
    return f"member_{name}" if is_ensemble else name


def scale_logits(
    model: keras.Model, output: str, temperature: float, bias: Sequence[float] = ()
) -> None:
    """Divide the logits of an output by a temperature, and add a bias, in the weights of its layer.

    The model changes in place. A single temperature for all classes keeps their order (Guo et al.,
    2017); a bias for each corrects how common they are thought to be (Saerens et al., 2002). The
    logits of an ensemble are those of its members.

    Args:
        model: functional model with a dict of outputs.
        output: name of an output that is the softmax or sigmoid of a `Dense` layer.
        temperature: divisor above 0; a temperature above 1 makes probabilities less extreme.
        bias: what is added to the divided logit of each class or label; empty adds nothing.

    Raises:
        ValueError: the output does not come from a `Dense` layer with a bias.
    """
    operation = producer(model.output[output])
    while isinstance(operation, _AFTER_LOGITS):
        operation = producer(operation.input)
    if not isinstance(operation, _OF_LOGITS):
        raise ValueError(
            "Only the logits of a Dense layer can be divided. "
            f"Received: {output} from {type(operation).__name__} {operation.name!r}."
        )
    weights = [weight / temperature for weight in operation.get_weights()]
    if any(bias):
        if len(weights) < 2:
            raise ValueError(
                "Only logits with a bias can be shifted. "
                f"Received: {output} from {operation.name!r}, which has none."
            )
        added = np.asarray(bias)
        is_single = weights[1].shape[-1] == 1 and len(added) == 2  # the logit of the second class
        weights[1] = weights[1] + (added[1] - added[0] if is_single else added)
    operation.set_weights(weights)


def scale_probabilities(
    model: keras.Model, output: str, temperature: float, bias: Sequence[float], are_classes: bool
) -> keras.Model:
    """Return a model with layers behind an output that scale its logits, as `scale_logits` does.

    Probabilities of any layer can be scaled in this way: their logarithms are logits of classes,
    and the logarithms of their odds are logits of labels.

    Args:
        model: functional model with a dict of outputs.
        output: name of an output of probabilities, `(batch, classes or labels)`.
        temperature: divisor above 0.
        bias: what is added to the divided logit of each class or label; empty adds nothing.
        are_classes: whether probabilities sum to 1, rather than being those of labels.
    """
    probabilities = model.output[output]
    logits = ops.log(ops.maximum(probabilities, _SMALLEST))
    if not are_classes:
        logits -= ops.log(ops.maximum(1.0 - probabilities, _SMALLEST_REST))
    before = sum(layer.name.startswith(f"scaled_{output}") for layer in model.layers)
    name = f"scaled_{output}_{before}" if before else f"scaled_{output}"
    offset = [float(value) for value in bias] or 0.0
    scaled = keras.layers.Rescaling(1 / temperature, offset, name=f"logits_of_{name}")(logits)
    last = keras.layers.Softmax if are_classes else partial(keras.layers.Activation, "sigmoid")
    outputs = {**model.output, output: last(name=name)(scaled)}
    return keras.Model(model.input, outputs, name=model.name)


def _head(features: Any, units: int, config: KernelConfig, name: str, **arguments: Any) -> Any:
    # float32 even under mixed precision: the losses need it.
    return dense(features, units, config, name, dtype="float32", **arguments)
