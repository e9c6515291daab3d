"""The models of a folder: finds, loads, replaces and removes versions while the server runs."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..bundle import CHECKSUMS, version_numbers
from ..errors import ServingError, cannot_read, printable
from .batching import Batcher
from .errors import RequestError
from .models import Model, load_model

_LOG = logging.getLogger("hornbill.server")
# The state of a version's folder: name, size, mtime and ctime of each file.
_Snapshot = tuple[tuple[str, int, int, int], ...]
# A failed version is tried again, since the cause may not be its files. The pause doubles.
_RETRY_S, _MAX_RETRY_S = 60.0, 3600.0


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A version that is served, and its queue."""

    model: Model
    batcher: Batcher


@dataclass(frozen=True)
class Failure:
    """The reason why a version is not served."""

    reason: str


@dataclass(eq=False)
class _Entry:
    """A version that was loaded or has failed.

    Attributes:
        snapshot: state of its folder at that time.
        state: the loaded version, or the reason of the failure.
        previous: the loaded version, if the folder has since changed into one that fails.
        pause_s: seconds until a failed version is tried again.
        since: time of the last try.
    """

    snapshot: _Snapshot
    state: LoadedModel | Failure
    previous: LoadedModel | None = None
    pause_s: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def is_settled(self, snapshot: _Snapshot) -> bool:
        """Return whether nothing has changed and no retry is due."""
        is_due = isinstance(self.state, Failure) and time.monotonic() > self.since + self.pause_s
        return self.snapshot == snapshot and not is_due


class Repository:
    """The models that are served. Only `refresh` changes them, on the event loop.

    Attributes:
        is_ready: whether the folder was read and the server is not shutting down.
    """

    def __init__(self, folder: Path, versions: str, serve: Callable[[Model], LoadedModel]) -> None:
        """Make an empty repository.

        Args:
            folder: folder of bundles, or of one model.
            versions: `latest` or `all`.
            serve: gives a loaded version its queue.
        """
        is_one_model = bool(version_numbers(folder))
        self._root = folder.resolve().parent if is_one_model else folder
        self._only = folder.resolve().name if is_one_model else None
        self._path = folder.resolve() if is_one_model else folder
        self._has_all = versions == "all"
        self._make_loaded = serve
        self.is_ready = False
        self._entries: dict[str, dict[int, _Entry]] = {}
        self._served: dict[str, dict[int, LoadedModel]] = {}
        # The last warning about each model, so that it is not repeated at every refresh.
        self._warnings: dict[str, str] = {}

    @property
    def models(self) -> dict[str, dict[int, LoadedModel]]:
        """The served versions by name of the model and number, ascending."""
        return self._served

    def failures(self) -> dict[str, dict[int, Failure]]:
        """Return the failed versions by name of the model and number."""
        return {
            name: {n: e.state for n, e in entries.items() if isinstance(e.state, Failure)}
            for name, entries in self._entries.items()
        }

    def find(self, name: str, version: str | None) -> LoadedModel:
        """Return a served version of a model; the latest if `version` is None.

        Raises:
            RequestError: there is no such model or version.
        """
        versions = self._served.get(name)
        if not versions:
            if not self.is_ready:
                raise RequestError(
                    "The models are not loaded yet. Try again later.", 503, {"retry-after": "5"}
                )
            known = ", ".join(sorted(self._served)) or "none"
            raise RequestError(f"The model must be one of: {known}. Received: {name:.80}.", 404)
        if version is None:
            return versions[max(versions)]
        found = {str(number): served for number, served in versions.items()}
        if version not in found:
            raise RequestError(
                f"The version of {name} must be one of: {', '.join(found)}. "
                f"Received: {version:.40}.",
                404,
            )
        return found[version]

    async def refresh(self, executor: Executor) -> bool:
        """Read the folder: load new and changed versions, drop removed ones.

        A version that does not pass verification is logged, and the version before it stays. While
        the folder is missing or cannot be read, everything stays as it is.

        Returns:
            Whether the folder could be read.
        """
        try:
            while await self._refresh(executor):
                pass  # where the latest version failed, the one before it is next
        except OSError as error:
            self._warn("", cannot_read(self._path, error))
            return False
        # Only now: the old versions are served until the new ones are loaded.
        self._publish()
        self._warn("", "" if self._served else self._nothing_served())
        return True

    def _nothing_served(self) -> str:
        what = "no version that can be served" if self._entries else "no models"
        return f"{self._path} has {what}: nothing is served until one is added or repaired."

    async def _refresh(self, executor: Executor) -> bool:
        """Read the folder once; return whether versions were loaded, so it must be read again."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(executor, self._scan)
        has_loaded = False
        for name, versions in found.items():
            known = self._entries.setdefault(name, {})
            for number, snapshot in versions.items():
                before = known.get(number)
                if before is not None and before.is_settled(snapshot):
                    continue
                # Not after a failure: a version that is being copied changes all the time.
                has_loaded |= before is None or isinstance(before.state, LoadedModel)
                state = await loop.run_in_executor(executor, self._load, name, number)
                known[number] = self._entry(name, number, snapshot, state, before)
        self._drop_removed(found)
        return has_loaded

    def _drop_removed(self, found: dict[str, dict[int, _Snapshot]]) -> None:
        for name in list(self._entries):
            removed = self._entries[name].keys() - found.get(name, {}).keys()
            for number in removed:
                entry = self._entries[name].pop(number)
                if isinstance(entry.state, LoadedModel):
                    _LOG.info("%s version %d is no longer served.", name, number)
            if not self._entries[name]:
                del self._entries[name]

    def _entry(
        self,
        name: str,
        number: int,
        snapshot: _Snapshot,
        state: Model | Failure,
        before: _Entry | None,
    ) -> _Entry:
        if not isinstance(state, Failure):
            return _Entry(snapshot, self._serve(name, number, state))
        has_changed = before is not None and isinstance(before.state, LoadedModel)
        what = "has changed and " if has_changed else ""
        if (self._root / name / str(number) / CHECKSUMS).exists():
            _LOG.error("%s version %d %scannot be served: %s", name, number, what, state.reason)
        else:
            _LOG.info(
                "%s version %d %sis not complete: %s is missing. It may still be being copied.",
                *(name, number, what, CHECKSUMS),
            )
        if before is None:
            return _Entry(snapshot, state, None, _RETRY_S)
        is_same = before.snapshot == snapshot
        pause_s = min(2 * before.pause_s, _MAX_RETRY_S) if is_same else _RETRY_S
        previous = before.state if isinstance(before.state, LoadedModel) else before.previous
        return _Entry(snapshot, state, previous, pause_s)

    def _serve(self, name: str, number: int, state: Model) -> LoadedModel:
        cost = state.cost
        _LOG.info(
            "%s version %d is ready: %.3f ms for one row, %.3f ms for each further row",
            *(name, number, cost.alone_ms, cost.row_ms),
        )
        return self._make_loaded(state)

    def _publish(self) -> None:
        """Let requests find the loaded versions: all of them, or the latest of each model."""
        served = {}
        for name, entries in self._entries.items():
            good = {
                n: e.state for n, e in sorted(entries.items()) if isinstance(e.state, LoadedModel)
            }
            if not good:  # a stray file must not stop a version that is loaded and verified
                good = {n: e.previous for n, e in sorted(entries.items()) if e.previous is not None}
            if good:
                served[name] = good if self._has_all else {max(good): good[max(good)]}
        self._served = served

    def _scan(self) -> dict[str, dict[int, _Snapshot]]:
        """Return the snapshots of the versions to serve, by name of the model and number.

        Raises:
            OSError: the folder cannot be read.
        """
        found = {name: self._scan_model(name) for name in self._names()}
        self._path.stat()  # if it went away meanwhile, its models only seemed to be removed
        return {name: versions for name, versions in found.items() if versions}

    def _names(self) -> list[str]:
        names = [path.name for path in self._path.iterdir()]
        if self._only:
            return [self._only]
        return [name for name in names if not name.startswith(".") and self._is_text(name)]

    def _is_text(self, name: str) -> bool:
        """Return whether a name can be used in a URL and in metrics."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self._warn(name, f"{name!r} is ignored: the name of a model must be UTF-8.")
            return False
        return True

    def _scan_model(self, name: str) -> dict[int, _Snapshot]:
        """Return the snapshots of a model's versions; the last ones if they cannot be read now."""
        folder = self._root / name
        known = {number: entry.snapshot for number, entry in self._entries.get(name, {}).items()}
        try:
            found = {n: _take_snapshot(folder / str(n)) for n in self._wanted(name, folder)}
        except (FileNotFoundError, NotADirectoryError):  # gone, or never a model
            return {}
        except OSError as error:
            self._warn(name, cannot_read(folder, error))
            return known
        self._warn(name, "")
        return found

    def _warn(self, subject: str, message: str) -> None:
        """Log a warning unless it is the last one about `subject`; "" clears it."""
        if message and self._warnings.get(subject) != message:
            _LOG.warning("%s", message)
        self._warnings[subject] = message

    def _wanted(self, name: str, folder: Path) -> list[int]:
        """Return the versions to load or to keep, ascending."""
        numbers = version_numbers(folder)
        if self._has_all:
            return numbers
        known = self._entries.get(name, {})
        served = [n for n in numbers if n in known and isinstance(known[n].state, LoadedModel)]
        unknown = [n for n in numbers if n not in known]
        # The latest loaded version stays until a later one is loaded.
        first = max(served or unknown, default=0)
        return [number for number in numbers if number >= first]

    def _load(self, name: str, number: int) -> Model | Failure:
        try:
            return load_model(self._root / name / str(number))
        except ServingError as error:
            return _failure(str(error))
        except Exception as error:  # a broken bundle must not end the server
            return _failure(f"{type(error).__name__}: {error}")


def _failure(reason: str) -> Failure:
    return Failure(printable(reason))  # file names in it may have any bytes


def _take_snapshot(folder: Path) -> _Snapshot:
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
