"""Recognizes folders that are no runs, to say which folder or command is meant instead."""

from pathlib import Path
from shlex import quote

from serving.bundle import MANIFEST

# Files of searches, studies and batch jobs, whose packages a run must not import.
SEARCH, STUDY, JOB = "space.toml", "result.json", "_job.json"
_RUN = "metrics.json"
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
    f"*/*/{_RUN}": "a folder of runs. Give one of them; the latest is {latest}.",
    f"*/{_RUN}": "a folder of runs. Give one of them; the latest is {latest}.",
}


def describe_folder(folder: Path) -> str:
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
    found = [path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{_RUN}")]
    return quote(str(max(found, key=lambda run: run.name))) if found else ""
