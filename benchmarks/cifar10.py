"""Test accuracy on CIFAR-10 and the minutes of its training, compared with Keras' example.

    python -m benchmarks.cifar10 FOLDER defaults    test accuracy with the chosen defaults
    python -m benchmarks.cifar10 FOLDER recipe      test accuracy with recipes/cifar10.toml
    python -m benchmarks.cifar10 FOLDER race        time to 90%: ours against Keras' example
    python -m benchmarks.cifar10 FOLDER write       writes the original images into FOLDER
    … --seeds 1                                     a single seed instead of three
    … --resume                                      only seeds without a stored result

FOLDER has the images in subfolders `train/CLASS` and `test/CLASS`: JPEG files, or PNG files of the
original pixels, such as `write` makes of what `keras.datasets` downloads. The results of the two
are stored beside each other: JPEG files of 32x32 pixels at the usual quality of 75, with half the
resolution in color, have lost much of what tells the classes apart. Nothing is chosen on the test
images; settings were chosen on a validation split of the training images.

Keras' example is the ResNet20 (version 1) of examples/cifar10_resnet.py in keras-team/keras 2,
with its augmentation (shifts by a tenth of the side, and flips), batches of 32, Adam and its
schedule. It trains with `fit`, one epoch at a time, until it reaches 90% on the test images or has
taken `PATIENCE` times as long as ours; the time of its tests is not counted. Ours is a whole run by
defaults, including statistics and validation, which must have 90% at its end. Theirs takes hours:
it is kept after each epoch, in the temporary folder, and `--resume` goes on with it. Since other
work may run meanwhile, each of its epochs counts with the time of the fastest, while ours counts as
it was. `speedup` is a lower bound where theirs was stopped.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework.config import disable_op_determinism

from app.config.chosen_defaults import choose_defaults
from app.config.run_config import combine_settings, make_config
from app.data.datasets import Dataset
from app.data.splits import split_dataset
from app.evaluation.predictions import predict_samples
from app.runs.train import load_run_data
from app.training.fit import fit
from benchmarks.arguments import path_argument
from benchmarks.recipes import RECIPES
from benchmarks.results import results_of_this_machine, write_results

# Test accuracies to reach.
GOAL, RECIPE_GOAL = 0.90, 0.935
NAMES = ("defaults", "recipe", "race")
PATIENCE = 5
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
CLASSES = ("airplane", "automobile", *ANIMALS, "ship", "truck")


def write_images(folder: Path) -> None:
    """Write the original images as `<folder>/<train or test>/<class>/<number>.png`."""
    for split, (images, targets) in zip(
        ("train", "test"), keras.datasets.cifar10.load_data(), strict=True
    ):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for number, (image, target) in enumerate(zip(images, targets.ravel(), strict=True)):
            Image.fromarray(image).save(folder / split / CLASSES[target] / f"{number:05d}.png")


def our_run(dataset: Dataset, seed: int, recipe: str = "") -> dict[str, Any]:
    """Return test accuracy, seconds of training and settings of a run by defaults or a recipe."""
    file = RECIPES / f"{recipe}.toml" if recipe else None
    config = combine_settings("features", file, data=dataset.source, seed=seed)
    splits = split_dataset(dataset, seed, config.training.validation_split)
    config = choose_defaults(config, len(splits.train), dataset.inputs.shape[1:])
    start = time.perf_counter()
    fitted = fit(config, dataset, splits)
    seconds = time.perf_counter() - start
    probabilities = predict_samples(fitted.model, dataset, splits.test)
    accuracy = float((probabilities.argmax(axis=1) == dataset.targets[splits.test]).mean())
    return {
        "seconds": round(seconds, 1),
        "accuracy": accuracy,
        "validation_accuracy": fitted.history[-1]["val_accuracy"],
        "epochs": len(fitted.history),
        "precision": fitted.compilation.precision,
    }


def resnet20() -> keras.Model:
    """Return the ResNet20 of Keras' example, compiled in the same way."""

    def unit(x: Any, filters: int, size: int = 3, strides: int = 1, relu: bool = True) -> Any:
        convolution = keras.layers.Conv2D(
            filters,
            size,
            strides,
            "same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(1e-4),
        )
        x = keras.layers.BatchNormalization()(convolution(x))
        return keras.layers.Activation("relu")(x) if relu else x

    inputs = keras.Input((32, 32, 3))
    x = unit(inputs, 16)
    for filters in (16, 32, 64):
        for block in range(3):
            strides = 2 if filters > 16 and block == 0 else 1
            y = unit(unit(x, filters, strides=strides), filters, relu=False)
            if strides == 2:
                x = keras.layers.Conv2D(
                    filters,
                    1,
                    2,
                    "same",
                    kernel_initializer="he_normal",
                    kernel_regularizer=keras.regularizers.L2(1e-4),
                )(x)
            x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(x))
    outputs = keras.layers.Dense(10, activation="softmax", kernel_initializer="he_normal")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def example_rate(epoch: int) -> float:
    """Return the learning rate of Keras' example in an epoch."""
    factors = {180: 0.5e-3, 160: 1e-3, 120: 1e-2, 80: 1e-1}
    return 1e-3 * next((factor for start, factor in factors.items() if epoch > start), 1.0)


def their_run(
    dataset: Dataset, seed: int, patience: float, begun: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the seconds, epochs and best test accuracy of Keras' example after each epoch.

    Its seconds are those of its fastest epoch, times its epochs. It ends when it reaches `GOAL`, or
    after `patience` seconds. It goes on from `begun`, what it has yielded before, if its model is
    still in the temporary folder.
    """
    keras.utils.set_random_seed(seed)
    disable_op_determinism()
    kept = Path(tempfile.gettempdir()) / f"hornbill_cifar10_example_{seed}.keras"
    goes_on = bool(begun) and kept.exists()
    model = keras.saving.load_model(kept) if goes_on else resnet20()
    unknown = {"seconds": 0.0, "epochs": 0, "epoch_seconds": math.inf, "accuracy": 0.0}
    result: dict[str, Any] = begun if goes_on else unknown
    split = dataset.test_start
    images = dataset.inputs[:].astype("float32") / 255
    images -= images[:split].mean(axis=0)
    targets = dataset.targets
    train = tf.data.Dataset.from_tensor_slices((images[:split], targets[:split]))

    def augment(image: Any, target: Any) -> Any:
        # The example shifts by up to a tenth of the side, and repeats the pixels of the border.
        padded = tf.pad(image, [[3, 3], [3, 3], [0, 0]], mode="SYMMETRIC")
        return tf.image.random_flip_left_right(tf.image.random_crop(padded, (32, 32, 3))), target

    batches = train.shuffle(split).map(augment, tf.data.AUTOTUNE).batch(32).prefetch(4)
    while result["seconds"] < patience and result["accuracy"] < GOAL:
        model.optimizer.learning_rate = example_rate(result["epochs"])
        start = time.perf_counter()
        model.fit(batches, epochs=1, shuffle=False, verbose=0)  # the pipeline shuffles
        fastest = min(result["epoch_seconds"], time.perf_counter() - start)
        accuracy = model.evaluate(images[split:], targets[split:], 500, verbose=0)[1]
        result = {
            "seconds": round(fastest * (result["epochs"] + 1), 1),
            "epochs": result["epochs"] + 1,
            "epoch_seconds": round(fastest, 1),
            "accuracy": round(max(result["accuracy"], accuracy), 4),
        }
        model.save(kept)
        yield result


def race(dataset: Dataset, seed: int, row: dict[str, Any]) -> None:
    """Race Keras' example against our run of a seed, which is in `row`; keep each of its epochs."""
    theirs, patience = row["theirs"], PATIENCE * row["ours"][seed]["seconds"]
    begun = theirs[seed] if len(theirs) > seed else {}
    if begun.get("accuracy", 0) >= GOAL or begun.get("seconds", 0) >= patience:
        return
    for result in their_run(dataset, seed, patience, begun):
        print(f"    example: {result}", flush=True)
        theirs[seed:] = [result]
        write_results("cifar10", [row])
    pairs = zip(theirs, row["ours"], strict=True)
    ratios = [other["seconds"] / ours["seconds"] for other, ours in pairs]
    row["speedup"] = round(statistics.median(ratios), 2)
    write_results("cifar10", [row])


def main() -> None:
    """Measure each seed in turn, and store its result at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; or write")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--resume", action="store_true", help="Skip seeds that have a stored result."
    )
    given = parser.parse_args()
    if given.names == ["write"]:
        write_images(Path(given.folder))
        return
    folder = path_argument(given.folder)
    dataset = load_run_data(make_config("features", data=folder))
    images = "original pixels" if any(folder.glob("train/*/*.png")) else "JPEG files"
    stored = {row["what"]: row for row in results_of_this_machine("cifar10")}
    for name in given.names or NAMES:
        what = f"{images}, {name}"
        row = stored.get(what) if given.resume else None
        goal, recipe = (RECIPE_GOAL, "cifar10") if name == "recipe" else (GOAL, "")
        row = row or {"what": what, "name": name, "goal": goal, "ours": [], "theirs": []}
        for seed in range(given.seeds):
            if seed == len(row["ours"]):
                row["ours"].append(our_run(dataset, seed, recipe))
                print(f"{name}, seed {seed}: {row['ours'][-1]}", flush=True)
                accuracies = [run["accuracy"] for run in row["ours"]]
                row["mean_accuracy"] = statistics.mean(accuracies)
                seconds = statistics.mean(run["seconds"] for run in row["ours"])
                row["mean_minutes"] = round(seconds / 60, 1)
                write_results("cifar10", [row])
            if name == "race":
                race(dataset, seed, row)


if __name__ == "__main__":
    main()
