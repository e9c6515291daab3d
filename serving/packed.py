"""Bundles in one file: a zip without compression that holds a version as it is.

The same version gives the same bytes. A packed file is read by unpacking it into a temporary
folder, which is removed when the process ends.
"""

import atexit
import contextlib
import errno
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

from .bundle import (
    CHECKSUMS,
    PACKED,
    check_names,
    read_checked,
    read_checksums,
    read_manifest,
    version_numbers,
)
from .errors import DamagedError, ManifestError, cannot_read, cannot_write
from .manifest import Manifest
from .triton import CONFIG, LABELS, render_config, render_labels

# The earliest time that a zip can hold.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
# Files that a packed bundle may hold.
MAX_FILES = 10_000
_PLACE = re.compile(r"(?P<name>(?![0-9]+/)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99})/(?P<version>[1-9]\d*)/")
_CHUNK = 2**20
# Bytes: a shorter part may be written twice.
_SMALL = 2**16
# What reading a damaged zip raises, and the numbers of an OSError for an offset before the start
# and for a name that is too long or also that of another file's folder.
_UNREADABLE = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error, OSError)
_OF_DAMAGE = (None, errno.EINVAL, errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR)
# The folders of the files that were unpacked in this process, by path, size and time of change.
_unpacked: dict[tuple[str, int, int], Path] = {}


def pack(folder: Path, output: str | Path | None = None) -> Path:
    """Write a version into one file, which nothing replaces before it is complete.

    Args:
        folder: folder of a version.
        output: the file; None writes `NAME-VERSION.hornbill` into the working folder.

    Returns:
        The file.

    Raises:
        ManifestError: a file of the version is missing, changed, unlisted or a link, there are no
            golden samples, or the file cannot be written. Behavior is only checked by `verify`.
    """
    check_names(folder)
    manifest = read_manifest(folder)
    path = Path(output or f"{manifest.name}-{manifest.version}{PACKED}")
    if path.suffix != PACKED:
        raise ManifestError(f"A packed bundle must be named *{PACKED}. Received: {path}.")
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            _write(folder, manifest, file)
        new.replace(path)
    except OSError as error:
        raise ManifestError(cannot_write(path, error)) from None
    finally:
        new.unlink(missing_ok=True)
    return path


def unpack(path: str | Path, output: str | Path = "dist") -> Path:
    """Write the version in a packed file into `OUTPUT/NAME/VERSION`, all of it or nothing.

    Args:
        path: the packed file.
        output: folder of bundles.

    Returns:
        The folder of the version.

    Raises:
        ManifestError: the file is not a packed bundle or is damaged, the version exists, another
            version of the model has other inputs, outputs or labels, or the folder cannot be
            written.
    """
    path, output = Path(path), Path(output)
    if not path.is_file():
        reason = "a folder" if path.exists() else "which does not exist"
        raise ManifestError(f"A packed bundle must be a file. Received: {path}, {reason}.")
    with new_version_in(output) as workplace:
        version = _extract(path, workplace)
        check_packed(path, version)
        return publish(version, output)


@contextlib.contextmanager
def new_version_in(output: Path) -> Iterator[Path]:
    """Yield a hidden folder in a folder of bundles to write a version in, which is then removed.

    A folder of bundles that did not exist is removed too, unless something was published in it.

    Raises:
        ManifestError: the folder cannot be written.
    """
    is_new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=output) as workplace:
            yield Path(workplace)
    except OSError as error:
        raise ManifestError(cannot_write(output, error)) from None
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty
                output.rmdir()


def publish(version: Path, output: Path) -> Path:
    """Rename a version that was written in a hidden folder to `OUTPUT/NAME/VERSION`.

    Args:
        version: folder `NAME/VERSION` of the version, beside which are the files that all versions
            of the model share.
        output: folder of bundles.

    Raises:
        ManifestError: the version exists, or another version of the model has other inputs, outputs
            or labels.
    """
    model = output / version.parent.name
    if not model.exists():
        version.parent.rename(model)
        return model / version.name
    if (model / version.name).exists():
        raise ManifestError(
            f"A version is never overwritten. Received: {model / version.name}, which exists."
        )
    others = version_numbers(model)
    for name in (CONFIG, LABELS):
        before, own = model / name, version.parent / name
        if not others or not before.exists():
            own.replace(before)
        elif before.read_bytes() != own.read_bytes():
            raise ManifestError(
                "All versions of a model must have the same inputs, outputs and labels. "
                f"Received: another {name} than that of {model}."
            )
    version.rename(model / version.name)
    return model / version.name


def unpacked(path: Path) -> Path:
    """Return the folder of the version in a packed file, unpacked once in this process.

    Raises:
        DamagedError: the file is not a packed bundle, or no more.
        ManifestError: there is no room for it, or it cannot be read.
    """
    try:
        found = path.stat()
        key = (str(path.resolve()), found.st_size, found.st_mtime_ns)
        if key not in _unpacked:
            folder = Path(tempfile.mkdtemp(prefix="hornbill-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _unpacked[key] = _extract(path, folder)
    except OSError as error:
        raise ManifestError(cannot_read(path, error)) from None
    return _unpacked[key]


def check_packed(path: Path, folder: Path) -> None:
    """Require a packed file to hold a version, unchanged, and nothing else: to the last byte.

    Args:
        path: the packed file.
        folder: folder of the version that was unpacked from it.

    Raises:
        ManifestError: a byte differs from what `pack` writes for the version.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as received:
        comparison = _Comparison(received)
        _write(folder, read_manifest(folder), comparison)  # type: ignore[arg-type]
        if not comparison.is_same():
            raise ManifestError(
                "A packed bundle must be as hornbill pack writes it. "
                f"Received: {path}, which was changed."
            )


class _Comparison:
    """A file that keeps nothing: what is written to it is compared with another one."""

    def __init__(self, received: mmap) -> None:
        self._received = received
        self._differs = False
        self._place = self._end = 0
        # The last content of each small part: zipfile writes headers again when it knows the sums.
        self._small: dict[int, bytes] = {}

    def write(self, content: bytes) -> int:
        """Compare a large part, or keep a small one until the end."""
        if len(content) <= _SMALL:
            self._small[self._place] = bytes(content)
        for start in range(0, len(content) if len(content) > _SMALL else 0, _CHUNK):
            part = content[start : start + _CHUNK]
            place = self._place + start
            self._differs |= self._received[place : place + len(part)] != part
        self._end = max(self._end, self.seek(self._place + len(content)))
        return len(content)

    def is_same(self) -> bool:
        """Return whether all that was written is all that the other file has."""
        parts = self._small.items()
        is_small_same = all(self._received[p : p + len(part)] == part for p, part in parts)
        return is_small_same and not self._differs and self._end == len(self._received)

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, place: int) -> int:
        """Go on at another place; return it."""
        self._place = place
        return place

    def flush(self) -> None:
        """Do nothing."""


def _write(folder: Path, manifest: Manifest, file: BinaryIO) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files_to_pack(folder, manifest):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = 3, _MODE << 16  # those of Unix, everywhere
            archive.writestr(entry, content)


def files_to_pack(folder: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of each file of a version, and of those beside it.

    Args:
        folder: folder of the version.
        manifest: its manifest.

    Raises:
        ManifestError: a file is missing or changed.
    """
    checksums = read_checksums(folder)
    place = f"{manifest.name}/{manifest.version}"
    yield f"{manifest.name}/{CONFIG}", render_config(manifest).encode()
    yield f"{manifest.name}/{LABELS}", render_labels(manifest).encode()
    yield f"{place}/{CHECKSUMS}", (folder / CHECKSUMS).read_bytes()
    for name in sorted(checksums):
        yield f"{place}/{name}", read_checked(folder, name, checksums)


def _extract(path: Path, folder: Path) -> Path:
    """Write the files of a packed bundle into an empty folder; return that of the version.

    Nothing is written before all names and sizes are known to be harmless.
    """
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            name, version = _check_entries(entries, size)
            for entry in entries:
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    while part := source.read(_CHUNK):
                        file.write(part)
    except ManifestError as error:  # it is a ValueError as well
        raise DamagedError(str(error)) from None
    except _UNREADABLE as error:
        if getattr(error, "errno", None) not in _OF_DAMAGE:  # for example a full disk
            raise
        raise DamagedError(cannot_read(path, error, "a packed bundle")) from None
    return folder / name / version


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> tuple[str, str]:
    """Return name and version of the model in a packed file.

    Raises:
        ManifestError: an entry is compressed, encrypted, no file or outside of the version, or
            there are too many.
    """
    name, version = place_of_files([entry.filename for entry in entries])
    for entry in entries:
        is_plain = (
            entry.compress_type == zipfile.ZIP_STORED
            and not entry.flag_bits & 1
            and stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)
            and entry.file_size == entry.compress_size
        )
        if not is_plain:
            raise ManifestError(
                "A packed bundle must hold plain files without compression. "
                f"Received: {entry.filename!r:.80}."
            )
    total = sum(entry.file_size for entry in entries)
    if total > size:  # entries that share their bytes
        raise ManifestError(
            f"The files of a packed bundle must fit into it. Received: {total:,} bytes in {size:,}."
        )
    return name, version


def place_of_files(names: Sequence[str]) -> tuple[str, str]:
    """Return name and version of the model whose files these are.

    Args:
        names: paths of all files of a packed bundle, as `files_to_pack` yields them.

    Raises:
        ManifestError: a path leads out of the version, there is no version or more than one, or
            there are too many files.
    """
    found = {match[0]: match for name in names if (match := _PLACE.match(name))}
    if len(found) != 1 or len(names) > MAX_FILES or len(set(names)) != len(names):
        raise ManifestError(
            f"A packed bundle must hold one version of a model, in at most {MAX_FILES:,} files. "
            f"Received: {len(found)} versions in {len(names):,} files."
        )
    ((place, match),) = found.items()
    beside = {f"{match['name']}/{CONFIG}", f"{match['name']}/{LABELS}"}
    for name in names:
        is_inside = name in beside or name.startswith(place)
        if not is_inside or {"", ".", ".."} & set(name.split("/")) or "\\" in name:
            raise ManifestError(
                "A packed bundle must hold the files of its version and nothing else. "
                f"Received: {name!r:.80}."
            )
    return match["name"], match["version"]
