"""Eight states to two classes: does a deep net need fewer examples of a composed mapping?"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .estimates import difference
from .nets import answers
from .panels import curve, panels
from .states import HIDDEN, STATES, accuracy_elsewhere, compositional, subsets, train_on_states
from .study import Check, Effort, Parts, Study

SIZES = (1, 2, 3, 4, 5, 6, 7)
# Sizes at which something can be learned and something is left to tell.
ENOUGH = (3, 4, 5, 6, 7)


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each architecture on every subset of the states."""
    return {name: partial(_train, hidden, effort) for name, hidden in HIDDEN.items()}


def _train(hidden: Sequence[int], effort: Effort) -> dict[str, Any]:
    one_seed = subsets(SIZES)
    chosen = one_seed * effort.seeds
    targets = compositional(STATES)
    fitted, samples = train_on_states(hidden, chosen, targets, effort)
    answered = answers(fitted, samples).argmax(axis=2)
    shares = accuracy_elsewhere(answered, targets[:, np.newaxis], chosen)
    by_seed = shares.reshape(effort.seeds, len(one_seed))
    sizes = np.array([len(states) for states in one_seed])
    known = answered == targets[:, np.newaxis]
    fits = [known[list(states), net].all() for net, states in enumerate(chosen)]
    return {
        "accuracies": [by_seed[:, sizes == size].mean(axis=1) for size in SIZES],
        "fitted": np.reshape(fits, (effort.seeds, -1)).mean(axis=1),
    }


def judge(found: Parts) -> Sequence[Check]:
    """Return what follows from the accuracy on states that were left out of training."""
    shallow, deep = (np.array(found[name]["accuracies"], float) for name in HIDDEN)
    rows_ = [SIZES.index(size) for size in ENOUGH]
    gained = difference(deep[rows_].mean(axis=0), shallow[rows_].mean(axis=0))
    ahead = [
        size
        for size, row in zip(ENOUGH, rows_, strict=True)
        if difference(deep[row], shallow[row]).low > 0
    ]
    sizes = ", ".join(map(str, ahead)) or "none"
    return [
        Check("gained", gained.low > 0, {"gained": gained.points()}),
        Check("sizes", len(ahead) > len(ENOUGH) / 2, {"ahead": sizes, "count": f"{len(ahead)}/5"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw accuracy on the states left out against the number of states trained on."""
    with panels(path, 1, width=6) as (axes,):
        for number, name in enumerate(HIDDEN):
            curve(axes, SIZES, found[name]["accuracies"], f"hidden {name}", number)
        axes.axhline(0.5, color="#999999", linestyle=":", label="guessing")
        axes.set(
            xlabel="states trained on (of 8)", ylabel="accuracy on the states left out (share)"
        )
        axes.legend()


STUDY = Study(20, parts, judge, draw)
