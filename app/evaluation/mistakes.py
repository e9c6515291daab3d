"""What a model gets wrong: classes taken for others, labels missed, and the size of errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Pairs of classes that are kept, the most frequent first.
_PAIRS = 10


def confused_pairs(
    targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return which classes are taken for which others, the most frequent mistakes first.

    Args:
        targets: int64 `(samples,)`.
        predicted: int64 `(samples,)`.
        labels: name of each class.

    Returns:
        For each of at most 10 pairs, the `true` and the `predicted` class, the `count` of such
        mistakes, and the number of `samples` of the true class.
    """
    is_wrong = targets != predicted
    codes, counts = np.unique(
        targets[is_wrong] * len(labels) + predicted[is_wrong], return_counts=True
    )
    samples = np.bincount(targets, minlength=len(labels))
    order = np.argsort(-counts, kind="stable")[:_PAIRS]
    return [
        {
            "true": labels[code // len(labels)],
            "predicted": labels[code % len(labels)],
            "count": count,
            "samples": int(samples[code // len(labels)]),
        }
        for code, count in zip(codes[order].tolist(), counts[order].tolist(), strict=True)
    ]


def error_quantiles(
    targets: np.ndarray, values: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return how far off half of the predictions are at most, and nine of ten, by value.

    Args:
        targets: `(samples, values)`.
        values: the same shape.
        labels: name of each value.
    """
    found = np.quantile(np.abs(targets - values), (0.5, 0.9), axis=0)
    return {
        label: {"half": float(half), "nine_of_ten": float(most)}
        for label, half, most in zip(labels, *found, strict=True)
    }
