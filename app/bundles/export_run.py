"""Exports a finished run as a bundle, with parity checked on its own test split."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config.extractors import bare_settings
from app.config.families import family_named
from app.config.run_config import flat_config
from app.config.run_facts import read_evaluation
from app.config.without_effect import settings_in_use
from app.data.arrays import rows_in
from app.data.datasets import Dataset
from app.data.sources import bare_source
from app.data.summary import count_missing
from app.data.training_cells import describe_cells
from app.errors import ConfigError
from app.evaluation.baselines import baseline_scorers, describe_shortfalls, measure_lead
from app.evaluation.estimates import Estimate
from app.evaluation.evaluations import measure_with_intervals
from app.evaluation.intervals import fit_intervals
from app.evaluation.metrics import Scorer, make_scorer
from app.evaluation.predictions import predict_samples
from app.evaluation.scaling import Scaling, expected_bias, fit_scaling
from app.evaluation.thresholds import (
    choose_thresholds,
    is_default,
    record_thresholds,
    weighted_rule,
    weighted_thresholds,
)
from app.reports.classification_figures import draw_reliability
from app.reports.plotting import style
from app.reports.run_figures import DECISION_FIGURES, draw_predictions
from app.runs.run_folder import Run, read_run
from app.runs.train import load_run_data
from app.system.keras_defaults import keras_defaults
from app.system.notes import log_note
from app.training.losses import class_weights
from app.training.model_sizes import fit_to_data, rows_of
from export import (
    ExportError,
    ExportOptions,
    Int8Data,
    ModelFacts,
    export_bundle,
    with_edge_cases,
)
from export.publish import check_name
from export.samples import Samples, spread
from export.steps import begin_step
from models.config import OwnModelConfig
from serving.bundle import read_manifest
from serving.decisions import WEIGHTED, decide
from serving.manifest import (
    TASKS,
    ColumnImportance,
    Importance,
)

from .comparing import KnownSamples
from .confidence import (
    baseline_of,
    check_decisions,
    choose_reject_option,
    record_calibration,
    scaled,
)

# Samples to calibrate and to evaluate int8; more would take longer and change little.
_MAX_CALIBRATION, _MAX_EVALUATED = 512, 10_000
# Fraction of predictions from which on it is told that calibration changes them.
_MANY_CHANGES = 0.05
# Bytes of the samples of a proof, and of those to evaluate int8, all of which are in memory.
_MAX_BYTES = 256_000_000
_DEFAULT_OPTIONS = ExportOptions()


@keras_defaults()
def export_run(  # noqa: PLR0913 - most have a default
    folder: str | Path,
    output: str | Path = "dist",
    name: str | None = None,
    options: ExportOptions = _DEFAULT_OPTIONS,
    target_accuracy: float | None = None,
    threshold: float | str | None = None,
    *,
    on_known: Callable[[KnownSamples], object] | None = None,
) -> Path:
    """Export a run as a version of a bundle, with calibrated probabilities.

    Args:
        folder: folder of the run.
        output: folder of bundles.
        name: name of the model; the run's family if None.
        options: version, opset and other options of the export.
        target_accuracy: accuracy of the predictions that `Prediction.accepted` marks. The
            threshold is chosen on the validation split. None accepts all predictions.
        threshold: how to choose the probability from which on a class or label is predicted, see
            `app.config.threshold_rules.parse_rule`; None takes the setting of the run. If that is
            the default, and classes had weights in training, they have them in decisions too.
        on_known: is called with the test split, on which versions can be compared.

    Returns:
        The version's folder. After an error nothing is published. The log `hornbill.notes` has the
        warnings that are in its manifest.

    Raises:
        RunError: the run is not finished, or its data has changed.
        ConfigError: `target_accuracy` or `threshold` is out of range or cannot be reached, does not
            suit the targets, or both are given.
        ExportError: the name cannot be that of a bundle, or the model cannot be exported.
        ProofError: the exported artifacts differ from Keras by more than the tolerances.
    """
    run = read_run(Path(folder))
    if name is not None:
        check_name(name)
    begin_step("reading the data of the run")
    dataset = load_run_data(run.config)
    run.check_data(dataset)
    if target_accuracy is not None and dataset.task != "multiclass":
        raise ConfigError(
            "target_accuracy applies only to models that predict classes. "
            f"Received: target_accuracy={target_accuracy} for a model that predicts "
            f"{TASKS[dataset.task]}."
        )
    if on_known is not None:
        on_known(
            KnownSamples(dataset, run.config.data, run.splits.test, run.splits.describe("test"))
        )
    rule = run.config.training.threshold if threshold is None else threshold
    if threshold is None and target_accuracy is None and is_default(rule):
        rule = weighted_rule(run.config.training)
    check_decisions(rule, dataset, target_accuracy)
    options = _compared_with(run, dataset, options)
    nullable_columns = _nullable_columns(run, dataset)
    samples = _proof_samples(run, dataset, nullable_columns)
    model, facts = run.load_model(), _facts(run, dataset, nullable_columns)
    facts = replace(facts, int8_data=_int8_data(run, dataset))
    begin_step("predicting the validation and test splits")
    with tempfile.TemporaryDirectory() as figures:
        if dataset.task == "regression":
            facts = _with_values(facts, model, run, dataset)
        else:
            model, facts, predictions, before = _calibrated(model, facts, run, dataset)
            facts = _with_thresholds(facts, rule, predictions, run, dataset)
            facts = _with_changes(facts, run, dataset, before, predictions[1])
            facts = _with_figures(facts, run, dataset, before, predictions[1], Path(figures))
        if target_accuracy is not None:
            facts = replace(
                facts,
                reject_option=choose_reject_option(
                    predictions, run.splits, dataset, target_accuracy
                ),
            )
        bundle = export_bundle(
            model,
            output,
            family_named(run.config.family).short_name if name is None else name,
            facts,
            samples,
            options,
        )
    # Not to an observer: the command prints the manifest's warnings by itself.
    for line in read_manifest(bundle).warnings:
        log_note(f"{line}.")
    return bundle


def _compared_with(run: Run, dataset: Dataset, options: ExportOptions) -> ExportOptions:
    """Let the proof compare with the backend that trained the run, if it is installed.

    Only TensorFlow runs a graph that looks up texts.
    """
    backend = run.data.get("backend")
    is_set = options.trained_on is not None
    if is_set or backend in (None, "tensorflow") or dataset.string_columns:
        return options
    with suppress(ExportError):
        return replace(options, trained_on=backend)
    return options


def _calibrated(
    model: keras.Model, facts: ModelFacts, run: Run, dataset: Dataset
) -> tuple[keras.Model, ModelFacts, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Scale the model's logits, so that probabilities are those of the training split.

    Returns:
        The scaled model, the updated facts, the new predictions for the validation and test
        splits, and those for the test split before.
    """
    splits = run.splits
    known = dataset.targets[splits.validation]
    both = np.concatenate([splits.validation, splits.test])

    def predict() -> list[np.ndarray]:
        return np.split(predict_samples(model, dataset, both), [len(splits.validation)])

    validation, before = predict()
    after, scaling = before, Scaling(1.0, np.zeros(len(dataset.labels)))
    shift = expected_bias(class_weights(run.config.training, dataset, splits))
    # The members of an ensemble are scaled, but their mean is calibrated: once may not be enough.
    for expected in (shift, None):
        found = fit_scaling(validation, known, expected)
        if found.is_needless:
            break
        factors = found.temperature, found.bias.tolist()
        model = scaled(model, "probabilities", *factors, dataset.task == "multiclass")
        scaling = scaling.then(found)
        validation, after = predict()
    record = record_calibration(scaling, splits, dataset.targets[splits.test], before, after)
    return model, replace(facts, calibration=record), (validation, after), before


def _with_thresholds(
    facts: ModelFacts,
    rule: float | str,
    predictions: tuple[np.ndarray, np.ndarray],
    run: Run,
    dataset: Dataset,
) -> ModelFacts:
    """Return the facts with thresholds for calibrated predictions, and what follows from them.

    The rule is applied again, since scaling logits changes probabilities.
    """
    (validation, test), splits = predictions, run.splits
    values = (
        weighted_thresholds(dataset, splits.train)
        if rule == WEIGHTED
        else choose_thresholds(rule, dataset, splits.validation, validation)
    )
    targets = dataset.targets[splits.test]
    scorer = make_scorer(dataset.task, targets, test, values, dataset.positive)
    metrics, ends = measure_with_intervals(scorer, len(targets), len(dataset.labels))
    facts = replace(facts, metrics=metrics, metric_intervals=ends)
    facts = _with_warnings(facts, scorer, run, dataset, values is not None and rule != WEIGHTED)
    if dataset.task == "multiclass":
        decided = decide(dataset.task, test, values)
        baseline = baseline_of(decided, dataset.labels, splits.describe("test"))
        facts = replace(facts, baseline=baseline)
    if values is None:
        return facts
    return replace(facts, thresholds=record_thresholds(rule, values, dataset, splits, test))


def _with_changes(
    facts: ModelFacts, run: Run, dataset: Dataset, before: np.ndarray, after: np.ndarray
) -> ModelFacts:
    """Return the facts with a warning if calibration changes many predictions of the test split."""
    is_weighted = run.config.training.class_weight != "none"
    if is_weighted or facts.thresholds is not None:  # thresholds are chosen after calibration
        return facts
    decided = [decide(dataset.task, found).reshape(len(found), -1) for found in (before, after)]
    changed = float(np.mean((decided[0] != decided[1]).any(axis=1)))
    if changed < _MANY_CHANGES:
        return facts
    advice = (
        "its samples had weights, which count in its loss and not in the calibration"
        if dataset.has_weights
        else "if its loss weights classes on purpose, train with class_weight=balanced instead: "
        "the export then keeps the decisions"
    )
    line = (
        f"calibration changes {changed:.1%} of the predictions on the test split, since the run "
        f"predicts some classes more often than they occur; {advice}"
    )
    return replace(facts, warnings=(*facts.warnings, line))


def _with_figures(
    facts: ModelFacts,
    run: Run,
    dataset: Dataset,
    before: np.ndarray,
    after: np.ndarray,
    folder: Path,
) -> ModelFacts:
    """Return the facts with figures of what the exported model predicts for the test split.

    The run has drawn what its model predicts before calibration, and decides by its own thresholds.
    """
    test, thresholds = run.splits.test, facts.thresholds
    if run.config.figures:
        values = None if thresholds is None else thresholds.values
        draw_predictions(folder, dataset, test, after, values)
    with style():
        draw_reliability(dataset.targets[test], after, folder / "reliability_diagram.png", before)
    kept = [path for path in facts.figures if path.stem not in DECISION_FIGURES]
    figures = sorted([*kept, *folder.iterdir()], key=lambda path: path.name)
    return replace(facts, figures=figures)


def _with_values(facts: ModelFacts, model: keras.Model, run: Run, dataset: Dataset) -> ModelFacts:
    """Return the facts with intervals around predicted values, and those of the metrics."""
    splits = run.splits
    both = np.concatenate([splits.validation, splits.test])
    predicted = predict_samples(model, dataset, both)
    validation, test = np.split(predicted, [len(splits.validation)])
    scorer = make_scorer(dataset.task, dataset.targets[splits.test], test)
    metrics, ends = measure_with_intervals(scorer, len(test), len(dataset.labels))
    facts = replace(
        facts,
        metrics=metrics,
        metric_intervals=ends,
        intervals=fit_intervals(dataset, splits, validation, test),
    )
    return _with_warnings(facts, scorer, run, dataset)


def _with_warnings(
    facts: ModelFacts, scorer: Scorer, run: Run, dataset: Dataset, has_thresholds: bool = False
) -> ModelFacts:
    """Return the facts with a line for each baseline that the exported model does not beat."""

    @cache
    def scorers() -> dict[str, Scorer]:  # the baselines are trained only if needed, and once
        return baseline_scorers(dataset, run.splits)

    def lead(baseline: str, metric: str) -> Estimate:
        count, outputs = len(run.splits.test), len(dataset.labels)
        return measure_lead(scorer, scorers(), count, outputs)(baseline, metric)

    found = describe_shortfalls(
        dataset, run.splits.train, facts.metrics, facts.reference_scores, has_thresholds, lead
    )
    return replace(facts, warnings=tuple(found))


def _proof_samples(run: Run, dataset: Dataset, nullable_columns: tuple[int, ...]) -> Samples:
    """Return the test split, or as many of its samples as fit into memory; and edge cases."""
    test = run.splits.test
    chosen = _spread(dataset, test, len(test))
    source = f"the test split of {bare_source(run.config.data)}"
    if len(chosen) < len(test):
        source = f"a part of {source}"
    return with_edge_cases(dataset.model_inputs(chosen), source, nullable_columns)


def _spread(dataset: Dataset, indices: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of some indices, spread evenly, whose samples fit into memory."""
    chosen: np.ndarray = indices[
        spread(len(indices), min(most, rows_in(dataset.inputs, _MAX_BYTES)))
    ]
    return chosen


def _int8_data(run: Run, dataset: Dataset) -> Int8Data:
    """Return training samples to calibrate int8 on, and validation samples to evaluate it on."""
    train = _spread(dataset, run.splits.train, _MAX_CALIBRATION)
    validation = _spread(dataset, run.splits.validation, _MAX_EVALUATED)
    return Int8Data(
        dataset.model_inputs(train),
        f"{len(train):,} samples of the training split",
        dataset.model_inputs(validation),
        dataset.targets[validation],
        f"{len(validation):,} samples of the validation split",
        are_disjoint=True,
    )


def _nullable_columns(run: Run, dataset: Dataset) -> tuple[int, ...]:
    """Return the numeric columns that may have missing values."""
    if isinstance(run.config.model, OwnModelConfig):
        return tuple(np.flatnonzero(count_missing(dataset)).tolist()) if dataset.columns else ()
    family = family_named(run.config.family)
    config = fit_to_data(family, run.config.model, dataset, run.splits, rows_of(run.data))
    return config.rows.nullable_columns if dataset.kind == "rows" else ()


def _importance(evaluation: dict[str, Any]) -> Importance | None:
    """Return the importance of columns that the run has measured."""
    found = evaluation.get("importance")
    if found is None:
        return None
    columns = tuple(ColumnImportance(**column) for column in found["columns"])
    return Importance(found["score"], f"{found['samples']:,} samples of the test split", columns)


def _linear_samples(evaluation: dict[str, Any], train: int) -> dict[str, int]:
    """Return how many samples the linear model was trained on, if they were not all."""
    count = evaluation.get("linear_samples", train)
    return {"linear_samples": count} if count < train else {}


def _facts(run: Run, dataset: Dataset, nullable_columns: tuple[int, ...]) -> ModelFacts:
    evaluation = read_evaluation(run.folder)
    settings = settings_in_use(flat_config(run.config))
    return ModelFacts(
        family=family_named(run.config.family).builder_name,
        task=dataset.task,
        labels=dataset.labels,
        columns=dataset.columns,
        nullable_columns=tuple(dataset.columns[number] for number in nullable_columns),
        string_columns=dataset.string_columns,
        row_format=dataset.row_format,
        target_units=dataset.target_units,
        positive=dataset.positive_label,
        training_cells=describe_cells(dataset, run.splits.train),
        metrics=run.metrics["test"],
        reference_scores=evaluation.get("baselines", {}),
        importance=_importance(evaluation),
        config=bare_settings({**settings, "data": bare_source(run.config.data)}),
        data={
            "source": bare_source(run.config.data),
            "sha256": run.data["sha256"],
            "samples": run.data["samples"],
            **_linear_samples(evaluation, run.data["samples"]["train"]),
        },
        figures=sorted((run.folder / "figures").glob("*.png")),
    )
