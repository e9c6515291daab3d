"""Bayesian search with a Gaussian process, by scikit-learn; Optuna's own needs PyTorch."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from .search_space import place

# As of Optuna's sampler: so many trials at random before the process knows anything.
_STARTUP_TRIALS = 10
_CANDIDATES = 1000
# Of the candidates near the best, in shares of a range: where an improvement is likeliest.
_NEAR = 0.1
# Below any loss that is measured; keeps its logarithm finite.
_MIN_LOSS = 1e-9


class GaussianProcessSampler(BaseSampler):
    """Proposes where the expected improvement on the best loss is largest (Jones et al., 1998).

    The process is of the logarithm of the loss, with a Matérn kernel of 5/2 that has a length for
    each dimension (Snoek et al., 2012). Trials that were pruned count as the poorest that came to
    their end, those that run as average ones.

    Args:
        space: what is searched; each trial draws all of it.
        seed: of the beginning and of the candidates.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        self._space = dict(space)
        self._random = np.random.default_rng(seed)
        self._independent = RandomSampler(seed)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return self._space

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return values for the whole space, or none yet."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        points, losses = _observed(others, search_space)
        if sum(t.state == TrialState.COMPLETE for t in others) < _STARTUP_TRIALS:
            return {}
        process = _fit(points, losses, int(self._random.integers(2**31)))
        drawn = self._candidates(others)
        candidates = np.array([_encode(each, search_space) for each in drawn])
        return drawn[int(_improvement(process, candidates, losses.min()).argmax())]

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value at random."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _candidates(self, others: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        """Return points of the whole space, and points near the best."""
        done = [t for t in others if t.state == TrialState.COMPLETE]
        best = min(done, key=lambda t: t.value or 0.0).params
        anywhere = self._random.random((_CANDIDATES, len(self._space)))
        near = [place(best[name], each) for name, each in self._space.items()]
        steps = self._random.normal(0, _NEAR, anywhere.shape)
        rows = np.concatenate([anywhere, np.clip(near + steps, 0, 1)])
        return [
            {n: _value(u, d) for u, (n, d) in zip(row, self._space.items(), strict=True)}
            for row in rows
        ]


def _observed(
    trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> tuple[np.ndarray, np.ndarray]:
    """Return points `(trials, coordinates)` and logarithms of their losses `(trials,)`."""
    known = {t.number: t.value for t in trials if t.state == TrialState.COMPLETE}
    logs = {n: math.log(max(float(v or 0.0), _MIN_LOSS)) for n, v in known.items()}
    worst, mean = max(logs.values(), default=0.0), float(np.mean(list(logs.values()) or [0.0]))
    stands_for = {TrialState.PRUNED: worst, TrialState.RUNNING: mean}
    seen = [
        t
        for t in trials
        if (t.number in logs or t.state in stands_for) and set(space) <= t.params.keys()
    ]
    points = np.array([_encode(t.params, space) for t in seen])
    losses = [logs[t.number] if t.number in logs else stands_for[t.state] for t in seen]
    return points, np.array(losses)


def _fit(points: np.ndarray, losses: np.ndarray, seed: int) -> GaussianProcessRegressor:
    lengths = np.ones(points.shape[1])
    kernel = ConstantKernel() * Matern(lengths, nu=2.5) + WhiteKernel(0.01, (1e-6, 1.0))
    process = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=1, random_state=seed
    )
    with warnings.catch_warnings():  # a length at its bound: a dimension that does not matter
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(points, losses)


def _improvement(
    process: GaussianProcessRegressor, candidates: np.ndarray, best: float
) -> np.ndarray:
    mean, deviation = process.predict(candidates, return_std=True)
    deviation = np.maximum(deviation, 1e-9)
    gain = (best - mean) / deviation
    improvement: np.ndarray = deviation * (gain * norm.cdf(gain) + norm.pdf(gain))
    return improvement


def _encode(drawn: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> list[float]:
    """Return coordinates in [0, 1]: one for a range, one for each choice."""
    coordinates: list[float] = []
    for name, each in space.items():
        if isinstance(each, CategoricalDistribution):
            coordinates += [float(drawn[name] == choice) for choice in each.choices]
        else:
            coordinates.append(place(drawn[name], each))
    return coordinates


def _value(share: float, each: Any) -> Any:
    """Return the value at a share of its range, or of its choices."""
    if isinstance(each, CategoricalDistribution):
        return each.choices[min(int(share * len(each.choices)), len(each.choices) - 1)]
    low, high = ((math.log(x) if each.log else x) for x in (each.low, each.high))
    at = low + share * (high - low)
    value = min(max(math.exp(at) if each.log else at, each.low), each.high)
    return round(value) if isinstance(each, IntDistribution) else value
