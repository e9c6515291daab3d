"""The layout of a bundle on disk, and reading its files against their checksums."""

import errno
import hashlib
import io
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from .errors import ManifestError, cannot_read
from .manifest import Manifest

BROWSER_PROOF = "verify.html"
CHECKSUMS = "SHA256SUMS"
GOLDEN = "test_data_set_0"
MANIFEST = "manifest.json"
FLOAT16 = "model.float16.onnx"
INT8 = "model.int8.onnx"
KERAS_MODEL = "model.keras"
MODEL = "model.onnx"
# The suffix of a bundle that is packed into one file.
PACKED = ".hornbill"
SIGNATURE = "model.sig"
# Bytes that a manifest and a list of checksums may have, which are read as a whole.
_MAX_TEXT = 64 * 10**6
# A name that is a number would be mistaken for a version.
_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def problem_of_name(name: str) -> str:
    """Return why a model cannot have this name, in one line; empty if it can.

    The name must suit a folder, a model of Triton and a part of an address.
    """
    if _NAME.fullmatch(name):
        return ""
    return (
        "A model's name must be at most 100 letters, digits, '_', '-' and '.', not begin with "
        f"'.' or '-', and not be a number. Received: name={name!r:.120}. Choose one with --name."
    )


def version_numbers(model_folder: Path) -> list[int]:
    """Return the numbers of a model's versions, ascending. Other entries are ignored."""
    names = [entry.name for entry in model_folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def read_checksums(version_folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path relative to the version's folder.

    Raises:
        ManifestError: `SHA256SUMS` is missing or truncated, a line is not
            `<64 hex digits>  <path>`, or a path leads out of the folder.
    """
    path = version_folder / CHECKSUMS
    try:
        text = _read_file(path).decode("utf-8")
    except ManifestError:  # it is a ValueError as well
        raise
    except (OSError, ValueError) as error:
        raise ManifestError(cannot_read(path, error)) from None
    if not text.endswith("\n"):
        raise ManifestError(f"{path} must end with a line break. Received: a truncated file.")
    checksums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        name, digest = _parse_line(number, line)
        if name in checksums:
            raise ManifestError(f"{CHECKSUMS} must list each file once. Received: {name!r} twice.")
        checksums[name] = digest
    return checksums


def check_names(version_folder: Path) -> dict[str, str]:
    """Check that a version has no links, no files that are not listed, and golden samples.

    Only `SHA256SUMS` is opened, and no target of a link is.

    Returns:
        The SHA-256 of each file, see `read_checksums`.

    Raises:
        ManifestError: it has a link or an unlisted file, or lists no golden samples.
    """
    entries = [p for p in version_folder.rglob("*") if p.is_symlink() or not p.is_dir()]
    links = sorted(p for p in entries if p.is_symlink())
    if links:
        raise ManifestError(f"A bundle must not contain symbolic links. Received: {links[0]}.")
    checksums = read_checksums(version_folder)
    found = {p.relative_to(version_folder).as_posix() for p in entries}
    unlisted = sorted(found - checksums.keys() - {CHECKSUMS})
    if unlisted:
        raise ManifestError(f"Every file must be listed in {CHECKSUMS}. Received: {unlisted[0]}.")
    golden_sets(checksums)
    return checksums


def golden_sets(checksums: Iterable[str]) -> list[str]:
    """Return the folders of golden samples: `test_data_set_0`, and more for whole batches.

    Args:
        checksums: paths of the version's files, see `read_checksums`.

    Raises:
        ManifestError: there are none.
    """
    folders = {name.partition("/")[0] for name in checksums if "/" in name}
    found = sorted(name for name in folders if re.fullmatch(r"test_data_set_\d+", name))
    if GOLDEN not in found:
        raise ManifestError(f"A bundle must have golden samples. Received: no {GOLDEN}.")
    return found


def _read_file(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file. Others are refused: a pipe may never end; and a huge text too."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if path.name in (CHECKSUMS, MANIFEST) and found.st_size > _MAX_TEXT:
        limit, size = _MAX_TEXT // 10**6, found.st_size / 1e6
        raise ManifestError(
            f"{path.name} must have at most {limit} MB. Received: {path}, of {size:,.0f} MB."
        )
    return path.open("rb")


def _parse_line(number: int, line: str) -> tuple[str, str]:
    match = _CHECKSUM_LINE.fullmatch(line)
    if match is None:
        raise ManifestError(
            f"Each line of {CHECKSUMS} must be a SHA-256 and a path. "
            f"Received: line {number}, {line!r:.80}."
        )
    digest, name = match.groups()
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in name:
        raise ManifestError(f"{CHECKSUMS} must list files inside the bundle. Received: {name!r}.")
    return name, digest


def read_checked(version_folder: Path, name: str, checksums: dict[str, str]) -> bytes:
    """Return a file's bytes after checking them against the listed SHA-256.

    Args:
        version_folder: folder of the version.
        name: path of the file relative to it.
        checksums: the SHA-256 of each file, as `read_checksums` returns them.

    Raises:
        ManifestError: the file is missing or unlisted, or its content has changed.
    """
    try:
        content = _read_file(version_folder / name)
    except ManifestError:
        raise
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        raise ManifestError(cannot_read(version_folder / name, error)) from None
    digest = hashlib.sha256(content).hexdigest()
    _check_digest(version_folder / name, name, digest, checksums)
    return content


def _check_digest(path: Path, name: str, digest: str, checksums: dict[str, str]) -> None:
    if name not in checksums:
        raise ManifestError(
            f"Every file must be listed in {CHECKSUMS}. Received: {name}, which is not."
        )
    if digest != checksums[name]:
        raise ManifestError(
            f"{path} must have the SHA-256 listed in {CHECKSUMS}, "
            f"{checksums[name][:12]}…. Received: {digest[:12]}…; the file has changed."
        )


def check_file(version_folder: Path, name: str, checksums: dict[str, str]) -> None:
    """Check a file of any size against the listed SHA-256, without keeping its content.

    Args and errors as for `read_checked`.
    """
    path = version_folder / name
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except ManifestError:
        raise
    except (OSError, ValueError) as error:
        raise ManifestError(cannot_read(path, error)) from None
    _check_digest(path, name, digest, checksums)


def check_model(version_folder: Path, name: str, checksums: dict[str, str]) -> int:
    """Check an ONNX file, and the file of its weights if there is one; return their bytes.

    Raises:
        ManifestError: see `read_checked`.
    """
    files = [name]
    if weights_file(version_folder / name).name in checksums:
        files.append(weights_file(version_folder / name).name)
    for file in files:
        check_file(version_folder, file, checksums)
    return sum((version_folder / file).stat().st_size for file in files)


def weights_file(model: Path) -> Path:
    """Return the file beside an ONNX file that holds weights of more than 2 GB."""
    return model.with_name(f"{model.name}.data")


def read_manifest(version_folder: Path) -> Manifest:
    """Return the manifest of a version after checking its checksum.

    Raises:
        ManifestError: the manifest is missing, changed, malformed or too large.
    """
    return Manifest.from_json(
        read_checked(version_folder, MANIFEST, read_checksums(version_folder))
    )
