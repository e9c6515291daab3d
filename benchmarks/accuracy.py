"""Test accuracy of each family on real data.

    python -m benchmarks.accuracy                 all measurements with the available data
    python -m benchmarks.accuracy digits8x8-cnn   one of them
    python -m benchmarks.accuracy --resume        only seeds and folds without a stored result

The result of each seed or fold is stored at once. MNIST and Semeion are read from the folder that
HORNBILL_DATA names (mnist.npz, semeion.data). Nothing is chosen on test data: settings are the
defaults or were chosen on validation splits. For digits8x8 and Semeion, the validation samples of
one seed or fold can be the test samples of another.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from app.config.run_config import combine_settings
from app.data.sources import load_dataset
from app.data.splits import Splits, split_dataset
from app.evaluation.metrics import measure
from app.evaluation.predictions import predict_samples
from app.system.data_folders import find_data
from app.training.fit import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import results_of_this_machine, write_results

# The training and scoring of each seed or fold.
Runs = Sequence[Callable[[], float]]
# This shows that 101 layers can be trained.
DEEP = {"variant": "resnet", "depth": 101, "epochs": 20}
SEEDS_OF_SMALL = 10
# These are measured by cross-validation, the others over seeds.
FOLDED = ("iris-softmax", "semeion-mlp", "semeion-cnn")


def over_seeds(family: str, source: str, settings: dict[str, Any] | str, seeds: int = 3) -> Runs:
    """Return one run for each seed, which determines splits, weights and order."""
    return [partial(_score, family, source, settings, seed) for seed in range(seeds)]


def cross_validated(family: str, source: str, settings: dict[str, Any] | str) -> Runs:
    """Return one run for each fold of a stratified 5-fold cross-validation."""
    return [partial(_score, family, source, settings, 0, fold) for fold in range(5)]


def _fold_splits(fold: int, targets: np.ndarray) -> Splits:
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(targets, targets)
    rest, test = list(folds)[fold]
    train, validation = train_test_split(
        rest, test_size=0.1, stratify=targets[rest], random_state=0
    )
    return Splits(train, validation, test)


def _score(
    family: str,
    source: str,
    settings: dict[str, Any] | str,
    seed: int,
    fold: int | None = None,
) -> float:
    file = RECIPES / f"{settings}.toml" if isinstance(settings, str) else None
    given = settings if isinstance(settings, dict) else None
    config = combine_settings(family, file, given, source, seed)
    dataset = load_dataset(source)
    parts = (
        split_dataset(dataset, seed, config.training.validation_split)
        if fold is None
        else _fold_splits(fold, dataset.targets)
    )
    start = time.perf_counter()
    model = fit(config, dataset, parts).model
    probabilities = predict_samples(model, dataset, parts.test)
    accuracy = measure("multiclass", dataset.targets[parts.test], probabilities)["accuracy"]
    run = f"seed {seed}" if fold is None else f"fold {fold}"
    print(f"    {run}: {accuracy:.2%} in {time.perf_counter() - start:.0f} s", flush=True)
    return accuracy


def measurements() -> dict[str, tuple[float, Runs]]:
    """Return the goal and the runs of each measurement whose data is there, by name."""
    found: dict[str, tuple[float, Runs]] = {
        "digits8x8-cnn": (0.99, over_seeds("digits", "digits8x8", {})),
        "digits8x8-mlp": (0.965, over_seeds("digits", "digits8x8", {"variant": "mlp"})),
        "digits8x8-resnet101": (0.97, over_seeds("digits", "digits8x8", DEEP)),
        "iris-softmax": (0.95, cross_validated("softmax", "iris", {})),
    }
    if Path(find_data(semeion := "semeion.data")).exists():
        found["semeion-mlp"] = (0.95, cross_validated("digits", semeion, "semeion_mlp"))
        found["semeion-cnn"] = (0.98, cross_validated("digits", semeion, "semeion_cnn"))
    if Path(find_data(mnist := "mnist.npz")).exists():
        found["mnist-cnn"] = (0.997, over_seeds("digits", mnist, "mnist_cnn"))
        found["mnist-cnn-full"] = (0.9975, over_seeds("digits", mnist, "mnist_full"))
        found["mnist-cnn-100k"] = (0.9965, over_seeds("digits", mnist, "mnist_100k"))
        found["mnist-cnn-9k"] = (0.993, over_seeds("digits", mnist, "mnist_9k", SEEDS_OF_SMALL))
    return found


def main() -> None:
    """Run the chosen measurements and store their results."""
    available = measurements()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(available))
    parser.add_argument(
        "--resume", action="store_true", help="Skip runs that have a stored result."
    )
    given = parser.parse_args()
    stored = {row["what"]: row["accuracies"] for row in results_of_this_machine("accuracy")}
    for name in given.names or list(available):
        print(name, flush=True)
        goal, runs = available[name]
        accuracies: list[float] = list(stored.get(name, ())) if given.resume else []
        for run in runs[len(accuracies) :]:
            accuracies.append(run())
            row = {
                "what": name,
                "mean_accuracy": statistics.mean(accuracies),
                "goal": goal,
                "accuracies": accuracies,
                "repetitions": "folds" if name in FOLDED else "seeds",
            }
            write_results("accuracy", [row], repeated="accuracies")
        mean = statistics.mean(accuracies)
        print(f"  {name}: {mean:.2%} (goal: {goal:.2%}), {len(accuracies)} runs", flush=True)


if __name__ == "__main__":
    main()
