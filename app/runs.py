"""A run's folder: what is in it, how it is written, how it is read back."""

import csv
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from .config import RunConfig, combine_settings, config_toml
from .data.datasets import Dataset
from .data.splits import Splits
from .errors import RunError
from .evaluation import classification_metrics, predict_probabilities
from .figures import draw_confusion_matrix, draw_learning_curves
from .fitting import Fitted

CONFIG, METRICS, MODEL, SPLITS, DATA = (
    "config.toml",
    "metrics.json",
    "model.keras",
    "splits.npz",
    "data.json",
)


@dataclass(frozen=True)
class Run:
    """A finished run, read back.

    Attributes:
        folder: where it lies.
        config: what it was trained with.
        splits: which sample was for what.
        metrics: by split, then by metric.
        data: source, SHA-256 and size of the data, labels and columns.
    """

    folder: Path
    config: RunConfig
    splits: Splits
    metrics: dict[str, dict[str, float]]
    data: dict[str, Any]

    def load_model(self) -> keras.Model:
        """Return the trained model, not compiled.

        Raises:
            RunError: the file is damaged.
        """
        try:
            return keras.saving.load_model(self.folder / MODEL, compile=False)
        except Exception as error:  # Keras, zipfile and h5py each raise their own
            reason = " ".join(str(error).split())
            raise RunError(
                f"{self.folder / MODEL} must be a Keras model. Received: {reason:.200}"
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


def write_run(
    folder: Path, config: RunConfig, dataset: Dataset, splits: Splits, fitted: Fitted
) -> Run:
    """Write everything about a trained model; the metrics come last and mark the run finished."""
    figures = folder / "figures"
    figures.mkdir()
    (folder / CONFIG).write_text(config_toml(config), "utf-8")
    fitted.model.save(folder / MODEL)
    np.savez_compressed(folder / SPLITS, **vars(splits))
    _write_history(folder / "history.csv", fitted.history)
    draw_learning_curves(fitted.history, figures / "learning_curves.png")

    metrics = {}
    for name, indices in vars(splits).items():
        probabilities = predict_probabilities(fitted.model, dataset.inputs[indices])
        metrics[name] = classification_metrics(dataset.targets[indices], probabilities)
        if name == "test":
            predicted, targets = probabilities.argmax(axis=1), dataset.targets[indices]
            path = figures / "confusion_matrix.png"
            draw_confusion_matrix(targets, predicted, dataset.labels, path)
    data = _describe(dataset, splits)
    _write_json(folder / DATA, data)
    _write_json(folder / "environment.json", _environment(splits, fitted))
    _write_json(folder / METRICS, metrics)
    return Run(folder, config, splits, metrics, data)


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        RunError: there is none, or the run did not finish.
        ConfigError: its configuration was changed into something impossible.
    """
    if not folder.is_dir():
        raise RunError(f"A run must be a folder that hornbill train made. Received: {folder}.")
    missing = [n for n in (CONFIG, METRICS, MODEL, SPLITS, DATA) if not (folder / n).is_file()]
    if missing:
        raise RunError(
            f"A run must be finished. Received: {folder}, which has no {missing[0]}. "
            "Train it anew with hornbill train."
        )
    try:
        with np.load(folder / SPLITS) as arrays:
            splits = Splits(**arrays)
        metrics = json.loads((folder / METRICS).read_text("utf-8"))
        data = json.loads((folder / DATA).read_text("utf-8"))
        complete = {"test"} <= metrics.keys() and {"source", "sha256", "samples"} <= data.keys()
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
        raise RunError(f"A run must be readable. Received: {folder}: {error}.") from None
    if not complete:
        raise RunError(f"A run must be whole. Received: {folder}, its {METRICS} or {DATA} is not.")
    return Run(folder, combine_settings(None, folder / CONFIG), splits, metrics, data)


def _write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _describe(dataset: Dataset, splits: Splits) -> dict[str, Any]:
    return {
        "source": dataset.source,
        "sha256": dataset.sha256(),
        "kind": dataset.kind,
        "samples": {name: len(indices) for name, indices in vars(splits).items()},
        "labels": list(dataset.labels),
        "columns": list(dataset.columns),
    }


def _environment(splits: Splits, fitted: Fitted) -> dict[str, Any]:
    packages = ("hornbill", "keras", "tensorflow", "numpy", "scikit-learn")
    examples = len(splits.train) * len(fitted.history)
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "versions": {package: version(package) for package in packages},
        "parameters": fitted.model.count_params(),
        "seconds": round(fitted.seconds, 3),
        "examples_per_s": round(examples / fitted.seconds, 1),
    }
