"""A run's folder: what is in it, how it is begun and read back."""

import json
import shutil
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from app.config.run_config import RunConfig, combine_settings, config_toml
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.data.summary import report_data
from app.errors import RunError
from app.system.atomic_files import atomic_write, write_json
from app.system.signals import resume_command
from serving.errors import one_line
from serving.manifest import TASKS

CONFIG, METRICS, MODEL, SPLITS, DATA, CHECKPOINT, ENVIRONMENT, FIGURES, TRAINING_SIZES = (
    "config.toml",
    "metrics.json",
    "model.keras",
    "splits.npz",
    "data.json",
    "checkpoint.npz",
    "environment.json",
    "figures",
    "training_sizes.json",
)
# What is there from the beginning; the rest comes when training has ended.
_BEGUN = (CONFIG, SPLITS, DATA)
# Room that a run needs beside its weights: pictures, logs and tables.
_SPARE_BYTES = 20_000_000


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: where it lies.
        config: what it is trained with.
        splits: which sample is for what.
        data: see `app.data.summary.report_data`.
        metrics: by split, then by metric; empty until it is finished.
    """

    folder: Path
    config: RunConfig
    splits: Splits
    data: dict[str, Any]
    metrics: dict[str, dict[str, float]]

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end and everything was written."""
        return bool(self.metrics)

    def check_data(self, dataset: Dataset) -> None:
        """Require that `dataset` is what the run began with.

        Raises:
            RunError: it has changed since.
        """
        if dataset.sha256() != self.data["sha256"]:
            raise RunError(
                f"{self.config.data} must hold the data that {self.folder} was trained on. "
                f"Received: SHA-256 {dataset.sha256()[:12]}… "
                f"instead of {self.data['sha256'][:12]}…."
            )

    def load_model(self) -> keras.Model:
        """Return the trained model, not compiled.

        Raises:
            RunError: the file is damaged.
        """
        try:
            return keras.saving.load_model(self.folder / MODEL, compile=False)
        except Exception as error:  # Keras, zipfile and h5py each raise their own
            raise RunError(
                f"{self.folder / MODEL} must be a Keras model. Received: {one_line(error):.200}"
            ) from None


def new_run_folder(output: Path, family: str) -> Path:
    """Make and return `<output>/<family>/<time>`, a folder of its own even for runs at once.

    Raises:
        RunError: the folder cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = output / family / (f"{stamp}-{attempt}" if attempt else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(
                f"Runs must go to a folder that can be written. "
                f"Received: {output}: {error.strerror}."
            ) from None
        return folder
    raise RunError(f"{output / family / stamp} must not exist yet. Received: 100 runs of its name.")


def check_room(folder: Path, parameters: int) -> None:
    """Require room for the model, its checkpoint and the next one beside it.

    Raises:
        RunError: the disk is too full.
    """
    # float32: a model, and two checkpoints of weights, kept weights and two slots of an optimizer.
    needed = _SPARE_BYTES + 4 * parameters * (1 + 2 * 4)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"A run needs {needed / 1e6:,.0f} MB of room. Received: {folder}, on a disk with "
            f"{free / 1e6:,.0f} MB."
        )


def report_run(folder: Path, config: RunConfig, dataset: Dataset, splits: Splits) -> Run:
    """Return a run that is about to begin. Nothing is written."""
    return Run(folder, config, splits, report_data(dataset, splits), {})


def begin_run(run: Run) -> None:
    """Write what is known before training, from which it can go on after any interruption.

    Raises:
        RunError: the folder cannot be written.
    """
    folder = run.folder
    try:
        np.savez_compressed(folder / SPLITS, **vars(run.splits))
        write_json(folder / DATA, run.data)
        atomic_write(folder / CONFIG, config_toml(run.config))
    except OSError as error:
        raise unwritable(folder, error) from None


def describe_data(data: dict[str, Any]) -> str:
    """Return a line about the data of a run, such as `1,797 samples of 10 classes, …`."""
    total = sum(data["samples"].values())
    count = len(data["labels"])
    targets = TASKS[data["task"]]
    if count == 1:
        targets = targets.removesuffix("s")
    parts = [f"{total:,} samples of {count} {targets}"]
    if data["counts"]["train"] and data["task"] == "multiclass":
        counts = sorted(set(data["counts"]["train"].values()))
        each = " to ".join(f"{number:,}" for number in dict.fromkeys((counts[0], counts[-1])))
        parts.append(f"{each} of each in training")
    if data["missing"]:
        parts.append(f"{sum(data['missing'].values()):,} values missing")
    if twice := sum(data["duplicates"].values()):
        parts.append(f"{twice:,} of validation or test also in training")
    if data["skipped"]:
        number = len(data["skipped"])
        parts.append(f"{number:,} unreadable {'file' if number == 1 else 'files'} skipped")
    return ", ".join(parts)


def read_environment(folder: Path) -> dict[str, Any]:
    """Return the `environment.json` of a finished run."""
    environment: dict[str, Any] = json.loads((folder / ENVIRONMENT).read_text("utf-8"))
    return environment


def unwritable(folder: Path, error: OSError) -> RunError:
    """Return the error of a run's folder that cannot be written."""
    return RunError(f"A run's folder must be writable. Received: {folder}: {error.strerror}.")


def read_run(folder: Path) -> Run:
    """Read the folder of a run that is finished.

    Raises:
        RunError: there is none, or the run did not finish.
        ConfigError: its configuration was changed into something impossible.
    """
    run = read_begun_run(folder)
    if not run.is_finished:
        missing = METRICS if (folder / MODEL).is_file() else MODEL
        mend = "Train it anew with hornbill train."
        if (folder / CHECKPOINT).is_file():
            mend = f"Go on with {resume_command(folder)}."
        raise RunError(
            f"A run must be finished. Received: {folder}, which has no {missing}. {mend}"
        )
    return run


def read_begun_run(folder: Path) -> Run:
    """Read the folder of a run, finished or not.

    Raises:
        RunError: there is none, or it is damaged.
        ConfigError: its configuration was changed into something impossible.
    """
    if not folder.is_dir():
        raise RunError(f"A run must be a folder that hornbill train made. Received: {folder}.")
    missing = [name for name in _BEGUN if not (folder / name).is_file()]
    if missing:
        raise RunError(f"A run must have a {missing[0]}. Received: {folder}, which has none.")
    try:
        with (folder / SPLITS).open("rb") as file, np.load(file) as arrays:
            splits = Splits(**arrays)
        data = json.loads((folder / DATA).read_text("utf-8"))
        is_finished = (folder / METRICS).is_file() and (folder / MODEL).is_file()
        metrics = json.loads((folder / METRICS).read_text("utf-8")) if is_finished else {}
        is_whole = {"source", "sha256", "samples"} <= data.keys()
        is_whole &= not is_finished or "test" in metrics
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
        raise RunError(f"A run must be readable. Received: {folder}: {error}.") from None
    if not is_whole:
        raise RunError(f"A run must be whole. Received: {folder}, its {METRICS} or {DATA} is not.")
    return Run(folder, combine_settings(None, folder / CONFIG), splits, data, metrics)
