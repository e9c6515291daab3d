"""Measures what the features of a model tell about the targets, by simple models on top of them."""

from dataclasses import dataclass

import numpy as np
from sklearn import metrics
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize, scale

from app.data.splits import some

from .metrics import SCORES

# With 512 features, so many samples take 4 seconds of a core; 50,000 and 10,000 would take 20.
MAX_TRAIN, MAX_TEST = 20_000, 5_000
# Features that so many samples may have; of samples with more, there are fewer.
_DIMENSION = 2048
# As Caron et al. (2021) evaluate features: neighbors, and the temperature of their weights.
NEIGHBORS = 20
_TEMPERATURE = 0.07
# Ridge penalties for each feature; features have variance 1. Few samples of values want the least,
# classes that a net knows by heart a large one.
_PENALTIES = np.array([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
# Training samples that choose the penalty. With 2,048 features, so many take half a second; 20,000
# would take minutes.
_CHOOSING = 1000


@dataclass(frozen=True)
class Probes:
    """Scores on test samples of models that see nothing but features of training samples.

    Attributes:
        score: what is measured: `accuracy`, `f1_macro` or `r2`, by the task.
        linear: score of a ridge classifier, or of ridge regression, whose penalty leave-one-out on
            training samples chooses.
        nearest_neighbors: score of the weighted vote, or mean, of the `NEIGHBORS` training samples
            whose features have the largest cosine similarity.
        recall_at_1: fraction of test samples whose most similar training sample has the same class;
            None for labels and values.
        dimension: number of features.
        train_samples: number of training samples.
        test_samples: number of test samples.
    """

    score: str
    linear: float
    nearest_neighbors: float
    recall_at_1: float | None
    dimension: int
    train_samples: int
    test_samples: int


def probed_samples(dimension: int) -> tuple[int, int]:
    """Return the largest numbers of training and of test samples that are probed.

    Args:
        dimension: number of features.
    """
    fraction = min(1.0, _DIMENSION / max(1, dimension))
    return int(fraction * MAX_TRAIN), max(1, int(fraction * MAX_TEST))


def probe_features(
    task: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> Probes:
    """Return what a linear probe and nearest neighbors reach on frozen features.

    Args:
        task: `multiclass`, `multilabel` or `regression`.
        train: features float32 `(samples, dimension)` of training samples, see `probed_samples`,
            and their targets as in `Dataset`.
        test: the same of test samples.
    """
    (features, targets), (others, their_targets) = train, test
    wanted = np.eye(targets.max() + 1, dtype="float32")[targets] if targets.ndim == 1 else targets
    predicted = _ridge(features, wanted, others)
    neighbors, weights = _neighbors(features, others)
    is_class = task == "multiclass"
    return Probes(
        score=SCORES[task],
        linear=_score(task, their_targets, predicted),
        nearest_neighbors=_score(task, their_targets, _means(wanted, neighbors, weights)),
        recall_at_1=float((targets[neighbors[:, 0]] == their_targets).mean()) if is_class else None,
        dimension=features.shape[1],
        train_samples=len(features),
        test_samples=len(others),
    )


def _ridge(features: np.ndarray, wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the predictions of ridge regression for other samples, `(others, outputs)`."""
    scaler = StandardScaler().fit(features)
    features, others = scaler.transform(features), scaler.transform(others)
    linear = Ridge(_penalty(features, wanted)).fit(features, wanted)
    return np.asarray(linear.predict(others).reshape(len(others), -1))


def _penalty(features: np.ndarray, wanted: np.ndarray) -> float:
    """Return the penalty with the least error of samples that are left out one by one."""
    penalties = _PENALTIES * features.shape[1]
    if len(features) == 1:  # none would be left
        return float(penalties[0])
    chosen = some(len(features), _CHOOSING)
    # Outputs count alike, whatever their units.
    outputs = scale(wanted[chosen].astype("float64"))
    return float(RidgeCV(penalties).fit(features[chosen], outputs).alpha_)


def _neighbors(features: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest samples of each other sample, `(others, neighbors)`, and their weights."""
    # Between vectors of length 1, the squared distance is 2 - 2 * cosine similarity.
    search = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(features)), algorithm="brute")
    distances, neighbors = search.fit(normalize(features)).kneighbors(normalize(others))
    weights = np.exp((distances[:, :1] ** 2 - distances**2) / 2 / _TEMPERATURE)
    return neighbors, weights / weights.sum(axis=1, keepdims=True)


def _means(targets: np.ndarray, neighbors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the targets of neighbors, `(samples, outputs)`."""
    # One neighbor at a time: all at once would need 20 times the memory.
    means = np.zeros((len(neighbors), targets.shape[1]))
    for number, weight in zip(neighbors.T, weights.T, strict=True):
        means += weight[:, np.newaxis] * targets[number]
    return means


def _score(task: str, targets: np.ndarray, predicted: np.ndarray) -> float:
    if task == "multiclass":
        return float((predicted.argmax(axis=1) == targets).mean())
    if task == "multilabel":
        labels = predicted >= 0.5
        return float(metrics.f1_score(targets, labels, average="macro", zero_division=0.0))
    return float(metrics.r2_score(targets, predicted))
