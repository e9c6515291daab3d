"""Puts a finished version in its place: written beside, then renamed, so never half of one."""

import hashlib
import re
from pathlib import Path

from serving.bundle import CHECKSUMS, version_numbers
from serving.manifest import Manifest
from serving.triton import CONFIG, LABELS, render_config, render_labels

from .errors import ExportError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_name(name: str) -> None:
    """Raise `ExportError` unless `name` fits a folder, a Triton model and an address."""
    if not _NAME.fullmatch(name):
        raise ExportError(
            "A model's name must be letters, digits, '_', '-' and '.', and not begin with '.' or "
            f"'-'. Received: name={name!r}."
        )


def next_version(model_folder: Path) -> int:
    """Return the number after the latest version's, 1 for the first."""
    return max(version_numbers(model_folder), default=0) + 1 if model_folder.is_dir() else 1


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` over every other file of `folder`, as `sha256sum -c` reads it."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    ]
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")


def check_same_contract(manifest: Manifest, model_folder: Path) -> None:
    """Refuse a version whose signature or labels differ from its predecessors'.

    Raises:
        ExportError: they differ; it says in what.
    """
    for name, wanted in _files_beside(manifest).items():
        path = model_folder / name
        if path.is_file() and (before := path.read_text("utf-8")) != wanted:
            old, new = _first_difference(before, wanted)
            raise ExportError(
                f"A new version must keep the labels and the signature in {path}. "
                f"Received: {new!r} instead of {old!r}. Export it under another name with --name."
            )


def publish(staged: Path, manifest: Manifest, model_folder: Path) -> Path:
    """Rename `staged` to its place and return that.

    Raises:
        ExportError: the version was taken meanwhile, or differs from its predecessors.
    """
    model_folder.mkdir(exist_ok=True)
    check_same_contract(manifest, model_folder)
    for name, text in _files_beside(manifest).items():
        beside = staged.parent / name
        beside.write_text(text, "utf-8")
        beside.replace(model_folder / name)
    place = model_folder / str(manifest.version)
    try:
        staged.rename(place)
    except OSError:
        raise ExportError(
            f"A version is never overwritten. Received: {place}, taken meanwhile. Export again."
        ) from None
    return place


def _files_beside(manifest: Manifest) -> dict[str, str]:
    return {CONFIG: render_config(manifest), LABELS: render_labels(manifest)}


def _first_difference(before: str, after: str) -> tuple[str, str]:
    old, new = before.splitlines(), after.splitlines()
    for old_line, new_line in zip(old, new, strict=False):
        if old_line != new_line:
            return old_line, new_line
    return f"{len(old)} lines", f"{len(new)} lines"
