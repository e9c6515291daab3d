"""The eight states of three bits as a data set, which two studies train on."""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from app.training.fit import FitResult
from app.training.replicas import fit_replicas

from .nets import configure, rows
from .panels import MAIN, PLAIN
from .study import Effort

Gate = Callable[[np.ndarray, np.ndarray], np.ndarray]
STATES = np.array(list(product((0.0, 1.0), repeat=3)))
HIDDEN = {"8": [8], "2+3": [2, 3]}
LABELS = {"8": "one layer of 8", "2+3": "two layers, 2 and 3"}
LOOKS = {"8": PLAIN, "2+3": MAIN}
# Divisible by every number of states from 1 to 7, so that each net sees its states equally often.
_DRAWS, _BATCH = 420, 12


def compositions() -> np.ndarray:
    """Return the class of each state under each composition of two gates, `(9, 8)`.

    A composition is outer(inner(first, second), third), where both gates are AND, OR or XOR.
    """
    first, second, third = STATES.astype(int).T
    gates: tuple[Gate, ...] = (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    return np.stack([outer(inner(first, second), third) for outer in gates for inner in gates])


def subsets(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every subset of the eight states that has one of these sizes."""
    return [chosen for size in sizes for chosen in combinations(range(len(STATES)), size)]


def train_on_states(
    hidden: Sequence[int], chosen: Sequence[Any], targets: np.ndarray, effort: Effort
) -> tuple[FitResult, Any]:
    """Train one net on each set of samples.

    Args:
        hidden: units of each hidden layer.
        chosen: for each net, the samples to train it on, as indices into `targets`.
        targets: class of each sample; the states of the samples repeat every eight.
        effort: how much computation the study may use.

    Returns:
        The trained nets and the data set.
    """
    samples = rows("states", np.tile(STATES, (len(targets) // len(STATES), 1)), targets)
    draws = [np.resize(np.asarray(states), _DRAWS) for states in chosen]
    settings = {
        "hidden": list(hidden),
        "activation": "tanh",
        "initializer": "xavier_uniform",
        "batch_size": _BATCH,
        "epochs": 2,
        "repeat": effort.choose(18, 5),
        "optimizer.learning_rate": 0.02,
    }
    return fit_replicas(configure(settings, len(chosen)), samples, np.stack(draws, axis=1)), samples


def state_accuracies(
    predicted: np.ndarray, targets: np.ndarray, chosen: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return each net's accuracy on the states that it was trained on, and on the others.

    Args:
        predicted: class that each net predicts for each of the eight states, `(8, nets)`.
        targets: true classes, `(8, nets)`.
        chosen: the states that each net was trained on.

    Returns:
        Two float arrays `(nets,)`.
    """
    is_chosen = np.zeros(predicted.shape, bool)
    for net, states in enumerate(chosen):
        is_chosen[np.asarray(states), net] = True
    is_right = predicted == targets

    def accuracy(states: np.ndarray) -> np.ndarray:
        found: np.ndarray = (is_right & states).sum(axis=0) / states.sum(axis=0)
        return found

    return accuracy(is_chosen), accuracy(~is_chosen)


def guess_accuracies(targets: np.ndarray, chosen: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the accuracy on the states left out of an answer that is always the same.

    The answer is the more frequent class of the training states. If both classes are equally
    frequent there, or among all eight states, a coin decides: the accuracy is one half. In the
    second case, the more frequent class in training is the rarer one among the states left out.

    Args:
        targets: class of each of the eight states, `(8, nets)`.
        chosen: the states that each net was trained on.

    Returns:
        float `(nets,)`.
    """
    accuracies = np.empty(len(chosen))
    for net, states in enumerate(chosen):
        trained, rest = targets[list(states), net], np.delete(targets[:, net], list(states))
        excess = trained.mean() - 0.5
        is_coin = not excess or targets[:, net].mean() == 0.5
        accuracies[net] = 0.5 if is_coin else (rest == (excess > 0)).mean()
    return accuracies
