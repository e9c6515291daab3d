"""The cached results of studies: which are still valid, and files protected by a checksum."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from app.system.atomic_files import atomic_write
from app.system.tensorflow_import import keras_backend
from serving.version import VERSION

from .catalogue import module_name
from .study import Effort

_CHECKSUM = "sha256"
_ROOT = Path(__file__).parents[2]
# Sources that may change the numbers of a study, besides its own module.
SOURCES = (
    "app/config/**/*.py",
    "app/data/**/*.py",
    "app/distributed/**/*.py",
    "app/evaluation/**/*.py",
    "app/training/**/*.py",
    "app/system/keras_defaults.py",
    "app/studies/gradients.py",
    "app/studies/nets.py",
    "app/studies/states.py",
    "export/**/*.py",
    "models/**/*.py",
    "serving/**/*.py",
)
# Sources that may change what is made from the numbers: signs and figures. Texts are read whenever
# a page is written.
DRAWING = (
    "app/reports/plotting.py",
    "app/studies/chinese_figures.py",
    "app/studies/fonts/*.otf",
    "app/studies/panels.py",
    "app/studies/rates.py",
    "app/studies/signs.py",
    "app/studies/study.py",
    "app/studies/vocabulary.*",
)
_LIBRARIES = ("keras", "numpy", "onnxruntime", "scikit-learn", "tensorflow", "tf2onnx")


def cache_key(name: str, effort: Effort, root: Path = _ROOT) -> str:
    """Return a key that changes whenever the numbers of a study may change.

    Args:
        name: name of the study.
        effort: the settings of the study.
        root: the folder that holds the packages.

    Returns:
        The SHA-256 of the settings, the source files, Keras' backend and the versions of the
        libraries.
    """
    versions = [VERSION, keras_backend(), *(version(library) for library in _LIBRARIES)]
    return digest([name, asdict(effort), versions, _contents(source_files(name, root))])


def drawing_key(root: Path = _ROOT) -> str:
    """Return a key that changes whenever the same numbers may give other signs or figures."""
    return digest([version("matplotlib"), _contents(_matches(DRAWING, root))])


def source_files(name: str, root: Path = _ROOT) -> list[Path]:
    """Return the source files that may change the numbers of a study, its own module first."""
    own = root.joinpath(*module_name(name).split(".")).with_suffix(".py")
    return [own, *_matches(SOURCES, root)]


def _matches(patterns: Sequence[str], root: Path) -> list[Path]:
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def _contents(paths: Sequence[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the content of a file that `write_sealed` wrote; empty if it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_intact = isinstance(content, dict) and content.pop(_CHECKSUM, "") == digest(content)
    return content if is_intact else {}


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON together with its checksum, atomically.

    Raises:
        OSError: the file cannot be written; an earlier one is then unchanged.
    """
    sealed = {**content, _CHECKSUM: digest(content)}
    atomic_write(path, json.dumps(sealed, indent=1, allow_nan=False) + "\n")


def digest(content: Any) -> str:
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return a value that JSON can represent: arrays become lists, NaN and infinities None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
