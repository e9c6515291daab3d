"""Eight states to two classes: does a deep net need fewer examples of composed mappings?"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import answers
from app.studies.panels import curve, panels
from app.studies.states import (
    HIDDEN,
    accuracies_of_states,
    compositions,
    guessed_accuracies,
    subsets,
    train_on_states,
)
from app.studies.study import Check, Effort, Parts, Study

SIZES = (1, 2, 3, 4, 5, 6, 7)
# Sizes at which something can be learned and something is left to tell.
ENOUGH = (3, 4, 5, 6, 7)


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each architecture on every subset of the states."""
    return {name: partial(_train, hidden, effort) for name, hidden in HIDDEN.items()}


def _train(hidden: Sequence[int], effort: Effort) -> dict[str, Any]:
    one_seed, mappings = subsets(SIZES), compositions()
    sets = one_seed * effort.seeds
    # Another mapping for each subset in each seed, all about equally often.
    seeds, places = np.divmod(np.arange(len(sets)), len(one_seed))
    mapped = (places + seeds) % len(mappings)
    chosen = [np.add(states, 8 * number) for states, number in zip(sets, mapped, strict=True)]
    fitted, samples = train_on_states(hidden, chosen, mappings.ravel(), effort)
    # The states are the same for each mapping: the first eight rows are all.
    answered = answers(fitted, samples)[:8].argmax(axis=2)
    targets = mappings[mapped].T
    trained, left = accuracies_of_states(answered, targets, sets)
    sizes = np.array([len(states) for states in one_seed])

    def by_size(accuracies: np.ndarray) -> list[np.ndarray]:
        by_seed = accuracies.reshape(effort.seeds, len(one_seed))
        return [by_seed[:, sizes == size].mean(axis=1) for size in SIZES]

    return {
        "accuracies": by_size(left),
        "guessed": by_size(guessed_accuracies(targets, sets)),
        "trained": trained.reshape(effort.seeds, len(one_seed)).mean(axis=1),
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
    sizes = ", ".join(map(str, ahead)) or "-"
    trained = {
        name: f"{np.mean(found[layers]['trained']):.0%}"
        for name, layers in zip(("shallow", "deep"), HIDDEN, strict=True)
    }
    guessed = np.array(found[next(iter(HIDDEN))]["guessed"], float)[rows_].mean(axis=0)
    unseen = {"shallow": shallow[rows_].mean(axis=0), "deep": deep[rows_].mean(axis=0)}
    said = {f"unseen_{name}": f"{mean_estimate(each):.1%}" for name, each in unseen.items()}
    return [
        Check(
            "carried",
            max(difference(each, guessed).low for each in unseen.values()) > 0,
            {**said, "guessed": f"{guessed.mean():.1%}"},
        ),
        Check("gained", gained.low > 0, {"gained": gained.points(), **trained}),
        Check("sizes", len(ahead) > len(ENOUGH) / 2, {"ahead": sizes, "count": f"{len(ahead)}/5"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw accuracy on the states left out against the number of states trained on."""
    with panels(path, 1, width=6) as (axes,):
        for number, name in enumerate(HIDDEN):
            curve(axes, SIZES, found[name]["accuracies"], f"hidden {name}", number)
        guessed = np.mean(found[next(iter(HIDDEN))]["guessed"], axis=1)
        axes.plot(SIZES, guessed, color="#999999", linestyle=":", label="guessing by frequency")
        axes.set(
            xlabel="states trained on (of 8)", ylabel="accuracy on the states left out (share)"
        )
        axes.legend()


STUDY = Study(20, parts, judge, draw)
