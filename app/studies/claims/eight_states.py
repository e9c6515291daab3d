"""Whether a deep net needs fewer examples of a composed mapping: eight states to two classes."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.estimates import difference, mean_estimate, points
from app.studies.nets import predictions
from app.studies.panels import LIMIT, curve, panels
from app.studies.signs import HOLDS, above, every, some
from app.studies.states import (
    HIDDEN,
    LABELS,
    LOOKS,
    compositions,
    guess_accuracies,
    state_accuracies,
    subsets,
    train_on_states,
)
from app.studies.study import Claim, Effort, Parts, Study, compared, provided

SIZES = (1, 2, 3, 4, 5, 6, 7)
# Sizes at which there is something to learn and enough states are left out to test.
_JUDGED = [SIZES.index(size) for size in (3, 4, 5, 6, 7)]
# Smallest accuracy on the training states at which a net counts as having learned them.
LEARNED = 0.95


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
        "guessed": by_size(guess_accuracies(targets, sets)),
        "trained": by_size(trained),
    }


def _by_seed(accuracies: Any) -> np.ndarray:
    """Return the mean over the judged sizes, which all count the same, `(seeds,)`."""
    means: np.ndarray = np.array(accuracies, float)[_JUDGED].mean(axis=0)
    return means


def judge(found: Parts) -> Sequence[Claim]:
    """Return the claims on the accuracy on states that were left out of training."""
    shallow, deep = (_by_seed(found[name]["accuracies"]) for name in HIDDEN)
    trained = [mean_estimate(_by_seed(found[name]["trained"])) for name in HIDDEN]
    guessed = _by_seed(found[next(iter(HIDDEN))]["guessed"])
    gained = compared(
        "gained",
        points(deep, shallow),
        1,
        shallow_trained=f"{trained[0]:.1%}",
        deep_trained=f"{trained[1]:.1%}",
    )
    # What a net does with other states says nothing about depth unless it has learned its own.
    have_learned = every([above(each, LEARNED) for each in trained]) == HOLDS
    figures = {
        "guessed": f"{guessed.mean():.1%}",
        "shallow": f"{mean_estimate(shallow):.1%}",
        "deep": f"{mean_estimate(deep):.1%}",
    }
    return [
        Claim(
            "carried", some([above(difference(each, guessed)) for each in (shallow, deep)]), figures
        ),
        provided(gained, have_learned),
    ]


def draw(found: Parts, folder: Path) -> None:
    """Draw accuracy on the states left out against the number of training states."""
    with panels(folder) as (axes,):
        for name, label in LABELS.items():
            curve(axes, SIZES, found[name]["accuracies"], label, LOOKS[name])
        guessed = np.mean(found[next(iter(HIDDEN))]["guessed"], axis=1)
        axes.plot(SIZES, guessed, label="guessing", **LIMIT)
        axes.set(xlabel="states in training (of 8)", ylabel="accuracy on the states left out")
        axes.legend()


STUDY = Study(20, parts, judge, draw, quick_seeds=6)
