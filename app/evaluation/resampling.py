"""Intervals of metrics: Wilson's for proportions, those of a seeded bootstrap for all others."""

from collections.abc import Mapping, Sequence

import numpy as np

from serving.manifest import ScoreInterval
from serving.proportions import CONFIDENCE

from .estimates import Estimate, wilson_estimate
from .metrics import Scorer, draw_weights

# Fractions of the samples; all other metrics are resampled.
PROPORTIONS = ("accuracy", "exact_match", "top3_accuracy")
_MOST, _LEAST = 1000, 100
# Samples times outputs times resamples: some seconds.
_WORK = 30_000_000

# By metric, its value in each resample, float64 `(resamples,)`.
Resamples = dict[str, np.ndarray]


def resample(
    scorers: Sequence[Scorer], count: int, outputs: int = 1, most: int = _MOST
) -> list[Resamples]:
    """Return the metrics in resamples, which draw as many samples with replacement (Efron, 1979).

    All scorers see the same resamples, so that the differences of their metrics are paired.

    Args:
        scorers: see `app.evaluation.metrics.make_scorer`.
        count: number of samples.
        outputs: number of outputs of the models, by which the number of resamples falls, from a
            thousand down to a hundred.
        most: number of resamples at most.
    """
    random = np.random.default_rng(0)
    draws = min(max(_WORK // (count * outputs), _LEAST), most)
    parts = [
        [scorer(weights) for scorer in scorers] for weights in draw_weights(random, count, draws)
    ]
    return [
        {name: np.concatenate([scores[name] for scores in each]) for name in each[0]}
        for each in zip(*parts, strict=True)
    ]


def score_intervals(
    scores: Mapping[str, float], resamples: Resamples, count: int
) -> dict[str, ScoreInterval]:
    """Return the 95% interval of each metric.

    Args:
        scores: the metrics of all samples.
        resamples: the metrics in resamples.
        count: number of samples.
    """
    found = {}
    for name, value in scores.items():
        if name in PROPORTIONS:
            estimate = wilson_estimate(value * count, count)
            found[name] = ScoreInterval(estimate.low, estimate.high, "wilson")
        else:
            found[name] = ScoreInterval(*_percentiles(resamples[name], value), "bootstrap")
    return found


def difference_estimate(
    name: str, scores: Sequence[Mapping[str, float]], resamples: Sequence[Resamples]
) -> Estimate:
    """Return how much larger a metric of the second model is, with its bootstrap interval."""
    first, second = scores
    value = second[name] - first[name]
    return Estimate(value, *_percentiles(resamples[1][name] - resamples[0][name], value))


def _percentiles(values: np.ndarray, value: float) -> tuple[float, float]:
    """Return the ends of the middle 95% of `values`, widened to contain `value`.

    A resample that lacks a class has no ROC curve and does not count.
    """
    known = values[np.isfinite(values)]
    ends = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.quantile(known, ends) if known.size else (value, value)
    return min(float(low), value), max(float(high), value)
