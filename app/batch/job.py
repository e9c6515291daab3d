"""Runs a batch job: plans what is not done yet, predicts it, and publishes each finished part."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from serving import Manifest, Predictor
from serving.bundle import CHECKSUMS, find_version

from .files import TABLE, check_kinds, find_files, kind_of
from .ledger import UNFINISHED, Identity, Ledger, open_ledger, unwritable
from .parts import plan_parts
from .pools import Pool
from .predicting import Work

# Called with the number of finished parts and of all parts of this run.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """What to predict, with which model, and where to write the predictions.

    Attributes:
        bundle: folder of a version, or of a model, which stands for its latest version.
        pattern: pattern of the files, such as `scans/*.png`.
        output: folder of the predictions.
        key: column of parquet files to copy into each line; None copies none.
    """

    bundle: Path
    pattern: str
    output: Path
    key: str | None = None


@dataclass(frozen=True)
class Summary:
    """Contents of the output folder after a job.

    Attributes:
        parts: number of files with predictions.
        rows: number of predicted rows.
        failed: number of rows and files that could not be predicted.
    """

    parts: int
    rows: int
    failed: int


def run_job(job: Job, pool: Pool, on_progress: OnProgress) -> Summary:
    """Predict every row of a job's files that was not predicted before.

    However the job ends, the output folder contains only complete parts. Running the same job again
    resumes it.

    Raises:
        BatchError: the job cannot start or continue.
        InputError: the bundle cannot be used, or its model does not accept such files.
    """
    folder = find_version(job.bundle).absolute()
    # Checked here once, before any actor loads it.
    manifest = Predictor.load(folder, threads=1).manifest
    files = find_files(job.pattern)
    check_kinds(files, manifest, job.key)
    _require_pyarrow(files)
    try:
        with open_ledger(job.output, _identity(job, folder, manifest)) as ledger:
            work = Work(str(folder), str((job.output / UNFINISHED).absolute()), job.key)
            _predict_rest(work, files, ledger, pool, on_progress)
            return _sum_up(ledger)
    except OSError as error:
        raise unwritable(job.output, error) from None


def _predict_rest(
    work: Work, files: Sequence[str], ledger: Ledger, pool: Pool, on_progress: OnProgress
) -> None:
    done = {name for finished in ledger.finished.values() for name in finished.files}
    parts = plan_parts(name for name in files if name not in done)
    on_progress(0, len(parts))
    if not parts:
        return
    with closing(pool(work, parts)) as results:  # ends the pool's processes in any case
        for count, finished in enumerate(results, 1):
            ledger.publish(finished)
            on_progress(count, len(parts))


def _identity(job: Job, folder: Path, manifest: Manifest) -> Identity:
    return {
        "model": manifest.name,
        "bundle": hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest(),
        # A relative pattern means other files in another working directory.
        "input": job.pattern,
        "folder": None if Path(job.pattern).is_absolute() else str(Path.cwd()),
        "key": job.key,
    }


def _sum_up(ledger: Ledger) -> Summary:
    finished = ledger.finished.values()
    return Summary(
        len(finished), sum(part.rows for part in finished), sum(part.failed for part in finished)
    )


def _require_pyarrow(files: Sequence[str]) -> None:
    has_tables = any(kind_of(name) == TABLE for name in files)
    if has_tables and importlib.util.find_spec("pyarrow") is None:
        raise ModuleNotFoundError("Parquet files need pyarrow.", name="pyarrow")
