"""Runs studies part by part, keeps what is done, and writes what came out."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from app.errors import StudyError
from serving.version import VERSION

from .catalogue import NAMES, check_name, load_study, module_name
from .study import Check, Effort, Result, Study, verdict
from .writing import FIGURE, write_readme

RESULT, UNFINISHED = "result.json", "unfinished.json"
_LOCK, _CHECKSUM = ".lock", "sha256"
# More nets than `MOST_SEEDS` make do not fit into the memory of a small machine.
_QUICK_SEEDS, MOST_SEEDS = 3, 200


@dataclass(frozen=True)
class Progress:
    """Whom to tell what is being done.

    Attributes:
        begin: called with a study's name and the number of its parts that are left.
        begin_part: called with a study's and a part's name.
        end_part: called once the part is kept.
        end: called once the study is written, or was there.
    """

    begin: Callable[[str, int], None] = lambda _name, _parts: None
    begin_part: Callable[[str, str], None] = lambda _name, _part: None
    end_part: Callable[[], None] = lambda: None
    end: Callable[[], None] = lambda: None


def run_study(
    name: str,
    output: Path,
    seeds: int | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Run a study, or what is left of it, and write `output/<name>/`.

    A result of the same study, version and settings is kept as it is; parts that an interrupted
    run had finished are not run again.

    Args:
        name: one of `catalogue.NAMES`.
        output: folder of studies.
        seeds: how often each training is repeated; None takes the study's own number.
        quick: whether seconds must do.
        progress: whom to tell.

    Returns:
        What came out.

    Raises:
        StudyError: the study is unknown, `seeds` is not from 1 to `MOST_SEEDS`, another process
            is running the study there, or the folder cannot be written.
    """
    check_name(name)
    progress = progress or Progress()
    if seeds is not None and not 1 <= seeds <= MOST_SEEDS:
        raise StudyError(f"seeds must be from 1 to {MOST_SEEDS}. Received: seeds={seeds}.")
    study = load_study(name)
    effort = Effort(_seeds(study, quick) if seeds is None else seeds, quick)
    kept = read_result(name, output)
    if kept is not None and Effort(kept.seeds, kept.quick) == effort:
        progress.end()
        return kept
    folder = output / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            content = _run_parts(study, effort, folder, progress, name)
            checks = study.judge(content["parts"])
            judged = [asdict(check) for check in checks]
            content |= plain({"verdict": verdict(checks), "checks": judged})
            result = _result(name, content, folder, note=_why_anew(folder / RESULT, effort))
            _write_all(study, result, content)
        progress.end()
    except OSError as error:
        raise StudyError(
            f"A study's folder must be writable. Received: {folder}: {error.strerror}. What was "
            "finished before is kept."
        ) from None
    return result


def read_result(name: str, output: Path) -> Result | None:
    """Return the result of a study that is in `output`.

    Returns:
        What came out; None where there is none, or none that is whole and of this version and
        state of the study.
    """
    folder = output / name
    found = _read(folder / RESULT)
    if not found or found["key"] != _key(name, Effort(found["seeds"], found["quick"])):
        return None
    if not (folder / FIGURE).is_file():
        return None
    return _result(name, found, folder, is_kept=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from running the study; the lock ends with this one."""
    lock = FileLock(folder / _LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"A study must be run by one process at a time. Received: {folder}, "
            "in which another is running it."
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            (folder / _LOCK).unlink()
        lock.release()


def _seeds(study: Study, quick: bool) -> int:
    return min(study.seeds, _QUICK_SEEDS) if quick else study.seeds


def _key(name: str, effort: Effort) -> str:
    """Return what tells results of other settings, code or version apart."""
    others = {module_name(other) for other in NAMES} - {module_name(name)}
    paths = sorted(Path(__file__).parent.glob("*.py"))
    sources = [p.read_text("utf-8") for p in paths if f"{__package__}.{p.stem}" not in others]
    said = json.dumps([name, VERSION, asdict(effort), sources])
    return hashlib.sha256(said.encode()).hexdigest()


def _run_parts(
    study: Study, effort: Effort, folder: Path, progress: Progress, name: str
) -> dict[str, Any]:
    key, content = _key(name, effort), _read(folder / UNFINISHED)
    if content.get("key") != key:
        content = {"key": key, "version": VERSION, **asdict(effort), "seconds": 0.0}
        content["parts"] = {}
    parts = study.parts(effort)
    left = [part for part in parts if part not in content["parts"]]
    progress.begin(name, len(left))
    for part in left:
        progress.begin_part(name, part)
        start = time.perf_counter()
        content["parts"][part] = plain(parts[part]())
        content["seconds"] += time.perf_counter() - start
        _write(folder / UNFINISHED, content)
        progress.end_part()
    return content


def _write_all(study: Study, result: Result, content: dict[str, Any]) -> None:
    """Write the figure and the text, and last the result, which says that they are there."""
    folder = result.folder
    beside = folder / f"new-{FIGURE}"
    study.draw(content["parts"], beside)
    beside.replace(folder / FIGURE)
    write_readme(result)
    _write(folder / RESULT, content)
    (folder / UNFINISHED).unlink(missing_ok=True)


def _result(
    name: str, content: dict[str, Any], folder: Path, is_kept: bool = False, note: str = ""
) -> Result:
    checks = tuple(Check(**check) for check in content["checks"])
    facts = {key: content[key] for key in ("verdict", "seeds", "quick", "seconds")}
    return Result(name, checks=checks, folder=folder, is_kept=is_kept, note=note, **facts)


def _why_anew(path: Path, effort: Effort) -> str:
    if not path.exists():
        return ""
    found = _read(path)
    if not found:
        return "its result was damaged"
    if found["version"] != VERSION:
        return f"its result was of version {found['version']}, this is {VERSION}"
    if {"seeds": found["seeds"], "quick": found["quick"]} != asdict(effort):
        return "its result was of other settings"
    return "its result was of an earlier state of the study, or without its figure"


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file of ours; empty if it is not there or not as it was written."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    is_ours = isinstance(content, dict) and content.pop(_CHECKSUM, "") == _digest(content)
    return content if is_ours else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    beside = path.with_suffix(".new")
    whole = {**content, _CHECKSUM: _digest(content)}
    beside.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", "utf-8")
    beside.replace(path)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return numbers as JSON holds them; what is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
