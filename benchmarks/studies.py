"""How long all studies take, in full and quickly, and what they say.

    python -m benchmarks.studies [--output DIR]

Runs `hornbill study run --all` and `--quick` as a user would, in a folder of its own, and keeps
wall time and verdicts. The bars: 15 minutes in full, 2 minutes quickly, on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import write_results

ASKED_S = {"full": 15 * 60, "quick": 2 * 60}
_HORNBILL = "from app.commands.cli import main; raise SystemExit(main())"


def main() -> None:
    """Run both, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="DIR", type=Path, help="keep the studies there")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        rows = [_run(effort, (output or Path(folder)) / effort) for effort in ASKED_S]
    for row in rows:
        print(f"{row['what']}: {row['seconds']} s (asked for {row['asked_seconds']})")
    write_results("studies", rows)


def _run(effort: str, folder: Path) -> dict[str, object]:
    options = ["--quick"] if effort == "quick" else []
    command = [sys.executable, "-c", _HORNBILL, "study", "run", "--all", "--json", *options]
    start = time.perf_counter()
    finished = subprocess.run(
        [*command, "--output", str(folder)], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    found = json.loads(finished.stdout.splitlines()[-1])
    return {
        "what": effort,
        "seconds": round(seconds),
        "asked_seconds": ASKED_S[effort],
        "verdicts": {row["study"]: row["verdict"] for row in found},
    }


if __name__ == "__main__":
    main()
