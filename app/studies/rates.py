"""Methods compared fairly: each at the learning rate at which it gets to a goal soonest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.evaluation.estimates import difference


@dataclass(frozen=True)
class Pace:
    """How soon a method reached a goal at its best learning rate.

    Attributes:
        rate: the learning rate.
        is_inside: whether its grid goes on to both sides; else a better one may lie beyond.
        curves: the losses through training, `(epochs, seeds)`.
        needed: epochs to the goal, float `(seeds,)`; all that were tried where it was missed.
        missed: how many seeds missed it.
        tried: number of the last epoch.
    """

    rate: float
    is_inside: bool
    curves: np.ndarray
    needed: np.ndarray
    missed: int
    tried: int

    def __str__(self) -> str:
        """Return the mean of the epochs, or in how many seeds they were too few."""
        if self.missed:
            return f"> {self.tried} ({self.missed}/{len(self.needed)})"
        return f"{self.needed.mean():.1f}"


def best_pace(rates: Sequence[float], losses: Any, goal: float, first: int = 0) -> Pace:
    """Return what happened at the rate at which most seeds reach the goal, and soonest.

    Where none gets there at any rate it is that of the least loss at the end.

    Args:
        rates: the grid, rising.
        losses: `(epochs, rates, seeds)`, lower is better; what is not finite is worst.
        goal: the loss to get down to.
        first: the epoch of the first row.
    """
    losses = np.array(losses, float)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    needed = np.stack([epochs_to(each, goal, first) for each in losses.transpose(1, 0, 2)])
    missed = (~(losses <= goal).any(axis=0)).sum(axis=1)
    last = losses[-1].mean(axis=1)
    best = min(range(len(rates)), key=lambda n: (missed[n], needed[n].mean(), last[n]))
    return Pace(
        rates[best],
        0 < best < len(rates) - 1,
        losses[:, best],
        needed[best],
        int(missed[best]),
        first + len(losses) - 1,
    )


def saved(pace: Pace, other: Pace) -> tuple[bool, str]:
    """Return whether a method is surely sooner than another, and by how many epochs.

    Of a grid's end nothing is sure. Where the other method missed the goal, what is saved is at
    least what is said.
    """
    gap = difference(other.needed, pace.needed)
    is_sure = gap.low > 0 and pace.is_inside and other.is_inside and not pace.missed
    return is_sure, f"≥ {gap:.1f}" if other.missed else f"{gap:.1f}"


def epochs_to(losses: np.ndarray, goal: float, first: int = 0) -> np.ndarray:
    """Return when each curve first gets down to a value, straight lines drawn between epochs.

    Args:
        losses: `(epochs, seeds)`.
        goal: the value.
        first: the epoch of the first row, in which a curve that starts below is there.

    Returns:
        float `(seeds,)`, in epochs; the last where a curve does not get there by then.
    """
    is_there = losses <= goal
    needed = np.full(losses.shape[1], float(first + len(losses) - 1))
    for seed in np.flatnonzero(is_there.any(axis=0)):
        after = int(is_there[:, seed].argmax())
        needed[seed] = first + after
        if after:
            above, below = losses[after - 1 : after + 1, seed]
            if np.isfinite(above):
                needed[seed] -= (goal - below) / (above - below)
    return needed
