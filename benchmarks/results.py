"""Where results go, and what machine they come from."""

import json
import os
from pathlib import Path
from typing import Any

from serving.environment import package_versions, processor_name

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "onnxruntime", "numpy")


def write_results(name: str, results: list[dict[str, Any]]) -> None:
    """Merge rows into `results/<name>.json`, by their key `what`; each names its machine."""
    FOLDER.mkdir(exist_ok=True)
    machine = describe_machine()
    new = [{**row, "machine": machine} for row in results]
    rows = {row["what"]: row for row in (*read_results(name), *new)}
    text = json.dumps(list(rows.values()), indent=2) + "\n"
    (FOLDER / f"{name}.json").write_text(text)


def read_results(name: str) -> list[dict[str, Any]]:
    """Return the rows of `results/<name>.json`; none if there is no such file."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def kept_here(name: str) -> list[dict[str, Any]]:
    """Return the rows that were measured on such a machine, which further runs may join."""
    machine = describe_machine()
    return [row for row in read_results(name) if row["machine"] == machine]


def describe_machine() -> dict[str, str]:
    """Return the processor, its count and the versions that matter."""
    machine = {"processor": processor_name(), "cores": str(os.cpu_count())}
    return machine | package_versions(PACKAGES)
