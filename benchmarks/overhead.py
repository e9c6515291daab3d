"""What Predictor.predict adds to ONNX Runtime's own call, one row at a time.

    python -m benchmarks.overhead dist/digits

Both calls use one session, in turn, in one process. The bar is 5 microseconds.
"""

import argparse
import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.results import write_results
from serving import Predictor
from serving.timing import median_ms

ROUNDS = 5000
REPEATS = 5


def _calls(predictor: Predictor) -> dict[str, Callable[[], object]]:
    spec, session = predictor.manifest.inputs[0], predictor.session
    sample = np.ones((1, *(int(size) for size in spec.shape[1:])), spec.dtype)
    names = [output.name for output in predictor.manifest.outputs]
    return {
        "session.run": lambda: session.run(names, {spec.name: sample}),
        "Predictor.predict": lambda: predictor.predict(sample),
    }


def main() -> None:
    """Time both calls for each bundle named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    rows = []
    for bundle in parser.parse_args().bundles:
        predictor = Predictor.load(bundle)
        calls = _calls(predictor)
        added = []
        for _ in range(REPEATS):
            times = median_ms(calls, ROUNDS, warm_up=200)
            added.append(1000 * (times["Predictor.predict"] - times["session.run"]))
        microseconds = {name: round(1000 * value, 2) for name, value in times.items()}
        name = predictor.manifest.name
        what = f"{name} ({predictor.manifest.config.get('variant', 'rows')})"
        row = {"what": what, "added_us": round(statistics.median(added), 2), **microseconds}
        print(f"{what}: {row['added_us']} us added to {microseconds['session.run']} us", flush=True)
        rows.append(row)
    write_results("overhead", rows)


if __name__ == "__main__":
    main()
