"""The models of a folder: found, loaded, swapped for new versions and dropped, while it serves."""

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
from ..errors import ServingError, printable
from .batching import Batcher
from .errors import RequestError
from .models import Model, load_model

_LOG = logging.getLogger("hornbill.server")
# What a version's folder looks like: path, size, and times of each file, of its content and rights.
_Look = tuple[tuple[str, int, int, int], ...]
# After which what failed is tried again, for the cause may not have been the files; then twice it.
_RETRY_S, _LONGEST_RETRY_S = 60.0, 3600.0


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A version that answers, and its queue."""

    model: Model
    batcher: Batcher


@dataclass(frozen=True)
class Failure:
    """A version that does not answer, and why."""

    reason: str


@dataclass(eq=False)
class _Entry:
    """A version that was loaded, or failed.

    Attributes:
        look: of its folder then.
        state: what came of it.
        was: what it was loaded as before it changed into one that fails.
        pause_s: after which a failure is tried again.
    """

    look: _Look
    state: LoadedModel | Failure
    was: LoadedModel | None = None
    pause_s: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def is_settled(self, look: _Look) -> bool:
        """Tell whether nothing has changed, and there is nothing to try again."""
        is_due = isinstance(self.state, Failure) and time.monotonic() > self.since + self.pause_s
        return self.look == look and not is_due


class Repository:
    """What is served. Changed by `refresh` alone, on the event loop.

    Attributes:
        is_ready: whether the folder was looked at, and the server is not about to end.
    """

    def __init__(self, folder: Path, versions: str, serve: Callable[[Model], LoadedModel]) -> None:
        """Make an empty repository.

        Args:
            folder: of bundles, or of one model.
            versions: `latest` or `all`.
            serve: makes a loaded version ready to answer.
        """
        is_one_model = bool(version_numbers(folder))
        self._root = folder.resolve().parent if is_one_model else folder
        self._only = folder.resolve().name if is_one_model else None
        self._path = folder.resolve() if is_one_model else folder
        self._has_all = versions == "all"
        self._make_served = serve
        self.is_ready = False
        self._entries: dict[str, dict[int, _Entry]] = {}
        self._served: dict[str, dict[int, LoadedModel]] = {}
        # What was complained of, by what it was about: once, and not at every look.
        self._complaints: dict[str, str] = {}

    @property
    def models(self) -> dict[str, dict[int, LoadedModel]]:
        """Versions that answer, by name of the model and number, ascending."""
        return self._served

    def failures(self) -> dict[str, dict[int, Failure]]:
        """Return the versions that do not answer."""
        return {
            name: {n: e.state for n, e in entries.items() if isinstance(e.state, Failure)}
            for name, entries in self._entries.items()
        }

    def find(self, name: str, version: str | None) -> LoadedModel:
        """Return the version asked for, the latest that answers if None.

        Raises:
            RequestError: there is none.
        """
        versions = self._served.get(name)
        if not versions:
            if not self.is_ready:
                raise RequestError("Models are still being loaded.", 503, {"retry-after": "5"})
            known = ", ".join(sorted(self._served)) or "none"
            raise RequestError(f"A model must be one of: {known}. Received: {name:.80}.", 404)
        if version is None:
            return versions[max(versions)]
        found = {str(number): served for number, served in versions.items()}
        if version not in found:
            raise RequestError(
                f"A version of {name} must be one of: {', '.join(found)}. Received: {version:.40}.",
                404,
            )
        return found[version]

    async def refresh(self, executor: Executor) -> bool:
        """Look at the folder: load what is new or changed, drop what is gone.

        A version that does not verify is reported and those before it stay. So does all that is
        served while the folder cannot be read, or is gone.

        Returns:
            Whether the folder could be read.
        """
        try:
            while await self._refresh(executor):
                pass  # where the latest version failed, the one before it is next
        except OSError as error:
            self._complain("", f"{self._path} cannot be read: {error.strerror}.")
            return False
        self._complain("", "" if self._entries else f"No model lies in {self._path}: none answers.")
        # Not before: what was served answers until there is what follows it.
        self._publish()
        return True

    async def _refresh(self, executor: Executor) -> bool:
        """Do so once; return whether to look again, since a version is new or has changed."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(executor, self._look)
        has_loaded = False
        for name, versions in found.items():
            known = self._entries.setdefault(name, {})
            for number, look in versions.items():
                before = known.get(number)
                if before is not None and before.is_settled(look):
                    continue
                # Not what failed before: it may be half copied, and look otherwise each time.
                has_loaded |= before is None or isinstance(before.state, LoadedModel)
                state = await loop.run_in_executor(executor, self._load, name, number)
                known[number] = self._entry(name, number, look, state, before)
        for name in list(self._entries):
            gone = self._entries[name].keys() - found.get(name, {}).keys()
            for number in gone:
                entry = self._entries[name].pop(number)
                if isinstance(entry.state, LoadedModel):
                    _LOG.info("%s version %d is no longer served.", name, number)
            if not self._entries[name]:
                del self._entries[name]
        return has_loaded

    def _entry(
        self, name: str, number: int, look: _Look, state: Model | Failure, before: _Entry | None
    ) -> _Entry:
        if not isinstance(state, Failure):
            return _Entry(look, self._serve(name, number, state))
        # A version that is being copied in has no checksums yet.
        is_whole = (self._root / name / str(number) / CHECKSUMS).exists()
        level = logging.ERROR if is_whole else logging.INFO
        has_changed = before is not None and isinstance(before.state, LoadedModel)
        what = "has changed, and " if has_changed else ""
        _LOG.log(level, "%s version %d %sis not served: %s", name, number, what, state.reason)
        if before is None:
            return _Entry(look, state, None, _RETRY_S)
        pause_s = min(2 * before.pause_s, _LONGEST_RETRY_S) if before.look == look else _RETRY_S
        was = before.state if isinstance(before.state, LoadedModel) else before.was
        return _Entry(look, state, was, pause_s)

    def _serve(self, name: str, number: int, state: Model) -> LoadedModel:
        cost = state.cost
        _LOG.info(
            "%s version %d is ready: %.3f ms alone, %.3f ms for each further row",
            *(name, number, cost.alone_ms, cost.row_ms),
        )
        return self._make_served(state)

    def _publish(self) -> None:
        """Let requests find what answers: all of it, or the latest of each model."""
        served = {}
        for name, entries in self._entries.items():
            good = {
                n: e.state for n, e in sorted(entries.items()) if isinstance(e.state, LoadedModel)
            }
            if not good:  # a stray file must not take down what was verified and is in memory
                good = {n: e.was for n, e in sorted(entries.items()) if e.was is not None}
            if good:
                served[name] = good if self._has_all else {max(good): good[max(good)]}
        self._served = served

    def _look(self) -> dict[str, dict[int, _Look]]:
        """Return what lies in the folder: of each model the versions that are to be served.

        Raises:
            OSError: the folder cannot be read.
        """
        looks = {name: self._look_at_model(name) for name in self._names()}
        return {name: look for name, look in looks.items() if look}

    def _names(self) -> list[str]:
        names = [path.name for path in self._path.iterdir()]
        if self._only:
            return [self._only]
        return [name for name in names if not name.startswith(".") and self._is_text(name)]

    def _is_text(self, name: str) -> bool:
        """Tell whether a name can be asked for, and written into metrics."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self._complain(name, f"{name!r} is passed over: its name must be UTF-8.")
            return False
        return True

    def _look_at_model(self, name: str) -> dict[int, _Look]:
        """Return how its versions look; as they did, if they cannot be read for now."""
        folder = self._root / name
        known = {number: entry.look for number, entry in self._entries.get(name, {}).items()}
        try:
            looks = {n: _look_at(folder / str(n)) for n in self._wanted(name, folder)}
        except (FileNotFoundError, NotADirectoryError):  # gone, or never a model
            return {}
        except OSError as error:
            self._complain(name, f"{folder} cannot be read: {error.strerror}.")
            return known
        self._complain(name, "")
        return looks

    def _complain(self, about: str, what: str) -> None:
        """Warn of what is wrong, unless that was said before; empty if nothing is."""
        if what and self._complaints.get(about) != what:
            _LOG.warning("%s", what)
        self._complaints[about] = what

    def _wanted(self, name: str, folder: Path) -> list[int]:
        """Return the versions to load or to keep, ascending."""
        numbers = version_numbers(folder)
        if self._has_all:
            return numbers
        known = self._entries.get(name, {})
        served = [n for n in numbers if n in known and isinstance(known[n].state, LoadedModel)]
        unknown = [n for n in numbers if n not in known]
        # The latest that answers stays until a later one does.
        least = max(served or unknown, default=0)
        return [number for number in numbers if number >= least]

    def _load(self, name: str, number: int) -> Model | Failure:
        try:
            return load_model(self._root / name / str(number))
        except ServingError as error:
            return _failure(str(error))
        except Exception as error:  # a broken bundle must not end the server
            return _failure(f"{type(error).__name__}: {error}")


def _failure(reason: str) -> Failure:
    return Failure(printable(reason))  # names of files may be any bytes


def _look_at(folder: Path) -> _Look:
    looks = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            with suppress(FileNotFoundError):  # somebody is removing it
                stat = Path(place, name).stat()
                looks.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(sorted(looks))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
