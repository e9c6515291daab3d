"""Where results go, and what machine they come from."""

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from export.environment import processor_name

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "onnxruntime", "numpy")


def write_results(name: str, results: list[dict[str, Any]]) -> None:
    """Merge rows into `results/<name>.json`, by their key `what`; another machine's are dropped."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    machine = describe_machine()
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    kept = before["results"] if before.get("machine") == machine else []
    rows = {row["what"]: row for row in (*kept, *results)}
    content = {"machine": machine, "results": list(rows.values())}
    path.write_text(json.dumps(content, indent=2) + "\n")


def read_results(name: str) -> Any:
    """Return the content of `results/<name>.json`; without results if there is none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {"results": []}


def describe_machine() -> dict[str, str]:
    """Return the processor, its count and the versions that matter."""
    versions = {package: version(package) for package in PACKAGES}
    return {"processor": processor_name(), "cores": str(os.cpu_count()), **versions}
