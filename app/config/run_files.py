"""The files of a run's folder, and what folders are that are no run."""

from pathlib import Path
from shlex import quote

from app.errors import RunError
from app.system.signals import resume_command
from serving.bundle import KERAS_MODEL, MANIFEST

CONFIG, METRICS, SPLITS, DATA, CHECKPOINT, HISTORY = (
    "config.toml",
    "metrics.json",
    "splits.npz",
    "data.json",
    "checkpoint.npz",
    "history.csv",
)
# A finished run that goes on has its settings in the first of these. The second holds the results
# of a run until all are written.
NEXT_CONFIG, NEW_RESULTS = "next.toml", "results.new"
# Why the code of a user has ended a run.
FAILURE = "error.txt"
# These files exist from the beginning; the others are written when training has ended.
_BEGUN = (CONFIG, SPLITS, DATA)
# Files of searches, studies and batch jobs, whose packages a run must not import.
SEARCH, STUDY, JOB = "space.toml", "result.json", "_job.json"
# A pattern of files in a folder; what the folder is and what to do with it.
_KINDS = {
    SEARCH: "a search that is not finished. Finish it with hornbill tune --join {folder}, and give "
    "the run in its folder refit.",
    MANIFEST: "a bundle, which is already exported. Check it with hornbill verify {folder}.",
    f"*/{MANIFEST}": "a bundle, which is already exported. Check it with hornbill verify {folder}.",
    f"*/*/{MANIFEST}": "a folder of bundles. Serve them with hornbill serve {folder}.",
    JOB: "the predictions of a batch job. Give the folder of a run.",
    STUDY: "a study, which keeps no model. Train one with hornbill train.",
    f"*/{STUDY}": "a folder of studies, which keep no models. Train one with hornbill train.",
    f"*/*/{METRICS}": "a folder of runs. Give one of them; the latest is {latest}.",
    f"*/{METRICS}": "a folder of runs. Give one of them; the latest is {latest}.",
}


def check_begun(folder: Path) -> None:
    """Require the folder of a run, finished or not.

    Raises:
        RunError: the folder does not exist, is something else, or lacks a file.
    """
    if not folder.is_dir():
        reason = "which is a file" if folder.exists() else "which does not exist"
        raise RunError(
            f"A run must be a folder that hornbill train has written. Received: {folder}, {reason}."
        )
    missing = [name for name in _BEGUN if not (folder / name).is_file()]
    if len(missing) == len(_BEGUN):
        raise RunError(
            "A run must be a folder that hornbill train has written. "
            f"Received: {folder}, {_describe_folder(folder)}"
        )
    if missing:
        raise RunError(
            f"The run folder is incomplete. Received: {folder}, without {missing[0]}. "
            "Train a new run with hornbill train."
        )


def check_finished(folder: Path) -> None:
    """Require the folder of a finished run.

    Raises:
        RunError: see `check_begun`; or the run is not finished.
    """
    check_begun(folder)
    absent = [name for name in (KERAS_MODEL, METRICS) if not (folder / name).is_file()]
    if absent:
        fix = "Train a new run with hornbill train."
        if (folder / CHECKPOINT).is_file():
            fix = f"Resume it with {resume_command(folder)}."
        raise RunError(f"The run is not finished. Received: {folder}, without {absent[0]}. {fix}")


def _describe_folder(folder: Path) -> str:
    """Return what a folder is that is no run, and what to do with it.

    Args:
        folder: an existing folder.

    Returns:
        The end of an error message, after the folder's name and a comma.
    """
    if (folder / SEARCH).is_file() and (best := _latest_run(folder / "refit")):
        return f"a search. Give the run of its best settings, {best}."
    for pattern, text in _KINDS.items():
        if any(folder.glob(pattern)):
            return text.format(folder=quote(str(folder)), latest=_latest_run(folder))
    return "which is none. Give a folder such as runs/digits/20260101-120000."


def _latest_run(folder: Path) -> str:
    """Return the latest run of one family or of all; empty if there is none."""
    found = [path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{METRICS}")]
    return quote(str(max(found, key=lambda run: run.name))) if found else ""
