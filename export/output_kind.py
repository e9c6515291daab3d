"""Infers what the outputs of a model stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.parity import Outputs

from .errors import ExportError

# How far the sum of a row of probabilities may be from 1.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OutputKind:
    """What the outputs of a model stand for.

    Attributes:
        task: `multiclass`, `multilabel` or `regression`; `unknown` where nothing is known.
        prediction_output: Name of the output that holds the prediction, `(batch, labels)`; None if
            unknown.
        labels: Name of each class, label or value, in the order of the predicted elements.
    """

    task: str = "unknown"
    prediction_output: str | None = None
    labels: tuple[str, ...] = ()

    def predicts_classes(self, output: str) -> bool:
        """Return whether `output` holds the probabilities of classes that exclude each other."""
        return self.task == "multiclass" and output == self.prediction_output

    def predicts_probabilities(self, output: str) -> bool:
        """Return whether `output` holds probabilities, of classes or of independent labels."""
        return self.task in ("multiclass", "multilabel") and output == self.prediction_output

    def predicts_values(self, output: str) -> bool:
        """Return whether `output` holds values, whose units and magnitudes may differ."""
        return self.task == "regression" and output == self.prediction_output


def infer_task(outputs: Outputs, labels: Sequence[str]) -> OutputKind:
    """Find the output whose elements are named by `labels`, and whether they are classes.

    Args:
        outputs: Outputs for some samples, by name.
        labels: Name of each element; empty if nothing is known.

    Returns:
        `multiclass` if the probabilities of each sample sum to 1, else `multilabel`.

    Raises:
        ExportError: No output fits, several do, or the one that fits holds no probabilities.
    """
    if not labels:
        return OutputKind()
    _check_labels(labels)
    name = _labeled_output(outputs, labels)
    array = outputs[name]
    if array.dtype.kind != "f" or array.min() < 0 or array.max() > 1:
        raise ExportError(
            f"Labels must name probabilities, from 0 to 1. Received: {name} from "
            f"{array.min():.3g} to {array.max():.3g}. End the model with softmax or sigmoid."
        )
    sums_to_one = np.abs(array.sum(axis=1) - 1).max() <= _SUM_TOLERANCE and len(labels) > 1
    return OutputKind("multiclass" if sums_to_one else "multilabel", name, tuple(labels))


def values_kind(outputs: Outputs, labels: Sequence[str]) -> OutputKind:
    """Find the output that holds predicted values.

    Args:
        outputs: Outputs for some samples, by name.
        labels: Name of each value; empty for `value`, or `value0`, `value1`, …, of the only output
            `(batch, values)`.

    Raises:
        ExportError: No output fits, several do, or it holds no floats.
    """
    if not labels:
        widths = [a.shape[1] for a in outputs.values() if a.ndim == 2 and a.dtype.kind == "f"]
        width = widths[0] if len(widths) == 1 else 0
        labels = ("value",) if width == 1 else tuple(f"value{n}" for n in range(width))
    _check_labels(labels)
    name = _labeled_output(outputs, labels)
    if outputs[name].dtype.kind != "f":
        raise ExportError(
            f"Predicted values must be floats. Received: {name} {outputs[name].dtype}."
        )
    return OutputKind("regression", name, tuple(labels))


def _labeled_output(outputs: Outputs, labels: Sequence[str]) -> str:
    fitting = [name for name, a in outputs.items() if a.ndim == 2 and a.shape[1] == len(labels)]
    if len(fitting) > 1 and "probabilities" in fitting:
        return "probabilities"
    if len(fitting) != 1:
        shapes = ", ".join(f"{name} {array.shape[1:]}" for name, array in outputs.items())
        raise ExportError(
            f"{len(labels)} labels must name the elements of one output, or of `probabilities`. "
            f"Received: {shapes}."
        )
    return fitting[0]


def _check_labels(labels: Sequence[str]) -> None:
    repeated = [label for label in labels if labels.count(label) > 1]
    if repeated or not all(label.strip() for label in labels):
        received = f"{repeated[0]!r} twice" if repeated else "an empty one"
        raise ExportError(f"Each label must be a unique name. Received: {received}.")
