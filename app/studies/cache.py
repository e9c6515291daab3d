"""Numbers of studies on disk: each file is as it was written, or counts as none."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from app.system.atomic_files import atomic_write
from serving.version import VERSION

from .catalogue import module_name
from .study import Effort

_CHECKSUM = "sha256"
_APP = Path(__file__).parents[1]
# What may decide the numbers of a part beside the study itself; what judges and draws does not.
_TRAINERS = (
    "config/*.py",
    "data/*.py",
    "evaluation/*.py",
    "training/*.py",
    "studies/gradients.py",
    "studies/nets.py",
    "studies/states.py",
)
_PACKAGES = ("export/**/*.py", "models/*.py", "serving/*.py")
_LIBRARIES = ("keras", "numpy", "onnxruntime", "scikit-learn", "tensorflow", "tf2onnx")


def key_of(name: str, effort: Effort) -> str:
    """Return what tells numbers of other settings, code or versions apart."""
    own = Path(__file__).parent / "claims" / f"{module_name(name).rpartition('.')[2]}.py"
    others = [*map(_APP.glob, _TRAINERS), *map(_APP.parent.glob, _PACKAGES)]
    paths = (own, *(path for found in others for path in sorted(found)))
    sources = [path.read_text("utf-8") for path in paths]
    versions = [VERSION, *(version(library) for library in _LIBRARIES)]
    return digest([name, asdict(effort), versions, sources])


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the content of a file of `write_sealed`; empty if it is not there or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_whole = isinstance(content, dict) and content.pop(_CHECKSUM, "") == digest(content)
    return content if is_whole else {}


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object that JSON can hold, with a checksum, beside the file and then in its place.

    Raises:
        OSError: it cannot be written.
    """
    whole = {**content, _CHECKSUM: digest(content)}
    atomic_write(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")


def digest(content: Any) -> str:
    """Return the SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return numbers as JSON holds them; what is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
