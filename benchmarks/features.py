"""Benchmarks `hornbill predict --features` on images against a plain loop over onnxruntime.

    python -m benchmarks.features dist/photos 'photos/*/*.jpg'

The loop reads the files with Pillow, in batches of 256, and writes one .npy file without keys. The
job runs in one process and on Ray, whose start is measured with a single image and subtracted. The
images must have the size that the model takes, since the loop does not resize.
"""

import argparse
import glob
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from app.batch import Job, run_job
from app.batch.files import find_files
from app.batch.pools import Pool, predict_here
from app.batch.ray_pool import RayPool
from benchmarks.arguments import bundle_argument
from benchmarks.results import write_results
from serving.bundle import MODEL
from serving.runtime import onnxruntime

BATCH = 256


def main() -> None:
    """Measure all ways in each round, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=bundle_argument)
    parser.add_argument("pattern")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    bundle, pattern = arguments.bundle, arguments.pattern
    files = find_files(pattern)
    ways: dict[str, Callable[[], None]] = {
        "loop": lambda: _loop(bundle, files),
        "process": lambda: _job(bundle, pattern, predict_here),
        "ray": lambda: _job(bundle, pattern, RayPool()),
        "ray_start": lambda: _job(bundle, glob.escape(files[0]), RayPool()),
    }
    rounds = [{name: _seconds(way) for name, way in ways.items()} for _ in range(arguments.rounds)]
    for times in rounds:
        times["ray"] -= times.pop("ray_start")
    row: dict[str, object] = {"what": bundle.parent.name, "images": len(files)}
    for name in ("loop", "process", "ray"):
        row[f"{name}_images_per_s"] = round(len(files) / _median(t[name] for t in rounds))
        row[f"{name}_to_loop"] = round(_median(t["loop"] / t[name] for t in rounds), 2)
    print("  ".join(f"{name} {value}" for name, value in row.items()))
    write_results("features", [row])


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _loop(bundle: Path, files: Sequence[str]) -> None:
    session = onnxruntime.InferenceSession(bundle / MODEL)
    (image,) = session.get_inputs()
    features = []
    for start in range(0, len(files), BATCH):
        batch = [Image.open(name).convert("RGB") for name in files[start : start + BATCH]]
        inputs = {image.name: np.stack([np.asarray(one) for one in batch])}
        features += session.run(["features"], inputs)
    with tempfile.TemporaryFile() as file:
        np.save(file, np.concatenate(features))


def _job(bundle: Path, pattern: str, pool: Pool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = Job(bundle, pattern, Path(folder, "features.npy"), features=True)
        summary = run_job(job, pool, lambda *_: None)
    if summary.failed:
        raise RuntimeError(f"A job must predict all images. Received: {summary}.")


if __name__ == "__main__":
    main()
