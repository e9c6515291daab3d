"""Benchmarks a batch job: its cost over a bare loop, and the gain of a second actor.

    python -m benchmarks.batch          mlp and cnn
    python -m benchmarks.batch mlp      only the mlp

A million images of 28x28, in 16 .npy files, are predicted in turn

- by a loop over Predictor.predict on one thread in a separate process, which writes nothing,
- by two such loops at once, which show the gain of a second core without Ray,
- by the job on Ray Data with one actor and with two.

The start of the processes is measured separately, with two files of one image each, and
subtracted. The nets are untrained, since weights do not affect the time. The goals: one actor
within 15% of the loop, two actors at least 1.6 times one.
"""

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from app.batch import Job, run_job
from app.batch.ray_pool import RayPool
from app.system.tensorflow_import import import_tensorflow_quietly
from benchmarks.results import write_results
from serving import Predictor

FILES, ROWS = 16, 62_500
STEP = 4096  # rows in a call, as the job reads them
ROUNDS = {"mlp": 3, "cnn": 1}


def main() -> None:
    """Measure the named nets, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ROUNDS))
    names = parser.parse_args().names or list(ROUNDS)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_images(folder)
        for variant in names:
            measured = _measure(_export(variant, folder), folder, ROUNDS[variant])
            row = {"what": variant, **measured}
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            write_results("batch", [row])


def _write_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "all").mkdir()
    for number in range(FILES):
        images = random.integers(0, 256, (ROWS, 28, 28), np.uint8)
        np.save(folder / "all" / f"{number:02}.npy", images)
    (folder / "start").mkdir()
    for number in range(2):
        np.save(folder / "start" / f"{number}.npy", images[:1])


def _export(variant: str, folder: Path) -> Path:
    import_tensorflow_quietly()
    from export import ExportOptions, ModelFacts, export_bundle
    from models import DigitNetConfig
    from models.digits import digit_net

    facts = ModelFacts(task="multiclass", labels=tuple("0123456789"))
    net = digit_net(DigitNetConfig(variant=variant))
    return export_bundle(net, folder / "dist", variant, facts, options=ExportOptions(int8="never"))


def _measure(bundle: Path, folder: Path, rounds: int) -> dict[str, object]:
    files, few = (sorted((folder / name).glob("*.npy")) for name in ("all", "start"))
    ways: dict[str, Callable[[], None]] = {
        "loop": lambda: _loops(bundle, files, 1),
        "two_loops": lambda: _loops(bundle, files, 2),
        "start_loop": lambda: _loops(bundle, few, 1),
        "start_two_loops": lambda: _loops(bundle, few, 2),
        "one": lambda: _job(bundle, folder, "all/*.npy", 1),
        "two": lambda: _job(bundle, folder, "all/*.npy", 2),
        "start_one": lambda: _job(bundle, folder, "start/*.npy", 1),
        "start_two": lambda: _job(bundle, folder, "start/*.npy", 2),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            times[name].append(_seconds(call))
    return _compare(times)


def _compare(times: dict[str, list[float]]) -> dict[str, object]:
    """Return medians over rounds; ratios are computed within a round."""
    loop, two_loops, one, two = (
        [whole - start for whole, start in zip(times[n], times[f"start_{n}"], strict=True)]
        for n in ("loop", "two_loops", "one", "two")
    )
    rate = {"loop": loop, "one_actor": one, "two_actors": two}
    images = FILES * ROWS
    return {
        **{f"{n}_rows_per_s": round(images / statistics.median(t)) for n, t in rate.items()},
        "two_loops_to_one": _ratio(loop, two_loops),
        "one_actor_to_loop": _ratio(loop, one),
        "two_actors_to_one": _ratio(one, two),
        "two_actors_to_one_with_start": _ratio(times["one"], times["two"]),
        "start_s": round(statistics.median(times["start_one"]), 1),
        "rounds_s": {name: [round(value, 1) for value in found] for name, found in times.items()},
    }


def _ratio(times: list[float], others: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(times, others, strict=True)), 3)


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _loop(bundle: Path, files: Sequence[Path]) -> None:
    predictor = Predictor.load(bundle, threads=1)
    for path in files:
        images = np.load(path, mmap_mode="r")
        for start in range(0, len(images), STEP):
            predictor.predict(np.array(images[start : start + STEP]))


def _loops(bundle: Path, files: Sequence[Path], count: int) -> None:
    """Divide the files among independent processes."""
    context = multiprocessing.get_context("spawn")
    loops = [
        context.Process(target=_loop, args=(bundle, files[number::count]))
        for number in range(count)
    ]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    if any(loop.exitcode for loop in loops):
        raise RuntimeError("A loop must predict all images. Received: one that failed.")


def _job(bundle: Path, folder: Path, pattern: str, actors: int) -> None:
    job = Job(bundle, str(folder / pattern), folder / "predictions")
    summary = run_job(job, RayPool(actors=actors), lambda *_: None)
    if summary.failed:
        raise RuntimeError(f"A job must predict all files. Received: {summary}.")
    shutil.rmtree(folder / "predictions")


if __name__ == "__main__":
    main()
