"""Writes what a run came to: model, metrics, pictures, report."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config.run_config import config_toml
from app.data.datasets import Dataset
from app.data.splits import Splits, some
from app.errors import RunError
from app.evaluation.metrics import SCORES, measure, predict_answers, predict_output, standard_error
from app.reports.feature_projection import MAX_SAMPLES, draw_projection
from app.reports.run_figures import draw_figures, draw_training_sizes
from app.reports.run_report import write_report
from app.system.atomic_files import atomic_write, sync, write_json
from app.system.signals import resume_command
from app.training.fit import FitResult
from serving.environment import package_versions

from .run_folder import (
    CHECKPOINT,
    CONFIG,
    ENVIRONMENT,
    FIGURES,
    METRICS,
    MODEL,
    TRAINING_SIZES,
    Run,
    unwritable,
)

# Samples of the training split that its metrics are taken of: they only show how far it is from
# the others, and the answers for each sample would be kept in memory.
_MAX_MEASURED = 100_000


def finish_run(
    run: Run, dataset: Dataset, fitted: FitResult, sizes: Sequence[dict[str, Any]] = ()
) -> Run:
    """Write everything about a trained model; the metrics come last and mark the run finished.

    Args:
        run: as it was begun, with the precision that it was trained in.
        dataset: what it was trained on.
        fitted: the result.
        sizes: see `app.runs.training_sizes.scores_by_size`.

    Raises:
        RunError: the folder cannot be written. The checkpoint is still there.
    """
    folder = run.folder
    try:
        fitted.model.save(folder / MODEL)
        sync(folder / MODEL)
        _write_history(folder / "history.csv", fitted.history)
        metrics, answers = _measure(fitted.model, dataset, run.splits)
        test = run.splits.test
        draw_figures(folder / FIGURES, fitted.history, dataset, test, answers["test"])
        _draw_features(folder / FIGURES, fitted.model, dataset, test)
        if sizes:
            _write_sizes(folder, sizes, dataset, run.splits, metrics, answers["validation"])
        environment = _environment(fitted)
        write_json(folder / ENVIRONMENT, environment)
        write_report(folder, run.config, run.data, metrics, environment)
        write_json(folder / METRICS, metrics)
        # Not before: a run that goes on does so with the settings of its checkpoint.
        atomic_write(folder / CONFIG, config_toml(run.config))
        (folder / CHECKPOINT).unlink(missing_ok=True)
    except OSError as error:
        mend = f"Go on with {resume_command(folder)}."
        raise RunError(f"{unwritable(folder, error)} {mend}") from None
    return replace(run, metrics=metrics)


def _write_sizes(
    folder: Path,
    sizes: Sequence[dict[str, Any]],
    dataset: Dataset,
    splits: Splits,
    metrics: dict[str, dict[str, float]],
    validated: np.ndarray,
) -> None:
    kind = dataset.task
    score = SCORES[kind]
    whole = {name: metrics[name][score] for name in ("train", "validation")}
    rows = [*sizes, {"samples": len(splits.train), **whole}]
    measured = sorted((r for r in rows if "reason" not in r), key=lambda r: r["samples"])
    left_out = [row for row in rows if "reason" in row]
    error = standard_error(kind, dataset.targets[splits.validation], validated)
    write_json(
        folder / TRAINING_SIZES,
        {"score": score, "standard_error": error, "sizes": measured, "left_out": left_out},
    )
    draw_training_sizes(measured, left_out, score, folder / FIGURES / "training_sizes.png")


def _measure(
    model: keras.Model, dataset: Dataset, splits: Splits
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
    """Return the metrics of each split, and the answers for it."""
    measured = splits.train[some(len(splits.train), _MAX_MEASURED)]
    parts = vars(replace(splits, train=measured))
    ends = np.cumsum([len(indices) for indices in parts.values()])
    # At once: Keras prepares anew for each size of batch.
    together = predict_answers(model, dataset, np.concatenate(list(parts.values())))
    answers = dict(zip(parts, np.split(together, ends[:-1]), strict=True))
    metrics = {
        name: measure(dataset.task, dataset.targets[indices], answers[name])
        for name, indices in parts.items()
    }
    return metrics, answers


def _draw_features(folder: Path, model: keras.Model, dataset: Dataset, test: np.ndarray) -> None:
    if "features" in model.output:
        shown = test[some(len(test), MAX_SAMPLES)]
        features = predict_output(model, "features", dataset, shown)
        draw_projection(dataset, shown, features, folder / "features_projection.png")


def _write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def _described_devices() -> str:
    names = keras.distribution.list_devices()
    return names[0] if len(names) == 1 else f"{len(names)} x {names[0].partition(':')[0]}"


def _environment(fitted: FitResult) -> dict[str, Any]:
    packages = ("hornbill", "keras", "tensorflow", "numpy", "scikit-learn")
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "device": _described_devices(),
        "precision": fitted.compilation.precision,
        "xla": fitted.compilation.xla,
        "step_ms": fitted.compilation.step_ms,
        "versions": package_versions(packages),
        "processes": fitted.processes,
        "parameters": fitted.model.count_params(),
        "epochs": len(fitted.history),
        "seconds": round(fitted.seconds, 3),
        "examples_per_s": round(fitted.examples_per_s, 1),
        "wait_fraction": round(fitted.wait_fraction, 5),
    }
