"""Seconds of training to 99.0 % and 99.5 % test accuracy on MNIST, against Keras' own example.

    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy         both
    HORNBILL_DATA=… python -m benchmarks.time_to_accuracy 0.99    one of them

Theirs: the two-convolution example of keras.io (32 and 64 filters of 3x3, dropout 0.5, batch 128,
Adam), `fit` on arrays, an epoch at a time, until the test accuracy is there or `PATIENCE` times our
seconds are over; tests are not timed. Ours: whole runs of the recipes mnist_990 and mnist_995,
preparation and validation included, whose test accuracy must be there at the end. Both take turns
in one process. Where theirs was given up, `times_sooner` is a lower bound.
"""

import argparse
import os
import statistics
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config import combine_settings
from app.data.datasets import Dataset
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.evaluation import predict_outputs
from app.fitting import fit
from benchmarks.recipes import RECIPES
from benchmarks.results import write_results

GOALS = {0.990: "mnist_990", 0.995: "mnist_995"}
SEEDS = 3
PATIENCE = 8


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


def their_seconds(
    dataset: Dataset, seed: int, goals: Collection[float], patience: float
) -> dict[float, tuple[float, bool]]:
    """Return for each goal the seconds of training, and whether it was reached within patience."""
    keras.utils.set_random_seed(seed)
    images = dataset.inputs[:].astype("float32")[..., np.newaxis] / 255
    one_hot = np.eye(10, dtype="float32")[dataset.targets]
    split = dataset.test_start
    model = keras_example()
    seconds = 0.0
    found: dict[float, tuple[float, bool]] = {}
    while len(found) < len(goals) and seconds < patience:
        start = time.perf_counter()
        model.fit(images[:split], one_hot[:split], 128, epochs=1, validation_split=0.1, verbose=0)
        seconds += time.perf_counter() - start
        accuracy = model.evaluate(images[split:], one_hot[split:], 500, verbose=0)[1]
        for goal in goals:
            if accuracy >= goal and goal not in found:
                found[goal] = (seconds, True)
    return {goal: found.get(goal, (seconds, False)) for goal in goals}


def our_seconds(dataset: Dataset, recipe: str, seed: int) -> tuple[float, float]:
    """Return the seconds from the raw images to the trained model, and its test accuracy."""
    config = combine_settings("digits", RECIPES / f"{recipe}.toml", seed=seed)
    splits = split_dataset(dataset, seed, config.training.validation)
    start = time.perf_counter()
    model = fit(config, dataset, splits).model
    seconds = time.perf_counter() - start
    probabilities = predict_outputs(model, dataset, splits.test)["probabilities"]
    return seconds, float((probabilities.argmax(axis=1) == dataset.targets[splits.test]).mean())


def main() -> None:
    """Take turns, and keep the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goals", nargs="*", type=float, metavar="GOAL", help="0.99, 0.995")
    goals = parser.parse_args().goals or list(GOALS)
    dataset = load_dataset(str(Path(os.environ["HORNBILL_DATA"]) / "mnist.npz"))
    ours: dict[float, list[tuple[float, float]]] = {goal: [] for goal in goals}
    theirs: dict[float, list[tuple[float, bool]]] = {goal: [] for goal in goals}
    for seed in range(SEEDS):
        for goal in goals:
            ours[goal].append(our_seconds(dataset, GOALS[goal], seed))
            print(f"seed {seed}, {goal:.1%}: ours {ours[goal][-1]}", flush=True)
        patience = PATIENCE * max(ours[goal][-1][0] for goal in goals)
        for goal, result in their_seconds(dataset, seed, goals, patience).items():
            theirs[goal].append(result)
            print(f"seed {seed}, {goal:.1%}: theirs {result}", flush=True)
    write_results("time_to_accuracy", [_row(goal, ours[goal], theirs[goal]) for goal in goals])


def _row(
    goal: float, ours: list[tuple[float, float]], theirs: list[tuple[float, bool]]
) -> dict[str, Any]:
    our_mean = statistics.mean(seconds for seconds, _ in ours)
    their_mean = statistics.mean(seconds for seconds, _ in theirs)
    return {
        "what": f"mnist-{goal:.1%}",
        "goal": goal,
        "our_seconds": [round(seconds, 1) for seconds, _ in ours],
        "our_accuracies": [accuracy for _, accuracy in ours],
        "their_seconds": [round(seconds, 1) for seconds, _ in theirs],
        "they_reached_it": [reached for _, reached in theirs],
        "times_sooner": round(their_mean / our_mean, 2),
    }


if __name__ == "__main__":
    main()
