"""A batch job: plan what is not done yet, have it predicted, publish each part once finished."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from app.errors import BatchError
from serving import Manifest, Predictor
from serving.bundle import CHECKSUMS, find_version

from .files import TABLE, check_kinds, find_files, kind_of
from .ledger import UNFINISHED, Identity, Ledger, open_ledger
from .parts import plan_parts
from .pools import Pool
from .predicting import Work

# Told how many parts are done, of how many.
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What is to be predicted, by which model, and where the answers go.

    Attributes:
        bundle: folder of a version, or of a model, which stands for its latest version.
        pattern: of the files, such as `scans/*.png`.
        output: folder of the answers.
        key: column of parquet files that names a row besides.
    """

    bundle: Path
    pattern: str
    output: Path
    key: str | None = None


@dataclass(frozen=True)
class Summary:
    """What is in the output folder once a job has ended.

    Attributes:
        parts: files of answers.
        rows: lines of answers.
        bad: lines of rows and files that could not be predicted.
    """

    parts: int
    rows: int
    bad: int


def run_job(job: Job, pool: Pool, report: Report) -> Summary:
    """Predict every row of a job's files once, but for those that were before.

    However it ends, the output folder holds whole parts alone; the same job goes on from there.

    Raises:
        BatchError: it cannot start, or not go on.
        InputError: the bundle cannot be used, or does not take such files.
    """
    folder = find_version(job.bundle).absolute()
    manifest = Predictor.load(folder, threads=1).manifest  # so that no actor finds it broken
    files = find_files(job.pattern)
    check_kinds(files, manifest, job.key)
    _require_pyarrow(files)
    try:
        with open_ledger(job.output, _identity(job, folder, manifest)) as ledger:
            work = Work(str(folder), str((job.output / UNFINISHED).absolute()), job.key)
            _predict_rest(work, files, ledger, pool, report)
            return _sum_up(ledger)
    except OSError as error:
        raise BatchError(
            f"{job.output} must be a folder that can be written. Received: "
            f"{error.strerror or error}. What is finished is kept; go on with the same command."
        ) from None


def _predict_rest(
    work: Work, files: Sequence[str], ledger: Ledger, pool: Pool, report: Report
) -> None:
    done = {name for finished in ledger.finished.values() for name in finished.files}
    parts = plan_parts(name for name in files if name not in done)
    report(0, len(parts))
    if not parts:
        return
    with closing(pool(work, parts)) as results:  # ends its processes, however this ends
        for count, finished in enumerate(results, 1):
            ledger.publish(finished)
            report(count, len(parts))


def _identity(job: Job, folder: Path, manifest: Manifest) -> Identity:
    return {
        "model": manifest.name,
        "bundle": hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest(),
        # A relative pattern, and the names that it finds, mean other files in another folder.
        "input": job.pattern,
        "folder": None if Path(job.pattern).is_absolute() else str(Path.cwd()),
        "key": job.key,
    }


def _sum_up(ledger: Ledger) -> Summary:
    finished = ledger.finished.values()
    return Summary(
        len(finished), sum(part.rows for part in finished), sum(part.bad for part in finished)
    )


def _require_pyarrow(files: Sequence[str]) -> None:
    has_tables = any(kind_of(name) == TABLE for name in files)
    if has_tables and importlib.util.find_spec("pyarrow") is None:
        raise ModuleNotFoundError("Parquet files need pyarrow.", name="pyarrow")
