"""A run's folder: its files, and how a run is begun and read back."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from app.config.families import FAMILIES
from app.config.run_config import RunConfig, combine_settings, config_toml, flat_config
from app.config.run_facts import describe_duplicates, read_facts
from app.config.run_files import (
    CONFIG,
    DATA,
    METRICS,
    NEW_RESULTS,
    NEXT_CONFIG,
    SPLITS,
    check_begun,
    check_finished,
)
from app.data.datasets import Dataset
from app.data.reading_progress import tell
from app.data.splits import Splits
from app.data.summary import describe_pairs, report_data
from app.data.tables import PARQUET
from app.errors import RunError
from app.system.atomic_files import atomic_write, write_json
from app.system.user_code import is_reference
from app.training.model_sizes import fit_to_data, rows_beside
from app.training.own_models import own_layers, with_untrained
from app.training.own_objects import write_objects
from models.config import OwnModelConfig
from models.own import settled
from serving.bundle import KERAS_MODEL
from serving.errors import cannot_read, cannot_write, first_few, one_line

FIGURES, TRAINING_SIZES, FILES = "figures", "training_sizes.json", "files.json"
# Space that a run needs besides its weights: figures, logs and tables.
_SPARE_BYTES = 20_000_000


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: folder of the run.
        config: its configuration.
        splits: indices of the training, validation and test samples.
        data: see `app.data.summary.report_data`; also `chosen`, the keys of the settings that
            were chosen from the data, `overridden`, see `RunConfig`, `backend`, the Keras backend
            that the run began with, `backbone_files`, see there, for a table `rows`, the
            columns that the model was built for, and `not_exportable`, see there.
        metrics: scores by split, then by metric; empty until the run is finished.
    """

    folder: Path
    config: RunConfig
    splits: Splits
    data: dict[str, Any]
    metrics: dict[str, dict[str, float]]

    @property
    def not_exportable(self) -> str:
        """Why the model cannot be exported; empty if it can, as far as is known."""
        return str(self.data.get("not_exportable", ""))  # runs of earlier versions do not say

    @property
    def is_finished(self) -> bool:
        """Whether training has ended and everything was written."""
        return bool(self.metrics)

    def check_data(self, dataset: Dataset) -> None:
        """Require that `dataset` is the data that the run began with.

        Raises:
            RunError: the data has changed since; image files that are gone or new are named.
        """
        if dataset.sha256() != self.data["sha256"]:
            self._check_files(dataset)
            raise RunError(
                f"{self.config.data} no longer holds the data that {self.folder} was trained on. "
                f"Received: SHA-256 {dataset.sha256()[:12]}… instead of "
                f"{self.data['sha256'][:12]}…. Restore the file, or train a new run."
            )

    def _check_files(self, dataset: Dataset) -> None:
        """Require the image files that the run began with, by their names."""
        began = _read_files(self.folder)
        if not began or not dataset.files:
            return
        gone = _named_once(began, {*dataset.files})
        new = _named_once({*dataset.files}, began)
        if not gone and not new:
            return
        told = [f"without {first_few(gone)}"] if gone else []
        told += [f"with {first_few(new)} besides"] if new else []
        fixes = ["put back what is gone"] if gone else []
        fixes += ["take away what is new"] if new else []
        fix = " and ".join(fixes)
        raise RunError(
            f"The image files must be those that {self.folder} was trained on. Received: "
            f"{self.config.data} {' and '.join(told)}. {fix.capitalize()}, or train a new run."
        )

    def check_backbone(self) -> None:
        """Require the files of the backbone that the run began with.

        Raises:
            RunError: one has changed since.
        """
        began = self.data.get("backbone_files", {})  # runs of earlier versions do not say
        for key, found in backbone_files(self.config).items():
            if found != began.get(key, found):
                path = flat_config(self.config)[key]
                raise RunError(
                    f"{key} must be the file that {self.folder} began with. "
                    f"Received: {path}, with SHA-256 {found[:12]}… instead of "
                    f"{began[key][:12]}…. Restore the file, or train a new run."
                )

    def load_model(self) -> keras.Model:
        """Return the trained model, not compiled.

        Raises:
            RunError: the file is damaged.
            ConfigError: it needs code of the user that is no longer there.
        """
        path = self.folder / KERAS_MODEL
        if isinstance(self.config.model, OwnModelConfig):
            with own_layers(self.config.family, path):
                # The module of the function has just run; code in the file is of the same user.
                is_safe = not is_reference(self.config.family)
                return settled(keras.saving.load_model(path, compile=False, safe_mode=is_safe))
        try:
            return keras.saving.load_model(path, compile=False)
        except Exception as error:  # Keras, zipfile and h5py each raise their own
            raise RunError(f"{path} cannot be loaded by Keras: {one_line(error):.200}") from None


def new_run_folder(output: Path, family: str) -> Path:
    """Create and return `<output>/<family>/<time>`, a new folder for each run.

    Runs that begin in the same second get different folders.

    Raises:
        RunError: the folder cannot be created.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = output / family / (f"{stamp}-{attempt}" if attempt else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(cannot_write(output, error)) from None
        return folder
    raise RunError(f"{output / family / stamp} and 99 numbered variants of it exist already.")


def check_room(folder: Path, parameters: int) -> None:
    """Require disk space for the model, its checkpoint and the next checkpoint.

    Raises:
        RunError: the disk is too full.
    """
    # In float32: the model, and two checkpoints with the weights, the weights to keep, and two
    # optimizer variables for each weight.
    needed = _SPARE_BYTES + 4 * parameters * (1 + 2 * 4)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"A run needs {needed / 1e6:,.0f} MB of disk space. "
            f"Received: {folder}, on a disk with {free / 1e6:,.0f} MB free."
        )


def report_run(folder: Path, config: RunConfig, dataset: Dataset, splits: Splits) -> Run:
    """Return a run that is about to begin. Nothing is written."""
    data = report_data(dataset, splits)
    data |= {"chosen": sorted(config.chosen), "overridden": dict(config.overridden)}
    data |= {"backend": keras.backend.backend(), "backbone_files": backbone_files(config)}
    if dataset.kind == "rows" and config.family in FAMILIES:
        known = rows_beside(config.start_from)
        sized = fit_to_data(FAMILIES[config.family], config.model, dataset, splits, known)
        data["rows"] = asdict(sized.rows)
    if dataset.kind == "images" and any(data["duplicates"].values()):
        named = describe_pairs(data["duplicate_files"])
        tell(f"{describe_duplicates(data)}{named}, which makes scores look better than they are.")
    for line in data["notes"][len(dataset.notes) :]:  # the others were told when it was read
        tell(line)
    return Run(folder, config, splits, data, {})


def backbone_files(config: RunConfig) -> dict[str, str]:
    """Return the SHA-256 of each file that a backbone begins with, by its setting."""
    settings = flat_config(config)
    paths = {key: Path(settings.get(key, "")) for key in ("backbone", "weights")}
    return {key: file_sha256(path) for key, path in paths.items() if path.suffix and path.is_file()}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; that of an empty one if there is none."""
    if not path.is_file():
        return hashlib.sha256().hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begin_run(run: Run, files: Sequence[str] = ()) -> None:
    """Write what is known before training, so that an interrupted run can be resumed.

    Args:
        run: the run.
        files: file of each sample; empty if samples have none.

    Raises:
        RunError: the folder cannot be written.
    """
    folder = run.folder
    try:
        np.savez_compressed(folder / SPLITS, **vars(run.splits))
        write_json(folder / DATA, run.data)
        if files:
            write_json(folder / FILES, list(files))
        write_objects(run.config.training, folder)
        atomic_write(folder / CONFIG, config_toml(run.config))
    except OSError as error:
        raise unwritable(folder, error) from None


def _named_once(files: set[str], others: set[str]) -> list[str]:
    """Return the files that are not among others; a table of images once, if none of its are.

    Images of tables are called by their table and row, such as `photos.parquet:7`.
    """
    known = {_table_of(name) for name in others}
    return sorted(
        {name if _table_of(name) in known else _table_of(name) for name in files - others}
    )


def _table_of(name: str) -> str:
    table, mark, row = name.rpartition(":")
    return table if mark and row.isdecimal() and table.lower().endswith(PARQUET) else name


def _read_files(folder: Path) -> set[str]:
    """Return the files that a run began with; empty if it has none, or does not say."""
    try:
        return {*map(str, json.loads((folder / FILES).read_text("utf-8")))}
    except (OSError, ValueError, TypeError):  # runs of earlier versions do not say
        return set()


def publish_results(folder: Path) -> None:
    """Put complete new results in the place of former ones, if there are any.

    Readers find the former results, an unfinished run, or the new results. If this is cut short,
    it can be called again.

    Args:
        folder: folder of a run. Its new results are complete if they have metrics.

    Raises:
        RunError: the folder cannot be written.
    """
    new = folder / NEW_RESULTS
    if not (new / METRICS).is_file():
        return
    try:
        (folder / METRICS).unlink(missing_ok=True)
        if (model := new / KERAS_MODEL).is_file():  # the first to move
            for name in (FIGURES, TRAINING_SIZES):  # the new results may have none
                _remove(folder / name)
            model.replace(folder / KERAS_MODEL)
        for path in new.iterdir():
            if path.name != METRICS:
                _remove(folder / path.name, is_file_kept=True)
                path.replace(folder / path.name)
        (folder / NEXT_CONFIG).unlink(missing_ok=True)
        (new / METRICS).replace(folder / METRICS)
        new.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from None


def _remove(path: Path, is_file_kept: bool = False) -> None:
    """Remove a folder, or a file unless the next step replaces it."""
    if path.is_dir():
        shutil.rmtree(path)
    elif not is_file_kept:
        path.unlink(missing_ok=True)


def unwritable(folder: Path, error: OSError) -> RunError:
    """Return the error for a run's folder that cannot be written."""
    return RunError(cannot_write(folder, error))


def read_run(folder: Path) -> Run:
    """Read the folder of a finished run.

    Raises:
        RunError: the folder is not a run of this version or is damaged, or the run is unfinished.
        ConfigError: its `config.toml` was changed and is no longer valid.
    """
    check_finished(folder)
    return read_begun_run(folder)


def read_begun_run(folder: Path) -> Run:
    """Read the folder of a run, finished or not. Nothing on disk changes.

    Raises:
        RunError: the folder is not a run of this version, or is damaged.
        ConfigError: its `config.toml` was changed and is no longer valid.
    """
    check_begun(folder)
    try:
        with (folder / SPLITS).open("rb") as file, np.load(file) as arrays:
            splits = Splits(**arrays)
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
        raise RunError(cannot_read(folder, error, "a run")) from None
    data, metrics = read_facts(folder)
    config = with_untrained(combine_settings(None, folder / CONFIG), folder)
    return Run(folder, config, splits, data, metrics)
