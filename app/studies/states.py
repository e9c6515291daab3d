"""Mappings of eight states, three bits, to two classes: what two studies train on them."""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from app.training.fit import FitResult
from app.training.replicas import fit_replicas

from .nets import configure, rows
from .study import Effort

Gate = Callable[[np.ndarray, np.ndarray], np.ndarray]
STATES = np.array(list(product((0.0, 1.0), repeat=3)))
HIDDEN = {"8": [8], "2+3": [2, 3]}
# Divisible by every number of states from 1 to 7: each net meets its states equally often.
_DRAWS, _BATCH = 420, 12


def compositions() -> np.ndarray:
    """Return what each composition of two gates makes of the states, `(9, 8)`.

    It is outer(inner(first, second), third), both gates AND, OR or XOR.
    """
    first, second, third = STATES.astype(int).T
    gates: tuple[Gate, ...] = (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    return np.stack([outer(inner(first, second), third) for outer in gates for inner in gates])


def subsets(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every set of so many of the eight states."""
    return [chosen for size in sizes for chosen in combinations(range(len(STATES)), size)]


def train_on_states(
    hidden: Sequence[int], chosen: Sequence[Any], targets: np.ndarray, effort: Effort
) -> tuple[FitResult, Any]:
    """Train a net for each set of states.

    Args:
        hidden: units of each hidden layer.
        chosen: the samples that each net is trained on, by number in `targets`.
        targets: class of each sample, whose states repeat every eight.
        effort: how much may be spent.

    Returns:
        The nets, and the data set.
    """
    samples = rows("states", np.tile(STATES, (len(targets) // len(STATES), 1)), targets)
    draws = [np.resize(np.asarray(states), _DRAWS) for states in chosen]
    settings = {
        "hidden": list(hidden),
        "activation": "tanh",
        "initializer": "xavier_uniform",
        "batch_size": _BATCH,
        "epochs": 2,
        "repeat": effort.of(18, 6),
        "optimizer.learning_rate": 0.02,
    }
    return fit_replicas(configure(settings, len(chosen)), samples, np.stack(draws, axis=1)), samples


def accuracies_of_states(
    answered: np.ndarray, targets: np.ndarray, chosen: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of states right among those that each net was trained on, and of the rest.

    Args:
        answered: class that each net gives each of the eight states, `(8, nets)`.
        targets: the right ones, `(8, nets)`.
        chosen: the states that each was trained on.

    Returns:
        Both `(nets,)`.
    """
    is_chosen = np.zeros(answered.shape, bool)
    for net, states in enumerate(chosen):
        is_chosen[np.asarray(states), net] = True
    is_right = answered == targets

    def share(among: np.ndarray) -> np.ndarray:
        shares: np.ndarray = (is_right & among).sum(axis=0) / among.sum(axis=0)
        return shares

    return share(is_chosen), share(~is_chosen)


def guessed_accuracies(targets: np.ndarray, chosen: Sequence[Sequence[int]]) -> np.ndarray:
    """Return what the more frequent class of the chosen states gets right among the others.

    Where both are as frequent that is one half.

    Args:
        targets: class of each of the eight states, `(8, nets)`.
        chosen: the states that each net was trained on.

    Returns:
        float `(nets,)`.
    """
    found = np.empty(len(chosen))
    for net, states in enumerate(chosen):
        among, rest = targets[list(states), net], np.delete(targets[:, net], list(states))
        excess = among.mean() - 0.5
        found[net] = 0.5 if not excess else (rest == (excess > 0)).mean()
    return found
