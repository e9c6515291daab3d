"""What a job's file has beside it: its parts as long as it is not written, and its errors."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.errors import BatchError
from app.system.atomic_files import atomic_path
from serving.errors import counted

from .parts import Finished


def errors_path(path: Path) -> Path:
    """Return the path of the errors beside a file."""
    return path.with_suffix(".errors.jsonl")


def parts_path(path: Path) -> Path:
    """Return the folder in which a job keeps its parts until the file is written."""
    return path.with_name(f"{path.name}.parts")


def check_new(path: Path, beside: Sequence[Path] = ()) -> None:
    """Require that a file can be written without losing another one.

    Args:
        path: path of the file.
        beside: other files that are written with it.

    Raises:
        BatchError: one of them exists, or its folder does not.
    """
    # A job that was interrupted at its end may have written the others.
    is_resumed = parts_path(path).exists()
    for new in [path, *([] if is_resumed else [errors_path(path), *beside])]:
        if new.exists():
            origin = "" if new == path else "It is of another job. "
            raise BatchError(
                f"--output must be a new file. Received: {new}, which exists. {origin}Remove it, "
                "or choose another name."
            )
    if not path.parent.is_dir():
        raise BatchError(
            f"--output must be in a folder that exists. Received: {path}, in {path.parent}."
        )


def why_nothing(path: Path, parts: Sequence[Finished]) -> str | None:
    """Return why no row could be predicted; None if one could, or if there was none.

    Args:
        path: path of the file.
        parts: all parts of the job.
    """
    failed = [part for part in parts if part.failed]
    if not failed or any(part.rows for part in parts):
        return None
    with _errors(path, failed[0]).open("rb") as lines:
        reason = json.loads(next(lines))["reason"]
    count = sum(part.failed for part in failed)
    if count == 1:
        return str(reason)
    return f"No row could be predicted. Received: {counted(count, 'failure')}, the first: {reason}"


def write_errors(path: Path, parts: Sequence[Finished]) -> None:
    """Write the errors of parts beside a file, if there are any."""
    sources = [_errors(path, part) for part in parts if part.failed]
    if sources:
        with atomic_path(errors_path(path)) as new:
            concatenate(new, sources)


def concatenate(path: Path, sources: Sequence[Path], head: bytes = b"") -> None:
    """Write `head` and the bytes of files one after another."""
    with path.open("wb") as target:
        target.write(head)
        for source in sources:
            with source.open("rb") as file:
                shutil.copyfileobj(file, target)


def lines_paths(path: Path, parts: Sequence[Finished]) -> list[Path]:
    """Return the paths of the parts' lines, which are beside the file as long as it is written."""
    return [parts_path(path) / f"part-{part.part}.jsonl" for part in parts]


def read_lines(path: Path, parts: Sequence[Finished]) -> Iterator[dict[str, Any]]:
    """Yield the line of each row as an object; memory holds one."""
    for part in lines_paths(path, parts):
        with part.open("rb") as lines:
            yield from map(json.loads, lines)


def _errors(path: Path, part: Finished) -> Path:
    return parts_path(path) / f"errors-{part.part}.jsonl"
