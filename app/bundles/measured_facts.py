"""Measures a Keras model that was not trained here, on labeled data, for its bundle.

Half of the samples choose what there is to choose, and the other half measures it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.data.arrays import rows_in_chunk
from app.data.datasets import Dataset
from app.data.labeled import read_labeled
from app.data.measured import choose_measured, halve
from app.data.sources import bare_source
from app.data.splits import Splits
from app.errors import ConfigError, DataError
from app.evaluation.calibration import calibration_error
from app.evaluation.evaluations import measure_with_intervals
from app.evaluation.intervals import fit_intervals
from app.evaluation.metrics import make_scorer
from app.evaluation.scaling import Scaling, fit_scaling
from app.evaluation.thresholds import choose_thresholds, record_thresholds
from app.system.keras_defaults import keras_defaults
from export import ExportOptions, Int8Data, ModelFacts
from export.bundle import draft_manifest, with_split_columns
from export.inference import InferenceFunction, trace_inference
from export.samples import spread
from export.steps import begin_step
from serving.decisions import decide
from serving.manifest import Manifest
from serving.parity import Outputs

from .comparing import KnownSamples
from .confidence import (
    baseline_of,
    check_decisions,
    choose_reject_option,
    record_calibration,
    scale_last_layer,
)
from .evaluating import reading_of
from .opening import require_single_samples

# Samples to calibrate and to evaluate int8; more would take longer and change little.
_MAX_CALIBRATION, _MAX_EVALUATED = 512, 10_000
_MIN_SAMPLES = 4
# Samples whose other outputs must stay as they are.
_FEW = 64
_DEFAULT_OPTIONS = ExportOptions()
# Largest difference of scaled probabilities from what the scaling should give.
_SCALING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Halves(Splits):
    """Two halves of data: `validation` to choose on, `test` to measure on.

    Attributes:
        source: name of the data.
    """

    source: str = ""

    def describe(self, name: str) -> str:
        """Return what a split is, such as `5,000 samples of new.csv`."""
        which = "one half" if name == "validation" else "the other half"
        return f"the {len(getattr(self, name)):,} samples of {which} of {self.source}"


@dataclass(frozen=True)
class Wishes:
    """What is to be chosen from the data.

    Attributes:
        given: how the data is read, see `app.bundles.evaluating.reading_of`.
        target_accuracy: accuracy of accepted predictions; None accepts all.
        threshold: rule of thresholds, see `app.config.threshold_rules.parse_rule`.
    """

    given: Mapping[str, Any]
    target_accuracy: float | None = None
    threshold: float | str = 0.5


@keras_defaults()
def measured_facts(  # noqa: PLR0913 - most have a default
    model: Any,
    facts: ModelFacts,
    source: str,
    wishes: Wishes,
    samples: Any = None,
    options: ExportOptions = _DEFAULT_OPTIONS,
    *,
    inputs: Any = None,
) -> tuple[ModelFacts, KnownSamples]:
    """Return the facts of a model with what labeled data says of it, and the samples measured.

    These are metrics with intervals, calibration, reject option, thresholds, baseline, and for
    values intervals. A temperature is put into the weights of the model, which changes in place.

    Args:
        model: the Keras model.
        facts: what is known about it: labels, columns, task.
        source: labeled data that the model was not trained on, see
            `app.data.labeled.read_labeled`.
        wishes: what to choose.
        samples: samples for the proof, see `export.export_bundle`.
        options: how the model is exported.
        inputs: what the model takes, see `export.export_bundle`.

    Raises:
        DataError: the data cannot be used, or has too few samples.
        ConfigError: a wish cannot be fulfilled, or does not suit the targets.
        ExportError: the model cannot be traced.
    """
    begin_step(f"measuring the model on {source}")
    has_columns = bool(facts.columns)

    def trace() -> InferenceFunction:
        return trace_inference(model, options.input_dtype, inputs, has_columns)

    inference = trace()
    manifest = draft_manifest(inference, with_split_columns(facts, inference), "the model", samples)
    require_single_samples(manifest)
    require_multiclass(manifest.task, wishes.target_accuracy)
    dataset = read_labeled(source, manifest, reading_of(manifest, wishes.given))
    check_decisions(wishes.threshold, dataset, wishes.target_accuracy)
    halves = _halve(dataset, source)
    known = KnownSamples(dataset, source, halves.test, halves.describe("test"), wishes.given)
    subject = _Subject(model, inputs, trace, manifest, dataset, halves)
    before = subject.answer()
    sizes = {"choosing": len(halves.validation), "test": len(halves.test)}
    facts = replace(
        facts,
        labels=manifest.labels,
        data={"source": bare_source(source), "sha256": dataset.sha256(), "samples": sizes},
        int8_data=_int8_data(dataset, halves),
    )
    if manifest.task == "regression":
        return _measured_values(facts, dataset, halves, before.predictions), known
    facts, after = _calibrated(facts, subject, before)
    return _with_decisions(facts, dataset, halves, after.predictions, wishes), known


@dataclass(frozen=True)
class _Answers:
    """What a model answers.

    Attributes:
        predictions: predictions for both halves, `(samples, labels)`.
        others: its other outputs for some samples.
    """

    predictions: tuple[np.ndarray, np.ndarray]
    others: Outputs


@dataclass(frozen=True)
class _Subject:
    """A model with the data that it is measured on.

    Attributes:
        model: the Keras model.
        inputs: what it takes, see `export.export_bundle`.
        trace: function that traces it as it is now.
        manifest: what its manifest will say.
        dataset: the samples.
        halves: the indices of both halves.
    """

    model: Any
    inputs: Any
    trace: Callable[[], InferenceFunction]
    manifest: Manifest
    dataset: Dataset
    halves: Halves

    def answer(self) -> _Answers:
        """Predict both halves.

        Raises:
            DataError: a prediction is not finite.
        """
        traced, name = self.trace(), str(self.manifest.prediction_output)
        test = self.halves.test
        few = test[spread(len(test), _FEW)]
        count = len(self.dataset.targets)
        step = count if traced.whole_batches else rows_in_chunk(self.dataset.inputs)
        first, second = (
            np.concatenate(
                [
                    traced.predict(self.dataset.model_inputs(part[start : start + step]))[name]
                    for start in range(0, len(part), step)
                ]
            )
            for part in (self.halves.validation, test)
        )
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise DataError("Predictions must be finite. Received: NaN or infinity of the model.")
        others = traced.predict(self.dataset.model_inputs(few))
        del others[name]
        return _Answers((first, second), others)


def _halve(dataset: Dataset, source: str) -> Halves:
    """Divide the samples at random, always in the same way."""
    indices, _ = choose_measured(dataset, source, [])
    if len(indices) < _MIN_SAMPLES:
        raise DataError(
            f"A model is measured on at least {_MIN_SAMPLES} samples. "
            f"Received: {len(indices)} of {source}."
        )
    return Halves(np.empty(0, np.int64), *halve(indices), bare_source(source))


def _int8_data(dataset: Dataset, halves: Halves) -> Int8Data:
    few, many = (
        halves.validation[spread(len(halves.validation), most)]
        for most in (_MAX_CALIBRATION, _MAX_EVALUATED)
    )
    return Int8Data(
        dataset.model_inputs(few),
        f"{len(few):,} samples of {halves.source}",
        dataset.model_inputs(many),
        dataset.targets[many],
        f"{len(many):,} samples of {halves.source}",
    )


def _measured_values(
    facts: ModelFacts, dataset: Dataset, halves: Halves, found: tuple[np.ndarray, np.ndarray]
) -> ModelFacts:
    scorer = make_scorer("regression", dataset.targets[halves.test], found[1])
    metrics, ends = measure_with_intervals(scorer, len(halves.test), len(dataset.labels))
    intervals = fit_intervals(dataset, halves, *found)
    return replace(facts, metrics=metrics, metric_intervals=ends, intervals=intervals)


def _calibrated(
    facts: ModelFacts, subject: _Subject, before: _Answers
) -> tuple[ModelFacts, _Answers]:
    """Put a temperature into the model's weights if that is sound, and record it; or say why not.

    Returns:
        The facts, and what the model as it is then answers.
    """
    halves, dataset = subject.halves, subject.dataset
    known, targets = dataset.targets[halves.validation], dataset.targets[halves.test]
    scaling = fit_scaling(before.predictions[0], known)
    after = before if scaling.is_needless else _scaled(subject, scaling, before)
    if after is None:
        error = calibration_error(before.predictions[1], targets)
        line = (
            f"probabilities are not calibrated: {describe_scaling(scaling)} would make them more "
            "likely, but cannot be put into the last layer of this model without changing more "
            "than they; "
            f"the expected calibration error on {halves.describe('test')} is {error:.4f}"
        )
        return replace(facts, warnings=(*facts.warnings, line)), before
    record = record_calibration(
        scaling, halves, targets, before.predictions[1], after.predictions[1]
    )
    return replace(facts, calibration=record), after


def describe_scaling(scaling: Scaling) -> str:
    """Return what a scaling is, such as `a temperature of 1.250`."""
    parts = []
    if scaling.temperature != 1:
        parts.append(f"a temperature of {scaling.temperature:.3f}")
    if scaling.bias.any():
        parts.append("a bias for each label")
    return " and ".join(parts)


def _scaled(subject: _Subject, scaling: Scaling, before: _Answers) -> _Answers | None:
    """Scale the logits of a model in place, and return what it answers.

    None if that cannot be done in its last layer, or changes something else, such as an output of
    logits; the model is then as it was.
    """
    model, manifest = subject.model, subject.manifest
    weights = [array.copy() for array in model.get_weights()]
    output, bias = str(manifest.prediction_output), scaling.bias.tolist()
    try:
        scale_last_layer(model, output, scaling.temperature, bias, subject.inputs)
        after = subject.answer()
    except ValueError:
        model.set_weights(weights)
        return None
    wanted = _expected(before.predictions[1], scaling, manifest.task)
    is_off = np.abs(after.predictions[1] - wanted).max() > _SCALING_TOLERANCE
    if is_off or not _are_same(before.others, after.others):
        model.set_weights(weights)
        return None
    return after


def _are_same(first: Outputs, second: Outputs) -> bool:
    """Return whether outputs are equal up to rounding, and not finite in the same places."""
    return all(
        np.allclose(array, second[name], equal_nan=True)
        if array.dtype.kind == "f"
        else np.array_equal(array, second[name])
        for name, array in first.items()
    )


def _expected(probabilities: np.ndarray, scaling: Scaling, task: str) -> np.ndarray:
    """Return probabilities with scaled logits."""
    exact = np.clip(probabilities.astype(np.float64), 1e-37, None)
    if task == "multiclass":
        logits = np.log(exact) / scaling.temperature + scaling.bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        share: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return share
    rest = np.clip(1 - exact, 2.0**-25, None)
    logits = (np.log(exact) - np.log(rest)) / scaling.temperature + scaling.bias
    return np.asarray(1 / (1 + np.exp(-logits)))


def _with_decisions(
    facts: ModelFacts,
    dataset: Dataset,
    halves: Halves,
    predictions: tuple[np.ndarray, np.ndarray],
    wishes: Wishes,
) -> ModelFacts:
    """Return the facts with thresholds, rejects, and the metrics that follow from them."""
    validation, test = predictions
    values = choose_thresholds(wishes.threshold, dataset, halves.validation, validation)
    targets = dataset.targets[halves.test]
    scorer = make_scorer(dataset.task, targets, test, values, dataset.positive)
    metrics, ends = measure_with_intervals(scorer, len(targets), len(dataset.labels))
    facts = replace(facts, metrics=metrics, metric_intervals=ends, positive=dataset.positive_label)
    if values is not None:
        record = record_thresholds(wishes.threshold, values, dataset, halves, test)
        facts = replace(facts, thresholds=record)
    if dataset.task != "multiclass":
        return facts
    decided = decide(dataset.task, test, values)
    baseline = baseline_of(decided, dataset.labels, halves.describe("test"))
    option = None
    if wishes.target_accuracy is not None:
        option = choose_reject_option(predictions, halves, dataset, wishes.target_accuracy)
    return replace(facts, baseline=baseline, reject_option=option)


def require_multiclass(task: str, target_accuracy: float | None) -> None:
    """Require classes for a reject option.

    Raises:
        ConfigError: the model predicts something else.
    """
    if target_accuracy is not None and task != "multiclass":
        raise ConfigError(
            "--target-accuracy applies only to models that predict classes. "
            f"Received: --target-accuracy {target_accuracy}."
        )
