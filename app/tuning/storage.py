"""Where a study lies: Optuna's journal file, or a database by its address. Asked patiently."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from app.errors import TuningError
from serving.errors import one_line

JOURNAL = "journal.log"
# Seconds between attempts: long enough for a database that restarts.
WAITS_S = (1.0, 3.0, 10.0)
# After which whoever holds the lock of a journal was killed: an entry is written in far less.
_LOCKED_S = 30
_PASSING = (SQLAlchemyError, StorageInternalError, OSError)


@dataclass(frozen=True)
class StudyLocation:
    """Where a study is found.

    Attributes:
        address: of a database, such as `postgresql://host/name`, or the path of a journal file.
        name: of the study.
    """

    address: str
    name: str

    @property
    def is_database(self) -> bool:
        """Whether it is more than a file of ours."""
        return "://" in self.address

    @property
    def shown(self) -> str:
        """The address without a password."""
        if not self.is_database:
            return self.address
        try:
            return make_url(self.address).render_as_string(hide_password=True)
        except ArgumentError:
            return self.address.partition("://")[0] + "://…"

    def __str__(self) -> str:
        """Return what `--join` takes."""
        return f"{self.address}#{self.name}" if self.is_database else self.address


class Journal(JournalFileBackend):
    """Optuna's journal, which a writer that was killed or had no room leaves fit for others.

    Its lock is a file: Optuna's usual one is a link to the journal, and where that leads nowhere,
    as that of a relative path does, one that a killed process left is waited for without end.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, JournalFileOpenLock(path, _LOCKED_S))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield entries. A last line that is cut off is none.

        Raises:
            TuningError: another line is damaged.
        """
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise TuningError(
                f"A journal must be as it was written. Received: {self._file_path}, damaged: "
                f"{error}. Remove the lines that are no JSON, or begin a study of its own."
            ) from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries, in place of a last line that is cut off."""
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


def check_address(address: str) -> None:
    """Require what can be the address of a database.

    Raises:
        TuningError: it is something else, such as the path of a file.
    """
    if "://" not in address:
        raise TuningError(
            "A storage must be the address of a database, such as sqlite:///study.db. "
            f"Received: {address!r}."
        )


def absolute_address(address: str) -> str:
    """Return an address of a database; that of a file of SQLite is found from any folder.

    Raises:
        TuningError: the folder of the file is not there.
    """
    path = _sqlite_file(address)
    if path is None:
        return address
    if not path.parent.is_dir():
        raise TuningError(f"A file of SQLite must lie in a folder. Received: {path}, in none.")
    return make_url(address).set(database=str(path)).render_as_string(hide_password=False)


def require_file(address: str) -> None:
    """Require that the file of a SQLite address is there, which would be made anew if it was not.

    Raises:
        TuningError: it is not.
    """
    path = _sqlite_file(address)
    if path is not None and not path.is_file():
        raise TuningError(f"A study must be in its storage. Received: {path}, no file.")


def _sqlite_file(address: str) -> Path | None:
    """Return the file of a database; None if there is none, or no address."""
    try:
        url = make_url(address)
    except ArgumentError:  # `open_storage` says what is wrong with it
        return None
    name = url.database or ""
    is_file = url.get_backend_name() == "sqlite" and name and not name.startswith((":", "file:"))
    return Path(name).absolute() if is_file else None


def open_storage(place: StudyLocation, waits_s: Sequence[float] = WAITS_S) -> BaseStorage:
    """Return the storage, whose every answer is waited for.

    Args:
        place: where it is.
        waits_s: seconds between attempts.

    Raises:
        TuningError: the address is none, its driver is missing, or it does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return _patient(_retrying(lambda: _open(place), place, waits_s)(), place, waits_s)


def _open(place: StudyLocation) -> BaseStorage:
    if not place.is_database:
        return JournalStorage(Journal(place.address))
    try:
        return RDBStorage(place.address)
    except (ArgumentError, ImportError, RuntimeError, ValueError) as error:
        raise TuningError(
            "A storage must be the address of a database of this Optuna, whose driver is "
            "installed, such as "
            f"sqlite:///study.db. Received: {place.shown}: {_reason_of(error)}."
        ) from None


def _patient(storage: BaseStorage, place: StudyLocation, waits_s: Sequence[float]) -> BaseStorage:
    """Let every question that Optuna asks a storage be asked again."""
    for name in vars(BaseStorage):
        if not name.startswith("_") and callable(getattr(storage, name)):
            setattr(storage, name, _retrying(getattr(storage, name), place, waits_s))
    return storage


def _retrying(
    ask: Callable[..., Any], place: StudyLocation, waits_s: Sequence[float]
) -> Callable[..., Any]:
    @wraps(ask)
    def asked(*arguments: Any, **named: Any) -> Any:
        for wait_s in waits_s:
            try:
                return ask(*arguments, **named)
            except _PASSING:
                time.sleep(wait_s)
        try:
            return ask(*arguments, **named)
        except _PASSING as error:
            raise TuningError(
                f"The storage of a study must answer. Received: {place.shown}: "
                f"{_reason_of(error)}, in {len(waits_s) + 1} attempts. What was finished is kept: "
                "go on with hornbill tune --join."
            ) from None

    return asked


def create_study(
    place: StudyLocation, notes: dict[str, Any], waits_s: Sequence[float] = WAITS_S
) -> optuna.Study:
    """Make a study with notes about itself.

    Raises:
        TuningError: the storage does not answer, or has a study of that name.
    """
    storage = open_storage(place, waits_s)
    try:
        study = optuna.create_study(storage=storage, study_name=place.name, direction="minimize")
    except optuna.exceptions.DuplicatedStudyError:
        raise TuningError(
            f"A study's name must be free. Received: {place.name} in {place.shown}. "
            "Join it with hornbill tune --join."
        ) from None
    for key, value in notes.items():
        study.set_user_attr(key, value)
    return study


def load_study(
    place: StudyLocation,
    sampler: optuna.samplers.BaseSampler | None = None,
    waits_s: Sequence[float] = WAITS_S,
) -> optuna.Study:
    """Return a study that is there.

    Raises:
        TuningError: it is not there, or its storage does not answer.
    """
    if not place.is_database and not Path(place.address).is_file():
        raise TuningError(f"A study must have a journal. Received: {place.address}, not there.")
    storage = open_storage(place, waits_s)
    try:
        return optuna.load_study(study_name=place.name, storage=storage, sampler=sampler)
    except (KeyError, ValueError):
        there = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise TuningError(
            f"A study must be in its storage. Received: {place.name!r}; {place.shown} has {there}."
        ) from None


def _reason_of(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    reason = getattr(cause, "orig", None) or cause
    return one_line(reason)[:200].rstrip(".")
