"""Measures the time and memory of whole exports, the proof included.

    python -m benchmarks.export_cost

Each model is exported with random weights in a separate process. The time starts after the imports.
The memory is the peak of the process, TensorFlow included.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time

from benchmarks.results import write_results

# Goals in seconds and MB; None where there is no goal. For digit_net, int8 is tried too.
GOALS = {"digit_net": (10, None), "ResNet50": (60, 2000), "ResNet50 with int8": (None, None)}


def measure(name: str) -> dict[str, float]:
    """Export one model in this process."""
    from app.system.tensorflow_import import import_tensorflow_quietly

    import_tensorflow_quietly()  # as `hornbill export` does
    import keras

    from export import ModelFacts, export_bundle
    from models import DigitNetConfig
    from models.digits import digit_net

    imported_mb = _peak_mb()
    keras.utils.set_random_seed(0)
    architecture, _, tries_int8 = name.partition(" with ")
    # Without labels, accuracy is unknown and int8 is not tried.
    classes = {"digit_net": 10, "ResNet50": 1000 if tries_int8 else 0}[architecture]
    facts = ModelFacts(labels=tuple(map(str, range(classes))))
    model = (
        digit_net(DigitNetConfig())
        if architecture == "digit_net"
        else getattr(keras.applications, architecture)(weights=None)
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        export_bundle(model, folder, "measured", facts)
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "peak_mb": _peak_mb(), "imported_mb": imported_mb}


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measure each model in a separate process, or here the one that the argument names."""
    if sys.argv[1:]:
        print(json.dumps(measure(sys.argv[1])))
        return
    for name, (seconds, megabytes) in GOALS.items():
        command = [sys.executable, "-m", "benchmarks.export_cost", name]
        finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(finished.stdout.splitlines()[-1])
        print(f"{name}: {row['seconds']} s, at most {row['peak_mb']} MB", flush=True)
        goals = {"goal_seconds": seconds, "goal_mb": megabytes}
        write_results("export_cost", [{"what": name, **row, **goals}])


if __name__ == "__main__":
    main()
