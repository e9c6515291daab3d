"""What the files of a run's folder tell of its data and results. It imports no Keras."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.errors import RunError
from serving.bundle import KERAS_MODEL
from serving.errors import cannot_read, counted
from serving.manifest import TASKS
from serving.written_numbers import describe_size

from .run_files import DATA, METRICS

ENVIRONMENT, EVALUATION = "environment.json", "evaluation.json"


def read_facts(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return what a run's files tell of its data, see `Run.data`, and its metrics.

    Args:
        folder: folder of a run. One that is not finished has no metrics.

    Raises:
        RunError: the folder is damaged, or of an earlier version.
    """
    try:
        data = json.loads((folder / DATA).read_text("utf-8"))
        is_finished = (folder / METRICS).is_file() and (folder / KERAS_MODEL).is_file()
        metrics = json.loads((folder / METRICS).read_text("utf-8")) if is_finished else {}
        is_complete = {"source", "sha256", "samples"} <= data.keys()
        is_complete &= not is_finished or "test" in metrics
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(cannot_read(folder, error, "a run")) from None
    if not is_complete:
        raise RunError(
            f"The run folder is damaged. Received: {folder}, whose {METRICS} or {DATA} is "
            "incomplete. Train a new run with hornbill train."
        )
    if "task" not in data:
        raise RunError(
            f"The run was made by an earlier version of Hornbill. Received: {folder}. "
            "Train it again with this version."
        )
    return data, metrics


def describe_data(data: dict[str, Any], image_size: Sequence[int] = ()) -> str:
    """Return a one-line summary of a run's data, such as `1,797 samples of 10 classes, …`.

    Args:
        data: see `Run`.
        image_size: side, or height and width, at which its images were read; empty tells none.
    """
    total = sum(data["samples"].values())
    count = len(data["labels"])
    targets = TASKS[data["task"]]
    if count == 1:
        targets = targets.removesuffix("s")
    parts = [f"{total:,} samples of {count} {targets}"]
    if image_size:
        parts.append(f"images of {describe_size(image_size[0], image_size[-1])} pixels")
    if data["counts"]["train"] and data["task"] == "multiclass":
        counts = sorted(set(data["counts"]["train"].values()))
        each = " to ".join(f"{number:,}" for number in dict.fromkeys((counts[0], counts[-1])))
        parts.append(f"{each} of each in training")
    if data["missing"]:
        parts.append(f"{counted(sum(data['missing'].values()), 'value')} missing")
    if any(data["duplicates"].values()):
        parts.append(describe_duplicates(data))
    if data["skipped"]:
        parts.append(f"{counted(len(data['skipped']), 'unreadable file')} skipped")
    if data.get("is_decoded_each_epoch"):  # runs of earlier versions do not say
        parts.append("decoded in each epoch")
    return ", ".join(parts)


def describe_duplicates(data: dict[str, Any]) -> str:
    """Return how many samples of validation and test are also in training, see `Run.data`."""
    count = sum(data["duplicates"].values())
    verb = "is" if count == 1 else "are"
    return f"{counted(count, 'sample')} of validation or test {verb} also in training"


def read_environment(folder: Path) -> dict[str, Any]:
    """Return the `environment.json` of a finished run."""
    environment: dict[str, Any] = json.loads((folder / ENVIRONMENT).read_text("utf-8"))
    return environment


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Return the `evaluation.json` of a finished run; empty if an earlier version wrote none."""
    path = folder / EVALUATION
    evaluation: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return evaluation
