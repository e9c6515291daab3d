"""Benchmarks searches: compares them with the defaults, methods with each other, and workers.

    python -m benchmarks.tuning                  all three, about twelve minutes on two cores
    python -m benchmarks.tuning methods workers  only these

MNIST is read from the folder that HORNBILL_DATA names. Each search is `hornbill tune` as a user
would run it, with one thread per trial. The goals:

- 40 trials of TPE find settings with a test error at least 20% below that of the defaults.
- Bayesian <= random <= grid in best validation loss, as means of five searches.
- Two workers take at most 0.6 of the time of one, until the last trial has ended.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from app.system.data_folders import require_data
from app.tuning.search import find_study
from app.tuning.storage import load_study
from app.tuning.trial_loop import BEGUN
from benchmarks.results import write_results

TRAINING_SAMPLES, SEARCHES = 6_000, 5
_ROUNDS = 3  # each with one worker and with two
METHODS = ("tpe", "gp", "random", "grid")
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"
_ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
_DIGITS = (
    "optimizer.learning_rate=log:3e-4..1e-2",
    "hidden=choice:128|256|512|256,128",
    "dropout=uniform:0..0.4",
    "augmentation.rotation=uniform:0..20",
    "augmentation.shift=uniform:0..0.1",
    "augmentation.scale=uniform:0..0.2",
)
_FEATURES = (
    "optimizer.learning_rate=log:1e-4..1e-1",
    "hidden=layers:1..3x8..128",
    "dropout=uniform:0..0.5",
)


def main() -> None:
    """Run the named measurements, or all, and write their results."""
    jobs: dict[str, Callable[[Path], dict[str, Any]]] = {
        "defaults": against_the_defaults,
        "methods": method_against_method,
        "workers": two_workers_against_one,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(jobs))
    for name in parser.parse_args().names or jobs:
        with tempfile.TemporaryDirectory() as folder:
            row = {"what": name, **jobs[name](Path(folder))}
        print(json.dumps(row, indent=2), flush=True)
        write_results("tuning", [row])


def against_the_defaults(folder: Path) -> dict[str, Any]:
    """Return the test errors of `digits`, variant `mlp`, on 6,000 samples of MNIST."""
    options = ["digits", "--data", str(_small_mnist(folder)), "--set", "variant=mlp"]
    trained = _run("train", *options, "--output", str(folder / "runs"))
    searched = [word for each in _DIGITS for word in ("--search", each)]
    tuned = _run(
        "tune", *options, *searched, "--trials", "40", "--workers", "2", "-o", str(folder / "t")
    )
    errors = [1 - found["test"]["accuracy"] for found in (trained["metrics"], tuned)]
    return {
        "test_error_of_the_defaults": round(errors[0], 4),
        "test_error_of_the_best": round(errors[1], 4),
        "lower_by": round(1 - errors[1] / errors[0], 4),
        "goal_lower_by": 0.2,
        "best": tuned["best"]["settings"],
        "trials": tuned["trials"],
    }


def method_against_method(folder: Path) -> dict[str, Any]:
    """Return the best validation loss and error of each method, with 20 trials per search."""
    jobs = [(method, seed) for seed in range(SEARCHES) for method in METHODS]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda job: _search_digits8x8(folder, *job), jobs))
    best = [found_by["best"] for found_by in found]
    losses = {
        m: [b["loss"] for b, job in zip(best, jobs, strict=True) if job[0] == m] for m in METHODS
    }
    errors = {
        m: [1 - b["score"] for b, job in zip(best, jobs, strict=True) if job[0] == m]
        for m in METHODS
    }
    mean = {method: statistics.mean(each) for method, each in losses.items()}
    return {
        "mean_best_validation_loss": {m: round(value, 4) for m, value in mean.items()},
        "mean_best_validation_error": {m: round(statistics.mean(e), 4) for m, e in errors.items()},
        "losses": {m: [round(each, 4) for each in values] for m, values in losses.items()},
        "in_the_expected_order": mean["tpe"] <= mean["random"] <= mean["grid"],
    }


def two_workers_against_one(folder: Path) -> dict[str, Any]:
    """Return the seconds from the beginning of the search until the last of 24 trials ended.

    They include the start of the processes of two workers; a single worker runs in the command.
    """
    data = str(_small_mnist(folder))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for round_, workers in itertools.product(range(_ROUNDS), (1, 2)):
        options = ["--data", data, "--set", "variant=mlp", "--set", "epochs=8", "--no-pruning"]
        budget = ["--trials", "24", "--method", "random", "--workers", str(workers)]
        output = ["--search", _DIGITS[0], "--output", str(folder / f"{round_}-{workers}")]
        tuned = _run("tune", "digits", *options, *budget, *output)
        seconds[workers].append(round(_seconds_of_trials(tuned["folder"]), 1))
    ratios = [two / one for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "seconds_of_one": seconds[1],
        "seconds_of_two": seconds[2],
        "ratio": round(statistics.median(ratios), 3),
        "goal_ratio": 0.6,
    }


def _search_digits8x8(folder: Path, method: str, seed: int) -> Any:
    searched = [word for each in _FEATURES for word in ("--search", each)]
    options = ["--data", "digits8x8", "--set", "epochs=5", "--set", "batch_size=64"]
    budget = ["--method", method, "--trials", "20", "--seed", str(seed), "--no-pruning"]
    output = ["--output", str(folder / f"{method}-{seed}")]
    return _run("tune", "features", *options, *searched, *budget, *output)


def _seconds_of_trials(folder: str) -> float:
    study = load_study(find_study(folder)[0])
    ends = [t.datetime_complete.timestamp() for t in study.trials if t.datetime_complete]
    return max(ends) - float(study.user_attrs[BEGUN])


def _small_mnist(folder: Path) -> Path:
    """Write 6,000 training and 667 validation samples of MNIST, and its test split."""
    path = folder / "mnist6000.npz"
    with np.load(require_data("mnist.npz")) as mnist:
        arrays = {name: mnist[name] for name in mnist.files}
    chosen = np.random.default_rng(0).permutation(len(arrays["x_train"]))
    chosen = chosen[: round(TRAINING_SAMPLES / 0.9)]
    for name in ("x_train", "y_train"):
        arrays[name] = arrays[name][chosen]
    np.savez_compressed(path, **arrays)
    return path


def _run(*arguments: str) -> Any:
    finished = subprocess.run(
        [sys.executable, "-c", _HORNBILL, *arguments, "--json"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
        text=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
