"""Benchmarks training in two processes: examples/s against one process with two threads.

    python -m benchmarks.distributed [mlp] [cnn]

Both are `hornbill train digits` under JAX on the same two cores, at a global batch size of 2,048.
Each is run for few and for many epochs, in turn; the difference of the times excludes
compilation. The goal: at most 25% fewer examples/s. The benchmark also measures how long two
processes take for an all-reduce of a kilobyte, since a step waits for several.
"""

import argparse
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

from app.distributed.cluster import free_port
from benchmarks.results import write_results

BATCH_SIZE, STEPS, REPEATS, GOAL = 2048, 4, 3, 0.25
# Epochs of the short and of the long run; the long one takes about half a minute.
EPOCHS = {"mlp": (3, 43), "cnn": (1, 5)}
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"
_ALL_REDUCE = """
import os, sys, time
number = int(sys.argv[2])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [sorted(os.sched_getaffinity(0))[number]])
import jax, numpy
from jax.sharding import Mesh, NamedSharding, PartitionSpec
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, number)
mesh = Mesh(jax.devices(), ("rows",))
rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("rows",), ()))
own = numpy.ones((1, 256), numpy.float32)
array = jax.make_array_from_process_local_data(rows, own)
add = jax.jit(lambda rows: rows.sum(axis=0), out_shardings=whole)
add(array).block_until_ready()
start = time.perf_counter()
for _ in range(200):
    add(array).block_until_ready()
print((time.perf_counter() - start) / 200)
jax.distributed.shutdown()
"""


def write_images(path: Path) -> None:
    """Write noise in MNIST's layout; the time does not depend on the content of images."""
    random = np.random.default_rng(0)
    # 5% are for validation; the rest fills whole batches.
    counts = {"train": math.ceil(BATCH_SIZE * STEPS / 0.95), "test": 100}
    arrays: dict[str, Any] = {}
    for name, count in counts.items():
        arrays[f"x_{name}"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"y_{name}"] = np.arange(count) % 10
    np.savez(path, **arrays)


def seconds_of_steps(data: Path, variant: str, processes: int, epochs: int) -> tuple[float, int]:
    """Return the seconds of all training steps of a run, and its number of samples."""
    settings = [f"variant={variant}", f"epochs={epochs}", f"batch_size={BATCH_SIZE}"]
    settings += ["validation_split=0.05", "optimizer.schedule=constant"]
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
    """Return the training samples per second, without compilation."""
    few, more = (seconds_of_steps(data, variant, processes, n) for n in EPOCHS[variant])
    return (more[1] - few[1]) / (more[0] - few[0])


def compare(data: Path, variant: str) -> dict[str, Any]:
    """Return the rates of one and of two processes, and the median fraction that two lose."""
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for processes, rates in found.items():
            rates.append(examples_per_s(data, variant, processes))
    return {
        "what": variant,
        "batch_size": BATCH_SIZE,
        "examples_per_s": {str(n): [round(rate) for rate in rates] for n, rates in found.items()},
        **costs_of(found[1], found[2]),
        "goal_cost": GOAL,
    }


def costs_of(one: list[float], two: list[float]) -> dict[str, Any]:
    """Return the fraction of the rate of one process that two lose: of each round, and the median.

    Args:
        one: examples/s of one process in each round.
        two: those of two processes.
    """
    costs = [1 - more / single for single, more in zip(one, two, strict=True)]
    return {
        "cost": round(statistics.median(costs), 3),
        "costs": [round(cost, 3) for cost in costs],
    }


def all_reduce_ms() -> float:
    """Return the milliseconds of an all-reduce of a kilobyte by two processes, one per core."""
    port = free_port()
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", _ALL_REDUCE, str(port), str(number)], stdout=subprocess.PIPE
        )
        for number in (0, 1)
    ]
    outputs = [process.communicate()[0] for process in pair]
    return round(1e3 * float(outputs[0].splitlines()[-1]), 2)


def main() -> None:
    """Measure the named variants, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(EPOCHS))
    variants = parser.parse_args().variants or list(EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "noise.npz"
        write_images(data)
        for variant in variants:
            row = {**compare(data, variant), "all_reduce_ms": all_reduce_ms()}
            print(row, flush=True)
            write_results("distributed", [row])


if __name__ == "__main__":
    main()
