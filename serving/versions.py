"""Finds the folder of a version from what people give: a version, a model or a packed file."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from shlex import quote

from .bundle import CHECKSUMS, MANIFEST, MODEL, PACKED, version_numbers
from .errors import InputError, ManifestError, cannot_read


def find_version(path: str | Path) -> Path:
    """Return the folder of one version.

    Args:
        path: folder of a version (`dist/digits/2`), or of a model (`dist/digits`), which selects
            its latest version; or a packed file, which is unpacked for this process.

    Raises:
        InputError: `path` is not a path.
        ManifestError: there is no such folder, or it holds no bundle.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"The path of a bundle must be text or a Path. Received: {path!r:.80}.")
    try:
        return _find_version(Path(path))
    except ManifestError:  # it is a ValueError as well
        raise
    except (OSError, ValueError) as error:  # for example a name that is too long or has a NUL
        raise ManifestError(cannot_read(f"{str(path)!r:.120}", error)) from None


def _find_version(folder: Path) -> Path:
    try:
        mode = folder.stat().st_mode  # `exists` reports a name with a NUL as missing
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"A bundle must be an existing folder. Received: {folder}, which does not exist."
        ) from None
    if stat.S_ISREG(mode) and folder.suffix == PACKED:
        from .packed import unpacked  # folders need no zipfile, which takes 5 ms to import

        return unpacked(folder)
    if not stat.S_ISDIR(mode):
        raise ManifestError(
            "A bundle must be a folder such as dist/digits, or a file that hornbill pack wrote. "
            f"Received: {folder}, which is another file."
        )
    if any((folder / name).is_file() for name in (CHECKSUMS, MANIFEST, MODEL)):
        return folder
    versions = version_numbers(folder)
    if not versions:
        raise ManifestError(
            f"A bundle must contain {MANIFEST}, or versions in folders 1, 2, … "
            f"Received: {folder}, which has neither.{_suggest_bundle(folder)}"
        )
    return folder / str(versions[-1])


def _suggest_bundle(folder: Path) -> str:
    """Return a hint: the first bundle in a folder of bundles, or how to export a run."""
    if (folder / "config.toml").is_file():
        return f" It is a run: hornbill export {quote(str(folder))}"
    with suppress(OSError):  # one that cannot be read is none to suggest
        for path in sorted(folder.iterdir()):
            if path.is_dir() and version_numbers(path):
                return f" Give a bundle inside, such as {path}."
    return ""
