"""Accuracy of the default net with more or less augmentation than the default, on few images.

    python -m benchmarks.augmentation cifar10.npz --counts 2000,5000 --seeds 0,1

The file holds `x_train` and `y_train` as CIFAR-10 does. Each policy trains on so many of its
images, as many of each class, with the settings that training chooses for them, and is scored on
8,000 others. Nothing reads the test split.
"""

import argparse

import numpy as np

from app.config.chosen_defaults import choose_defaults
from app.config.run_config import make_config
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.training.fit import fit
from benchmarks.arguments import path_argument
from benchmarks.results import write_results

POLICIES: dict[str, dict[str, float]] = {
    "default": {},
    "scale": {"scale": 0.2, "stretch": 0.2},
    "no erase": {"erase": 0.0},
    "no randaugment": {"randaugment": 0.0},
    "color": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
}
VALIDATION = 8000


def validation_accuracy(policy: str, images: np.ndarray, classes: np.ndarray, seed: int) -> float:
    """Train on all images but the last `VALIDATION`, and return the accuracy on those.

    Args:
        policy: a key of `POLICIES`.
        images: uint8 `(samples, height, width, channels)`.
        classes: int64 `(samples,)`.
        seed: seed of the training.
    """
    labels = tuple(map(str, np.unique(classes)))
    dataset = Dataset(source="images", inputs=images, targets=classes, labels=labels)
    train, validation = np.split(np.arange(len(images)), [-VALIDATION])
    settings = {f"augmentation.{key}": value for key, value in POLICIES[policy].items()}
    config = make_config("features", settings, seed=seed)
    config = choose_defaults(config, len(train), images.shape[1:])
    none = np.arange(0)
    model = fit(config, dataset, Splits(train, none, none)).model
    probabilities = model.predict(images[validation], verbose=0)["probabilities"]
    return float((probabilities.argmax(axis=1) == classes[validation]).mean())


def draw(classes: np.ndarray, count: int) -> np.ndarray:
    """Return indices of `count` samples, as many of each class, and of `VALIDATION` others."""
    order = np.random.default_rng(0).permutation(len(classes))
    kinds = np.unique(classes)
    chosen = [order[classes[order] == kind][: count // len(kinds)] for kind in kinds]
    train = np.concatenate(chosen)
    return np.concatenate([train, order[~np.isin(order, train)][:VALIDATION]])


def main() -> None:
    """Measure every policy for every number of images, and write each result at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", metavar="FILE.npz", type=path_argument)
    parser.add_argument("--counts", default="2000,5000")
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--seeds", default="0")
    arguments = parser.parse_args()
    with np.load(arguments.file) as arrays:
        images, classes = arrays["x_train"], arrays["y_train"].reshape(-1).astype(np.int64)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for count in map(int, arguments.counts.split(",")):
        chosen = draw(classes, count)
        for policy in arguments.policies.split(","):
            scores = [
                validation_accuracy(policy, images[chosen], classes[chosen], seed) for seed in seeds
            ]
            row = {
                "what": f"{policy}, {count} images",
                "validation_accuracies": scores,
                "mean_accuracy": float(np.mean(scores)),
            }
            print(row, flush=True)
            write_results("augmentation", [row])


if __name__ == "__main__":
    main()
