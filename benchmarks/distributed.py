"""What training by two processes costs: its examples/s against those of one process, two threads.

    python -m benchmarks.distributed

Both are `hornbill train digits` under JAX on the same two cores, at a global batch of 2,048. Each
is run for few and for more epochs, in turn; the difference of their times holds no compilation.
The bar: at most 25 % fewer examples/s.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import write_results

BATCH_SIZE, STEPS, REPEATS, ASKED = 2048, 4, 3, 0.25
# Of each variant so many that the longer run takes half a minute or so.
EPOCHS = {"mlp": (3, 43), "cnn": (1, 5)}
_HORNBILL = "from app.cli import main; raise SystemExit(main())"


def write_images(path: Path) -> None:
    """Write noise in MNIST's layout: what is in an image takes no time."""
    random = np.random.default_rng(0)
    # 5 % are for validation; no batch of the rest is smaller.
    counts = {"train": math.ceil(BATCH_SIZE * STEPS / 0.95), "test": 100}
    arrays: dict[str, Any] = {}
    for name, count in counts.items():
        arrays[f"x_{name}"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"y_{name}"] = np.arange(count) % 10
    np.savez(path, **arrays)


def seconds_of_steps(data: Path, variant: str, processes: int, epochs: int) -> tuple[float, int]:
    """Return the seconds of all training steps of a run, compilation included, and its samples."""
    settings = [f"variant={variant}", f"epochs={epochs}", f"batch_size={BATCH_SIZE}"]
    settings += ["validation=0.05", "optimizer.schedule=constant"]
    with tempfile.TemporaryDirectory() as folder:
        words = ["digits", "--data", str(data), "--processes", str(processes), "--json"]
        words += ["--output", folder, *(word for each in settings for word in ("--set", each))]
        finished = subprocess.run(
            [sys.executable, "-c", _HORNBILL, "train", *words],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "KERAS_BACKEND": "jax"},
        )
        run = Path(json.loads(finished.stdout)["run"])
        environment = json.loads((run / "environment.json").read_text())
        samples = epochs * json.loads((run / "data.json").read_text())["samples"]["train"]
    return samples / environment["examples_per_s"], samples


def examples_per_s(data: Path, variant: str, processes: int) -> float:
    """Return the samples trained on in a second, once everything is compiled."""
    few, more = (seconds_of_steps(data, variant, processes, n) for n in EPOCHS[variant])
    return (more[1] - few[1]) / (more[0] - few[0])


def compare(data: Path, variant: str) -> dict[str, Any]:
    """Return the medians of both, side by side, and what share two processes cost."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for processes, rates in found.items():
            rates.append(examples_per_s(data, variant, processes))
    one, two = (statistics.median(rates) for rates in found.values())
    return {
        "what": variant,
        "batch_size": BATCH_SIZE,
        "examples_per_s": {str(n): [round(rate) for rate in rates] for n, rates in found.items()},
        "cost": round(1 - two / one, 3),
        "asked_cost": ASKED,
    }


def main() -> None:
    """Measure each variant."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "noise.npz"
        write_images(data)
        for variant in EPOCHS:
            row = compare(data, variant)
            print(row, flush=True)
            write_results("distributed", [row])


if __name__ == "__main__":
    main()
