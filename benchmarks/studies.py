"""Measures how long all studies take, in full and in quick mode, and keeps the signs of claims.

    python -m benchmarks.studies [--output DIR]

Runs `hornbill study run --all`, without and with `--quick`, as a user would, in a new folder, and
records the wall time, the processor time and the signs of all claims. The goals on two cores: 15
minutes in full, 2 minutes in quick mode.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.arguments import new_path_argument
from benchmarks.results import write_results

GOALS_S = {"full": 15 * 60, "quick": 2 * 60}
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"


def main() -> None:
    """Run both and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    # In a folder with studies, finished parts would not be run again.
    parser.add_argument(
        "--output", metavar="DIR", type=new_path_argument, help="new folder to keep the studies in"
    )
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        for effort in GOALS_S:
            row = _run(effort, (output or Path(folder)) / effort)
            print(f"{row['what']}: {row['seconds']} s (goal: {row['goal_seconds']} s)", flush=True)
            write_results("studies", [row])


def _run(effort: str, folder: Path) -> dict[str, object]:
    options = ["--quick"] if effort == "quick" else []
    command = [sys.executable, "-c", _HORNBILL, "study", "run", "--all", "--json", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    finished = subprocess.run(
        [*command, "--output", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(finished.stdout.splitlines()[-1])
    return {
        "what": effort,
        "seconds": round(seconds),
        "processor_seconds": round(
            used.ru_utime - before.ru_utime + used.ru_stime - before.ru_stime
        ),
        "goal_seconds": GOALS_S[effort],
        "signs": {
            row["study"]: [c["sign"] for c in row["claims"] if not c["is_theorem"]] for row in found
        },
    }


if __name__ == "__main__":
    main()
