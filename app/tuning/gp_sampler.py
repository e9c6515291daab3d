"""Bayesian search with a Gaussian process of scikit-learn; Optuna's own sampler needs PyTorch."""

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

from .search_space import relative_position

# Number of random trials before the Gaussian process is used, as in Optuna's sampler.
_STARTUP_TRIALS = 10
_CANDIDATES = 1000
# Standard deviation of candidates near the best trial, as a fraction of the range.
_NEAR = 0.1
# Below any measured loss; keeps the logarithm finite.
_MIN_LOSS = 1e-9


class GaussianProcessSampler(BaseSampler):
    """Proposes where the expected improvement on the best loss is largest (Jones et al., 1998).

    The process models the logarithm of the loss, with a Matérn kernel (nu = 5/2) that has a length
    scale for each dimension (Snoek et al., 2012). Pruned trials count like the worst finished one,
    running trials like an average one.

    Args:
        space: dimensions by name; each trial draws all of them.
        seed: seed of the first random trials and of the candidates.
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
        """Return values for the whole space, or none while there are too few trials."""
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
        """Return a random value."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _candidates(self, others: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        """Return random points of the whole space, and points near the best trial."""
        done = [t for t in others if t.state == TrialState.COMPLETE]
        best = min(done, key=lambda t: t.value or 0.0).params
        anywhere = self._random.random((_CANDIDATES, len(self._space)))
        near = [relative_position(best[name], each) for name, each in self._space.items()]
        steps = self._random.normal(0, _NEAR, anywhere.shape)
        rows = np.concatenate([anywhere, np.clip(near + steps, 0, 1)])
        return [
            {n: _value(u, d) for u, (n, d) in zip(row, self._space.items(), strict=True)}
            for row in rows
        ]


def _observed(
    trials: Sequence[FrozenTrial], space: Mapping[str, BaseDistribution]
) -> tuple[np.ndarray, np.ndarray]:
    """Return points `(trials, coordinates)` and the logarithms of their losses `(trials,)`."""
    known = {t.number: t.value for t in trials if t.state == TrialState.COMPLETE}
    logs = {n: math.log(max(float(v or 0.0), _MIN_LOSS)) for n, v in known.items()}
    worst, mean = max(logs.values(), default=0.0), float(np.mean(list(logs.values()) or [0.0]))
    substitute = {TrialState.PRUNED: worst, TrialState.RUNNING: mean}
    seen = [
        t
        for t in trials
        if (t.number in logs or t.state in substitute) and set(space) <= t.params.keys()
    ]
    points = np.array([_encode(t.params, space) for t in seen])
    losses = [logs[t.number] if t.number in logs else substitute[t.state] for t in seen]
    return points, np.array(losses)


def _fit(points: np.ndarray, losses: np.ndarray, seed: int) -> GaussianProcessRegressor:
    lengths = np.ones(points.shape[1])
    kernel = ConstantKernel() * Matern(lengths, nu=2.5) + WhiteKernel(0.01, (1e-6, 1.0))
    process = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=1, random_state=seed
    )
    with warnings.catch_warnings():  # a length scale at its bound: the dimension has no effect
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
    """Return coordinates in [0, 1]: one for a range, one for each choice of a categorical."""
    coordinates: list[float] = []
    for name, each in space.items():
        if isinstance(each, CategoricalDistribution):
            coordinates += [float(drawn[name] == choice) for choice in each.choices]
        else:
            coordinates.append(relative_position(drawn[name], each))
    return coordinates


def _value(position: float, each: Any) -> Any:
    """Return the value at a relative position in [0, 1] of its range, or of its choices."""
    if isinstance(each, CategoricalDistribution):
        return each.choices[min(int(position * len(each.choices)), len(each.choices) - 1)]
    low, high = ((math.log(x) if each.log else x) for x in (each.low, each.high))
    at = low + position * (high - low)
    value = min(max(math.exp(at) if each.log else at, each.low), each.high)
    return round(value) if isinstance(each, IntDistribution) else value
