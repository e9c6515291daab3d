"""Turns predictions into decisions: the class, the labels, or the interval of each sample.

`Prediction`, batch jobs, the server and the evaluation of a run decide here, so that they agree.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .manifest import Intervals, Manifest, Thresholds
from .written_numbers import write_percent, write_probability

# The rule that gives classes the weights of their training.
WEIGHTED = "class_weight=balanced"


def decide(
    task: str, probabilities: np.ndarray, thresholds: Sequence[float] | None = None
) -> np.ndarray:
    """Return the class of each sample, int64 `(batch,)`, or which labels it has, bool.

    Args:
        task: `multiclass` or `multilabel`.
        probabilities: float `(batch, labels)`.
        thresholds: for each label, the probability from which on it is predicted. Those of classes
            sum to 1, and the class is predicted whose probability is largest relative to its
            threshold. None predicts the most probable class, or all labels of at least 0.5.

    Returns:
        Indices of classes `(batch,)`, or for labels a truth value each, `(batch, labels)`.
    """
    if task == "multilabel":
        chosen: np.ndarray = probabilities >= (
            0.5 if thresholds is None else np.asarray(thresholds)
        )
        return chosen
    if thresholds is None:
        return np.asarray(probabilities.argmax(axis=1))
    if len(thresholds) > 2:
        return np.asarray((probabilities / np.asarray(thresholds, np.float64)).argmax(axis=1))
    # As float64, in which no threshold is rounded to a neighboring probability.
    return (probabilities[:, 1] >= np.float64(thresholds[1])).astype(np.int64)


def thresholds_of(manifest: Manifest) -> tuple[float, ...] | None:
    """Return the threshold of each label; None if the model has none."""
    return None if manifest.thresholds is None else manifest.thresholds.values


def describe_thresholds(
    thresholds: Thresholds, labels: Sequence[str], where: str | None = "on the test split"
) -> list[str]:
    """Return a line for each threshold, without which a label of a low probability looks wrong.

    Args:
        thresholds: thresholds of the model.
        labels: name of each class or label.
        where: what the precision and recall of each were measured on; None leaves them out.
    """
    is_weighted = thresholds.rule == WEIGHTED
    if is_weighted and thresholds.positive is None:
        every = (thresholds.precision, thresholds.recall)
        precision, recall = (write_percent(sum(scores) / len(labels)) for scores in every)
        reached = (
            f": precision {precision}, recall {recall}, averaged over {len(labels)} classes {where}"
        )
        return [
            "the class is predicted whose probability is largest relative to its fraction of the "
            f"training split ({WEIGHTED}){reached if where else ''}"
        ]
    rule = thresholds.rule if is_weighted else f"threshold={thresholds.rule}"
    scores = zip(thresholds.precision, thresholds.recall, strict=True)
    told = [
        f": precision {write_percent(precision)}, recall {write_percent(recall)} {where}"
        for precision, recall in scores
    ]
    return [
        f'"{label}" is predicted from a probability of {write_probability(value)} on ({rule})'
        f"{reach if where else ''}"
        for label, value, reach in zip(labels, thresholds.values, told, strict=True)
        if thresholds.positive in (label, None)
    ]


def interval_ends(intervals: Intervals, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper end of each value's interval.

    Args:
        intervals: intervals of the model.
        values: float `(batch, values)`.

    Returns:
        Two arrays of the shape and dtype of `values`.
    """
    reach = np.asarray(intervals.half_widths, values.dtype)
    return values - reach, values + reach


class DerivedOutput(NamedTuple):
    """An output that is computed from the predictions, beside those of the graph.

    Attributes:
        dtype: as in `serving.manifest.TensorSpec`.
        compute: function from the predictions `(batch, labels)` to the output.
    """

    dtype: str
    compute: Callable[[np.ndarray], np.ndarray]


def derived_outputs(manifest: Manifest) -> dict[str, DerivedOutput]:
    """Return the outputs that follow from a model's predictions, by name.

    These are `label`, strings `(batch,)`, for classes; `labels`, bool `(batch, labels)`, for a
    model of labels; `lower` and `upper`, the ends of intervals `(batch, values)`, for values that
    have intervals. A name that the graph uses itself is left out.
    """
    found: dict[str, DerivedOutput] = {}
    thresholds, intervals = thresholds_of(manifest), manifest.intervals
    if manifest.task == "multiclass":
        names = np.array(manifest.labels, object)
        found["label"] = DerivedOutput(
            "string", lambda p: names[decide("multiclass", p, thresholds)]
        )
    elif manifest.task == "multilabel":
        found["labels"] = DerivedOutput("bool", lambda p: decide("multilabel", p, thresholds))
    elif intervals is not None:
        dtype = next(s.dtype for s in manifest.outputs if s.name == manifest.prediction_output)
        found["lower"] = DerivedOutput(dtype, lambda values: interval_ends(intervals, values)[0])
        found["upper"] = DerivedOutput(dtype, lambda values: interval_ends(intervals, values)[1])
    own = {spec.name for spec in manifest.outputs}
    return {name: output for name, output in found.items() if name not in own}
