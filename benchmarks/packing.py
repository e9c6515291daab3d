"""Time of `hornbill pack` and `hornbill verify` of a packed file, as whole commands.

    python -m benchmarks.packing                a ResNet50 of random weights, exported first
    python -m benchmarks.packing dist/digits/1  a bundle

Both have a checksum of each byte to compute, and `verify` runs the golden samples. A session has to
be loaded in any case: a script that imports onnxruntime and loads the graph runs beside them, in
turn. Goal: both commands together take less than 3 s more than it.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arguments import bundle_argument
from benchmarks.results import write_results

ROUNDS = 5
_HORNBILL = (sys.executable, "-c", "from app.entry import main; main()")
_LOAD = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1])"


def export_resnet(folder: str) -> Path:
    """Export ResNet50 with random weights, without int8."""
    import keras

    from benchmarks.zoo import randomize
    from export import ExportOptions, export_bundle

    model = randomize(keras.applications.ResNet50(weights=None))
    return export_bundle(model, folder, "resnet50", options=ExportOptions(int8="never"))


def measure(bundle: Path, place: Path) -> dict[str, float]:
    """Return the median seconds of each command."""
    packed = place / "bundle.hornbill"
    commands: dict[str, Sequence[str | Path]] = {
        "load": (sys.executable, "-c", _LOAD, bundle / "model.onnx"),
        "pack": (*_HORNBILL, "pack", bundle, "--output", packed),
        "verify": (*_HORNBILL, "verify", packed),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS + 1):
        packed.unlink(missing_ok=True)
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def main() -> None:
    """Measure the bundle that the argument names, or ResNet50, and write the results."""
    with tempfile.TemporaryDirectory() as place:
        given = sys.argv[1:]
        bundle = bundle_argument(given[0]) if given else export_resnet(place)
        medians = measure(bundle, Path(place))
    row = {"what": bundle.parent.name, **medians}
    print(row)
    write_results("packing", [row])


if __name__ == "__main__":
    main()
