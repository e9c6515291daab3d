"""Puts a finished version in its place: written beside, then renamed, so never half of one."""

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from serving.bundle import CHECKSUMS, read_manifest, version_numbers
from serving.errors import ManifestError
from serving.manifest import Manifest, TensorSpec, describe_spec
from serving.triton import CONFIG, LABELS, render_config, render_labels

from .errors import ExportError

# What all versions of a model have alike.
_KEPT = (
    "inputs",
    "outputs",
    "task",
    "prediction_output",
    "labels",
    "columns",
    "nullable_columns",
    "string_columns",
)
_IN_USE = "in_use.lock"
# A number would be taken for a version of its folder.
_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def check_name(name: str) -> None:
    """Raise `ExportError` unless `name` fits a folder, a Triton model and an address."""
    if not _NAME.fullmatch(name):
        raise ExportError(
            "A model's name must be at most 100 letters, digits, '_', '-' and '.', not begin with "
            f"'.' or '-', and be no number. Received: name={name!r:.120}. Choose one with --name."
        )


def choose_version(model_folder: Path, asked: int | None) -> int:
    """Return the number asked for, or the one after the latest version's, 1 for the first.

    Raises:
        ExportError: there is such a version.
    """
    versions = version_numbers(model_folder) if model_folder.is_dir() else []
    if asked is None:
        return max(versions, default=0) + 1
    if asked in versions:
        raise ExportError(
            f"A version is never overwritten. Received: version={asked}, which is there. "
            f"The next is {versions[-1] + 1}."
        )
    return asked


@contextlib.contextmanager
def alone(output: Path, name: str) -> Iterator[None]:
    """Let one export at a time choose a version of `name` and put it in its place."""
    lock = FileLock(output / f".{name}.lock")
    with lock:
        try:
            yield
        finally:
            # While it is held: filelock looks whether the file is still there once it has it.
            Path(lock.lock_file).unlink(missing_ok=True)


def new_workplace(output: Path, name: str) -> tuple[Path, FileLock]:
    """Make a hidden folder to write a version in; remove those of exports that were killed.

    To be called alone.

    Returns:
        The folder, and the lock that says to other exports that it is in use.
    """
    for folder in output.glob(f".{name}-{'?' * 8}/"):  # not those of <name>-more
        lock = FileLock(folder / _IN_USE, blocking=False)
        with contextlib.suppress(Timeout), lock:
            shutil.rmtree(folder, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=output))
    lock = FileLock(workplace / _IN_USE)
    lock.acquire()
    return workplace, lock


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` over every other file of `folder`, as `sha256sum -c` reads it."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    ]
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")


def check_same_contract(manifest: Manifest, model_folder: Path) -> None:
    """Refuse a version whose signature, labels or columns differ from its predecessor's.

    Raises:
        ExportError: they differ, and it says in what; or the predecessor cannot be read.
    """
    versions = version_numbers(model_folder) if model_folder.is_dir() else []
    if not versions:
        return
    latest = model_folder / str(versions[-1])
    try:
        before = read_manifest(latest)
    except ManifestError as error:
        raise ExportError(f"A new version needs a sound one before it. {error}") from None
    for name in _KEPT:
        old, new = getattr(before, name), getattr(manifest, name)
        if old != new:
            raise ExportError(
                f"A new version must keep the {name} of {latest}. "
                f"Received: {_plain(new)} instead of {_plain(old)}. "
                "Export it under another name with --name."
            )


def publish(staged: Path, manifest: Manifest, model_folder: Path) -> Path:
    """Rename a staged version to its place, and return that.

    A first version goes with the files beside it in one step; a later one finds them there.

    Args:
        staged: folder of the version, called by its number, alone in the folder above.
        manifest: of the version.
        model_folder: where versions of the model are.

    Raises:
        ExportError: the place was taken meanwhile, or cannot be written. It is as it was.
    """
    number = str(manifest.version)
    is_first = not model_folder.exists() or not version_numbers(model_folder)
    try:
        if is_first:
            (staged.parent / CONFIG).write_text(render_config(manifest), "utf-8")
            (staged.parent / LABELS).write_text(render_labels(manifest), "utf-8")
            staged.parent.rename(model_folder)
        else:
            staged.rename(model_folder / number)
    except OSError as error:
        raise ExportError(
            f"A version is never overwritten, and its place must be writable. "
            f"Received: {model_folder / number}: {error.strerror}."
        ) from None
    return model_folder / number


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_plain(item) for item in value) + ")"
    return describe_spec(value) if isinstance(value, TensorSpec) else str(value)
