"""Compares training methods fairly: each at the learning rate that reaches a goal soonest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.evaluation.estimates import difference

from .signs import NOT_SHOWN
from .study import Claim, compared, provided


@dataclass(frozen=True)
class Pace:
    """How soon a method reached a goal at its best learning rate.

    Attributes:
        rate: the best learning rate.
        is_inside: whether the grid has rates on both sides of the best one. If not, a better rate
            may lie beyond the grid.
        curves: the losses during training, `(epochs, seeds)`.
        needed: epochs to the goal, float `(seeds,)`; the last epoch where the goal was missed.
        missed: number of seeds that missed the goal.
        last_epoch: number of the last epoch.
    """

    rate: float
    is_inside: bool
    curves: np.ndarray
    needed: np.ndarray
    missed: int
    last_epoch: int

    def __str__(self) -> str:
        """Return the mean of the epochs, a lower bound if some seeds missed the goal."""
        count = len(self.needed)
        if self.missed == count:
            return f"> {self.last_epoch}"
        mean = f"{self.needed.mean():.1f}"
        return f"≥ {mean} ({self.missed}/{count} missed)" if self.missed else mean


def best_pace(rates: Sequence[float], losses: Any, goal: float, first: int = 0) -> Pace:
    """Return the pace at the best rate: the one at which most seeds reach the goal, and soonest.

    If no seed reaches it at any rate, the rate with the lowest final loss counts as the best.

    Args:
        rates: the grid of learning rates, in rising order.
        losses: `(epochs, rates, seeds)`; lower is better, NaN and infinities are worst.
        goal: the loss to reach.
        first: number of the epoch in the first row.
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


def faster(name: str, pace: Pace, other: Pace, /, **figures: str) -> Claim:
    """Return the claim that a method needs fewer epochs than another.

    Nothing is shown if the best rate of either method is an end of its grid, where a better one may
    lie beyond. If some seeds of the method that seems faster missed the goal, neither is called
    faster. If only some of the slower one missed it, the difference is a lower bound, marked with
    "≥".

    Args:
        name: see `Claim`.
        pace: the method that is said to be faster.
        other: the other method.
        figures: further figures of the claim.
    """
    claim = compared(name, difference(other.needed, pace.needed), 1, **figures)
    winner, loser = (other, pace) if claim.is_reversed else (pace, other)
    if winner.missed:
        return replace(claim, sign=NOT_SHOWN, is_undecided=True)
    bound = "≥ " if loser.missed else ""
    claim = replace(claim, figures={**claim.figures, "gap": bound + claim.figures["gap"]})
    return provided(claim, pace.is_inside and other.is_inside)


def epochs_to(losses: np.ndarray, goal: float, first: int = 0) -> np.ndarray:
    """Return when each curve first reaches a loss, interpolated linearly between epochs.

    Args:
        losses: `(epochs, seeds)`.
        goal: the loss to reach.
        first: number of the epoch in the first row. A curve that starts below the goal reaches it
            there.

    Returns:
        float `(seeds,)`, in epochs; the last epoch where a curve never reaches the goal.
    """
    is_reached = losses <= goal
    needed = np.full(losses.shape[1], float(first + len(losses) - 1))
    for seed in np.flatnonzero(is_reached.any(axis=0)):
        after = int(is_reached[:, seed].argmax())
        needed[seed] = first + after
        if after:
            above, below = losses[after - 1 : after + 1, seed]
            if np.isfinite(above):
                needed[seed] -= (goal - below) / (above - below)
    return needed
