"""Opens the storage of a search (a journal file or a database), and retries while it is down."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import IO, Any, cast

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.errors import TuningError
from serving.errors import cannot_read, one_line

JOURNAL = "journal.log"
# Seconds between attempts: together long enough for a database to restart.
WAITS_S = (1.0, 3.0, 10.0)
# An older lock of the journal was left by a killed process, since writing an entry takes far less.
_STALE_LOCK_S = 30
_TRANSIENT = (SQLAlchemyError, StorageInternalError, OSError)


@dataclass(frozen=True)
class StudyLocation:
    """Where a search is stored.

    Attributes:
        address: URL of a database, such as `postgresql://host/name`, or path of a journal file.
        name: name of the search.
    """

    address: str
    name: str

    @property
    def is_database(self) -> bool:
        """Whether the search is in a database, not in a journal file."""
        return "://" in self.address

    @property
    def shown(self) -> str:
        """The address without its password."""
        if not self.is_database:
            return self.address
        try:
            return make_url(self.address).render_as_string(hide_password=True)
        except ArgumentError:
            return self.address.partition("://")[0] + "://…"

    @property
    def without_password(self) -> "StudyLocation":
        """The same with an address that may be shown."""
        return replace(self, address=self.shown)

    def __str__(self) -> str:
        """Return what `--join` takes, with the password."""
        return f"{self.address}#{self.name}" if self.is_database else self.address


class Journal(JournalFileBackend):
    """Optuna's journal file, which stays readable when a writer is killed or the disk is full.

    Its lock is a separate file. Optuna's default lock is a link to the journal; for a relative
    path, that link is broken, and processes wait forever for a lock that a killed process left.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, JournalFileOpenLock(path, _STALE_LOCK_S))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the entries of the journal. An incomplete last line is ignored.

        Raises:
            TuningError: another line is damaged.
        """
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            damaged = cannot_read(self._file_path, error, "the journal of a search")
            raise TuningError(
                f"{damaged} Remove the lines that are not JSON, or start another search."
            ) from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries, replacing an incomplete last line."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            with Path(self._file_path).open("r+b") as file:
                _seek_end_of_lines(file)
                file.truncate()
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._lock.release()


def _seek_end_of_lines(file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() not in (b"", b"\n"):
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.seek(end)


class RetryingStorage:
    """A storage of Optuna whose calls are repeated while it does not respond.

    It offers every method of the storage that it wraps. A method raises `TuningError` once the
    last attempt has failed too.

    Args:
        storage: storage to wrap.
        location: location of the storage, for the error message.
        waits_s: seconds between attempts.
    """

    def __init__(
        self, storage: BaseStorage, location: StudyLocation, waits_s: Sequence[float]
    ) -> None:
        self._storage = storage
        self._location = location
        self._waits_s = waits_s

    def __getattr__(self, name: str) -> Any:
        """Return a method of the storage that retries."""
        member = getattr(self._storage, name)
        return _retrying(member, self._location, self._waits_s) if callable(member) else member


def _retrying(
    call: Callable[..., Any], location: StudyLocation, waits_s: Sequence[float]
) -> Callable[..., Any]:
    @wraps(call)
    def retry(*args: Any, **kwargs: Any) -> Any:
        for wait_s in waits_s:
            try:
                return call(*args, **kwargs)
            except _TRANSIENT:
                time.sleep(wait_s)
        try:
            return call(*args, **kwargs)
        except _TRANSIENT as error:
            raise TuningError(
                f"The storage of the search does not respond. Received: {location.shown}: "
                f"{_reason_of(error)}, in {len(waits_s) + 1} attempts. Finished trials are kept; "
                "resume with hornbill tune --join."
            ) from None

    return retry


def check_address(address: str) -> None:
    """Require that `address` can be the URL of a database.

    Raises:
        TuningError: it is something else, such as the path of a file.
    """
    if "://" not in address:
        raise TuningError(
            "--storage must be the URL of a database, such as sqlite:///tuning.db. "
            f"Received: {address!r}."
        )


def absolute_address(address: str) -> str:
    """Return the URL of a database; the path of a SQLite file becomes absolute.

    Raises:
        TuningError: the folder of the file does not exist.
    """
    path = _sqlite_file(address)
    if path is None:
        return address
    if not path.parent.is_dir():
        raise TuningError(
            f"The folder of the SQLite file does not exist. Received: {path}. Create it first."
        )
    return make_url(address).set(database=str(path)).render_as_string(hide_password=False)


def require_file(address: str) -> None:
    """Require that the file of a SQLite URL exists: opening it would create an empty database.

    Raises:
        TuningError: it does not exist.
    """
    path = _sqlite_file(address)
    if path is not None and not path.is_file():
        raise TuningError(f"The storage of the search does not exist. Received: {path}.")


def _sqlite_file(address: str) -> Path | None:
    """Return the file of a SQLite database; None for another database or an invalid address."""
    try:
        url = make_url(address)
    except ArgumentError:  # `open_storage` reports what is wrong with it
        return None
    name = url.database or ""
    is_file = url.get_backend_name() == "sqlite" and name and not name.startswith((":", "file:"))
    return Path(name).absolute() if is_file else None


def open_storage(location: StudyLocation, waits_s: Sequence[float] = WAITS_S) -> BaseStorage:
    """Return the storage at `location`, whose calls are retried while it does not respond.

    Args:
        location: where the search is stored.
        waits_s: seconds between attempts.

    Raises:
        TuningError: the address is invalid, its driver is missing, or it does not respond.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = _retrying(_open, location, waits_s)(location)
    return cast("BaseStorage", RetryingStorage(storage, location, waits_s))


def _open(location: StudyLocation) -> BaseStorage:
    if not location.is_database:
        return JournalStorage(Journal(location.address))
    try:
        return get_storage(RDBStorage(location.address))  # adds a cache of finished trials
    except (ArgumentError, ImportError, RuntimeError, ValueError) as error:
        raise TuningError(
            "A storage must be the URL of a database that this version of Optuna can read, with "
            "its driver installed, such as sqlite:///tuning.db. "
            f"Received: {location.shown}: {_reason_of(error)}."
        ) from None


def create_study(
    location: StudyLocation, attributes: dict[str, Any], waits_s: Sequence[float] = WAITS_S
) -> optuna.Study:
    """Create a search with user attributes.

    Raises:
        TuningError: the storage does not respond, or has a search of that name.
    """
    storage = open_storage(location, waits_s)
    try:
        study = optuna.create_study(storage=storage, study_name=location.name, direction="minimize")
    except optuna.exceptions.DuplicatedStudyError:
        raise TuningError(
            "The storage already has a search of this name. "
            f"Received: {location.name} in {location.shown}. Join it with hornbill tune --join."
        ) from None
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    return study


def load_study(
    location: StudyLocation,
    sampler: optuna.samplers.BaseSampler | None = None,
    waits_s: Sequence[float] = WAITS_S,
) -> optuna.Study:
    """Return an existing search.

    Raises:
        TuningError: it does not exist, or its storage does not respond.
    """
    if not location.is_database and not Path(location.address).is_file():
        raise TuningError(f"The journal of the search is missing. Received: {location.address}.")
    storage = open_storage(location, waits_s)
    try:
        return optuna.load_study(study_name=location.name, storage=storage, sampler=sampler)
    except (KeyError, ValueError):
        names = ", ".join(optuna.get_all_study_names(storage)) or "no search"
        raise TuningError(
            f"The storage has no search of this name. Received: {location.name!r}; "
            f"{location.shown} has {names}."
        ) from None


def _reason_of(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    reason = getattr(cause, "orig", None) or cause
    return one_line(reason)[:200].rstrip(".")
