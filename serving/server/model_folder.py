"""A folder of bundles as it is on disk now: its models, their versions, and what has changed."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ..bundle import version_numbers
from ..errors import cannot_read

_LOG = logging.getLogger("hornbill.server")
# The state of a version's folder: name, size, mtime and ctime of each file.
Snapshot = tuple[tuple[str, int, int, int], ...]
# Takes the name of a model and the numbers of its versions; returns those that matter.
Choose = Callable[[str, list[int]], list[int]]


class ModelFolder:
    """A folder of bundles, or of one model.

    Attributes:
        path: the folder that is read.
    """

    def __init__(self, folder: Path) -> None:
        is_one_model = bool(version_numbers(folder))
        self._root = folder.resolve().parent if is_one_model else folder
        self._only = folder.resolve().name if is_one_model else None
        self.path = folder.resolve() if is_one_model else folder
        # The last warning about each model, so that it is not repeated at every scan.
        self._warnings: dict[str, str] = {}

    def version(self, name: str, number: int) -> Path:
        """Return the folder of a version."""
        return self._root / name / str(number)

    def scan(
        self, choose: Choose, known: Mapping[str, Mapping[int, Snapshot]]
    ) -> dict[str, dict[int, Snapshot]]:
        """Return the snapshots of the chosen versions, by name of the model and number.

        Args:
            choose: chooses versions.
            known: the last snapshots, which are returned for a model that cannot be read now.

        Raises:
            OSError: the folder cannot be read.
        """
        found = {
            name: self._scan_model(name, choose, known.get(name, {})) for name in self._names()
        }
        self.path.stat()  # if it went away meanwhile, its models only seemed to be removed
        return {name: versions for name, versions in found.items() if versions}

    def models(self) -> dict[str, list[int]]:
        """Return the versions of every model, ascending; none if the folder cannot be read."""
        found = {}
        with suppress(OSError):
            for name in self._names():
                with suppress(OSError):
                    found[name] = version_numbers(self._root / name)
        return {name: numbers for name, numbers in sorted(found.items()) if numbers}

    def warn(self, subject: str, message: str) -> None:
        """Log a warning unless it is the last one about `subject`; "" clears it."""
        if message and self._warnings.get(subject) != message:
            _LOG.warning("%s", message)
        self._warnings[subject] = message

    def _names(self) -> list[str]:
        names = [path.name for path in self.path.iterdir()]
        if self._only:
            return [self._only]
        return [name for name in names if not name.startswith(".") and self._is_text(name)]

    def _is_text(self, name: str) -> bool:
        """Return whether a name can be used in a URL and in metrics."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self.warn(name, f"{name!r} is ignored: the name of a model must be UTF-8.")
            return False
        return True

    def _scan_model(
        self, name: str, choose: Choose, known: Mapping[int, Snapshot]
    ) -> dict[int, Snapshot]:
        folder = self._root / name
        try:
            numbers = choose(name, version_numbers(folder))
            found = {number: take_snapshot(folder / str(number)) for number in numbers}
        except (FileNotFoundError, NotADirectoryError):  # gone, or never a model
            return {}
        except OSError as error:
            self.warn(name, cannot_read(folder, error))
            return dict(known)
        self.warn(name, "")
        return found


def take_snapshot(folder: Path) -> Snapshot:
    """Return the state of a version's folder; whatever changes a file changes it."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            with suppress(FileNotFoundError):  # it is being removed
                stat = Path(place, name).stat()
                found.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(sorted(found))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
