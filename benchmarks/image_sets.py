"""Small sets of photographs: the defaults beside three longer recipes.

    HORNBILL_DATA=… python -m benchmarks.image_sets             all recipes and seeds
    HORNBILL_DATA=… python -m benchmarks.image_sets --resume    only those without a result
    HORNBILL_DATA=… python -m benchmarks.image_sets --quick     a minute, to see that it runs

HORNBILL_DATA names a folder with `cifar10.tar.xz`, which holds `train/CLASS/IMAGE.jpg` and
`test/CLASS/IMAGE.jpg`. The set is 500 training images of each class, drawn by the seed and enlarged
to 96x96, and all test images. Each training is `hornbill train features` in a process of its own.
The recipes were not chosen on this set. Goal: the defaults train in less than 10 minutes, and are
at most one point below the best recipe.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.system.data_folders import require_data
from benchmarks.results import results_of_this_machine, write_results

SEEDS = 3
SIDE, PER_CLASS = 96, 500
# For each recipe, factors of the chosen settings and further settings.
RECIPES: dict[str, tuple[dict[str, float], dict[str, str]]] = {
    "defaults": ({}, {}),
    "twice the epochs": ({"epochs": 2}, {}),
    "stronger augmentation": (
        {"epochs": 2},
        {
            "augmentation.scale": "0.2",
            "augmentation.saturation": "0.3",
            "augmentation.cutmix": "1",
        },
    ),
    "twice the width": ({"width": 2}, {}),
}
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"


def write_images(archive: Path, folder: Path, seed: int, sizes: dict[str, int]) -> Path:
    """Write some images of CIFAR-10, enlarged, as `<folder>/<split>/<class>/<image>.jpg`.

    Args:
        archive: `cifar10.tar.xz`.
        folder: where to write.
        seed: seed of the choice.
        sizes: images of each class, by split.
    """
    members: dict[str, list[bytes]] = {}
    with tarfile.open(archive) as files:
        for member in files:
            if (content := files.extractfile(member)) is not None:
                members.setdefault(str(Path(member.name).parent), []).append(content.read())
    random = np.random.default_rng(seed)
    for name, images in sorted(members.items()):
        (folder / name).mkdir(parents=True)
        for index in random.permutation(len(images))[: sizes[name.split("/")[0]]]:
            image = Image.open(io.BytesIO(images[index])).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            )
            image.save(folder / name / f"{index}.jpg", quality=95)
    return folder


def train(data: Path, seed: int, settings: dict[str, str], output: Path) -> tuple[float, float]:
    """Return the test accuracy of a training, and the minutes that the command took."""
    command = [sys.executable, "-c", _HORNBILL, "train", "features", "--data", str(data)]
    command += ["--seed", str(seed), "--output", str(output), "--no-figures", "--json"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    minutes = (time.perf_counter() - start) / 60
    accuracy: float = json.loads(done.stdout)["metrics"]["test"]["accuracy"]
    return accuracy, minutes


def settings_of(recipe: str, images: int) -> dict[str, str]:
    """Return the settings of a recipe for a number of training images."""
    from app.config.chosen_defaults import choose_defaults
    from app.config.run_config import flat_config, make_config

    factors, further = RECIPES[recipe]
    chosen = flat_config(choose_defaults(make_config("features"), images, (SIDE, SIDE, 3)))
    return {**{key: str(round(chosen[key] * factor)) for key, factor in factors.items()}, **further}


def measure(recipe: str, seed: int, quick: bool) -> tuple[float, float]:
    """Return the test accuracy of a recipe on the images of a seed, and its minutes."""
    sizes = {"train": 20, "test": 10} if quick else {"train": PER_CLASS, "test": 1000}
    settings = settings_of(recipe, 9 * sizes["train"])  # of ten classes, a tenth for validation
    if quick:
        settings |= {"epochs": "1", "width": "4", "image_size": "32"}
    with tempfile.TemporaryDirectory() as place:
        archive = require_data("cifar10.tar.xz")
        images = write_images(archive, Path(place) / "images", seed, sizes)
        return train(images, seed, settings, Path(place) / "runs")


def main() -> None:
    """Measure every recipe for each seed in turn, and store each result at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resume", action="store_true", help="Skip what has a stored result.")
    parser.add_argument("--quick", action="store_true", help="One tiny training of each recipe.")
    given = parser.parse_args()
    stored = results_of_this_machine("image_sets") if given.resume else []
    rows: dict[str, Any] = {row["recipe"]: row for row in stored}
    for seed in range(1 if given.quick else SEEDS):
        for recipe in RECIPES:
            row = rows.setdefault(recipe, _empty_row(recipe))
            if len(row["accuracies"]) > seed:
                continue
            accuracy, minutes = measure(recipe, seed, given.quick)
            print(f"{recipe}, seed {seed}: {accuracy:.2%} in {minutes:.1f} min", flush=True)
            if not given.quick:
                row["accuracies"].append(accuracy)
                row["minutes"].append(round(minutes, 2))
                row["mean_accuracy"] = statistics.mean(row["accuracies"])
                write_results("image_sets", [row], repeated="accuracies")
    if not given.quick:
        means = {name: row["mean_accuracy"] for name, row in rows.items()}
        below = max(means.values()) - means["defaults"]
        print(f"defaults: {below:.2%} below the best, goal: at most 1.00%")


def _empty_row(recipe: str) -> dict[str, Any]:
    return {"what": f"cifar10-96, {recipe}", "recipe": recipe, "accuracies": [], "minutes": []}


if __name__ == "__main__":
    main()
