"""Estimates with their uncertainty: means and proportions with a 95% interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from serving.proportions import CONFIDENCE, wilson_interval

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95% interval.

    Attributes:
        value: a mean, or a proportion.
        low: lower end of the interval; minus infinity if there was a single measurement.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Return the value and the interval, each in the format `spec`."""
        sign = spec[:1] if spec[:1] in ("+", "-") else ""
        spec = f"{sign}z{spec.removeprefix(sign)}"  # -0.0 is shown as 0.0
        if not np.isfinite([self.low, self.high]).all():
            return f"{self.value:{spec}} [no interval]"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __neg__(self) -> "Estimate":
        """Return the estimate of the negated number."""
        return Estimate(-self.value, -self.high, -self.low)

    def __abs__(self) -> "Estimate":
        """Return the estimate with the sign that makes its value positive."""
        return -self if self.value < 0 else self


def mean_estimate(values: Any) -> Estimate:
    """Return the mean of independent measurements with Student's interval.

    Args:
        values: `(measurements,)`, at least one. A value that is not finite makes the interval
            infinite.
    """
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2 or not np.isfinite(values).all():
        return Estimate(mean, -np.inf, np.inf)
    from scipy import stats

    error = float(values.std(ddof=1)) / np.sqrt(len(values))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Estimate(mean, mean - reach, mean + reach)


def fraction_estimate(values: Any) -> Estimate:
    """Return the mean of fractions: Student's interval, or the exact one if all are 0 or 1.

    Student's interval has no width if all values are 1, however few there are.

    Args:
        values: `(measurements,)`, at least one, from 0 to 1.
    """
    values = np.asarray(values, float)
    if np.isin(values, (0, 1)).all():
        return proportion_estimate(int(values.sum()), len(values))
    return mean_estimate(values)


def power_estimate(logarithms: Any) -> Estimate:
    """Return the geometric mean of measurements, given their logarithms to base ten."""
    estimate = mean_estimate(logarithms)
    return Estimate(*(10.0**end for end in (estimate.value, estimate.low, estimate.high)))


def difference(first: Any, second: Any) -> Estimate:
    """Return the mean of `first - second` for measurements paired, for example, by seed."""
    return mean_estimate(np.asarray(first, float) - np.asarray(second, float))


def points(first: Any, second: Any) -> Estimate:
    """Return the difference of two paired proportions in percentage points."""
    return difference(100 * np.asarray(first, float), 100 * np.asarray(second, float))


def proportion_estimate(found: int, count: int) -> Estimate:
    """Return `found / count` with the exact interval of Clopper & Pearson (1934)."""
    from scipy import stats

    interval = stats.binomtest(found, count).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(found / count, float(interval.low), float(interval.high))


def wilson_estimate(found: float, count: int) -> Estimate:
    """Return `found / count` with the score interval of Wilson (1927), which needs no SciPy."""
    return Estimate(found / count, *wilson_interval(found, count))


def paired_difference(first: Any, second: Any) -> Estimate:
    """Return `second - first` of two proportions of the same samples, with its interval.

    It is that of Agresti & Min (2005), Wald's interval after half a sample is added to each of the
    four cells, so that it has a width even where no sample differs.

    Args:
        first: bool `(samples,)`.
        second: bool `(samples,)`.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    gained, lost = int((~first & second).sum()), int((first & ~second).sum())
    count = len(first) + 2
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (gained - lost) / count
    reach = z * math.sqrt((gained + lost + 1) / count - middle**2) / math.sqrt(count)
    low, high = max(middle - reach, -1.0), min(middle + reach, 1.0)
    return Estimate((gained - lost) / len(first), low, high)


def mcnemar(first: Any, second: Any) -> float:
    """Return the p value of the exact test of McNemar (1947): do both err equally often?

    Args:
        first: whether the first is right, bool `(samples,)`.
        second: whether the second is right, of the same samples.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    unequal, lost = int((first != second).sum()), int((first & ~second).sum())
    fewer = min(lost, unequal - lost)
    # both tails of a binomial distribution with probability 1/2
    whole = math.lgamma(unequal + 1) - unequal * math.log(2)
    tail = sum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(unequal - k + 1))
        for k in range(fewer + 1)
    )
    return min(2 * tail, 1.0)


def more_often_estimate(first: Any, second: Any) -> Estimate | None:
    """Return how often `first` is true, among the pairs with a single true value.

    Above one half, `first` is true more often than `second`: this is the exact test of McNemar
    (1947).

    Args:
        first: `(measurements,)`, true or false.
        second: paired measurements of the same shape, for example of the same seeds.

    Returns:
        The proportion; None if no pair differs.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    unequal = int((first != second).sum())
    return proportion_estimate(int((first & ~second).sum()), unequal) if unequal else None


def scientific(value: float) -> str:
    """Return a small number as people write it, such as `1.7·10⁻⁹`; `0` for 0."""
    if not value:
        return "0"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(power)).translate(_SUPERSCRIPTS)}"


def count_text(solved: Sequence[Any] | np.ndarray) -> str:
    """Return the number of true values as text, such as `17/20`."""
    return f"{int(np.sum(np.asarray(solved, bool)))}/{len(solved)}"
