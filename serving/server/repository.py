"""The models that are served: versions are tried, loaded, replaced and removed meanwhile."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Literal

from ..bundle import CHECKSUMS
from ..errors import cannot_read
from .errors import RequestError
from .loading import Loader
from .model_control import ModelControl
from .model_folder import ModelFolder, Snapshot
from .model_settings import DEFAULTS, ModelSettings, read_model_settings
from .models import Model
from .rereading import Reread
from .settings import Settings
from .trials import Failure, Trials
from .versions import Entry, LoadedModel, VersionState

_LOG = logging.getLogger("hornbill.server")
# Between two looks at a model that a request waits for, and at what clients of others ask for.
_WAIT_S, _LOOK_S = 0.02, 0.1
# The other processes follow a request to load or to unload within this time, or it is answered.
_FOLLOW_S = 10.0


class Repository:
    """The models of a folder, for use on one event loop.

    Attributes:
        is_draining: whether the server is about to end; then it is not ready for new requests.
    """

    def __init__(
        self,
        settings: Settings,
        trials: Trials,
        serve: Callable[[Model], Awaitable[LoadedModel]],
        executor: Executor,
    ) -> None:
        """Make an empty repository; `refresh` fills it.

        Args:
            settings: settings of the server.
            trials: tries versions before they are loaded; `close` closes it.
            serve: gives a loaded version its queue, and tests it; raises `ServingError` if it
                must not be served.
            executor: runs what would block the event loop.
        """
        self._folder = ModelFolder(settings.folder)
        nothing: Mapping[str, ModelSettings] | None = None
        self._model_settings = Reread(
            self._read_model_settings, nothing, settings.shared("settings")
        )
        self._has_all = settings.versions == "all"
        self._required = set(settings.require)
        self._control: ModelControl | None = None
        if settings.model_control == "explicit":
            self._control = ModelControl(settings.require, settings.shared("models"))
        self._loader = Loader(trials, settings.public_key, serve, executor)
        self._executor = executor
        self.is_draining = False
        self._was_read = False
        self._is_started = False
        self._changed = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._entries: dict[str, dict[int, Entry]] = {}
        self._served: dict[str, dict[int, LoadedModel]] = {}

    @property
    def models(self) -> dict[str, dict[int, LoadedModel]]:
        """The served versions by name of the model and number, ascending."""
        return self._served

    @property
    def is_started(self) -> bool:
        """Whether all versions were tried once, but those that take long."""
        return self._is_started

    @property
    def is_ready(self) -> bool:
        """Whether requests should come here.

        The required models must be served. Where none is required, one must be served, unless
        clients decide what is loaded; and at the start, none may be left to be tried but those
        that take long.
        """
        if self.is_draining or not self._was_read:
            return False
        if self._required:
            return self._required <= self._served.keys()
        return self._is_started and (self._control is not None or bool(self._served))

    def states(self) -> list[VersionState]:
        """Return the state of every version that is known, by name and number."""
        return [
            VersionState(name, number, *state)
            for name in sorted(self._entries)
            for number, entry in sorted(self._entries[name].items())
            if (state := self._state(name, number, entry)) is not None
        ]

    def _state(
        self, name: str, number: int, entry: Entry
    ) -> tuple[Literal["loading", "ready", "failed"], Failure | None, LoadedModel | None] | None:
        loaded = self._served.get(name, {}).get(number)
        if loaded is not None:
            return "ready", entry.failure, loaded
        if entry.failure is not None:
            return "failed", entry.failure, None
        # Otherwise a later version has replaced it.
        return ("loading", None, None) if entry.task is not None else None

    def _read_model_settings(self) -> Mapping[str, ModelSettings] | None:
        return read_model_settings(self._folder)

    def _settings_of(self, name: str) -> ModelSettings:
        return (self._model_settings.value or {}).get(name, DEFAULTS)

    def find(self, name: str, version: str | None) -> LoadedModel:
        """Return a served version of a model; the latest if `version` is None.

        Args:
            name: name of the model.
            version: number of the version, or a label from `serving.toml`.

        Raises:
            RequestError: there is no such model or version (404), or it is being loaded or has
                failed (503).
        """
        loaded = self.served(name, version)
        if loaded is None:
            number = None if version is None else self.resolve(name, version)
            raise self._refusal(name, number)
        return loaded

    def served(self, name: str, version: str | None) -> LoadedModel | None:
        """Return what `find` does, or None if it is not served."""
        versions = self._served.get(name, {})
        if version is None:
            return versions[max(versions)] if versions else None
        number = self.resolve(name, version)
        return next((loaded for n, loaded in versions.items() if str(n) == number), None)

    def labels(self, name: str) -> list[str]:
        """Return the labels of the versions of a model."""
        return list(self._settings_of(name).labels)

    def resolve(self, name: str, version: str) -> str:
        """Return the number of the version that a label of a model stands for; others as given."""
        return str(self._settings_of(name).labels.get(version, version))

    def _refusal(self, name: str, version: str | None) -> RequestError:
        if not self._was_read:
            return _later("The models are not loaded yet.")
        known = {
            number: entry
            for number, entry in self._entries.get(name, {}).items()
            if version in (None, str(number))
        }
        if known:
            number, entry = max(known.items())
            if entry.failure is None:
                return _later(f"{name} version {number} is being loaded.")
            return RequestError(
                f"{name} version {number} cannot be served: {entry.failure.reason}", 503
            )
        if name in self._served:
            numbers = ", ".join(map(str, (*self._served[name], *self._settings_of(name).labels)))
            return RequestError(
                f"The version of {name} must be one of: {numbers}. Received: {version:.40}.", 404
            )
        names = ", ".join(sorted(self._served)) or "none"
        hint = " POST /v2/repository/models/NAME/load loads others." if self._control else ""
        return RequestError(f"The model must be one of: {names}. Received: {name:.80}.{hint}", 404)

    async def wait_for(self, name: str, version: str | None, seconds: float) -> None:
        """Wait while a version of a model, see `find`, is being loaded, at most `seconds`.

        A restarted process gets requests before it has loaded its models.
        """
        end = time.monotonic() + seconds
        while self._is_awaited(name, version) and time.monotonic() < end:
            await asyncio.sleep(_WAIT_S)

    def _is_awaited(self, name: str, version: str | None) -> bool:
        wanted = None if version is None else self.resolve(name, version)
        if any(wanted in (None, str(number)) for number in self._served.get(name, {})):
            return False
        entries = self._entries.get(name, {}).items()
        return not self._was_read or any(
            entry.is_awaited for number, entry in entries if wanted in (None, str(number))
        )

    async def wait_for_change(self, seconds: float) -> None:
        """Wait until a version was loaded or has failed, or a client asks for one elsewhere.

        Args:
            seconds: largest time to wait.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._changed.is_set():
            if self._control is not None:
                left = min(left, _LOOK_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
            if self._control is not None and self._control.has_news():
                return

    async def refresh(self) -> bool:
        """Read the folder: begin to load new and changed versions, drop removed ones.

        A version that cannot be served is logged, and the version before it stays. While the
        folder is missing or cannot be read, everything stays as it is.

        Returns:
            Whether the folder could be read.
        """
        async with self._refreshing:
            return await self._refresh()

    async def _refresh(self) -> bool:
        self._changed.clear()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._model_settings.refresh)
        if self._model_settings.value is None:  # what was pinned is unknown
            return False
        again = set() if self._control is None else self._control.update()
        known = {
            name: {number: entry.snapshot for number, entry in entries.items()}
            for name, entries in self._entries.items()
        }
        try:
            found = await loop.run_in_executor(
                self._executor, self._folder.scan, self._choose, known
            )
        except OSError as error:
            self._folder.warn("", cannot_read(self._folder.path, error))
            return False
        if self._control is not None:
            _leave_unasked(found, known, again)
        for name, versions in found.items():
            for number, snapshot in versions.items():
                self._update(name, number, snapshot, is_forced=name in again)
        self._drop_removed(found)
        if self._control is not None:
            self._control.begin()
        self._publish()
        self._was_read = True
        self._warn_of_absence()
        return True

    def _choose(self, name: str, numbers: list[int]) -> list[int]:
        """Return the versions to load or to keep, ascending."""
        if self._control is not None and name not in self._control.wanted:
            return []
        own = self._settings_of(name)
        if own.versions is not None:
            return [number for number in numbers if number in own.versions]
        if self._has_all:
            return numbers
        known, labeled = self._entries.get(name, {}), own.labels.values()
        good = [n for n in numbers if n in known and (known[n].is_good or known[n].is_awaited)]
        good = [n for n in good if n not in labeled or n == good[-1]]
        unknown = [n for n in numbers if n not in known]
        # The latest loaded version stays until a later one is loaded.
        loaded = [n for n in good if known[n].is_good]
        first = max(loaded or good or unknown, default=0)
        return [number for number in numbers if number >= first or number in labeled]

    def _update(self, name: str, number: int, snapshot: Snapshot, *, is_forced: bool) -> None:
        """Begin to try and load a version, unless that is needless."""
        entries = self._entries.setdefault(name, {})
        entry = entries.get(number)
        settings = self._settings_of(name).of_loading
        if entry is None:
            entry = entries[number] = Entry(snapshot, settings)
        elif (entry.snapshot, entry.settings) != (snapshot, settings):
            entry.cancel()
            entry.snapshot, entry.settings, entry.pause_s = snapshot, settings, 0.0
            if entry.loaded is None:  # else what is loaded would seem to be what is there now
                entry.failure = None
        elif entry.is_settled(snapshot) and not (is_forced and entry.failure is not None):
            return
        if entry.task is None:
            entry.task = asyncio.create_task(self._load(name, number, entry))

    def _drop_removed(self, found: dict[str, dict[int, Snapshot]]) -> None:
        for name in list(self._entries):
            for number in self._entries[name].keys() - found.get(name, {}).keys():
                entry = self._entries[name].pop(number)
                entry.cancel()
                if entry.is_good:
                    _LOG.info("%s version %d is no longer served.", name, number)
            if not self._entries[name]:
                del self._entries[name]

    async def _load(self, name: str, number: int, entry: Entry) -> None:
        """Try a version, then load it; the state of its entry says how that went."""

        def when_slow() -> None:
            entry.is_slow = True
            self._publish()
            self._changed.set()
            _LOG.warning("%s version %d takes long to verify and to load.", name, number)

        folder = self._folder.version(name, number)
        outcome = await self._loader.load(folder, entry.settings, entry.snapshot, when_slow)
        if isinstance(outcome, Failure):
            self._log_failure(name, number, entry, outcome)
            entry.fail(outcome)
        else:
            cost = outcome.model.cost
            _LOG.info(
                "%s version %d is ready: %.3f ms for one row, %.3f ms for each further row",
                *(name, number, cost.alone_ms, cost.row_ms),
            )
            entry.loaded, entry.failure = outcome, None
        entry.task, entry.is_slow = None, False
        self._publish()
        self._changed.set()

    def _log_failure(self, name: str, number: int, entry: Entry, failure: Failure) -> None:
        what = "has changed and " if entry.loaded is not None else ""
        if (self._folder.version(name, number) / CHECKSUMS).exists():
            _LOG.error("%s version %d %scannot be served: %s", name, number, what, failure.reason)
        else:
            _LOG.info(
                "%s version %d %sis not complete: %s is missing. It may still be being copied.",
                *(name, number, what, CHECKSUMS),
            )

    def _publish(self) -> None:
        """Let requests find the loaded versions: all of them, or the latest of each model."""
        served = {}
        for name, entries in self._entries.items():
            loaded = {n: e.loaded for n, e in sorted(entries.items()) if e.loaded is not None}
            # A stray file must not stop a version that is loaded and verified.
            good = {n: model for n, model in loaded.items() if entries[n].is_good} or loaded
            own = self._settings_of(name)
            if good and not self._has_all and own.versions is None:
                kept = {max(good), *own.labels.values()}
                good = {number: model for number, model in good.items() if number in kept}
            if good:
                served[name] = good
        self._served = served
        self._is_started |= self._was_read and not self._has_awaited()
        if self._control is not None:
            everything = self._entries.items()
            self._control.report({n for n, own in everything if any(e.task for e in own.values())})

    def _has_awaited(self) -> bool:
        return any(e.is_awaited for versions in self._entries.values() for e in versions.values())

    def _warn_of_absence(self) -> None:
        """Log once that nothing is served, or that a required model is not."""
        if self._has_awaited():
            return
        path, missing = self._folder.path, sorted(self._required - self._served.keys())
        message = ""
        if missing:
            names = ", ".join(missing)
            message = f"The server is not ready until {path} has {names} to serve."
            if self._control is not None and not self._control.wanted.issuperset(missing):
                message = f"The server is not ready until {names} is loaded."
        elif not self._served and self._control is None:
            what = "no version that can be served" if self._entries else "no models"
            message = f"{path} has {what}: nothing is served until one is added or repaired."
        self._folder.warn("", message)

    async def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """Return the versions of the folder, loaded or not, with the keys of Triton's index.

        Args:
            only_ready: whether those that are not served are left out.
        """
        rows = [_index_row(state) for state in self.states()]
        if self._control is not None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._executor, self._folder.models)
            rows += [
                _unloaded(name, n[-1]) for name, n in found.items() if name not in self._entries
            ]
        wanted = [row for row in rows if row["state"] == "READY" or not only_ready]
        return sorted(wanted, key=lambda row: (row["name"], int(row["version"])))

    async def load(self, name: str, parameters: Iterable[str] = ()) -> None:
        """Load a model, or load it again if its files have changed or it has failed.

        Args:
            name: name of the model.
            parameters: names of the parameters of the request, which must have none.

        Raises:
            RequestError: clients do not decide what is loaded, there is no such model, its latest
                version cannot be served, or there are parameters.
        """
        if refused := ", ".join(sorted(parameters)):
            raise RequestError(
                "A model must be loaded as it is in the folder, without parameters. "
                f"Received: {refused:.80}."
            )
        await self._follow(name, is_load=True)
        while tasks := [e.task for e in self._entries.get(name, {}).values() if e.task]:
            await asyncio.wait(tasks)
        await self._wait_for_others()
        entries = self._entries.get(name, {})
        gone = Failure("it has been removed or unloaded.")
        failure = entries[max(entries)].failure if entries else gone
        if failure is not None:
            raise RequestError(f"{name} cannot be loaded: {failure.reason}")

    async def unload(self, name: str) -> None:
        """Serve a model no longer; its requests in flight are completed.

        Raises:
            RequestError: clients do not decide what is loaded, or there is no such model.
        """
        await self._follow(name, is_load=False)
        await self._wait_for_others()

    async def _wait_for_others(self) -> None:
        """Wait until the other processes have done what clients asked for: they answer too."""
        end = time.monotonic() + _FOLLOW_S
        count = 0 if self._control is None else self._control.count
        while self._control is not None and not self._control.is_followed(count):
            if time.monotonic() > end:
                _LOG.warning("Other processes take long to follow a request to load a model.")
                return
            await asyncio.sleep(_WAIT_S)

    async def _follow(self, name: str, *, is_load: bool) -> None:
        if self._control is None:
            raise RequestError(
                "Models can only be loaded and unloaded by requests with --model-control explicit. "
                "Received: such a request, to a server that serves what is in its folder."
            )
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executor, self._folder.models)
        if name not in found.keys() | self._entries.keys():
            names = ", ".join(found) or "none"
            raise RequestError(f"The model must be one of: {names}. Received: {name:.80}.", 404)
        self._control.request(name, is_load=is_load)
        if not await self.refresh():
            raise _later(f"{self._folder.path} cannot be read.")

    def close(self) -> None:
        """End all trials."""
        self.is_draining = True
        for entries in self._entries.values():
            for entry in entries.values():
                entry.cancel()
        self._loader.close()
        if self._control is not None:
            self._control.close()


def _leave_unasked(
    found: dict[str, dict[int, Snapshot]], known: dict[str, dict[int, Snapshot]], asked: set[str]
) -> None:
    """Leave models that nobody asked to load as they are: without later versions and changes."""
    for name in known.keys() & found.keys() - asked:
        before = known[name]
        found[name] = {
            number: before.get(number, snapshot)
            for number, snapshot in found[name].items()
            if number <= max(before)  # where the latest failed, the one before it is next
        }


def _later(message: str) -> RequestError:
    return RequestError(f"{message} Try again later.", 503, {"retry-after": "5"})


def _index_row(state: VersionState) -> dict[str, str]:
    triton = {"loading": "LOADING", "ready": "READY", "failed": "UNAVAILABLE"}[state.status]
    reason = state.failure.reason if state.failure else ""
    return {"name": state.name, "version": str(state.number), "state": triton, "reason": reason}


def _unloaded(name: str, number: int) -> dict[str, str]:
    row = {"name": name, "version": str(number), "state": "UNAVAILABLE"}
    return row | {"reason": "unloaded"}
