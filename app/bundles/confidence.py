"""What a bundle states of its confidence: calibration, rejects, and how often it predicts a class.

Everything is fitted on the validation split of some samples, and measured on their test split.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from app.data.datasets import Dataset
from app.data.splits import Splits
from app.errors import ConfigError
from app.evaluation.calibration import (
    calibration_error,
    choose_threshold,
    classwise_calibration_error,
    confidence_and_truth,
)
from app.evaluation.scaling import Scaling
from app.evaluation.thresholds import check_rule, is_default
from export.functional import as_functional
from export.tensor_names import input_names, output_names
from models.heads import scale_logits, scale_probabilities
from serving.decisions import WEIGHTED
from serving.manifest import Baseline, Calibration, RejectOption


def check_decisions(rule: float | str, dataset: Dataset, target_accuracy: float | None) -> None:
    """Require a rule for thresholds that suits the targets, and no reject option beside it.

    Raises:
        ConfigError: the rule is unknown or does not suit.
    """
    if rule == WEIGHTED:
        return
    try:
        is_needless = is_default(rule)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    check_rule(rule, dataset)
    if target_accuracy is not None and not is_needless:
        raise ConfigError(
            "target_accuracy accepts or rejects the most probable class, so it cannot be combined "
            f"with a threshold. Received: target_accuracy={target_accuracy}, threshold={rule}."
        )


def record_calibration(
    scaling: Scaling, splits: Splits, targets: np.ndarray, before: np.ndarray, after: np.ndarray
) -> Calibration:
    """Return what a scaling of logits changes on the test split.

    Args:
        scaling: how the logits are scaled.
        splits: the validation split, which it was fitted on, and the test split.
        targets: targets of the test split.
        before: probabilities for the test split without the scaling, `(samples, labels)`.
        after: those with it.
    """
    return Calibration(
        scaling.temperature,
        splits.describe("validation"),
        splits.describe("test"),
        calibration_error(before, targets),
        calibration_error(after, targets),
        tuple(scaling.bias.tolist()) if scaling.bias.any() else (),
        classwise_calibration_error(before, targets),
        classwise_calibration_error(after, targets),
    )


def scale_last_layer(
    model: Any, output: str, temperature: float, bias: Sequence[float], inputs: Any = None
) -> None:
    """Scale the logits of any Keras model in place, see `models.heads.scale_logits`.

    Args:
        model: functional, sequential, or a class with a `call` of its own.
        output: name of the output, as in the manifest of its bundle.
        temperature: divisor of the logits.
        bias: what is then added to the logits of each class or label.
        inputs: what the model takes, see `export.export_bundle`.

    Raises:
        ValueError: the logits are not those of a last layer, or there is no such output.
        ExportError: the model cannot be traced.
    """
    functional = as_functional(model, inputs)
    tensor = functional.outputs[output_names(functional, input_names(functional)).index(output)]
    scale_logits(keras.Model(functional.input, {output: tensor}), output, temperature, bias)


def scaled(
    model: keras.Model, output: str, temperature: float, bias: Sequence[float], are_classes: bool
) -> keras.Model:
    """Return a model with scaled logits: in the weights of its last layer, where that is known.

    Args:
        model: the model of a run, with a dict of outputs, which may be changed in place.
        output: name of the output of probabilities.
        temperature: divisor of the logits.
        bias: what is then added to the logits of each class or label.
        are_classes: see `models.heads.scale_probabilities`.
    """
    try:
        scale_last_layer(model, output, temperature, bias)
    except ValueError:  # a user's model may end in any layer
        return scale_probabilities(model, output, temperature, bias, are_classes)
    return model


def baseline_of(classes: np.ndarray, labels: Sequence[str], measured_on: str) -> Baseline:
    """Return how often each class is predicted, given the predictions for the test split."""
    counts = np.bincount(classes, minlength=len(labels))
    fractions = (counts / len(classes)).tolist()
    return Baseline(measured_on, tuple(fractions))


def choose_reject_option(
    predictions: tuple[np.ndarray, np.ndarray], splits: Splits, dataset: Dataset, accuracy: float
) -> RejectOption:
    """Choose the threshold on the validation split, and measure its effect on the test split."""
    validation, test = predictions
    threshold = choose_threshold(validation, dataset.targets[splits.validation], accuracy)
    confidences, is_right = confidence_and_truth(test, dataset.targets[splits.test])
    is_accepted = confidences >= threshold
    return RejectOption(
        threshold,
        accuracy,
        splits.describe("validation"),
        splits.describe("test"),
        float(is_accepted.mean()),
        float(is_right[is_accepted].mean()) if is_accepted.any() else None,
    )
