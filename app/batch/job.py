"""Runs a batch job: plans what is not done yet, predicts it, and publishes each finished part."""

import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from serving import Manifest, Predictor
from serving.bundle import CHECKSUMS, find_version
from serving.outputs import choose_output, feature_dimension

from .features_file import check_target, parts_path, write_features
from .files import TABLE, check_kinds, find_files, kind_of
from .ledger import UNFINISHED, Identity, Ledger, open_ledger, unwritable
from .parts import Finished, Part, plan_parts
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
        output: folder of the predictions, or file of the features.
        key: column of parquet files to copy into each line; None copies none.
        features: whether to write features instead of predictions.
    """

    bundle: Path
    pattern: str
    output: Path
    key: str | None = None
    features: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the parts; that of a file of features is removed in the end."""
        return parts_path(self.output) if self.features else self.output


@dataclass(frozen=True)
class Summary:
    """What a job has written, in all its runs.

    Attributes:
        parts: number of files with predictions; 1 for features.
        rows: number of predicted rows.
        failed: number of rows and files that could not be predicted.
    """

    parts: int
    rows: int
    failed: int


def run_job(job: Job, pool: Pool, on_progress: OnProgress) -> Summary:
    """Predict every row of a job's files that was not predicted before.

    However the job ends, the output folder contains only complete parts, and a file of features is
    complete. Running the same job again resumes it.

    Raises:
        BatchError: the job cannot start or continue.
        InputError: the bundle cannot be used, or its model does not accept such files.
    """
    if job.features:
        check_target(job.output)
    folder = find_version(job.bundle).absolute()
    # Checked here once, before any actor loads it.
    manifest = Predictor.load(folder, threads=1).manifest
    choose_output(manifest, job.features)
    files = find_files(job.pattern)
    check_kinds(files, manifest, job.key)
    _require_pyarrow([*files, str(job.output)] if job.features else files)
    try:
        with open_ledger(job.folder, _identity(job, folder, manifest)) as ledger:
            unfinished = str((job.folder / UNFINISHED).absolute())
            work = Work(str(folder), unfinished, job.key, job.features)
            # Files are added to a folder. A file of features has the order of all files.
            parts = plan_parts(files) if job.features else _parts_to_add(files, ledger)
            rest = [part for part in parts if part.name not in ledger.finished]
            _predict_rest(work, rest, ledger, pool, on_progress)
            if not job.features:
                return _sum_up(list(ledger.finished.values()))
            finished = [ledger.finished[part.name] for part in parts]
            dimension = feature_dimension(manifest)
            write_features(job.output, dimension, finished, has_key=job.key is not None)
        shutil.rmtree(job.folder)
        return replace(_sum_up(finished), parts=1)
    except OSError as error:
        raise unwritable(job.output, error) from None


def _parts_to_add(files: Sequence[str], ledger: Ledger) -> list[Part]:
    done = {name for finished in ledger.finished.values() for name in finished.files}
    return plan_parts(name for name in files if name not in done)


def _predict_rest(
    work: Work, parts: Sequence[Part], ledger: Ledger, pool: Pool, on_progress: OnProgress
) -> None:
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
        "output": "features" if job.features else None,
    }


def _sum_up(finished: Sequence[Finished]) -> Summary:
    return Summary(
        len(finished), sum(part.rows for part in finished), sum(part.failed for part in finished)
    )


def _require_pyarrow(files: Sequence[str]) -> None:
    has_tables = any(kind_of(name) == TABLE for name in files)
    if has_tables and importlib.util.find_spec("pyarrow") is None:
        raise ModuleNotFoundError("Parquet files need pyarrow.", name="pyarrow")
