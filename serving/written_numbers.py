"""Writes numbers and scores as people do: 35,212 rather than 3.52e+04, 97.3% for an accuracy."""

import math
from collections.abc import Sequence

_NAMES = {
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "mae": "mean absolute error",
    "r2": "R²",
    "rmse": "root mean squared error",
    "roc_auc": "ROC AUC",
    "top3_accuracy": "top-3 accuracy",
}
# Fractions of the samples, and scores in the unit of what is predicted.
_FRACTIONS = ("accuracy", "exact_match", "top3_accuracy")
_IN_UNITS = ("mae", "rmse")
# Beyond these magnitudes, zeros are harder to count than an exponent is to read.
_SMALLEST, _LARGEST = 1e-6, 1e15
# Sums of float32 differ by as much from what they should be.
_ROUNDING = 1e-6


def metric_name(metric: str, positive: str | None = None) -> str:
    """Return the name of a metric for people, such as `macro F1` for `f1_macro`.

    Args:
        metric: its name.
        positive: the positive one of two classes, on which average precision depends.
    """
    name = _NAMES.get(metric, metric.replace("_", " "))
    return f"{name} of {positive}" if positive and metric == "average_precision" else name


def write_number(value: float, digits: int = 4) -> str:
    """Return a number with `digits` digits; from a thousand on it is whole, with separators.

    Examples:
        >>> write_number(35212.4), write_number(12.3456), write_number(0.00012)
        ('35,212', '12.35', '0.00012')
    """
    size = abs(value)
    if not math.isfinite(value) or (value and not _SMALLEST <= size < _LARGEST):
        return f"{value:.{digits}g}"
    if size >= 1000:
        return f"{value:,.0f}"
    decimals = digits - 1 - math.floor(math.log10(size)) if value else 0
    text = f"{value:z.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def write_numbers(values: Sequence[float]) -> list[str]:
    """Return numbers that belong together, with more digits if they differ by little.

    Examples:
        >>> write_numbers([350000.25, 500001.0]), write_numbers([2005.25, 2006.5])
        (['350,000', '500,001'], ['2,005.25', '2,006.50'])
    """
    largest = max(map(abs, values), default=0.0)
    spread = max(values, default=0.0) - min(values, default=0.0)
    if not 0 < spread < largest / 100 or spread <= _SMALLEST or largest >= _LARGEST:
        return [write_number(value) for value in values]
    decimals = max(2 - math.floor(math.log10(spread)), 0)
    return [f"{value:z,.{decimals}f}" for value in values]


def write_probability(value: float) -> str:
    """Return a probability with four decimals, or with more of them close to 0 and 1.

    Examples:
        >>> write_probability(0.25), write_probability(0.000012), write_probability(0.99996)
        ('0.2500', '0.000012', '0.999960')
    """
    rest = min(value, 1 - value)
    decimals = max(4, 1 + math.ceil(-math.log10(rest))) if rest > 0 else 4
    return f"{value:z.{decimals}f}"


def write_percent(fraction: float) -> str:
    """Return a fraction in percent, with more decimals close to none and to all.

    Examples:
        >>> write_percent(0.9734), write_percent(0.99715), write_percent(1.0)
        ('97.3%', '99.72%', '100%')
    """
    rest = 100 * min(abs(fraction), abs(1 - fraction))
    if rest < 100 * _ROUNDING:
        return f"{fraction:.0%}"
    decimals = 1 if rest >= 1 else min(max(2, math.ceil(-math.log10(rest))), 6)
    return f"{100 * fraction:,.{decimals}f}%"


def write_score(metric: str, value: float) -> str:
    """Return a score: a percentage, a number in the unit of what is predicted, or three decimals.

    A score that is not perfect never looks perfect.

    Examples:
        >>> write_score("accuracy", 0.9734), write_score("mae", 35212.4)
        ('97.3%', '35,212')
        >>> write_score("roc_auc", 0.8493), write_score("roc_auc", 0.99998)
        ('0.849', '0.99998')
    """
    if metric in _FRACTIONS:
        return write_percent(value)
    if metric in _IN_UNITS or not math.isfinite(value):
        return write_number(value)
    decimals = 3
    is_end = min(abs(value), abs(1 - value)) < _ROUNDING
    while not is_end and round(value, decimals) in (0, 1):
        decimals += 1
    return f"{value:z,.{decimals}f}"


def describe_size(height: int, width: int) -> str:
    """Return the size of an image, so that height and width cannot be taken for each other.

    Examples:
        >>> describe_size(32, 32), describe_size(32, 24)
        ('32x32', 'height 32 and width 24')
    """
    return f"{height}x{width}" if height == width else f"height {height} and width {width}"


def describe_scores(scores: dict[str, float]) -> str:
    """Return scores by metric as text, such as `accuracy 97.3%, macro F1 0.973`."""
    return ", ".join(f"{metric_name(name)} {write_score(name, v)}" for name, v in scores.items())
