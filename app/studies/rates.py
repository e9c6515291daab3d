"""Methods compared fairly: each at the best learning rate of its grid, by the epochs it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class BestRate:
    """What a method did at its best learning rate.

    Attributes:
        rate: the learning rate.
        is_inside: whether its grid goes on to both sides; else a better one may lie beyond.
        curves: what was measured through training, `(epochs, seeds)`.
    """

    rate: float
    is_inside: bool
    curves: np.ndarray


def best_rate(rates: Sequence[float], losses: Any) -> BestRate:
    """Return what happened at the rate with the lowest mean over all epochs and seeds.

    Args:
        rates: the grid, rising.
        losses: `(epochs, rates, seeds)`, lower is better; what is not finite is worst.
    """
    losses = np.array(losses, float)
    mean = np.where(np.isfinite(losses), losses, np.inf).mean(axis=(0, 2))
    best = int(mean.argmin())
    return BestRate(rates[best], 0 < best < len(rates) - 1, losses[:, best])


def epochs_to(losses: np.ndarray, reached: float, first: int = 0) -> np.ndarray:
    """Return when each curve first gets down to a value, straight lines drawn between epochs.

    Args:
        losses: `(epochs, seeds)`.
        reached: the value.
        first: the epoch of the first row, in which a curve that starts below is there.

    Returns:
        float `(seeds,)`, in epochs; one more than the last where a curve never gets there.
    """
    is_there = losses <= reached
    needed = np.full(losses.shape[1], float(first + len(losses)))
    for seed in np.flatnonzero(is_there.any(axis=0)):
        after = int(is_there[:, seed].argmax())
        needed[seed] = first + after
        if after:
            above, below = losses[after - 1 : after + 1, seed]
            if np.isfinite(above):
                needed[seed] -= (reached - below) / (above - below)
    return needed
