"""Where things are in a bundle on disk, and reading them against their checksums."""

import errno
import hashlib
import os
import re
import stat
from pathlib import Path

from .errors import InputError, ManifestError
from .manifest import Manifest

CHECKSUMS = "SHA256SUMS"
GOLDEN = "test_data_set_0"
MANIFEST = "manifest.json"
INT8 = "model.int8.onnx"
MODEL = "model.onnx"
SIGNATURE = "model.sig"
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def find_version(path: str | Path) -> Path:
    """Return the folder of one version.

    Args:
        path: a version's folder (`dist/digits/2`), or a model's (`dist/digits`), which stands for
            its latest version.

    Raises:
        InputError: it is no path.
        ManifestError: there is no such folder, or it holds no bundle.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"A bundle must be the path of a folder. Received: {path!r:.80}.")
    try:
        return _find_version(Path(path))
    except ManifestError:  # a ValueError too
        raise
    except (OSError, ValueError) as error:  # such as a name too long, or with a NUL
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(
            f"A bundle must be a folder that can be read. Received: {str(path)!r:.120}: {reason}."
        ) from None


def _find_version(folder: Path) -> Path:
    try:
        mode = folder.stat().st_mode  # `exists` takes a name with a NUL for one not there
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"A bundle must be an existing folder. Received: {folder}, not there."
        ) from None
    if not stat.S_ISDIR(mode):
        raise ManifestError(
            f"A bundle must be a folder such as dist/digits. Received: {folder}, a file."
        )
    if any((folder / name).is_file() for name in (CHECKSUMS, MANIFEST, MODEL)):
        return folder
    versions = version_numbers(folder)
    if not versions:
        raise ManifestError(
            f"A bundle must hold {MANIFEST}, or versions in folders 1, 2, … "
            f"Received: {folder}, which has neither."
        )
    return folder / str(versions[-1])


def version_numbers(model_folder: Path) -> list[int]:
    """Return the numbers of a model's versions, ascending; other entries are passed over."""
    names = [entry.name for entry in model_folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def read_checksums(version_folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path inside the version's folder.

    Raises:
        ManifestError: the list is missing or cut off, a line is not `<64 hex digits>  <path>`, or a
            path leads out of the folder.
    """
    path = version_folder / CHECKSUMS
    try:
        text = _read_file(path).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{path} must be readable. Received: {reason}.") from None
    if not text.endswith("\n"):
        raise ManifestError(f"{path} must end with a line break. Received: a file cut off.")
    checksums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        name, digest = _parse_line(number, line)
        if name in checksums:
            raise ManifestError(f"{CHECKSUMS} must list each file once. Received: {name!r} twice.")
        checksums[name] = digest
    return checksums


def _read_file(path: Path) -> bytes:
    """Return a file's bytes; a pipe or a device might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return path.read_bytes()


def _parse_line(number: int, line: str) -> tuple[str, str]:
    match = _CHECKSUM_LINE.fullmatch(line)
    if match is None:
        raise ManifestError(
            f"{CHECKSUMS} must have lines of a SHA-256 and a path. "
            f"Received: line {number}, {line!r:.80}."
        )
    digest, name = match.groups()
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in name:
        raise ManifestError(f"A listed file must lie inside the bundle. Received: {name!r}.")
    return name, digest


def read_checked(version_folder: Path, name: str, checksums: dict[str, str]) -> bytes:
    """Return a file's bytes once their SHA-256 is the one listed.

    Raises:
        ManifestError: the file is missing, unlisted, or not as listed.
    """
    try:
        content = _read_file(version_folder / name)
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(
            f"{version_folder / name} must be readable. Received: {reason}."
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if name not in checksums:
        raise ManifestError(
            f"Every file must be listed in {CHECKSUMS}. Received: {name}, unlisted."
        )
    if digest != checksums[name]:
        raise ManifestError(
            f"{version_folder / name} must have the SHA-256 that {CHECKSUMS} lists, "
            f"{checksums[name][:12]}…. Received: {digest[:12]}…, the file was changed."
        )
    return content


def read_manifest(version_folder: Path) -> Manifest:
    """Return the manifest of a version, checked against its checksum.

    Raises:
        ManifestError: it is missing, changed or malformed.
    """
    return Manifest.from_json(
        read_checked(version_folder, MANIFEST, read_checksums(version_folder))
    )
