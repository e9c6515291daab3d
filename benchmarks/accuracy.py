"""Test accuracy of each family on real data.

    python -m benchmarks.accuracy                 everything that the data at hand allows
    python -m benchmarks.accuracy digits8x8-cnn   one of them

MNIST and Semeion are read from the folder that HORNBILL_DATA names (mnist.npz, semeion.data).
Nothing is chosen on test data: settings are the defaults, or were chosen on validation splits.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from app.config import combine_settings
from app.data.sources import load_dataset
from app.data.splits import Splits, split_dataset
from app.evaluation import classification_metrics, predict_outputs
from app.fitting import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import write_results

Scores = list[float]
# What 101 layers need: that they train is what is measured.
DEEP = {"variant": "resnet", "depth": 101, "epochs": 20}
# Measured by cross validation; the others over seeds.
FOLDED = ("iris-softmax", "semeion-mlp", "semeion-cnn")


def over_seeds(
    family: str, source: str, settings: dict[str, Any] | str, seeds: int = 3
) -> Callable[[], Scores]:
    """Return a job: test accuracy of `seeds` runs, split, weights and order drawn anew in each."""

    def job() -> Scores:
        return [_score(family, source, settings, seed, None) for seed in range(seeds)]

    return job


def cross_validated(
    family: str, source: str, settings: dict[str, Any] | str
) -> Callable[[], Scores]:
    """Return a job: accuracy of each fold of a stratified 5-fold cross validation."""

    def job() -> Scores:
        targets = load_dataset(source).targets
        folds = StratifiedKFold(5, shuffle=True, random_state=0).split(targets, targets)
        return [
            _score(family, source, settings, 0, _with_validation(rest, test, targets))
            for rest, test in folds
        ]

    return job


def _with_validation(rest: np.ndarray, test: np.ndarray, targets: np.ndarray) -> Splits:
    train, validation = train_test_split(
        rest, test_size=0.1, stratify=targets[rest], random_state=0
    )
    return Splits(train, validation, test)


def _score(
    family: str, source: str, settings: dict[str, Any] | str, seed: int, splits: Splits | None
) -> float:
    file = RECIPES / f"{settings}.toml" if isinstance(settings, str) else None
    given = settings if isinstance(settings, dict) else None
    config = combine_settings(family, file, given, source, seed)
    dataset = load_dataset(source)
    parts = splits or split_dataset(dataset, seed, config.training.validation)
    start = time.perf_counter()
    model = fit(config, dataset, parts).model
    probabilities = predict_outputs(model, dataset, parts.test)["probabilities"]
    accuracy = classification_metrics(dataset.targets[parts.test], probabilities)["accuracy"]
    print(f"    seed {seed}: {accuracy:.2%} in {time.perf_counter() - start:.0f} s", flush=True)
    return accuracy


def jobs(data: Path | None) -> dict[str, tuple[float, Callable[[], Scores]]]:
    """Return each measurement: its name, the accuracy asked for, and the job."""
    found: dict[str, tuple[float, Callable[[], Scores]]] = {
        "digits8x8-cnn": (0.99, over_seeds("digits", "digits8x8", {})),
        "digits8x8-mlp": (0.965, over_seeds("digits", "digits8x8", {"variant": "mlp"})),
        "digits8x8-resnet101": (0.97, over_seeds("digits", "digits8x8", DEEP)),
        "iris-softmax": (0.95, cross_validated("softmax", "iris", {})),
    }
    if data is None:
        return found
    semeion = str(data / "semeion.data")
    found["semeion-mlp"] = (0.95, cross_validated("digits", semeion, "semeion_mlp"))
    found["semeion-cnn"] = (0.98, cross_validated("digits", semeion, "semeion_cnn"))
    found["mnist-cnn"] = (0.997, over_seeds("digits", str(data / "mnist.npz"), "mnist_cnn"))
    return found


def main() -> None:
    """Run the measurements that were asked for and keep their results."""
    folder = os.environ.get("HORNBILL_DATA")
    available = jobs(Path(folder) if folder else None)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(available))
    names = parser.parse_args().names or list(available)
    for name in names:
        asked, job = available[name]
        print(name, flush=True)
        scores = job()
        mean = statistics.mean(scores)
        print(f"  {name}: {mean:.2%} (asked for {asked:.2%}), {len(scores)} runs", flush=True)
        row = {
            "what": name,
            "mean_accuracy": mean,
            "asked": asked,
            "accuracies": scores,
            "repeated": "folds" if name in FOLDED else "seeds",
        }
        write_results("accuracy", [row])


if __name__ == "__main__":
    main()
