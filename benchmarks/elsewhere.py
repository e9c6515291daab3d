"""Handwriting from elsewhere: nets trained on one collection, tested on all of another.

    HORNBILL_DATA=… python -m benchmarks.elsewhere

MNIST is 28x28 and anti-aliased, Semeion 16x16 ink or no ink that fills its box, digits8x8 has 17
levels; size, thickness and placement differ. No sample of the collection tested on is seen in
training, nor in choosing settings but in one row, which says so: those for MNIST were chosen by the
errors on digits8x8.
"""

import os
import statistics
from pathlib import Path

import numpy as np

from app.config.run_config import combine_settings
from app.data.sources import bare_source, load_dataset
from app.data.splits import split_dataset
from app.evaluation.metrics import predict_targets
from app.training.fit import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import write_results

SEEDS = 3


ASKED = 0.95


def measure(train_on: str, test_on: list[str], recipe: str) -> None:
    """Train with `SEEDS` seeds, test on every sample of each other source, keep the accuracies."""
    accuracies: dict[str, list[float]] = {source: [] for source in test_on}
    for seed in range(SEEDS):
        config = combine_settings("digits", RECIPES / recipe, data=train_on, seed=seed)
        dataset = load_dataset(train_on)
        splits = split_dataset(dataset, seed, config.training.validation_split)
        model = fit(config, dataset, splits).model
        for source in test_on:
            other = load_dataset(source)
            everything = np.arange(len(other.targets))
            answers = predict_targets(model, other, everything).argmax(axis=1)
            accuracies[source].append(float((answers == other.targets).mean()))
            last = accuracies[source][-1]
            print(f"{bare_source(train_on)} to {bare_source(source)}: {last:.2%}", flush=True)
    write_results("elsewhere", [_row(train_on, *item) for item in accuracies.items()])


def _row(train_on: str, source: str, accuracies: list[float]) -> dict[str, object]:
    return {
        "what": f"{bare_source(train_on)} to {bare_source(source)}",
        # `squareness`, of both recipes, was chosen by the errors on digits8x8.
        "settings_saw_it": source == "digits8x8",
        "asked": ASKED if source.endswith("semeion.data") and "mnist" in train_on else None,
        "mean_accuracy": statistics.mean(accuracies),
        "accuracies": accuracies,
    }


def main() -> None:
    """Measure every direction."""
    data = Path(os.environ["HORNBILL_DATA"])
    mnist, semeion = str(data / "mnist.npz"), str(data / "semeion.data")
    measure("digits8x8", [semeion, mnist], "elsewhere_small.toml")
    measure(semeion, ["digits8x8", mnist], "elsewhere_small.toml")
    measure(mnist, [semeion, "digits8x8"], "elsewhere.toml")
    measure(f"{mnist}+digits8x8", [semeion], "elsewhere.toml")


if __name__ == "__main__":
    main()
