"""Runs studies part by part, keeps what is done, and writes what came out."""

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import StudyError
from app.system.locks import exclusive_lock
from serving.version import VERSION

from .cache import key_of, plain, read_sealed, write_sealed
from .catalogue import check_name, load_study
from .report import FIGURE, sentences, write_readme
from .study import Check, Effort, Result, Study, verdict

RESULT = "result.json"
# Of a study's folder: the parts that were run, a file for each setting.
_PARTS = ".parts"
# More nets than `MAX_SEEDS` make do not fit into the memory of a small machine.
MAX_SEEDS = 200


@dataclass(frozen=True)
class Progress:
    """Whom to tell what is being done.

    Attributes:
        begin: called with a study's name and the number of its parts that are left.
        begin_part: called with a study's and a part's name.
        end_part: called with a study's name once the part is kept.
        end: called with a study's name once it is written, or was there.
    """

    begin: Callable[[str, int], None] = lambda _name, _parts: None
    begin_part: Callable[[str, str], None] = lambda _name, _part: None
    end_part: Callable[[str], None] = lambda _name: None
    end: Callable[[str], None] = lambda _name: None


def run_study(
    name: str,
    output: Path,
    seeds: int | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Run a study, or what is left of it, and write `output/<name>/`.

    Parts that were run before, with the same settings, code and versions, are not run again.

    Args:
        name: one of `catalogue.NAMES`.
        output: folder of studies.
        seeds: how often each training is repeated; None takes the study's own number. A study
            without chance has one whatever is asked for.
        quick: whether seconds must do.
        progress: whom to tell.

    Returns:
        What came out.

    Raises:
        StudyError: the study is unknown, `seeds` is not from 1 to `MAX_SEEDS`, another process
            is running the study there, or the folder cannot be written.
    """
    check_name(name)
    progress = progress or Progress()
    if seeds is not None and not 1 <= seeds <= MAX_SEEDS:
        raise StudyError(f"seeds must be from 1 to {MAX_SEEDS}. Received: seeds={seeds}.")
    study = load_study(name)
    effort = _effort(study, seeds, quick)
    folder = output / name
    if output.exists() and not output.is_dir():
        raise StudyError(f"The folder of studies must be a folder. Received: {output}, a file.")
    try:
        (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            kept = _read_parts(name, folder, effort)
            is_there, before = (folder / RESULT).exists(), read_sealed(folder / RESULT)
            note = _why_anew(before, kept["key"], effort) if is_there else ""
            is_kept = set(study.parts(effort)) <= set(kept["parts"])
            content = kept if is_kept else _run_parts(study, kept, folder, progress, name)
            checks = study.judge(content["parts"])
            found = {"verdict": verdict(checks), "checks": [asdict(check) for check in checks]}
            content = {**content, **plain(found)}
            result = _write_all(study, folder, content, before, is_kept, note)
        progress.end(name)
    except OSError as error:
        raise _unwritable(folder)(error) from None
    return result


def read_result(name: str, output: Path) -> Result | None:
    """Return the result of a study that is in `output`.

    Returns:
        What came out; None where there is none, or none that is whole and of this version and
        state of the study.
    """
    folder = output / name
    found = read_sealed(folder / RESULT)
    if not _is_current(name, found):
        return None
    try:
        result = _result(name, found, folder, is_kept=True)
        sentences(name, result.checks)
    except (KeyError, IndexError, TypeError):  # of a version that wrote something else
        return None
    return result if found["figure"] == _checksum(folder / FIGURE) else None


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from running the study."""
    taken = StudyError(
        f"A study must be run by one process at a time. Received: {folder}, "
        "in which another is running it."
    )
    return exclusive_lock(folder, taken, _unwritable(folder))


def _unwritable(folder: Path) -> Callable[[OSError], StudyError]:
    return lambda error: StudyError(
        f"A study's folder must be writable. Received: {error.filename or folder}: "
        f"{error.strerror}. What was finished before is kept."
    )


def _effort(study: Study, seeds: int | None, quick: bool) -> Effort:
    if study.seeds == 1:
        return Effort(1, quick)
    return Effort(seeds or (_quick_seeds(study) if quick else study.seeds), quick)


def _quick_seeds(study: Study) -> int:
    # Tiny nets cost little, and fewer than six pairs show nothing by an exact test.
    return 6 if study.seeds >= 20 else 3


def _read_parts(name: str, folder: Path, effort: Effort) -> dict[str, Any]:
    """Return what has been run with these settings, and drop what no settings of now need."""
    key = key_of(name, effort)
    content = {"key": key, "version": VERSION, **asdict(effort), "seconds": 0.0, "parts": {}}
    for path in (folder / _PARTS).glob("*.json"):
        found = read_sealed(path)
        if not _is_current(name, found):
            path.unlink()
        elif found["key"] == key:
            content = found
    return content


def _is_current(name: str, content: dict[str, Any]) -> bool:
    try:
        effort = Effort(content["seeds"], content["quick"])
    except KeyError:  # damaged, or of a version that wrote something else
        return False
    return bool(content.get("key") == key_of(name, effort))


def _parts_path(folder: Path, key: str) -> Path:
    return folder / _PARTS / f"{key[:16]}.json"


def _run_parts(
    study: Study, content: dict[str, Any], folder: Path, progress: Progress, name: str
) -> dict[str, Any]:
    """Run the parts that are left, and keep each as soon as it is there."""
    parts = study.parts(Effort(content["seeds"], content["quick"]))
    left = [part for part in parts if part not in content["parts"]]
    progress.begin(name, len(left))
    for part in left:
        progress.begin_part(name, part)
        start = time.perf_counter()
        content["parts"][part] = plain(parts[part]())
        content["seconds"] += time.perf_counter() - start
        write_sealed(_parts_path(folder, content["key"]), content)
        progress.end_part(name)
    return content


def _write_all(
    study: Study,
    folder: Path,
    content: dict[str, Any],
    before: dict[str, Any],
    is_kept: bool,
    note: str,
) -> Result:
    """Write the figure and the text, and last the result, which says that they are there."""
    figure = _checksum(folder / FIGURE)
    if not is_kept or before.get("key") != content["key"] or before.get("figure") != figure:
        beside = folder / f"new-{FIGURE}"
        study.draw(content["parts"], beside)
        beside.replace(folder / FIGURE)
        figure = _checksum(folder / FIGURE)
    result = _result(folder.name, content, folder, is_kept, note)
    write_readme(result)
    if before != (content := {**content, "figure": figure}):
        write_sealed(folder / RESULT, content)
    return result


def _result(
    name: str, content: dict[str, Any], folder: Path, is_kept: bool, note: str = ""
) -> Result:
    checks = tuple(Check(**check) for check in content["checks"])
    facts = {key: content[key] for key in ("verdict", "seeds", "quick", "seconds")}
    return Result(name, checks=checks, folder=folder, is_kept=is_kept, note=note, **facts)


def _why_anew(found: dict[str, Any], key: str, effort: Effort) -> str:
    """Return why a result that is there is no more that of these settings; empty if it is."""
    if found.get("key") == key:
        return ""
    if not {"version", "seeds", "quick"} <= set(found):
        return "its result was damaged"
    if found["version"] != VERSION:
        return f"its result was of version {found['version']}, this is {VERSION}"
    if {"seeds": found["seeds"], "quick": found["quick"]} != asdict(effort):
        return "its result was of other settings"
    return "its result was of an earlier state of the study"


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; empty where it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
