"""Features learned on five classes, used for five others with 20 images each.

    python -m benchmarks.transfer --data cifar10             both ways, three seeds each
    python -m benchmarks.transfer unsmoothed --data cifar10  one way
    python -m benchmarks.transfer --data cifar10 --resume    only what has no result yet

The folder has `train` and `test`, with a subfolder for each class. In alphabetical order, the
default net learns the first half of the classes from all their training images, with label
smoothing (the way `defaults`) or without (`unsmoothed`); its features are then frozen. Label
smoothing draws the images of a class together, so that less of what tells others apart is left
(Kornblith et al., 2021, arXiv 2010.16402). From 20 training images of each other class, these are
made, and tested on all test images of these classes:

- `linear_head`: a head by default settings, `backbone=RUN` and `freeze=all`
- `linear_probe` and `nearest_neighbors`: see `app.evaluation.probes`
- `from_scratch`: the same net by default settings, trained on nothing else

The seed determines the 20 images, weights and order. Nothing is chosen on test images. The result
of each seed is stored at once, and the first net after each epoch, in the temporary folder, from
which `--resume` goes on; the result of a try, with `--images` or `--set`, is only printed.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.config.chosen_defaults import choose_defaults
from app.config.run_config import make_config, parse_settings
from app.data.arrays import rows_at
from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.data.splits import Splits, split_dataset
from app.evaluation.predictions import predict_outputs
from app.evaluation.probes import probe_features
from app.training.fit import fit
from benchmarks.arguments import path_argument
from benchmarks.results import results_of_this_machine, write_results

SEEDS = 3
IMAGES_OF_A_CLASS = 20
GOAL = 0.10
# What is set for the net that learns the first classes, and how the row of results says so.
WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "defaults": ({}, ""),
    "unsmoothed": ({"label_smoothing": 0.0}, ", learned without label smoothing"),
}
_MEASURED = ("learned_classes", "linear_head", "linear_probe", "nearest_neighbors", "from_scratch")


def classes_of(dataset: Dataset, classes: range, most: int | None, seed: int) -> Dataset:
    """Return the samples of some classes, with at most `most` training samples of each."""
    train, test = np.split(np.arange(len(dataset.targets)), [_test_start(dataset)])
    random = np.random.default_rng(seed)
    drawn = [random.permutation(train[dataset.targets[train] == c])[:most] for c in classes]
    chosen = np.sort(np.concatenate(drawn))
    indices = np.concatenate([chosen, test[np.isin(dataset.targets[test], classes)]])
    return replace(
        dataset,
        inputs=rows_at(dataset.inputs, indices),
        targets=dataset.targets[indices] - classes.start,
        labels=dataset.labels[classes.start : classes.stop],
        validation_start=None,
        test_start=len(chosen),
    )


def train_and_test(
    dataset: Dataset,
    splits: Splits,
    settings: dict[str, Any],
    seed: int,
    checkpoint: Path | None = None,
) -> tuple[Any, float]:
    """Return a net trained with the settings that suit the data, and its test accuracy."""
    config = make_config("features", settings, seed=seed)
    config = choose_defaults(config, len(splits.train), dataset.inputs.shape[1:])
    model = fit(config, dataset, splits, checkpoint=checkpoint).model
    probabilities = _outputs(model, "probabilities", dataset, splits.test)
    return model, float((probabilities.argmax(axis=1) == dataset.targets[splits.test]).mean())


def transfer(
    dataset: Dataset,
    most: int | None,
    learning: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
    checkpoint: Path | None,
) -> list[float]:
    """Return the test accuracies of one seed, in the order of `_MEASURED`.

    Args:
        dataset: images of classes, with a test split.
        most: training images of each class to learn features from; None takes all.
        learning: settings of the net whose features are used.
        settings: settings of all trainings, besides those that suit the data.
        seed: see the docstring of this module.
        checkpoint: file from which an interrupted training of that net goes on; None keeps none.
    """
    half = len(dataset.labels) // 2
    known = classes_of(dataset, range(half), most, seed)
    other = classes_of(dataset, range(half, len(dataset.labels)), IMAGES_OF_A_CLASS, seed)
    parts = split_dataset(known, seed)
    extractor, learned = train_and_test(known, parts, settings | learning, seed, checkpoint)
    train, test = np.split(np.arange(len(other.targets)), [_test_start(other)])
    splits = Splits(train, np.arange(0), test)  # every image counts, so none is for validation
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "extractor.keras")
        extractor.save(path)
        frozen = {"backbone": path, "freeze": "all"}
        _, linear_head = train_and_test(other, splits, settings | frozen, seed)
    probed = [
        (_outputs(extractor, "features", other, indices), other.targets[indices])
        for indices in (train, test)
    ]
    probes = probe_features("multiclass", *probed)
    _, from_scratch = train_and_test(other, splits, settings, seed)
    return [learned, linear_head, probes.linear, probes.nearest_neighbors, from_scratch]


def _test_start(dataset: Dataset) -> int:
    if dataset.test_start is None:
        raise SystemExit(f"The folder must have train and test. Received: {dataset.source}.")
    return dataset.test_start


def _outputs(model: Any, name: str, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    return predict_outputs(model, dataset, indices, {name: np.ones(len(indices), bool)})[name]


def main() -> None:
    """Measure each seed, and store its result at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"{', '.join(WAYS)}; default: both.")
    parser.add_argument(
        "--data", required=True, type=path_argument, help="Folder with train and test."
    )
    parser.add_argument("--resume", action="store_true", help="Skip seeds with a stored result.")
    parser.add_argument("--images", type=int, help="For a try: training images of each class.")
    parser.add_argument("--set", action="append", default=[], help="For a try: KEY=VALUE.")
    given = parser.parse_args()
    settings, is_try = parse_settings(given.set), bool(given.set or given.images)
    dataset = load_dataset(str(given.data), has_digits=False)
    if unknown := set(given.ways) - set(WAYS):
        parser.error(f"WAY must be one of {', '.join(WAYS)}. Received: {', '.join(unknown)}.")
    for way in given.ways or list(WAYS):
        learning, told = WAYS[way]
        row = _begun_row(dataset, told, given.resume)
        for seed in range(len(row["from_scratch"]), SEEDS):
            kept = Path(tempfile.gettempdir()) / f"hornbill_transfer_{way}_{seed}.checkpoint"
            if not given.resume:
                kept.unlink(missing_ok=True)
            checkpoint = None if is_try else kept
            accuracies = transfer(dataset, given.images, learning, settings, seed, checkpoint)
            for name, accuracy in zip(_MEASURED, accuracies, strict=True):
                row[name].append(accuracy)
            pairs = zip(row["linear_head"], row["from_scratch"], strict=True)
            row["gain"] = statistics.mean(head - scratch for head, scratch in pairs)
            print(f"{way}, seed {seed}: {row}", flush=True)
            if not is_try:
                write_results("transfer", [row], repeated="linear_head")
                kept.unlink()


def _begun_row(dataset: Dataset, told: str, resume: bool) -> dict[str, Any]:
    """Return the row of a way to learn, with the stored seeds of this machine if they count."""
    half = len(dataset.labels) // 2
    parts = (dataset.labels[:half], dataset.labels[half:])
    what = " to ".join(", ".join(names) for names in parts) + told
    stored = {row["what"]: row for row in results_of_this_machine("transfer")} if resume else {}
    return stored.get(what, {"what": what, "goal": GOAL, **{name: [] for name in _MEASURED}})


if __name__ == "__main__":
    main()
