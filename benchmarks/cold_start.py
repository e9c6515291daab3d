"""Time from a fresh interpreter to the first prediction, and to the first word of a command.

    python -m benchmarks.cold_start dist/digits
    python -m benchmarks.cold_start commands

`commands` measures `hornbill train softmax` until its first line and as a whole, imports included,
and commands with a mistake until they have told it. Goals: 0.3 s, 10 s and 1 s.

With a bundle, it compares serving, onnxruntime and TensorFlow. The scripts run in turn, each in a
new process, after one round that warms the disk cache. Each prints the times of its imports, of
loading and of the first prediction, and its resident memory. Goals: at most 1.3 times the script
with bare onnxruntime, at most a twentieth of the script with TensorFlow, and less than 75 MB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.arguments import bundle_argument
from benchmarks.results import write_results
from serving import Predictor

ROUNDS = 15
# A whole training takes as long as many first words.
_WHOLE_RUNS = 3
_REFUSED = 2  # status of a command with a mistake
_COMMAND = (sys.executable, "-c", "from app.entry import main; main()")
# By what is wrong, a command, and what must be in its first line; `rows.csv` has the columns size
# and kind.
_MISTAKES = {
    "a setting": ("train softmax --set epoch=3", "'epoch'"),
    "a column of a CSV file": ("train features --data rows.csv --target knid", "'knid'"),
    "a run to export": ("export runs/softmax/none", "runs/softmax/none"),
    "a searched setting": ("tune digits --search dropuot=uniform:0..0.5", "'dropuot'"),
}
_TRAINING = ("train softmax", "training softmax on iris")
_ROOT = Path(__file__).parent.parent
_START = "import time; times = [time.perf_counter()]\n"
_MARK = "times.append(time.perf_counter())\n"
_END = """
import json, os, pathlib
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
steps = [1000 * (end - start) for start, end in zip(times, times[1:])]
print(json.dumps([times[-1], *steps, pages * os.sysconf("SC_PAGE_SIZE") / 1e6]))
"""
# For each script, the statements that import, load and predict.
SCRIPTS = {
    "serving": (
        "import numpy as np; from serving import Predictor",
        "predictor = Predictor.load({folder!r})",
        "predictor.predict(np.ones({shape}, np.{dtype})).probabilities",
    ),
    "bare onnxruntime": (
        "import numpy as np; import onnxruntime",
        # The same options as in serving: a small model is fastest on one thread.
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1; "
        "session = onnxruntime.InferenceSession({folder!r} + '/model.onnx', options)",
        "session.run(['probabilities'], {{{name!r}: np.ones({shape}, np.{dtype})}})",
    ),
    "TensorFlow": (
        "import tensorflow as tf",
        "call = tf.saved_model.load({folder!r}).signatures['serving_default']",
        "call({name}=tf.ones({shape}, tf.{dtype}))['probabilities'].numpy()",
    ),
}
_STEPS = ("whole_ms", "import_ms", "load_ms", "run_ms", "resident_mb")


def main() -> None:
    """Measure the start of commands, or of a prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE|commands")
    bundle = parser.parse_args().bundle
    # The first round compiles what is not compiled, as an installation does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    row = (
        measure_commands() if bundle == "commands" else measure_predictions(bundle_argument(bundle))
    )
    write_results("cold_start", [row])


def measure_commands() -> dict[str, object]:
    """Return the seconds of commands: to the first line, with a mistake, and of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows.csv").write_text("size,kind\n1,a\n2,b\n")
        first: list[float] = []
        mistakes: dict[str, list[float]] = {name: [] for name in _MISTAKES}
        for turn in range(1 + ROUNDS):
            seconds = _first_line(folder, *_TRAINING)
            wrong = {
                name: _first_line(folder, *mistake, is_refused=True)
                for name, mistake in _MISTAKES.items()
            }
            if turn:  # the first round warms the disk cache
                first.append(seconds)
                for name, value in wrong.items():
                    mistakes[name].append(value)
        whole = [_whole_run(folder, *_TRAINING[0].split()) for _ in range(_WHOLE_RUNS)]
    row: dict[str, object] = {
        "what": "commands",
        "first_line_s": round(statistics.median(first), 3),
        "mistakes_s": {name: round(statistics.median(s), 3) for name, s in mistakes.items()},
        "iris_s": round(statistics.median(whole), 2),
    }
    print(json.dumps(row, indent=2))
    return row


def _first_line(folder: str, words: str, text: str, is_refused: bool = False) -> float:
    """Return the seconds until a command writes its first line on standard error.

    Args:
        folder: working directory.
        words: arguments of the command, separated by blanks.
        text: what the line must contain.
        is_refused: whether the command must then end with status 2; if not, it is stopped.
    """
    start = time.perf_counter()
    command = subprocess.Popen(
        [*_COMMAND, *words.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    with command:
        line = command.stderr.readline().decode() if command.stderr else ""
        seconds = time.perf_counter() - start
        if not is_refused:
            command.kill()
    if text not in line or (is_refused and command.returncode != _REFUSED):
        raise RuntimeError(f"{words} must tell {text}. Received: {line}, {command.returncode}")
    return seconds


def _whole_run(folder: str, *words: str) -> float:
    """Return the seconds of a command, with everything that it writes."""
    start = time.perf_counter()
    subprocess.run(
        [*_COMMAND, *words],
        check=True,
        capture_output=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    return time.perf_counter() - start


def measure_predictions(folder: Path) -> dict[str, object]:
    """Return medians of the three scripts, which run in turn."""
    spec = Predictor.load(folder).manifest.inputs[0]
    values = {
        "folder": str(folder.resolve()),
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": (1, *spec.shape[1:]),
    }
    scripts = {
        name: _START + "".join(f"{step.format(**values)}\n{_MARK}" for step in steps) + _END
        for name, steps in SCRIPTS.items()
    }
    runs: dict[str, list[list[float]]] = {name: [] for name in scripts}
    for turn in range(1 + ROUNDS):
        for name, script in scripts.items():
            figures = _run(script)
            if turn:
                runs[name].append(figures)
    results = {
        name: {step: statistics.median([row[i] for row in rows]) for i, step in enumerate(_STEPS)}
        for name, rows in runs.items()
    }
    ours = results["serving"]["whole_ms"]
    for name, medians in results.items():
        steps = "  ".join(f"{step} {value:7.1f}" for step, value in medians.items())
        print(f"{name:16} {steps}   serving: {ours / medians['whole_ms']:.3f} of this")
    return {
        "what": "cold start",
        "until": "the first prediction",
        "medians": {
            name: {step: round(value, 1) for step, value in figures.items()}
            for name, figures in results.items()
        },
        "serving_to_bare": round(ours / results["bare onnxruntime"]["whole_ms"], 3),
        "serving_to_tensorflow": round(ours / results["TensorFlow"]["whole_ms"], 4),
    }


def _run(script: str) -> list[float]:
    """Return the ms from the start of a process to its prediction, of its steps, and its memory.

    Processes share the clock of `time.perf_counter`, so the end is told by the script.
    """
    start = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        cwd=_ROOT,
    )
    end, *figures = json.loads(finished.stdout.splitlines()[-1])
    return [1000 * (end - start), *figures]


if __name__ == "__main__":
    main()
