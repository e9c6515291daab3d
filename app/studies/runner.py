"""Runs a study part by part, saves each part as it finishes, and writes the result."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import StudyError
from app.system.locks import exclusive_lock
from serving.errors import cannot_write, one_line
from serving.version import VERSION

from .cache import cache_key, drawing_key, plain, read_sealed, write_sealed
from .catalogue import check_name, load_study
from .report import sentences, write_readme
from .study import FIGURES, Claim, Effort, Result, Study

RESULT = "result.json"
# Subfolder of a study's folder for the finished parts: one file for each choice of settings.
_PARTS = ".parts"
_NEW = ".new"  # subfolder in which figures are drawn
# With more seeds, the nets that train at once would not fit into the memory of a small machine.
MAX_SEEDS = 200


@dataclass(frozen=True)
class StudyObserver:
    """Callbacks that follow the progress of studies.

    Attributes:
        study_started: called with a study's name and the number of parts left to run.
        part_started: called with a study's name and a part's name.
        part_finished: called with a study's name once a part is saved.
        study_finished: called with a study's name once its result is written or found.
    """

    study_started: Callable[[str, int], None] = lambda _name, _parts: None
    part_started: Callable[[str, str], None] = lambda _name, _part: None
    part_finished: Callable[[str], None] = lambda _name: None
    study_finished: Callable[[str], None] = lambda _name: None


def run_study(
    name: str,
    output: Path,
    seeds: int | None = None,
    quick: bool = False,
    observer: StudyObserver | None = None,
) -> Result:
    """Run those parts of a study that are not finished, and write `output/<name>/`.

    Parts that were run before with the same settings, code and versions are not run again. An
    earlier result stays until the new one is complete.

    Args:
        name: one of `catalogue.NAMES`.
        output: folder of studies.
        seeds: how often each training is repeated; None takes the study's default. A study
            without randomness always has one seed.
        quick: whether to save time with smaller experiments, which give coarser numbers.
        observer: follows the progress.

    Returns:
        The result.

    Raises:
        StudyError: the study is unknown, `seeds` is not from 1 to `MAX_SEEDS`, another process
            is running the study in this folder, or the folder cannot be written.
    """
    check_run([name], output, seeds)
    observer = observer or StudyObserver()
    folder = output / name
    with _writing(folder):
        (folder / _PARTS).mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        result = _run_in(folder, seeds, quick, observer)
    observer.study_finished(name)
    return result


def check_run(names: Sequence[str], output: Path, seeds: int | None = None) -> None:
    """Check what `run_study` needs before several studies start.

    Args:
        names: names of the studies.
        output: folder of studies.
        seeds: see `run_study`.

    Raises:
        StudyError: one of the studies could not be run, see `run_study`.
    """
    for name in names:
        check_name(name)
    if seeds is not None and not 1 <= seeds <= MAX_SEEDS:
        raise StudyError(f"seeds must be from 1 to {MAX_SEEDS}. Received: seeds={seeds}.")
    if output.exists() and not output.is_dir():
        raise StudyError(f"The output of studies must be a folder. Received: {output}, a file.")
    for folder in (output / name for name in names):
        if folder.is_dir():
            with _lock(folder):
                pass


def read_result(name: str, output: Path) -> Result | None:
    """Return the result of a study in the folder of studies.

    Returns:
        The result; None if it is missing, damaged, or was made by another version of the study.
    """
    folder = output / name
    content = read_sealed(folder / RESULT)
    if not (_is_current(name, content) and _is_drawn(folder, content)):
        return None
    try:
        result = _result(name, content, folder, is_cached=True)
        sentences(name, result.claims)
    except (KeyError, IndexError, TypeError):  # another version wrote other fields
        return None
    return result


def _lock(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from running the study in this folder."""
    taken = StudyError(
        "A study's folder can be used by one process at a time. "
        f"Received: {folder}, which another process is using. Wait, or choose another --output."
    )
    return exclusive_lock(folder, taken, _unwritable(folder))


def _unwritable(folder: Path) -> Callable[[OSError], StudyError]:
    return lambda error: StudyError(
        f"{cannot_write(error.filename or folder, error)} Finished parts are kept."
    )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(folder)(error) from None


def _run_in(folder: Path, seeds: int | None, quick: bool, observer: StudyObserver) -> Result:
    """Run the study that the folder is named after, once the folder is locked."""
    name = folder.name
    study = load_study(name)
    effort = _effort(study, seeds, quick)
    key = cache_key(name, effort)
    before = read_sealed(folder / RESULT)
    note = _why_rerun(before, key, effort) if (folder / RESULT).exists() else ""
    content = _finished_parts(folder, before, key, effort)
    is_cached = set(study.parts(effort)) <= set(content["parts"])
    if not is_cached:
        _run_parts(study, content, folder, observer)
    claims = study.judge(content["parts"])
    content |= plain({"claims": [asdict(claim) for claim in claims]})
    result = _result(name, content, folder, is_cached, note)
    with _writing(folder):
        if before.get("key") != key or not _is_drawn(folder, before):
            _draw(study, content, folder)
        write_readme(result)
        # The result is written last: it shows that the figures and the text are complete.
        if before != (content := {**content, **_drawing(folder)}):
            write_sealed(folder / RESULT, content)
        _remove_outdated_parts(name, folder)
    return result


def _effort(study: Study, seeds: int | None, quick: bool) -> Effort:
    if study.seeds == 1:
        return Effort(1, quick)
    return Effort(seeds or (study.quick_seeds if quick else study.seeds), quick)


def _finished_parts(
    folder: Path, before: dict[str, Any], key: str, effort: Effort
) -> dict[str, Any]:
    """Return the parts finished with these settings, in the form of a result without claims."""
    if before.get("key") == key:  # a result has all parts; a copy may lack hidden files
        return dict(before)
    content = read_sealed(_parts_path(folder, key))
    if content.get("key") == key:
        return content
    return {"key": key, "version": VERSION, **asdict(effort), "seconds": 0.0, "parts": {}}


def _parts_path(folder: Path, key: str) -> Path:
    return folder / _PARTS / f"{key[:16]}.json"


def _remove_outdated_parts(name: str, folder: Path) -> None:
    """Remove the files of parts that are damaged or were computed by other code or versions."""
    for path in (folder / _PARTS).glob("*.json"):
        if not _is_current(name, read_sealed(path)):
            path.unlink()


def _is_current(name: str, content: dict[str, Any]) -> bool:
    """Return whether a result or its parts were made by this code and these versions."""
    try:
        effort = Effort(content["seeds"], content["quick"])
    except KeyError:  # damaged, or another version wrote other fields
        return False
    return bool(content.get("key") == cache_key(name, effort))


def _run_parts(
    study: Study, content: dict[str, Any], folder: Path, observer: StudyObserver
) -> None:
    """Run the parts that are missing in `content`, and save it after each."""
    # Loading the study has imported Keras. Reading a result does without it.
    from app.system.keras_defaults import keras_defaults

    parts = study.parts(Effort(content["seeds"], content["quick"]))
    left = [part for part in parts if part not in content["parts"]]
    observer.study_started(folder.name, len(left))
    for part in left:
        observer.part_started(folder.name, part)
        start = time.perf_counter()
        try:
            with keras_defaults():
                content["parts"][part] = plain(parts[part]())
        except OSError as error:  # such as a full temporary folder
            raise StudyError(
                f"The part {part} of {folder.name} failed: {one_line(error)}. "
                "Finished parts are kept."
            ) from None
        content["seconds"] += time.perf_counter() - start
        with _writing(folder):
            write_sealed(_parts_path(folder, content["key"]), content)
        observer.part_finished(folder.name)


def _draw(study: Study, content: dict[str, Any], folder: Path) -> None:
    """Draw the figures, and replace the earlier ones once all are complete."""
    new = folder / _NEW
    new.mkdir(exist_ok=True)
    study.draw(content["parts"], new)
    for name in FIGURES:
        (new / name).replace(folder / name)
    shutil.rmtree(new)  # other programs may have left hidden files in it


def _drawing(folder: Path) -> dict[str, str]:
    """Return what a result states on its signs and figures: what made them, and their checksum."""
    return {"drawing": drawing_key(), "figures": _checksum(folder)}


def _is_drawn(folder: Path, content: dict[str, Any]) -> bool:
    """Return whether the signs and figures of a result are intact and made by this code."""
    return content == {**content, **_drawing(folder)}


def _result(
    name: str, content: dict[str, Any], folder: Path, is_cached: bool, note: str = ""
) -> Result:
    claims = tuple(Claim(**claim) for claim in content["claims"])
    facts = {key: content[key] for key in ("seeds", "quick", "seconds")}
    return Result(name, claims=claims, folder=folder, is_cached=is_cached, note=note, **facts)


def _why_rerun(before: dict[str, Any], key: str, effort: Effort) -> str:
    """Return why the earlier result is not valid for these settings; empty if it is."""
    if before.get("key") == key:
        return ""
    if not {"version", "seeds", "quick"} <= set(before):
        return "the earlier result was damaged"
    if before["version"] != VERSION:
        return f"the earlier result is from version {before['version']}, and this is {VERSION}"
    if {"seeds": before["seeds"], "quick": before["quick"]} != asdict(effort):
        return "the earlier result has different settings"
    return "the code, a library or Keras' backend has changed since the earlier result"


def _checksum(folder: Path) -> str:
    """Return the SHA-256 of all figures in a folder; empty if one cannot be read."""
    try:
        figures = b"".join((folder / name).read_bytes() for name in FIGURES)
    except OSError:
        return ""
    return hashlib.sha256(figures).hexdigest()
