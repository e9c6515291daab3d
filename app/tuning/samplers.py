"""Creates Optuna's sampler for a search method, and the points of a grid."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler

from app.errors import TuningError

from .definition import TRIALS, Definition
from .gp_sampler import GaussianProcessSampler
from .search_space import dimensions

# Small enough for several generations within the usual budget.
_POPULATION = 10
# Upper limit of points to try in a range, for each trial of the budget.
_MAX_POINTS = 10


def make_sampler(definition: Definition, seed: int) -> BaseSampler:
    """Return the sampler that proposes trials.

    Args:
        definition: definition of the search.
        seed: seed of this worker; two workers with the same seed would propose the same values.

    Raises:
        TuningError: the method cannot search such a space.
    """
    method = definition.budget.method
    if method == "tpe":
        # Running trials count as poor, so that workers try different values.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    if method == "gp":
        return GaussianProcessSampler(dimensions(definition.space), seed)
    if method == "cmaes":
        return _cmaes(definition, seed)
    if method == "genetic":
        return optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=seed)
    return optuna.samplers.RandomSampler(seed)  # also for a grid, once all its points are taken


def grid(definition: Definition) -> list[dict[str, Any]]:
    """Return the points of the grid in random order, at most as many as the budget has trials.

    All ranges get the same number of points: the largest that fits the budget, at least two.
    """
    space = dimensions(definition.space)
    limit = definition.budget.trials or TRIALS
    # Several points of a logarithmic range of integers may round to one.
    counts = range(2, _MAX_POINTS * limit)
    num_fitting = bisect_right(counts, limit, key=lambda count: _size(space, count))
    count = counts[max(num_fitting - 1, 0)]
    names = list(space)
    points = list(itertools.product(*(_points(each, count) for each in space.values())))
    order = np.random.default_rng(definition.base.seed).permutation(len(points))[:limit]
    return [dict(zip(names, points[index], strict=True)) for index in order]


def _cmaes(definition: Definition, seed: int) -> BaseSampler:
    searched = dimensions(definition.space)
    choices = [key for key, d in searched.items() if isinstance(d, CategoricalDistribution)]
    if choices or len(searched) < 2:
        received = f"the choice {choices[0]}" if choices else f"{next(iter(searched))} alone"
        raise TuningError(
            f"cmaes needs two or more ranges and no choices. Received: {received}. "
            "Use --method genetic."
        )
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _size(space: Mapping[str, BaseDistribution], count: int) -> int:
    return math.prod(len(_points(each, count)) for each in space.values())


def _points(each: Any, count: int) -> list[Any]:
    if isinstance(each, CategoricalDistribution):
        return list(each.choices)
    spaced = np.geomspace if each.log else np.linspace
    points = spaced(each.low, each.high, count).clip(each.low, each.high).tolist()
    is_whole = isinstance(each, IntDistribution)
    return list(dict.fromkeys(round(point) for point in points)) if is_whole else points
