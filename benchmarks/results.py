"""Reads and writes the results of benchmarks, each with the machine that measured it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from app.system.atomic_files import atomic_write
from serving.environment import package_versions, processor_name

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "onnxruntime", "numpy")
# Instructions for vectors and matrices by the flag of Linux, the fastest first. Processors of one
# name differ in them, and a training step takes four times as long with the last as with the first.
_INSTRUCTIONS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512_vnni": "AVX-512 with VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}


def write_results(name: str, results: list[dict[str, Any]], repeated: str = "") -> None:
    """Merge rows into `results/<name>.json` by their key `what`.

    Each row gets this machine and the commit of the code. With `repeated`, the key of the list of
    repetitions, a row with fewer of them than the stored one does not replace it yet: it is kept
    inside it, as `next`.
    """
    FOLDER.mkdir(exist_ok=True)
    measured = {"machine": describe_machine(), "commit": _commit()}
    rows = {row["what"]: row for row in read_results(name)}
    for result in results:
        row, stored = {**result, **measured}, rows.get(result["what"])
        is_begun = stored and repeated and len(row[repeated]) < len(stored[repeated])
        rows[row["what"]] = {**stored, "next": row} if stored and is_begun else row
    atomic_write(FOLDER / f"{name}.json", json.dumps(list(rows.values()), indent=2) + "\n")


def read_results(name: str) -> list[dict[str, Any]]:
    """Return the rows of `results/<name>.json`; an empty list if the file does not exist."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def results_of_this_machine(name: str) -> list[dict[str, Any]]:
    """Return the rows that were measured on a machine like this one, to be extended.

    Older rows do not tell the instructions of their machine.
    """
    machine = describe_machine()
    rows = (row.get("next", row) for row in read_results(name))
    return [row for row in rows if row["machine"].items() <= machine.items()]


def describe_machine() -> dict[str, str]:
    """Return the processor, its cores and instructions, and the versions of the main packages."""
    machine = {"processor": processor_name(), "cores": str(os.cpu_count())}
    return machine | _instructions() | package_versions(PACKAGES)


def _instructions() -> dict[str, str]:
    """Return the fastest of `_INSTRUCTIONS`; nothing if the system does not report them."""
    try:
        words = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        return {}
    found = next((name for flag, name in _INSTRUCTIONS.items() if flag in words), None)
    return {} if found is None else {"instructions": found}


def _commit() -> str:
    """Return the short hash of the commit in the working tree; empty if there is none."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        finished = subprocess.run(
            command, cwd=FOLDER.parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # git is not installed
        return ""
    return finished.stdout.strip()
