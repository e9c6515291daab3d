"""Writes the results of a run: model, metrics, figures, report."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config.run_config import config_toml
from app.config.run_facts import ENVIRONMENT, EVALUATION
from app.config.run_files import CONFIG, DATA, HISTORY, METRICS, NEW_RESULTS
from app.data.datasets import Dataset
from app.data.reading_progress import tell_step
from app.data.splits import some
from app.errors import RunError
from app.evaluation.metrics import OUTPUTS, SCORES, measure, standard_error
from app.evaluation.predictions import predict_outputs
from app.evaluation.probes import probed_samples
from app.reports.augmented_images import draw_augmented
from app.reports.column_figures import draw_dependence, draw_importance
from app.reports.feature_projection import MAX_SAMPLES, draw_projection
from app.reports.run_figures import draw_figures, draw_training_sizes
from app.reports.run_report import write_report
from app.reports.value_figures import draw_residuals
from app.system.atomic_files import atomic_write, sync, write_json
from app.system.devices import describe_devices
from app.system.signals import resume_command
from app.training.fit import FitResult
from app.training.history_file import history_csv
from app.training.own_optimizers import own_settings
from serving.bundle import KERAS_MODEL
from serving.environment import package_versions

from .evaluation import Predictions, evaluate, try_thresholds
from .run_folder import FIGURES, TRAINING_SIZES, Run, publish_results, unwritable

Metrics = dict[str, dict[str, float]]

# The scores on the training split only serve to compare it with the other splits. This many samples
# are enough for that, and the predictions for more would fill the memory.
_MAX_MEASURED = 100_000


def finish_run(
    run: Run, dataset: Dataset, fitted: FitResult, sizes: Sequence[dict[str, Any]] = ()
) -> Run:
    """Write everything about a trained model. The metrics come last and mark the run as finished.

    Former results of a run that went on stay until all new ones are written.

    Args:
        run: the run, with the precision that it was trained in.
        dataset: the samples that it was trained on.
        fitted: the trained model.
        sizes: rows of `app.runs.training_sizes.scores_by_size`.

    Raises:
        RunError: the folder cannot be written. The checkpoint is still there.
    """
    folder = run.folder / NEW_RESULTS
    try:
        if folder.exists():  # left by a process that was killed
            shutil.rmtree(folder)
        folder.mkdir()
        fitted.model.save(folder / KERAS_MODEL)
        sync(folder / KERAS_MODEL)
        atomic_write(folder / HISTORY, history_csv(fitted.history))
        tell_step("evaluating")
        predictions = _predict(run, fitted.model, dataset)
        metrics = _measure(dataset, run, predictions)
        evaluation = evaluate(
            run.config.training, dataset, run.splits, fitted.model, predictions, metrics["test"]
        )
        if run.not_exportable:
            reason = run.not_exportable.rstrip(".")
            evaluation["warnings"].append(f"the model cannot be exported. {reason}")
        write_json(folder / EVALUATION, evaluation)
        if run.config.figures:
            tell_step("drawing figures")
            _draw(folder / FIGURES, run, dataset, fitted, predictions, evaluation)
        if sizes:
            _write_sizes(folder, run, sizes, dataset, predictions)
        environment = _environment(fitted)
        if own := own_settings(run.config.training.optimizer):
            environment["optimizer"] = own
        write_json(folder / ENVIRONMENT, environment)
        write_report(folder, run.config, run.data, metrics, environment, evaluation)
        write_json(folder / DATA, run.data)
        # Written late: a run that is resumed must still have the settings of its checkpoint.
        atomic_write(folder / CONFIG, config_toml(run.config))
        write_json(folder / METRICS, metrics)
        publish_results(run.folder)
    except OSError as error:
        fix = f"Resume it with {resume_command(run.folder)}."
        raise RunError(f"{unwritable(run.folder, error)} {fix}") from None
    return replace(run, metrics=metrics)


def _draw(
    folder: Path,
    run: Run,
    dataset: Dataset,
    fitted: FitResult,
    predictions: Predictions,
    evaluation: dict[str, Any],
) -> None:
    """Draw all figures of a run into `folder`."""
    test = run.splits.test
    predicted = predictions.by_split["test"]
    draw_figures(
        folder,
        fitted.history,
        dataset,
        test,
        predicted,
        predictions.thresholds,
        smaller_epochs=fitted.smaller_epochs,
    )
    if dataset.task == "regression":
        widths = evaluation.get("intervals", {}).get("half_widths")
        path = folder / "residuals.png"
        draw_residuals(dataset.targets[test], predicted, dataset.labels, widths, path)
    if "importance" in evaluation:
        draw_importance(evaluation["importance"], folder / "column_importance.png")
        path = folder / "partial_dependence.png"
        draw_dependence(evaluation["partial_dependence"], dataset, path)
    if dataset.inputs.ndim == 4:
        path = folder / "augmented_images.png"
        draw_augmented(dataset, run.splits.train, run.config.training, path)
    if predictions.features:
        indices, rows = predictions.features["test"]
        shown = some(len(indices), MAX_SAMPLES)
        path = folder / "features_projection.png"
        draw_projection(dataset, indices[shown], rows[shown], path)


def _write_sizes(
    folder: Path,
    run: Run,
    sizes: Sequence[dict[str, Any]],
    dataset: Dataset,
    predictions: Predictions,
) -> None:
    """Write the scores by training-set size."""
    score = SCORES[dataset.task]
    measured_on = {
        "train": run.splits.train[some(len(run.splits.train), _MAX_MEASURED)],
        "validation": run.splits.validation,
    }
    # Without the thresholds of the run, as for the other sizes.
    whole = {
        name: measure(dataset.task, dataset.targets[indices], predictions.by_split[name])[score]
        for name, indices in measured_on.items()
    }
    rows = [*sizes, {"samples": len(run.splits.train), **whole}]
    measured = sorted((r for r in rows if "reason" not in r), key=lambda r: r["samples"])
    left_out = [row for row in rows if "reason" in row]
    validation = predictions.by_split["validation"]
    error = standard_error(dataset.task, dataset.targets[run.splits.validation], validation)
    write_json(
        folder / TRAINING_SIZES,
        {"score": score, "standard_error": error, "sizes": measured, "left_out": left_out},
    )
    if run.config.figures:
        path = folder / FIGURES / "training_sizes.png"
        draw_training_sizes(measured, left_out, score, path)


def _predict(run: Run, model: keras.Model, dataset: Dataset) -> Predictions:
    """Return predictions for all splits, and features of some samples if there are any."""
    splits = run.splits
    measured = splits.train[some(len(splits.train), _MAX_MEASURED)]
    parts = vars(replace(splits, train=measured))
    ends = np.cumsum([len(indices) for indices in parts.values()])
    every = np.concatenate(list(parts.values()))
    kept = {OUTPUTS[dataset.task]: np.ones(len(every), bool)}
    probed = {}
    if has_features := "features" in model.output:
        most_train, most_test = probed_samples(model.output["features"].shape[-1] or 1)
        probed = {
            "train": some(len(measured), most_train),
            "test": ends[1] + some(len(splits.test), most_test),
        }
        kept["features"] = np.zeros(len(every), bool)
        kept["features"][np.concatenate(list(probed.values()))] = True
    # All splits in one call: Keras traces the model again for each size of the last batch.
    outputs = predict_outputs(model, dataset, every, kept)
    predicted = dict(zip(parts, np.split(outputs[OUTPUTS[dataset.task]], ends[:-1]), strict=True))
    validation = predicted["validation"]
    thresholds, problem = try_thresholds(run.config.training, dataset, splits, validation)
    features = {}
    if has_features:
        rows = np.split(outputs["features"], [len(probed["train"])])
        features = {
            name: (every[chosen], part)
            for (name, chosen), part in zip(probed.items(), rows, strict=True)
        }
    return Predictions(predicted, thresholds, problem, features)


def _measure(dataset: Dataset, run: Run, predictions: Predictions) -> Metrics:
    """Return the metrics of each split; the training split may be measured in part."""
    splits = run.splits
    measured = splits.train[some(len(splits.train), _MAX_MEASURED)]
    return {
        name: measure(
            dataset.task,
            dataset.targets[indices],
            predictions.by_split[name],
            predictions.thresholds,
            dataset.positive,
            run.config.training.optimizer.remedy,
        )
        for name, indices in vars(replace(splits, train=measured)).items()
    }


def _environment(fitted: FitResult) -> dict[str, Any]:
    waited = fitted.wait_fraction
    packages = ("hornbill", "keras", "tensorflow", "numpy", "scikit-learn")
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "device": describe_devices(),
        "precision": fitted.compilation.precision,
        "xla": fitted.compilation.xla,
        "step_ms": fitted.compilation.step_ms,
        "versions": package_versions(packages),
        "processes": fitted.processes,
        "parameters": fitted.model.count_params(),
        "epochs": len(fitted.history),
        "seconds": round(fitted.seconds, 3),
        "examples_per_s": round(fitted.examples_per_s, 1),
        "wait_fraction": None if waited is None else round(waited, 5),
    }
