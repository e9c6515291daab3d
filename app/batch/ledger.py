"""The folder of a job's results: what is published in it, and by whom.

`_job.json` says of which job it is, `_done.jsonl` which parts are published. Processes write into
`_unfinished`; the job alone, which holds the lock, moves what they finished out of it. So a
process that outlives a killed job can publish nothing.
"""

import fcntl
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

from .parts import Finished

UNFINISHED = "_unfinished"
_JOB, _DONE, _LOCK = "_job.json", "_done.jsonl", "_lock"

Identity = dict[str, str | None]


class Ledger:
    """Publishes parts, and knows those that are. Made by `open_ledger`.

    Attributes:
        folder: of the results.
        finished: parts that are published, by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished: dict[str, Finished] = {}

    def publish(self, finished: Finished) -> None:
        """Move a part's lines into the folder, and note it as done.

        What is moved but not yet noted when the job is killed is removed by the next one.
        """
        attempt = self.folder / UNFINISHED / finished.attempt
        for path in attempt.iterdir():
            if path.stat().st_size or path.name.startswith("part-"):
                path.replace(self.folder / path.name)
        shutil.rmtree(attempt)
        noted = replace(finished, attempt="")
        with (self.folder / _DONE).open("a", encoding="ascii") as file:
            file.write(_line(noted))
            file.flush()
            os.fsync(file.fileno())
        self.finished[noted.part] = noted


@contextmanager
def open_ledger(folder: Path, identity: Identity) -> Iterator[Ledger]:
    """Make the folder ready for a job, new or gone on with, and keep others out meanwhile.

    Args:
        folder: of the results; it need not exist.
        identity: of the job: a folder with results of another one is refused.

    Raises:
        BatchError: the folder is of another job, in use, holds other things, or is broken.
        OSError: it cannot be written.
    """
    _check_owner(folder, identity)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BatchError(
                f"One job at a time writes into a folder. Received: {folder}, in use."
            ) from None
        atomic_write(folder / _JOB, json.dumps(identity, indent=2) + "\n")
        ledger = Ledger(folder)
        ledger.finished = _read_done(folder)
        _sweep(folder, ledger.finished)
        yield ledger
        shutil.rmtree(folder / UNFINISHED)


def _check_owner(folder: Path, identity: Identity) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BatchError(f"--output must be a folder. Received: {folder}, a file.")
    path = folder / _JOB
    if not path.exists():
        strange = next((p.name for p in folder.iterdir() if not p.name.startswith("_")), None)
        if strange is not None:
            raise BatchError(
                f"--output must be an empty folder, or of the same job. Received: {folder}, "
                f"with {strange}."
            )
        return
    found = _parse(path, path.read_bytes())
    for name, value in identity.items():
        if not isinstance(found, dict) or found.get(name) != value:
            received = found.get(name) if isinstance(found, dict) else found
            raise BatchError(
                f"--output must be an empty folder, or of the same job. Received: {folder}, of "
                f"{name} {received!r}, not {value!r}. Choose another folder."
            )


def _read_done(folder: Path) -> dict[str, Finished]:
    """Return the parts that are noted and there; a line that a kill cut off is none."""
    path = folder / _DONE
    text = path.read_bytes() if path.exists() else b""
    noted = {}
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        finished = _to_finished(path, line)
        if (folder / f"part-{finished.part}.jsonl").exists():
            noted[finished.part] = finished
    return noted


def _to_finished(path: Path, line: bytes) -> Finished:
    try:
        value = _parse(path, line)
        return Finished(**{**value, "files": tuple(value["files"])})
    except (TypeError, KeyError):
        raise BatchError(
            f"{path} must say what is done, as it was written. Received: {line[:80]!r}."
        ) from None


def _sweep(folder: Path, noted: dict[str, Finished]) -> None:
    """Remove what a killed job left: the unfinished, what it moved without note, half a line."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    (folder / UNFINISHED).mkdir()
    for kind in ("part", "errors"):
        for path in folder.glob(f"{kind}-*.jsonl"):
            if path.stem.removeprefix(f"{kind}-") not in noted:
                path.unlink()
    atomic_write(folder / _DONE, "".join(map(_line, noted.values())))


def _line(finished: Finished) -> str:
    return json.dumps(asdict(finished)) + "\n"


def _parse(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BatchError(f"{path} must be JSON. Received: {error}.") from None
