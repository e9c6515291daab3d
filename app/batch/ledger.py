"""The ledger of a job's output folder: which job it belongs to and which parts are published.

`_job.json` identifies the job, `_done.jsonl` lists the published parts. Processes write into
`_unfinished`. Only the job, which holds the lock, moves finished parts out of it, so that a process
that outlives a killed job can publish nothing.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from app.errors import BatchError
from app.system.atomic_files import atomic_write
from app.system.locks import exclusive_lock
from serving.errors import cannot_read, cannot_write

from .parts import Finished

UNFINISHED = "_unfinished"
_JOB, _DONE, _LOCK = "_job.json", "_done.jsonl", "_lock"

Identity = dict[str, str | None]


class Ledger:
    """Publishes parts and knows the published ones. Made by `open_ledger`.

    Attributes:
        folder: output folder of the job.
        finished: published parts by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished: dict[str, Finished] = {}

    def publish(self, finished: Finished) -> None:
        """Move the files of a part into the folder and record the part as done.

        If the job is killed in between, the next one removes what was moved but not recorded.
        """
        attempt = self.folder / UNFINISHED / finished.attempt
        for path in attempt.iterdir():
            if path.stat().st_size or path.name.startswith("part-"):
                path.replace(self.folder / path.name)
        shutil.rmtree(attempt)
        recorded = replace(finished, attempt="")
        with (self.folder / _DONE).open("a", encoding="ascii") as file:
            file.write(_line(recorded))
            file.flush()
            os.fsync(file.fileno())
        self.finished[recorded.part] = recorded


@contextmanager
def open_ledger(folder: Path, identity: Identity) -> Iterator[Ledger]:
    """Prepare the output folder for a new or resumed job, and lock it until the job ends.

    Args:
        folder: output folder; created if missing.
        identity: facts that identify the job. A folder that belongs to another job is refused.

    Raises:
        BatchError: the folder belongs to another job, is in use, contains other files, was made by
            another version, is damaged, or cannot be locked.
        OSError: the folder cannot be written.
    """
    _check_owner(folder, identity)
    _read_done(folder)  # before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    in_use = BatchError(f"Another job is writing into this folder. Received: --output {folder}.")
    with exclusive_lock(folder, in_use, lambda error: unwritable(folder, error), _LOCK):
        atomic_write(folder / _JOB, json.dumps(identity, indent=2) + "\n")
        ledger = Ledger(folder)
        ledger.finished = _read_done(folder)
        _sweep(folder, ledger.finished)
        yield ledger
        shutil.rmtree(folder / UNFINISHED)


def unwritable(folder: Path, error: OSError) -> BatchError:
    """Return the error for an output folder that cannot be written."""
    return BatchError(
        f"{cannot_write(folder, error)} Finished parts are kept; run the same command to resume."
    )


def _check_owner(folder: Path, identity: Identity) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BatchError(f"--output must be a folder. Received: {folder}, a file.")
    path = folder / _JOB
    if not path.exists():
        other = next((p.name for p in folder.iterdir() if not p.name.startswith("_")), None)
        if other is not None:
            raise BatchError(
                "--output must be an empty folder, or one of the same job. "
                f"Received: {folder}, which contains {other}."
            )
        return
    found = _parse(path, path.read_bytes())
    for name, value in identity.items():
        if not isinstance(found, dict) or found.get(name) != value:
            actual = found.get(name) if isinstance(found, dict) else found
            raise BatchError(
                "--output must be an empty folder, or one of the same job. Received: "
                f"{folder}, a job with {name}={actual!r} instead of {value!r}. "
                "Choose another folder."
            )


def _read_done(folder: Path) -> dict[str, Finished]:
    """Return the parts that are recorded and exist. A last line that was cut off is ignored."""
    path = folder / _DONE
    text = path.read_bytes() if path.exists() else b""
    recorded = {}
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        finished = _to_finished(path, line)
        if (folder / f"part-{finished.part}.jsonl").exists():
            recorded[finished.part] = finished
    return recorded


def _to_finished(path: Path, line: bytes) -> Finished:
    try:
        value = _parse(path, line)
        return Finished(**{**value, "files": tuple(value["files"])})
    except (TypeError, KeyError):
        raise BatchError(
            f"{path} was changed, or written by another version of Hornbill. "
            f"Received: {line[:80]!r}. Choose another --output folder."
        ) from None


def _sweep(folder: Path, recorded: dict[str, Finished]) -> None:
    """Remove what a killed job left: unfinished and unrecorded parts, and half a line."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    (folder / UNFINISHED).mkdir()
    for kind in ("part", "errors"):
        for path in folder.glob(f"{kind}-*.jsonl"):
            if path.stem.removeprefix(f"{kind}-") not in recorded:
                path.unlink()
    atomic_write(folder / _DONE, "".join(map(_line, recorded.values())))


def _line(finished: Finished) -> str:
    return json.dumps(asdict(finished)) + "\n"


def _parse(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BatchError(cannot_read(path, error, "JSON")) from None
