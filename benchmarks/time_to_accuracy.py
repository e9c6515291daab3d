"""Seconds of training to 99.0% and 99.5% test accuracy on MNIST, compared with Keras' example.

    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy         both
    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy 0.99    one of them
    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy --resume    only seeds without a result

Theirs is the example of keras.io with two convolutions (32 and 64 filters of 3x3, dropout 0.5,
batch size 128, Adam). It trains with `fit` on arrays, one epoch at a time, until it reaches the
test accuracy or has taken `PATIENCE` times as long as ours; the time of its tests is not counted.
Ours is a whole run of the recipe mnist_990 or mnist_995, including preprocessing and validation,
and must have the test accuracy at its end. The two alternate in one process. Ours is deterministic;
theirs may not be. `speedup` is the median over seeds. It is a lower bound if theirs was stopped.
"""

import argparse
import statistics
import time
from typing import Any

import keras
import numpy as np
from tensorflow.python.framework.config import disable_op_determinism

from app.config.run_config import combine_settings
from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.evaluation.predictions import predict_samples
from app.training.fit import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import results_of_this_machine, write_results

GOALS = {0.990: "mnist_990", 0.995: "mnist_995"}
SEEDS = 3
# Theirs did not reach 99.5% in an hour, so it gets just enough time to show that ours meets the
# goal.
PATIENCE = {0.990: 15, 0.995: 5}


def keras_example() -> keras.Model:
    """Return the model of keras.io/examples/vision/mnist_convnet, compiled in the same way."""
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
    """Return the seconds of training, and whether it reached the goal within `patience` seconds."""
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
    probabilities = predict_samples(model, dataset, splits.test)
    return seconds, float((probabilities.argmax(axis=1) == dataset.targets[splits.test]).mean())


def main() -> None:
    """Measure both for each seed in turn, and store the result of each seed at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goals", nargs="*", type=float, metavar="GOAL", help="0.99, 0.995")
    parser.add_argument(
        "--resume", action="store_true", help="Skip seeds that have a stored result."
    )
    given = parser.parse_args()
    dataset = load_dataset("mnist.npz")
    stored = (
        {row["goal"]: row for row in results_of_this_machine("time_to_accuracy")}
        if given.resume
        else {}
    )
    for goal in given.goals or list(GOALS):
        row = stored.get(goal, _empty_row(goal))
        for seed in range(len(row["our_seconds"]), SEEDS):
            ours, accuracy = our_seconds(dataset, GOALS[goal], seed)
            theirs, reached = their_seconds(dataset, seed, goal, PATIENCE[goal] * ours)
            row["our_seconds"].append(round(ours, 1))
            row["our_accuracies"].append(accuracy)
            row["ours_reached_goal"].append(accuracy >= goal)
            row["their_seconds"].append(round(theirs, 1))
            row["theirs_reached_goal"].append(reached)
            pairs = zip(row["their_seconds"], row["our_seconds"], strict=True)
            row["speedup"] = round(statistics.median(a / b for a, b in pairs), 2)
            print(f"seed {seed}: {row}", flush=True)
            write_results("time_to_accuracy", [row], repeated="our_seconds")


def _empty_row(goal: float) -> dict[str, Any]:
    lists = (
        "our_seconds",
        "our_accuracies",
        "ours_reached_goal",
        "their_seconds",
        "theirs_reached_goal",
    )
    return {"what": f"mnist-{goal:.1%}", "goal": goal, **{name: [] for name in lists}}


if __name__ == "__main__":
    main()
