"""Intervals around predicted values by split conformal prediction, and errors by decile."""

import math
from typing import Any

import numpy as np

from app.data.datasets import Dataset
from app.data.splits import Splits
from serving.manifest import Intervals

COVERAGE = 0.9
_DECILES = 10


def fit_half_widths(targets: np.ndarray, values: np.ndarray) -> tuple[float, ...] | None:
    """Return how far an interval reaches to both sides of each value.

    An interval of a new sample then contains its true value with a probability of at least
    `COVERAGE`, whatever the model and the distribution, if the sample comes from where these come
    from: the half width is the ceil((n + 1) * coverage)-th smallest of n absolute residuals (Lei et
    al., 2018, "Distribution-free predictive inference for regression").

    Args:
        targets: true values of samples that the model was not trained on, `(samples, values)`.
        values: predictions for them, the same shape.

    Returns:
        A half width for each value; None if there are too few samples, fewer than 9.
    """
    rank = math.ceil((len(targets) + 1) * COVERAGE)
    if rank > len(targets):
        return None
    residuals = np.sort(np.abs(targets.astype(np.float64) - values), axis=0)
    return tuple(residuals[rank - 1].tolist())


def fit_intervals(
    dataset: Dataset, splits: Splits, validation: np.ndarray, test: np.ndarray
) -> Intervals | None:
    """Fit intervals on the validation split, and measure their coverage on the test split.

    Args:
        dataset: samples with values.
        splits: indices of the splits.
        validation: predictions for the validation split, `(samples, values)`.
        test: predictions for the test split.

    Returns:
        The intervals; None if there are too few validation samples.
    """
    half_widths = fit_half_widths(dataset.targets[splits.validation], validation)
    if half_widths is None:
        return None
    residuals = np.abs(dataset.targets[splits.test].astype(np.float64) - test)
    return Intervals(
        COVERAGE,
        half_widths,
        splits.describe("validation"),
        splits.describe("test"),
        tuple((residuals <= np.asarray(half_widths)).mean(axis=0).tolist()),
    )


def errors_by_decile(targets: np.ndarray, values: np.ndarray) -> list[dict[str, Any]]:
    """Return the error by tenths of the samples, in ascending order of the prediction.

    Args:
        targets: true values `(samples,)`.
        values: predictions `(samples,)`.

    Returns:
        For each tenth: `from` and `to`, its smallest and largest prediction; `samples`; `mae`, the
        mean absolute error; and `mean_residual`, the mean of true value minus prediction. There are
        fewer than ten if there are fewer samples.
    """
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, min(_DECILES, len(order)))
    residuals = targets.astype(np.float64) - values
    return [
        {
            "from": float(values[part[0]]),
            "to": float(values[part[-1]]),
            "samples": len(part),
            "mae": float(np.abs(residuals[part]).mean()),
            "mean_residual": float(residuals[part].mean()),
        }
        for part in parts
    ]
