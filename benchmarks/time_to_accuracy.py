"""Seconds of training to 99.0 % and 99.5 % test accuracy on MNIST, against Keras' own example.

    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy         both
    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy 0.99    one of them
    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy --resume    seeds that are not kept

Theirs: the two-convolution example of keras.io (32 and 64 filters of 3x3, dropout 0.5, batch 128,
Adam), `fit` on arrays, an epoch at a time, until the test accuracy is there or `PATIENCE` times our
seconds are over; tests are not timed. Ours: whole runs of the recipes mnist_990 and mnist_995,
preparation and validation included, whose test accuracy must be there at the end. Both take turns
in one process; theirs without the promise to repeat sums, which ours asks for. Where theirs was
given up, `times_sooner`, the median over seeds, is a lower bound.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tensorflow.python.framework.config import disable_op_determinism

from app.config.run_config import combine_settings
from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.evaluation.metrics import predict_targets
from app.training.fit import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import kept_here, write_results

GOALS = {0.990: "mnist_990", 0.995: "mnist_995"}
SEEDS = 3
# Of 99.5 %, which theirs did not reach in an hour, no more than shows what is asked for.
PATIENCE = {0.990: 15, 0.995: 5}


def keras_example() -> keras.Model:
    """Return the model of keras.io/examples/vision/mnist_convnet, compiled as it is there."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def their_seconds(dataset: Dataset, seed: int, goal: float, patience: float) -> tuple[float, bool]:
    """Return the seconds of training, and whether the goal was reached within patience."""
    keras.utils.set_random_seed(seed)
    disable_op_determinism()
    images = dataset.inputs[:].astype("float32")[..., np.newaxis] / 255
    one_hot = np.eye(10, dtype="float32")[dataset.targets]
    split = dataset.test_start
    model = keras_example()
    seconds = 0.0
    while seconds < patience:
        start = time.perf_counter()
        model.fit(images[:split], one_hot[:split], 128, epochs=1, validation_split=0.1, verbose=0)
        seconds += time.perf_counter() - start
        if model.evaluate(images[split:], one_hot[split:], 500, verbose=0)[1] >= goal:
            return seconds, True
    return seconds, False


def our_seconds(dataset: Dataset, recipe: str, seed: int) -> tuple[float, float]:
    """Return the seconds from the raw images to the trained model, and its test accuracy."""
    config = combine_settings("digits", RECIPES / f"{recipe}.toml", seed=seed)
    splits = split_dataset(dataset, seed, config.training.validation_split)
    start = time.perf_counter()
    model = fit(config, dataset, splits).model
    seconds = time.perf_counter() - start
    probabilities = predict_targets(model, dataset, splits.test)
    return seconds, float((probabilities.argmax(axis=1) == dataset.targets[splits.test]).mean())


def main() -> None:
    """Take turns, and keep the seconds of each seed as soon as both are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goals", nargs="*", type=float, metavar="GOAL", help="0.99, 0.995")
    parser.add_argument("--resume", action="store_true", help="go on after the seeds that are kept")
    given = parser.parse_args()
    dataset = load_dataset(str(Path(os.environ["HORNBILL_DATA"]) / "mnist.npz"))
    kept = {row["goal"]: row for row in kept_here("time_to_accuracy")} if given.resume else {}
    for goal in given.goals or list(GOALS):
        row = kept.get(goal, _begun(goal))
        for seed in range(len(row["our_seconds"]), SEEDS):
            ours, accuracy = our_seconds(dataset, GOALS[goal], seed)
            theirs, reached = their_seconds(dataset, seed, goal, PATIENCE[goal] * ours)
            row["our_seconds"].append(round(ours, 1))
            row["our_accuracies"].append(accuracy)
            row["we_reached_it"].append(accuracy >= goal)
            row["their_seconds"].append(round(theirs, 1))
            row["they_reached_it"].append(reached)
            pairs = zip(row["their_seconds"], row["our_seconds"], strict=True)
            row["times_sooner"] = round(statistics.median(a / b for a, b in pairs), 2)
            print(f"seed {seed}: {row}", flush=True)
            write_results("time_to_accuracy", [row])


def _begun(goal: float) -> dict[str, Any]:
    lists = ("our_seconds", "our_accuracies", "we_reached_it", "their_seconds", "they_reached_it")
    return {"what": f"mnist-{goal:.1%}", "goal": goal, **{name: [] for name in lists}}


if __name__ == "__main__":
    main()
