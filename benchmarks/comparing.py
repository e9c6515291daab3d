"""Time of `hornbill compare` on MNIST's 10,000 test images, imports included.

    python -m benchmarks.comparing dist/digits/1 dist/digits/2

Each round is a new process, after one that warms the disk cache. Goal: under 10 s, and neither
TensorFlow nor Keras imported.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.arguments import bundle_argument
from benchmarks.results import write_results

ROUNDS = 3
_SCRIPT = """
import json, sys
from app.commands.cli import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    print(json.dumps([name for name in ("tensorflow", "keras") if name in sys.modules]))
"""


def main() -> None:
    """Measure the command and write `results/comparing.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs=2, type=bundle_argument)
    bundles = parser.parse_args().bundles
    rounds = [_measure(bundles) for _ in range(1 + ROUNDS)][1:]
    seconds, processor_seconds, agreement = zip(*rounds, strict=True)
    row = {
        "what": "two digit nets on MNIST's test split",
        "seconds": statistics.median(seconds),
        "processor_seconds": statistics.median(processor_seconds),
        "agreement": agreement[0],
    }
    print(row)
    write_results("comparing", [row])


def _measure(bundles: list[Path]) -> tuple[float, float, float]:
    """Return the wall time and the processor time of the command, and the agreement."""
    command = [
        sys.executable,
        "-c",
        _SCRIPT,
        "compare",
        *map(str, bundles),
        "--data",
        "mnist",
        "--json",
    ]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts, imported = map(json.loads, finished.stdout.splitlines())
    if imported:
        raise SystemExit(f"The command must not import {', '.join(imported)}.")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, facts["agreement"]["value"]


if __name__ == "__main__":
    main()
