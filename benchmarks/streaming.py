"""Peak memory of training on a small and on a large CSV file: it must not grow with the data.

    python -m benchmarks.streaming

Each training runs for one epoch in a separate process.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.results import write_results

ROWS = {"small": 150_000, "large": 450_000}
COLUMNS = 100


def write_table(path: Path, rows: int) -> None:
    """Write a CSV file of random numbers and a class."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join([*(f"c{n}" for n in range(COLUMNS)), "kind"]) + "\n")
        for start in range(0, rows, 10_000):
            part = random.normal(size=(min(10_000, rows - start), COLUMNS))
            for row in part:
                file.write(",".join(f"{x:.4f}" for x in row) + f",{int(row[:3].sum() > 0)}\n")


def peak_mb(table: Path) -> float:
    """Return the peak resident memory in MB of a process that trains on `table`."""
    command = [sys.executable, "-m", "benchmarks.streaming", str(table)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(finished.stdout.splitlines()[-1])


def train_on(table: str) -> None:
    """Train for one epoch, and print the peak resident memory of this process in MB."""
    from app.config.run_config import make_config
    from app.runs.train import train

    settings = {"target": "kind", "epochs": 1, "batch_size": 512, "hidden": [16]}
    with tempfile.TemporaryDirectory() as folder:
        train(make_config("features", settings, data=table), folder)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measure both."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, count in ROWS.items():
            table = Path(folder) / f"{name}.csv"
            write_table(table, count)
            row = {
                "what": name,
                "rows": count,
                "data_mb": round(4e-6 * count * COLUMNS),
                "file_mb": round(table.stat().st_size / 1e6),
                "peak_mb": round(peak_mb(table)),
            }
            print(row, flush=True)
            rows.append(row)
    write_results("streaming", rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train_on(sys.argv[1])
    else:
        main()
