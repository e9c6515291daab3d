"""Runs a batch job: plans what is not done yet, predicts it, and publishes each finished part."""

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import BatchError
from serving import Manifest, Predictor
from serving.bundle import CHECKSUMS
from serving.errors import either
from serving.manifest import describe_batch
from serving.outputs import choose_output, feature_dimension
from serving.versions import find_version

from .features_file import check_target, write_features
from .files import check_image_column, choose_files, require_pyarrow
from .ledger import UNFINISHED, Identity, Ledger, open_ledger, unwritable
from .output_files import check_new, errors_path, parts_path, why_nothing
from .parts import Finished, Part, plan_parts
from .pools import Pool
from .predicting import Work
from .predictions_file import SUFFIXES, write_predictions

# A suffix such as .xlsx means a file, but 2026.01 is a folder.
_LIKE_A_FILE = re.compile(r"\.[A-Za-z]\w*")
# Called with the number of finished parts and of all parts of this run, and of the rows read.
OnProgress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Job:
    """What to predict, with which model, and where to write the predictions.

    Attributes:
        bundle: folder of a version, or of a model, which stands for its latest version.
        files: pattern of the files, such as `scans/*.png`, or their paths.
        output: file of the predictions, which ends in one of `SUFFIXES`, or folder
            of the predictions, which can grow; or file of the features.
        key: column of the files to copy into each line; None copies none.
        features: whether to write features instead of predictions.
        image_column: column of the images of tables; None finds it.
    """

    bundle: Path
    files: str | tuple[str, ...]
    output: Path
    key: str | None = None
    features: bool = False
    image_column: str | None = None

    @property
    def has_file(self) -> bool:
        """Whether the output is a single file."""
        return self.features or self.output.suffix.lower() in SUFFIXES

    @property
    def errors(self) -> Path:
        """File of the errors beside a single file."""
        return errors_path(self.output)

    @property
    def folder(self) -> Path:
        """Folder of the parts; that of a single file is removed in the end."""
        return parts_path(self.output) if self.has_file else self.output


@dataclass(frozen=True)
class Summary:
    """What a job has written, in all its runs.

    Attributes:
        parts: number of files with predictions; 1 if the output is a single file.
        rows: number of predicted rows.
        failed: number of rows and files that could not be predicted.
        passed_over: files in the folder of the input beside those that the model reads.
    """

    parts: int
    rows: int
    failed: int
    passed_over: tuple[str, ...] = ()


def run_job(job: Job, pool: Pool, on_progress: OnProgress) -> Summary:
    """Predict every row of a job's files that was not predicted before.

    However the job ends, an output folder contains only complete parts, and an output file is
    complete. Running the same job again resumes it.

    Raises:
        BatchError: the job cannot start or continue, the output has an unknown suffix, or it
            writes a file and no row could be predicted.
        InputError: the bundle cannot be used, or its model does not accept such files.
    """
    _check_output(job)
    folder = find_version(job.bundle).absolute()
    # Checked here once, before any actor loads it.
    manifest = Predictor.load(folder, threads=1).manifest
    if manifest.whole_batches:
        raise BatchError(
            f"A batch job runs samples in parts. Received: {manifest.name}. "
            f"{describe_batch(manifest)} Call serving.Predictor with each batch."
        )
    choose_output(manifest, job.features)
    files, others = choose_files(job.files, manifest, job.key)
    check_image_column(job.image_column, files, manifest)
    require_pyarrow([*files, str(job.output)] if job.has_file else files)
    try:
        with open_ledger(job.folder, _identity(job, folder, manifest)) as ledger:
            unfinished = str((job.folder / UNFINISHED).absolute())
            work = Work(str(folder), unfinished, job.key, job.features, job.image_column)
            # Files are added to a folder. A single file has the order of all files.
            parts = plan_parts(files) if job.has_file else _parts_to_add(files, ledger)
            rest = [part for part in parts if part.name not in ledger.finished]
            _predict_rest(work, rest, ledger, pool, on_progress)
            if not job.has_file:
                return _sum_up(list(ledger.finished.values()), others)
            finished = [ledger.finished[part.name] for part in parts]
            failure = why_nothing(job.output, finished)
            if failure is None:
                _write_file(job, manifest, finished)
        shutil.rmtree(job.folder)
    except OSError as error:
        raise unwritable(job.output, error) from None
    if failure is not None:
        raise BatchError(failure)
    return replace(_sum_up(finished, others), parts=1)


def _check_output(job: Job) -> None:
    if job.features:
        check_target(job.output)
    elif job.has_file:
        check_new(job.output)
    elif _LIKE_A_FILE.fullmatch(job.output.suffix) and not job.output.is_dir():
        raise BatchError(
            f"--output must be a file that ends in {either(SUFFIXES)}, "
            f"or a folder. Received: {job.output}."
        )


def _write_file(job: Job, manifest: Manifest, parts: Sequence[Finished]) -> None:
    if job.features:
        dimension, has_key = feature_dimension(manifest), job.key is not None
        write_features(job.output, dimension, parts, has_key)
    else:
        write_predictions(job.output, manifest, parts, job.key)


def _parts_to_add(files: Sequence[str], ledger: Ledger) -> list[Part]:
    done = {name for finished in ledger.finished.values() for name in finished.files}
    return plan_parts(name for name in files if name not in done)


def _predict_rest(
    work: Work, parts: Sequence[Part], ledger: Ledger, pool: Pool, on_progress: OnProgress
) -> None:
    on_progress(0, len(parts), 0)
    if not parts:
        return
    done = rows = unfinished = 0
    with closing(pool(work, parts)) as results:  # ends the pool's processes in any case
        for result in results:
            if isinstance(result, int):
                unfinished += result
            else:
                ledger.publish(result)
                done, unfinished = done + 1, 0
                rows += result.rows + result.failed
            on_progress(done, len(parts), rows + unfinished)


def _identity(job: Job, folder: Path, manifest: Manifest) -> Identity:
    names = [job.files] if isinstance(job.files, str) else job.files
    return {
        "model": manifest.name,
        "bundle": hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest(),
        # A relative pattern means other files in another working directory.
        "input": "\n".join(names),
        "folder": None if all(Path(name).is_absolute() for name in names) else str(Path.cwd()),
        "key": job.key,
        "output": "features" if job.features else None,
        "image_column": job.image_column,
    }


def _sum_up(finished: Sequence[Finished], others: Sequence[str]) -> Summary:
    return Summary(
        len(finished),
        sum(part.rows for part in finished),
        sum(part.failed for part in finished),
        tuple(others),
    )
