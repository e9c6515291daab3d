"""Accuracy of digit nets that are trained on one data set and tested on all of another.

    HORNBILL_DATA=… python -m benchmarks.cross_dataset

MNIST has anti-aliased images of 28x28 pixels, Semeion black and white images of 16x16 pixels that
the digit fills, and digits8x8 has 17 gray levels. Size, thickness and placement differ. Training
sees no sample of the data set that is tested on. The settings were chosen by the errors on
digits8x8, and the results on digits8x8 are marked accordingly.
"""

import statistics

import numpy as np

from app.config.run_config import combine_settings
from app.data.sources import bare_source, load_dataset
from app.data.splits import split_dataset
from app.evaluation.predictions import predict_samples
from app.training.fit import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import write_results

SEEDS = 3
GOAL = 0.95


def measure(train_on: str, test_on: list[str], recipe: str) -> None:
    """Train with `SEEDS` seeds, test on every sample of the other sources, store the accuracies."""
    accuracies: dict[str, list[float]] = {source: [] for source in test_on}
    for seed in range(SEEDS):
        config = combine_settings("digits", RECIPES / recipe, data=train_on, seed=seed)
        dataset = load_dataset(train_on)
        splits = split_dataset(dataset, seed, config.training.validation_split)
        model = fit(config, dataset, splits).model
        for source in test_on:
            other = load_dataset(source)
            everything = np.arange(len(other.targets))
            answers = predict_samples(model, other, everything).argmax(axis=1)
            accuracies[source].append(float((answers == other.targets).mean()))
            last = accuracies[source][-1]
            print(f"{bare_source(train_on)} to {bare_source(source)}: {last:.2%}", flush=True)
    write_results("cross_dataset", [_row(train_on, *item) for item in accuracies.items()])


def _row(train_on: str, source: str, accuracies: list[float]) -> dict[str, object]:
    return {
        "what": f"{bare_source(train_on)} to {bare_source(source)}",
        # `squareness` of both recipes was chosen by the errors on digits8x8.
        "settings_chosen_on_it": source == "digits8x8",
        "goal": GOAL if source.endswith("semeion.data") and "mnist" in train_on else None,
        "mean_accuracy": statistics.mean(accuracies),
        "accuracies": accuracies,
    }


def main() -> None:
    """Measure every pair of data sets."""
    mnist, semeion = "mnist.npz", "semeion.data"
    measure("digits8x8", [semeion, mnist], "cross_dataset_small.toml")
    measure(semeion, ["digits8x8", mnist], "cross_dataset_small.toml")
    measure(mnist, [semeion, "digits8x8"], "cross_dataset.toml")
    measure(f"{mnist}+digits8x8", [semeion], "cross_dataset.toml")


if __name__ == "__main__":
    main()
