"""Loads a version: checks its signature, tries it, opens it, and gives it a queue."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path

from ..errors import ManifestError, ServingError, printable
from .model_folder import Snapshot, take_snapshot
from .model_settings import ModelSettings
from .models import Model, load_model
from .trials import Failure, Trials
from .versions import LoadedModel


class Loader:
    """Loads versions, for use on one event loop."""

    def __init__(
        self,
        trials: Trials,
        public_key: Path | None,
        serve: Callable[[Model], Awaitable[LoadedModel]],
        executor: Executor,
    ) -> None:
        """Make a loader.

        Args:
            trials: tries versions before they are loaded; `close` closes it.
            public_key: key with which versions must be signed; None to load all.
            serve: gives a loaded version its queue, and tests it; raises `ServingError` if it
                must not be served.
            executor: runs what would block the event loop.
        """
        self._trials = trials
        self._public_key = public_key
        self._serve = serve
        self._executor = executor
        self._opening = asyncio.Lock()

    async def load(
        self,
        folder: Path,
        settings: ModelSettings,
        snapshot: Snapshot,
        when_slow: Callable[[], None],
    ) -> LoadedModel | Failure:
        """Load a version, or return why it cannot be served.

        Args:
            folder: folder of the version.
            settings: settings of the model.
            snapshot: state of the folder, which must not change meanwhile.
            when_slow: called if it takes long.
        """
        try:
            await self._check_signature(folder)
            failure = await self._trials.run(folder, when_slow)
            return failure or await self._serve(await self._open(folder, settings, snapshot))
        except ServingError as error:
            return Failure(printable(str(error)))  # file names in it may have any bytes
        except Exception as error:  # a broken bundle must not end the server
            return Failure(printable(f"{type(error).__name__}: {error}"))

    async def _check_signature(self, folder: Path) -> None:
        """Raise `ServingError` unless a version is signed, if signatures are demanded.

        Before the trial: no part of the graph of a version that is not signed is run.
        """
        if self._public_key is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, _check_signature, self._public_key, folder)

    async def _open(self, folder: Path, settings: ModelSettings, snapshot: Snapshot) -> Model:
        async with self._opening:  # one at a time, since requests need the threads
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, _open, folder, settings, snapshot)

    def close(self) -> None:
        """End all trials."""
        self._trials.close()


def _check_signature(public_key: Path, folder: Path) -> None:
    from ..signature import read_verifier  # an extra

    read_verifier(public_key)(folder)


def _open(folder: Path, settings: ModelSettings, snapshot: Snapshot) -> Model:
    model = load_model(folder, settings)
    if take_snapshot(folder) != snapshot:  # what was loaded may not be what was checked
        raise ManifestError(
            "The files of a version must not change while it is loaded. "
            f"Received: changes in {folder}."
        )
    return model
