"""The versions of models: what is known of each, from its first trial to its removal."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from .batching import Batcher
from .model_folder import Snapshot
from .model_settings import ModelSettings
from .models import Model
from .trials import Failure

# A failed version is tried again, since the cause may not be its files. The pause doubles.
_RETRY_S, _MAX_RETRY_S = 60.0, 3600.0


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A version that is served, and its queue."""

    model: Model
    batcher: Batcher


@dataclass(frozen=True)
class VersionState:
    """The state of a version.

    Attributes:
        name: name of the model.
        number: number of the version.
        status: `loading`, `ready` or `failed`.
        failure: why its files cannot be served. A version that is ready has one if its files have
            changed since it was loaded.
        loaded: what answers its requests, if it is ready.
    """

    name: str
    number: int
    status: Literal["loading", "ready", "failed"]
    failure: Failure | None
    loaded: LoadedModel | None


@dataclass(eq=False)
class Entry:
    """A version that is tried, was loaded or has failed.

    Attributes:
        snapshot: state of its folder when it was last tried.
        settings: settings with which it was last tried.
        loaded: the version as it was last loaded.
        failure: why the folder, in its present state, cannot be served.
        task: tries and loads it.
        is_slow: whether that takes long, so that nobody waits for it.
        pause_s: seconds until a failed version is tried again.
        since: time of the last failure.
    """

    snapshot: Snapshot
    settings: ModelSettings
    loaded: LoadedModel | None = None
    failure: Failure | None = None
    task: asyncio.Task[None] | None = None
    is_slow: bool = False
    pause_s: float = 0.0
    since: float = field(default_factory=time.monotonic)

    @property
    def is_good(self) -> bool:
        """Whether the folder, as it was last tried, is loaded."""
        return self.loaded is not None and self.failure is None

    @property
    def is_awaited(self) -> bool:
        """Whether it is tried for the first time, and that is not taking long."""
        return self.task is not None and self.failure is None and not self.is_slow

    def is_settled(self, snapshot: Snapshot) -> bool:
        """Return whether nothing has changed and no retry is due."""
        is_due = self.failure is not None and time.monotonic() > self.since + self.pause_s
        return self.snapshot == snapshot and (self.task is not None or not is_due)

    def cancel(self) -> None:
        """End the trial, if it is under way."""
        if self.task is not None:
            self.task.cancel()
            self.task = None

    def fail(self, failure: Failure) -> None:
        """Note why it cannot be served, and when it is tried again."""
        self.failure, self.since = failure, time.monotonic()
        self.pause_s = min(2 * self.pause_s, _MAX_RETRY_S) if self.pause_s else _RETRY_S
