"""Publishes a finished version by renaming its hidden folder: there is never half a version."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from serving.bundle import CHECKSUMS, problem_of_name, read_manifest, version_numbers
from serving.errors import ManifestError
from serving.manifest import Manifest, TensorSpec, describe_spec
from serving.triton import CONFIG, LABELS, render_config, render_labels

from .errors import ExportError

# Keys of the manifest that all versions of a model share.
_CONTRACT = (
    "inputs",
    "outputs",
    "task",
    "prediction_output",
    "labels",
    "columns",
    "nullable_columns",
    "string_columns",
    "whole_batches",
)
_IN_USE = "in_use.lock"


def check_name(name: str) -> None:
    """Raise `ExportError` unless `name` can name a folder, a Triton model and a part of a URL."""
    if problem := problem_of_name(name):
        raise ExportError(problem)


def check_free(model_folder: Path) -> None:
    """Refuse a folder for versions that holds something else.

    Raises:
        ExportError: It is a file, or a folder with files or folders but without a version.
    """
    if not model_folder.exists():
        return
    if not model_folder.is_dir():
        raise ExportError(f"A bundle must be a folder. Received: {model_folder}, a file.")
    first = next(iter(sorted(path.name for path in model_folder.iterdir())), None)
    if first is not None and not version_numbers(model_folder):
        raise ExportError(
            "A bundle needs a folder of its own, for its versions. "
            f"Received: {model_folder}, which holds {first!r} and no version. "
            "Choose another name with --name, or another folder with --output."
        )


def choose_version(model_folder: Path, wanted: int | None) -> int:
    """Return `wanted`; if that is None, the number after the latest version, or 1 if there is none.

    Raises:
        ExportError: That version exists.
    """
    versions = version_numbers(model_folder) if model_folder.is_dir() else []
    if wanted is None:
        return max(versions, default=0) + 1
    if wanted in versions:
        raise ExportError(
            f"A version is never overwritten. Received: version={wanted}, which exists. "
            f"The next free one is {versions[-1] + 1}."
        )
    return wanted


@contextlib.contextmanager
def version_lock(output: Path, name: str) -> Iterator[None]:
    """Hold the lock under which an export of `name` chooses a version and publishes it.

    Other exports of `name` wait for it.
    """
    lock = FileLock(output / f".{name}.lock")
    with lock:
        try:
            yield
        finally:
            # While it is held: filelock checks that the file still exists once it has the lock.
            Path(lock.lock_file).unlink(missing_ok=True)


def new_workplace(output: Path, name: str) -> tuple[Path, FileLock]:
    """Make a hidden folder to write a version in; remove those of exports that were killed.

    Call it with `version_lock` held.

    Returns:
        The folder, and a lock held on it that shows other exports that it is in use.
    """
    for folder in output.glob(f".{name}-{'?' * 8}/"):  # not those of <name>-more
        lock = FileLock(folder / _IN_USE, blocking=False)
        with contextlib.suppress(Timeout), lock:
            shutil.rmtree(folder, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=output))
    in_use = FileLock(workplace / _IN_USE)
    in_use.acquire()
    return workplace, in_use


def require_room(folder: Path, needed: int) -> None:
    """Require free space on a disk before minutes of work.

    Args:
        folder: Folder on the disk.
        needed: Bytes.

    Raises:
        ExportError: There is less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"The disk of {folder} needs room for the weights, in a SavedModel and in ONNX: "
            f"{needed / 1e9:.1f} GB. Received: {free / 1e9:.1f} GB."
        )


def write_checksums(folder: Path) -> None:
    """Write `SHA256SUMS` of every other file of `folder`, in the format of `sha256sum -c`."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{_digest(folder / name)}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_same_contract(contract: Mapping[str, object], model_folder: Path) -> None:
    """Refuse a version whose inputs, outputs, labels, columns or batches differ from the latest's.

    Args:
        contract: Fields of the manifest by name, as far as they are known.
        model_folder: Folder of the model's versions.

    Raises:
        ExportError: They differ, or the latest version cannot be read.
    """
    versions = version_numbers(model_folder) if model_folder.is_dir() else []
    if not versions:
        return
    latest = model_folder / str(versions[-1])
    try:
        before = read_manifest(latest)
    except ManifestError as error:
        raise ExportError(f"A new version needs a readable previous version. {error}") from None
    for name in _CONTRACT:
        old, new = getattr(before, name), contract.get(name)
        if name in contract and old != new:
            raise ExportError(
                f"A new version must keep the {name} of {latest}. "
                f"Received: {_as_text(new)} instead of {_as_text(old)}. "
                "Export it under another name with --name."
            )


def publish(staged: Path, manifest: Manifest, model_folder: Path) -> Path:
    """Rename a staged version to its final place.

    The first version is published in one step with the files that all versions share. Later
    versions use the same files.

    Args:
        staged: Folder of the version, named by its number, the only one in its parent folder.
        manifest: Manifest of the version.
        model_folder: Folder of the model's versions.

    Returns:
        The published folder.

    Raises:
        ExportError: The final place exists by now, or is not writable. It is unchanged.
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


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_as_text(item) for item in value) + ")"
    return describe_spec(value) if isinstance(value, TensorSpec) else str(value)
