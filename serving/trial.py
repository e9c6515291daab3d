"""Tries a bundle in a process of its own: its checks, and loading it as `Predictor.load` does.

A bundle that never ends, takes all memory or crashes fails like any other.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from .errors import DamagedError
from .limited_process import LimitedProcess, LimitError, Limits, limits_for, serve_requests
from .predictor import Predictor
from .verify import NAMES, Check, check_version, damaged, run_check, without_repeats
from .versions import find_version

# What ONNX Runtime and numpy say when there is too little memory.
_NO_MEMORY = re.compile("bad_?alloc|bad allocation|allocate memory|_arena|Unable to allocate")
_MAX_DETAIL = 2000


def start_process(niceness: int = 0) -> LimitedProcess:
    """Return a process for `try_version`; it imports onnxruntime once for all its bundles."""
    return LimitedProcess(__name__, niceness)


def try_version(
    process: LimitedProcess,
    folder: Path,
    path: Path,
    limits: Limits,
    receive: Callable[[Check], None],
    *,
    loads: bool,
) -> None:
    """Check a version in a process: `files`, `contract` and `behavior`.

    Args:
        process: from `start_process`.
        folder: folder of the version, from `find_version`.
        path: what `find_version` was given.
        limits: limits for all checks together.
        receive: takes each check as soon as it is done.
        loads: whether the version is also loaded, as the check `loading`, and the checks end with
            the first that fails.

    Raises:
        LimitError: a limit was reached, or the process ended.
    """
    request = [str(folder), str(path), loads]
    process.ask(request, limits, lambda reply: receive(Check(**reply)))


def verify_in_limits(
    path: str | Path,
    check_signature: Callable[[Path], str] | None = None,
    max_seconds: float | None = None,
    max_memory_gb: float | None = None,
) -> list[Check]:
    """Check a bundle like `verify_bundle`, in a process that ends at limits of time and memory.

    Args:
        path: see `verify_bundle`.
        check_signature: see `verify_bundle`.
        max_seconds: longest time for all checks; None for 60 s and 1 s for each megabyte.
        max_memory_gb: largest memory in gigabytes; None for 4 GB and five times the size of the
            files, but at most nine tenths of the memory that is free. It is only held on Linux.

    Raises:
        ManifestError: there is no bundle at `path`.
    """
    try:
        folder = find_version(path)
    except DamagedError as error:
        return damaged(error, check_signature is not None)
    limits = limits_for(folder, max_seconds, max_memory_gb)
    process, checks = start_process(), list[Check]()
    try:
        try_version(process, folder, Path(path), limits, checks.append, loads=False)
    except LimitError as error:
        checks.extend(Check(name, False, str(error)) for name in NAMES[len(checks) :])
    finally:
        process.close()
    if check_signature is not None:
        checks.append(run_check("signature", lambda: check_signature(folder)))
    return without_repeats(checks)


def _answer(request: tuple[str, str, bool]) -> Iterator[dict[str, object]]:
    folder, path, loads = Path(request[0]), Path(request[1]), request[2]
    for check in check_version(folder, path):
        yield _reply(check)
        if loads and not check.passed:
            return
    if loads:
        yield _reply(run_check("loading", lambda: _load(folder)))


def _load(folder: Path) -> str:
    with Predictor.load(folder) as predictor:
        predictor.warm_up()
    return "loaded"


def _reply(check: Check) -> dict[str, object]:
    if not check.passed and _NO_MEMORY.search(check.detail):
        raise MemoryError
    return {**asdict(check), "detail": check.detail[:_MAX_DETAIL]}


def main() -> None:
    """Answer requests from standard input; see `try_version`."""
    serve_requests(_answer)
