"""Whether a deep net needs fewer examples of a composed mapping: eight states to two classes."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.estimates import difference, mean_estimate
from app.studies.nets import predictions
from app.studies.panels import curve, panels
from app.studies.states import (
    HIDDEN,
    compositions,
    majority_accuracies,
    state_accuracies,
    subsets,
    train_on_states,
)
from app.studies.study import Check, Effort, Parts, Study

SIZES = (1, 2, 3, 4, 5, 6, 7)
# Sizes at which there is something to learn and enough states are left out to test.
JUDGED = (3, 4, 5, 6, 7)


def parts(effort: Effort) -> Mapping[str, Any]:
    """Return the training of each architecture on every subset of the states."""
    return {name: partial(_train, hidden, effort) for name, hidden in HIDDEN.items()}


def _train(hidden: Sequence[int], effort: Effort) -> dict[str, Any]:
    one_seed, mappings = subsets(SIZES), compositions()
    sets = one_seed * effort.seeds
    # Each subset gets a different mapping in each seed, and all mappings are about as frequent.
    seeds, places = np.divmod(np.arange(len(sets)), len(one_seed))
    mapped = (places + seeds) % len(mappings)
    chosen = [np.add(states, 8 * number) for states, number in zip(sets, mapped, strict=True)]
    fitted, samples = train_on_states(hidden, chosen, mappings.ravel(), effort)
    # The states are the same for each mapping, so the first eight rows are enough.
    predicted = predictions(fitted, samples)[:8].argmax(axis=2)
    targets = mappings[mapped].T
    trained, left_out = state_accuracies(predicted, targets, sets)
    sizes = np.array([len(states) for states in one_seed])

    def by_size(accuracies: np.ndarray) -> list[np.ndarray]:
        by_seed = accuracies.reshape(effort.seeds, len(one_seed))
        return [by_seed[:, sizes == size].mean(axis=1) for size in SIZES]

    return {
        "accuracies": by_size(left_out),
        "guessed": by_size(majority_accuracies(targets, sets)),
        "trained": trained.reshape(effort.seeds, len(one_seed)).mean(axis=1),
    }


def judge(found: Parts) -> Sequence[Check]:
    """Return the checks on the accuracy on states that were left out of training."""
    shallow, deep = (np.array(found[name]["accuracies"], float) for name in HIDDEN)
    places = [SIZES.index(size) for size in JUDGED]
    gained = difference(deep[places].mean(axis=0), shallow[places].mean(axis=0))
    ahead = [
        size
        for size, row in zip(JUDGED, places, strict=True)
        if difference(deep[row], shallow[row]).low > 0
    ]
    sizes = ", ".join(map(str, ahead)) or "-"
    trained = {
        name: f"{np.mean(found[layers]['trained']):.0%}"
        for name, layers in zip(("shallow", "deep"), HIDDEN, strict=True)
    }
    guessed = np.array(found[next(iter(HIDDEN))]["guessed"], float)[places].mean(axis=0)
    unseen = {"shallow": shallow[places].mean(axis=0), "deep": deep[places].mean(axis=0)}
    figures = {f"unseen_{name}": f"{mean_estimate(each):.1%}" for name, each in unseen.items()}
    return [
        Check(
            "carried",
            max(difference(each, guessed).low for each in unseen.values()) > 0,
            {**figures, "guessed": f"{guessed.mean():.1%}"},
        ),
        Check("gained", gained.low > 0, {"gained": gained.points(), **trained}),
        Check("sizes", len(ahead) > len(JUDGED) / 2, {"ahead": sizes, "count": f"{len(ahead)}/5"}),
    ]


def draw(found: Parts, path: Path) -> None:
    """Draw accuracy on the states left out against the number of training states."""
    with panels(path, 1, width=6) as (axes,):
        for number, name in enumerate(HIDDEN):
            curve(axes, SIZES, found[name]["accuracies"], f"hidden {name}", number)
        guessed = np.mean(found[next(iter(HIDDEN))]["guessed"], axis=1)
        axes.plot(SIZES, guessed, color="#999999", linestyle=":", label="majority class")
        axes.set(xlabel="training states (of 8)", ylabel="accuracy on the states left out")
        axes.legend()


STUDY = Study(20, parts, judge, draw)
