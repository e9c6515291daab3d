"""Writes files that are whole or not there, whatever stops the process or the machine."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write what JSON can hold, as people read it."""
    atomic_write(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def atomic_write(path: Path, text: str) -> None:
    """Write beside and rename."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text, "utf-8")
    sync(beside)
    beside.replace(path)


def sync(path: Path) -> None:
    """Have a file on the disk, whatever becomes of the power."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
