"""What the outputs of a model stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serving.parity import Outputs

from .errors import ExportError

# Of the sum of a row of probabilities from 1.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class OutputKind:
    """What the outputs of a model stand for.

    Attributes:
        task: `multiclass`, `multilabel`, `regression`, or `unknown` where nothing is known.
        prediction_output: name of the output that predicts, `(batch, labels)`; None if unknown.
        labels: name of each class, label or value, in the order of the answer.
    """

    task: str = "unknown"
    prediction_output: str | None = None
    labels: tuple[str, ...] = ()


def infer_task(outputs: Outputs, labels: Sequence[str]) -> OutputKind:
    """Find the output that `labels` name, and whether it holds classes or labels.

    Args:
        outputs: of some samples, by name.
        labels: one for each element; none to know nothing.

    Returns:
        `multiclass` if each sample's probabilities sum to 1, else `multilabel`.

    Raises:
        ExportError: no output, or more than one, fits; or it holds no probabilities.
    """
    if not labels:
        return OutputKind()
    _check_labels(labels)
    fitting = [name for name, a in outputs.items() if a.ndim == 2 and a.shape[1] == len(labels)]
    if len(fitting) > 1 and "probabilities" in fitting:
        fitting = ["probabilities"]
    if len(fitting) != 1:
        shapes = ", ".join(f"{name} {array.shape[1:]}" for name, array in outputs.items())
        raise ExportError(
            f"{len(labels)} labels must name the elements of one output, or of `probabilities`. "
            f"Received: {shapes}."
        )
    (answer,) = fitting
    array = outputs[answer]
    if array.dtype.kind != "f" or array.min() < 0 or array.max() > 1:
        raise ExportError(
            f"Labels must name probabilities, from 0 to 1. Received: {answer} from "
            f"{array.min():.3g} to {array.max():.3g}. End the model with softmax or sigmoid."
        )
    sums_to_one = np.abs(array.sum(axis=1) - 1).max() <= _SUM_TOLERANCE and len(labels) > 1
    return OutputKind("multiclass" if sums_to_one else "multilabel", answer, tuple(labels))


def _check_labels(labels: Sequence[str]) -> None:
    repeated = [label for label in labels if labels.count(label) > 1]
    if repeated or not all(label.strip() for label in labels):
        received = f"{repeated[0]!r} twice" if repeated else "an empty one"
        raise ExportError(f"Each label must be a name of its own. Received: {received}.")
