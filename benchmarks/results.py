"""Reads and writes the results of benchmarks, each with the machine that measured it."""

import json
import os
from pathlib import Path
from typing import Any

from serving.environment import package_versions, processor_name

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "onnxruntime", "numpy")


def write_results(name: str, results: list[dict[str, Any]]) -> None:
    """Merge rows into `results/<name>.json` by their key `what`; add this machine to each row."""
    FOLDER.mkdir(exist_ok=True)
    machine = describe_machine()
    new = [{**row, "machine": machine} for row in results]
    rows = {row["what"]: row for row in (*read_results(name), *new)}
    text = json.dumps(list(rows.values()), indent=2) + "\n"
    (FOLDER / f"{name}.json").write_text(text)


def read_results(name: str) -> list[dict[str, Any]]:
    """Return the rows of `results/<name>.json`; an empty list if the file does not exist."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def results_of_this_machine(name: str) -> list[dict[str, Any]]:
    """Return the rows that were measured on a machine like this one, to be extended."""
    machine = describe_machine()
    return [row for row in read_results(name) if row["machine"] == machine]


def describe_machine() -> dict[str, str]:
    """Return the processor, the number of cores and the versions of the main packages."""
    machine = {"processor": processor_name(), "cores": str(os.cpu_count())}
    return machine | package_versions(PACKAGES)
