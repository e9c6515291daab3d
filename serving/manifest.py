"""The manifest of a bundle: the model's signature, its training and the proof of its parity.

The schema lives with the reader; `export/` writes what is defined here.
"""

import json
import math
import re
from dataclasses import asdict, dataclass, field

from .errors import ManifestError, cannot_read
from .parity import INT8_TOLERANCES, TOLERANCES
from .row_format import RowFormat
from .schema import decode

FORMAT_VERSION = 5
# A name that is a number would be mistaken for a version.
_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MAX_OPSET = 1_000
DTYPES = ("float32", "float64", "uint8", "int8", "int32", "int64", "bool", "string")
# For each task, the noun for what a model's labels name.
TASKS = {
    "multiclass": "classes",
    "multilabel": "labels",
    "regression": "values",
    "unknown": "outputs",
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the model.

    Attributes:
        name: name in the ONNX graph and in the SavedModel's signature.
        dtype: numpy's name of the type; `string` for texts.
        shape: each axis is a size, or the name of a variable axis such as `batch`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def describe_spec(spec: TensorSpec) -> str:
    """Return a spec as text, such as `image uint8 [batch, 28, 28]`."""
    return f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]"


@dataclass(frozen=True)
class Parity:
    """How far one output of an artifact is from the same output of Keras, at one batch size.

    Attributes:
        artifact: `saved_model`, `onnx`, `int8` or `float16`.
        output: name of the output.
        batch_size: number of samples in each call.
        max_absolute_difference: largest absolute difference over all samples.
        max_relative_difference: largest difference relative to the largest magnitude of the output,
            or of each predicted value by itself.
        top1_match: fraction of the samples with the same most probable class, which must be
            1.0; None for outputs that are not probabilities of classes.
    """

    artifact: str
    output: str
    batch_size: int
    max_absolute_difference: float
    max_relative_difference: float
    top1_match: float | None


@dataclass(frozen=True)
class Proof:
    """The record that all artifacts compute the same function.

    Attributes:
        source: where the samples came from.
        samples: number of samples, without the edge cases.
        edge_cases: names of the difficult images or rows that were added.
        tolerances: largest difference allowed. It is absolute for `probabilities`. For other
            outputs it is given by dtype, relative to the largest magnitude of the output, or of
            each predicted value by itself; outputs of a dtype that is not listed must be equal.
        parity: the measured differences.
    """

    source: str
    samples: int
    edge_cases: tuple[str, ...]
    tolerances: dict[str, float]
    parity: tuple[Parity, ...]


@dataclass(frozen=True)
class Calibration:
    """The calibration error of a model before and after its logits were scaled.

    Attributes:
        temperature: divisor of the logits, fitted on validation samples; part of the graph. 1 if no
            other is significantly better.
        fitted_on: description of the samples that it was fitted on.
        measured_on: description of the samples that the errors were measured on.
        ece_before: expected calibration error of the predicted class or label without temperature
            and bias, 15 bins of equal width.
        ece_after: expected calibration error of the exported model.
        bias: what is added to the divided logit of each label, as after a training with class
            weights; part of the graph. Empty if nothing is, and in bundles of earlier versions.
        classwise_ece_before: the same error, averaged over the probabilities of all labels, without
            temperature and bias; None in bundles of earlier versions.
        classwise_ece_after: that of the exported model.
    """

    temperature: float
    fitted_on: str
    measured_on: str
    ece_before: float
    ece_after: float
    bias: tuple[float, ...] = ()
    classwise_ece_before: float | None = None
    classwise_ece_after: float | None = None


@dataclass(frozen=True)
class RejectOption:
    """The threshold below which a prediction is rejected as too uncertain.

    Attributes:
        threshold: smallest probability of the predicted class that is accepted.
        target_accuracy: accuracy of the accepted predictions that the threshold was chosen for.
        chosen_on: description of the samples that the threshold was chosen on.
        measured_on: description of the samples that the next two were measured on.
        coverage: fraction of the predictions that are accepted.
        accuracy: accuracy of the accepted predictions; None where none is accepted.
    """

    threshold: float
    target_accuracy: float
    chosen_on: str
    measured_on: str
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class Thresholds:
    """The probabilities from which on classes or labels are predicted.

    Attributes:
        rule: how they were chosen: `f1`, `precision=0.9`, `recall=0.8`, `cost=5`, the probability
            itself, or `class_weight=balanced` for the weights of the training.
        values: threshold of each label, in the order of the labels. Those of classes sum to 1, and
            the class is predicted whose probability is largest relative to its threshold; the first
            of two where the second does not reach its own. That of the second may be the number
            after 1, which no probability reaches.
        positive: the class that the rule is about; None for labels, and for more than two classes.
        chosen_on: description of the samples that they were chosen on.
        measured_on: description of the samples that the next two were measured on.
        precision: fraction of the predictions of each label that are right.
        recall: fraction of the samples with each label for which it is predicted.
    """

    rule: str
    values: tuple[float, ...]
    positive: str | None
    chosen_on: str
    measured_on: str
    precision: tuple[float, ...]
    recall: tuple[float, ...]


@dataclass(frozen=True)
class Intervals:
    """Intervals that contain the true value with a stated probability (split conformal).

    An interval reaches from the predicted value minus the half width to the value plus the half
    width (Lei et al., 2018).

    Attributes:
        coverage: probability that the interval of a new sample contains its true value, if it comes
            from where the other samples come from.
        half_widths: for each value, in the order of the labels.
        fitted_on: description of the samples whose errors gave the half widths.
        measured_on: description of the samples that the next was measured on.
        measured_coverage: fraction of the true values that their intervals contain.
    """

    coverage: float
    half_widths: tuple[float, ...]
    fitted_on: str
    measured_on: str
    measured_coverage: tuple[float, ...]


@dataclass(frozen=True)
class ScoreInterval:
    """The 95% interval of a metric, for samples like those that it was measured on.

    Attributes:
        low: lower end.
        high: upper end.
        method: `wilson` for a proportion (Wilson, 1927); `bootstrap` for others, the percentiles
            of resamples (Efron & Tibshirani, 1993), whose seed is 0.
    """

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class ColumnImportance:
    """How far the score of a model falls if the values of a column are permuted.

    Attributes:
        name: name of the column.
        drop: how far the score falls.
        low: lower end of the 95% interval.
        high: upper end of the interval.
    """

    name: str
    drop: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """Which columns the predictions of a model depend on (permutation importance, Breiman, 2001).

    Attributes:
        score: the metric that falls, such as `roc_auc`.
        measured_on: description of the samples.
        columns: the most important columns, in descending order.
    """

    score: str
    measured_on: str
    columns: tuple[ColumnImportance, ...]


@dataclass(frozen=True)
class ColumnRange:
    """The smallest and the largest number of a numeric column.

    Attributes:
        name: name of the column, one of the manifest's `columns`.
        low: smallest number.
        high: largest number.
    """

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class FrequentTexts:
    """The most frequent texts of a text column.

    Attributes:
        name: name of the column, one of the manifest's `string_columns`.
        texts: the most frequent first.
    """

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class TrainingCells:
    """What the columns of a table held in training, for forms and for whoever sends rows.

    Attributes:
        measured_on: description of the samples.
        ranges: of each numeric column that had a number.
        texts: of each text column that had frequent texts.
    """

    measured_on: str
    ranges: tuple[ColumnRange, ...]
    texts: tuple[FrequentTexts, ...]


@dataclass(frozen=True)
class Baseline:
    """How often the model predicts each class on its test samples.

    Other frequencies in production show that the inputs have changed.

    Attributes:
        measured_on: description of the samples.
        fractions: fraction of the samples whose most probable class is each label, in the order of
            the labels.
    """

    measured_on: str
    fractions: tuple[float, ...]


@dataclass(frozen=True)
class Int8:
    """Whether the int8 model met the acceptance criteria, and the measurements behind that.

    Attributes:
        kept: whether `model.int8.onnx` is in the bundle.
        policy: `auto` keeps the int8 model if it is faster over batch sizes 1 and 64 on the
            exporting machine, loses at most 0.1 points of accuracy, and answers as float32 does,
            see `agreement`; `always` keeps it anyway.
        latency_ratio_1: latency divided by that of float32, at batch size 1 on one thread.
        latency_ratio_64: the same at batch size 64.
        accuracy_float32: accuracy of the float32 model, R² for regression; None if unknown.
        accuracy_int8: the same for the int8 model.
        calibrated_on: description of the samples that gave the ranges of the activations.
        measured_on: description of the samples that the accuracies were measured on.
        parity: differences from Keras; empty if the model was not kept.
        largest_sum: the largest magnitude of a sum of two products, which processors without VNNI
            clip beyond 32,767; None if the model was not kept, or in bundles of earlier versions.
        agreement: fraction of samples for which int8 and float32 decide the same; for values the
            lowest R² of int8 against float32. `auto` demands at least 0.999 of values. None if
            unknown, or in bundles of earlier versions.
        agreement_low: lower end of the 95% interval (Wilson, 1927) of that fraction, of which
            `auto` demands at least 0.98; None for values, and where `agreement` is None.
    """

    kept: bool
    policy: str
    latency_ratio_1: float
    latency_ratio_64: float
    accuracy_float32: float | None
    accuracy_int8: float | None
    calibrated_on: str
    measured_on: str
    parity: tuple[Parity, ...]
    largest_sum: int | None = None
    agreement: float | None = None
    agreement_low: float | None = None


@dataclass(frozen=True)
class Float16:
    """The graph in half precision that is beside the float32 one.

    Attributes:
        has_float16_io: whether its inputs and outputs are float16 where those of the manifest are
            float32.
        tolerances: largest difference allowed, see `Proof`.
        parity: differences from Keras, measured on a CPU.
    """

    has_float16_io: bool
    tolerances: dict[str, float]
    parity: tuple[Parity, ...]


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        format_version: version of this schema.
        name: name of the model.
        version: version of the model, from 1.
        family: the function that built the model; `keras` for a third-party model.
        created: time of the export, UTC, ISO 8601.
        inputs: the raw inputs; preprocessing is inside the graph.
        outputs: the outputs of the model.
        task: `multiclass`: each sample has one class; `multilabel`: each sample has any number of
            labels; `regression`: the model predicts numbers; `unknown`: the meaning of the outputs
            is not known.
        prediction_output: name of the output that holds the predictions, with one element for each
            label; None if the task is unknown.
        labels: name of each class, label or value, in the order of `prediction_output`.
        columns: name of each column of `inputs`; empty for images.
        nullable_columns: the columns of `inputs` that may have missing values, as NaN.
        string_columns: name of each column of `texts`; empty if the model has no such input.
        preprocessing: the layers that preprocess the input inside the graph, in order.
        parameters: number of weights.
        metrics: metrics of the test split, such as `accuracy`; may be empty.
        config: training configuration, with the keys of `config.toml`; empty for a third-party
            model.
        data: source, SHA-256 and split sizes of the training data, and `linear_samples` if the
            linear model of `reference_scores` was trained on fewer; may be empty.
        calibration: calibration of the probabilities; None where none was fitted.
        reject_option: threshold for uncertain predictions; None where all are accepted.
        baseline: frequency of each class; None where no test samples were available.
        int8: measurements of the quantized model; None where none was tried.
        opset: opset of the ONNX graph.
        lowest_onnxruntime: the first release of onnxruntime that supports this opset.
        environment: package versions and machine of the export.
        proof: the record that all artifacts compute the same function.
        row_format: how the cells of a table become the columns above, see `serving.columns`; None
            where each is read as a plain number or as a text, and in bundles of earlier versions.
        thresholds: thresholds of classes or labels; None where the most probable class, or all
            labels of at least 0.5, are predicted.
        intervals: intervals around predicted values; None where there are none.
        reference_scores: metrics of simple models on the same test split, to compare `metrics`
            with: `constant`, and for rows `linear`; may be empty.
        importance: importance of the columns; None where it was not measured.
        warnings: what a user of the model should know, such as that a linear model is better.
        metric_intervals: interval of each of `metrics`; empty in bundles of earlier versions.
        whole_batches: whether a call must run its batch as a whole, neither split nor joined with
            others: outputs depend on all of its samples, or the number of samples is fixed.
        float16: the graph in half precision; None where none was asked for.
        training_cells: ranges and frequent texts of the columns in training; None for images, and
            in bundles of earlier versions.
        quantization: `int8` where the layers of the Keras model itself compute in int8, which
            rounds coarsely; None otherwise.
        target_units: the unit of values that had one in training, by label; empty in bundles of
            earlier versions.
        positive: the one of two classes that `average_precision` and thresholds are about; None
            for other targets, where no data was measured, and in bundles of earlier versions.
    """

    format_version: int
    name: str
    version: int
    family: str
    created: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: str
    prediction_output: str | None
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    nullable_columns: tuple[str, ...]
    string_columns: tuple[str, ...]
    preprocessing: tuple[str, ...]
    parameters: int
    metrics: dict[str, float]
    config: dict[str, object]
    data: dict[str, object]
    calibration: Calibration | None
    reject_option: RejectOption | None
    baseline: Baseline | None
    int8: Int8 | None
    opset: int
    lowest_onnxruntime: str
    environment: dict[str, str]
    proof: Proof
    row_format: RowFormat | None = None
    thresholds: Thresholds | None = None
    intervals: Intervals | None = None
    reference_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    importance: Importance | None = None
    warnings: tuple[str, ...] = ()
    whole_batches: bool = False
    float16: Float16 | None = None
    metric_intervals: dict[str, ScoreInterval] = field(default_factory=dict)
    quantization: str | None = None
    training_cells: TrainingCells | None = None
    target_units: dict[str, str] = field(default_factory=dict)
    positive: str | None = None

    @property
    def batch_size(self) -> int | None:
        """The only number of samples that a call may have; None for any number."""
        size = self.inputs[0].shape[0]
        return size if isinstance(size, int) else None

    @property
    def tolerances(self) -> dict[str, float]:
        """The largest differences from Keras that count as parity, see `serving.parity`."""
        return TOLERANCES if self.quantization is None else INT8_TOLERANCES

    @property
    def measured_on(self) -> str:
        """What the metrics were measured on, such as `the 360 test samples of digits8x8`."""
        sizes = self.data.get("samples")
        count = sizes.get("test") if isinstance(sizes, dict) else None
        number = f"{count:,} " if isinstance(count, int) else ""
        return f"the {number}test samples of {self.data.get('source', 'unknown data')}"

    @property
    def probabilities(self) -> str | None:
        """Name of the output that holds probabilities; None if there is none."""
        return self.prediction_output if self.task in ("multiclass", "multilabel") else None

    @property
    def values(self) -> str | None:
        """Name of the output that holds predicted values; None if there is none."""
        return self.prediction_output if self.task == "regression" else None

    def to_json(self) -> str:
        """Return the manifest as the text of `manifest.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read the text of `manifest.json`.

        Raises:
            ManifestError: the text is not JSON, has another format version, or a key is missing or
                has a value of the wrong type.
        """
        try:
            value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise ManifestError(cannot_read("manifest.json", error, "JSON")) from None
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ManifestError(
                "manifest.json must be valid UTF-8 text. Received: a lone surrogate."
            ) from None
        _check_format_version(value.get("format_version") if isinstance(value, dict) else None)
        manifest = decode(cls, value, "manifest.json")
        _check_consistency(manifest)
        return manifest


def describe_batch(manifest: Manifest) -> str:
    """Return why a model takes whole batches, in a sentence; an empty text if it does not."""
    if not manifest.whole_batches:
        return ""
    if manifest.batch_size is not None:
        return f"The batch is fixed: each call takes exactly {manifest.batch_size} samples."
    batch = manifest.inputs[0].shape[:1]
    joint = [spec for spec in manifest.outputs if spec.shape.count(*batch) != 1]
    joint = joint or [spec for spec in manifest.outputs if spec.shape[:1] != batch]
    which = ", ".join(map(describe_spec, joint)) or "an output of a sample"
    return f"Calls are neither split nor joined: {which} depends on all samples of a call."


def _check_format_version(received: object) -> None:
    if received == FORMAT_VERSION:
        return
    fix = ""
    if type(received) is int:
        fix = (
            " Export the model again with this version of Hornbill."
            if received < FORMAT_VERSION
            else " It was written by a newer Hornbill: upgrade Hornbill to read it."
        )
    raise ManifestError(
        f"manifest.json must have format_version {FORMAT_VERSION}. "
        f"Received: format_version={received!r:.40}.{fix}"
    )


def _check_consistency(manifest: Manifest) -> None:
    """Raise `ManifestError` if fields contradict each other, or cannot be."""
    _check_identity(manifest)
    _check_specs(manifest)
    if manifest.task not in TASKS:
        raise ManifestError(
            f"task must be one of {', '.join(TASKS)}. Received: task={manifest.task!r}."
        )
    if (manifest.prediction_output is None) != (manifest.task == "unknown"):
        raise ManifestError(
            "prediction_output must be the name of an output, or null where task is unknown. "
            f"Received: prediction_output={manifest.prediction_output!r} of {manifest.task}."
        )
    if manifest.quantization not in (None, "int8"):
        raise ManifestError(
            f"quantization must be int8 or null. Received: {manifest.quantization!r:.80}."
        )
    _check_columns(manifest)
    if manifest.row_format is not None or manifest.target_units:
        # Models of images load faster without the patterns of dates, numbers and units.
        from .row_format_checks import check_row_format, check_target_units  # noqa: PLC0415

        check_row_format(manifest)
        check_target_units(manifest)
    if manifest.calibration is not None:
        _check_calibration(manifest, manifest.calibration)
    if manifest.reject_option is not None:
        _check_reject_option(manifest, manifest.reject_option)
    if manifest.baseline is not None:
        _check_baseline(manifest, manifest.baseline)
    if manifest.thresholds is not None:
        _check_thresholds(manifest, manifest.thresholds)
    if manifest.intervals is not None:
        _check_intervals(manifest, manifest.intervals)
    _check_metrics(manifest)


def _check_identity(manifest: Manifest) -> None:
    if not _NAME.fullmatch(manifest.name):
        raise ManifestError(
            "name must be at most 100 letters, digits, '_', '-' and '.', not begin with '.' or "
            f"'-', and not be a number. Received: name={manifest.name!r:.120}."
        )
    if not 1 <= manifest.version < 2**63:  # the protocols have int64
        raise ManifestError(
            f"version must be at least 1, and an int64. Received: version={manifest.version}."
        )
    if manifest.parameters < 0:
        raise ManifestError(
            f"parameters must be at least 0. Received: parameters={manifest.parameters}."
        )
    if not 1 <= manifest.opset <= _MAX_OPSET:
        raise ManifestError(
            f"opset must be from 1 to {_MAX_OPSET:,}. Received: opset={manifest.opset}."
        )


def _check_baseline(manifest: Manifest, baseline: Baseline) -> None:
    if len(baseline.fractions) != len(manifest.labels):
        raise ManifestError(
            "baseline must have one fraction for each label. Received: "
            f"{len(baseline.fractions)} fractions for {len(manifest.labels)} labels."
        )
    if not all(0 <= fraction <= 1 for fraction in baseline.fractions):
        raise ManifestError(
            f"baseline must have fractions from 0 to 1. Received: {baseline.fractions!s:.80}."
        )


def _check_metrics(manifest: Manifest) -> None:
    for name, interval in manifest.metric_intervals.items():
        if not interval.low <= manifest.metrics.get(name, math.nan) <= interval.high:
            raise ManifestError(
                "Each of metric_intervals must contain its metric. Received: "
                f"{name!r:.40} from {interval.low} to {interval.high}."
            )


def _check_specs(manifest: Manifest) -> None:
    for spec in (*manifest.inputs, *manifest.outputs):
        _check_spec(spec, needs_batch=not manifest.whole_batches)
    if len({spec.shape[:1] for spec in manifest.inputs}) > 1 or not manifest.inputs[0].shape:
        raise ManifestError(
            "All inputs must begin with the same axis, the batch. "
            f"Received: {', '.join(map(describe_spec, manifest.inputs))}."
        )


def _check_calibration(manifest: Manifest, calibration: Calibration) -> None:
    if not calibration.temperature > 0:
        raise ManifestError(
            f"The temperature of calibration must be above 0. Received: {calibration.temperature}."
        )
    if len(calibration.bias) not in (0, len(manifest.labels)):
        raise ManifestError(
            "The bias of calibration must have an element for each label. "
            f"Received: {len(calibration.bias)} for {len(manifest.labels)} labels."
        )


def _check_reject_option(manifest: Manifest, option: RejectOption) -> None:
    if not 0 <= option.threshold <= 1:
        raise ManifestError(
            f"The threshold of reject_option must be from 0 to 1. Received: {option.threshold}."
        )
    if manifest.task != "multiclass":
        raise ManifestError(
            f"reject_option needs task=multiclass. Received: task={manifest.task!r}."
        )


def _check_thresholds(manifest: Manifest, thresholds: Thresholds) -> None:
    values, count = thresholds.values, len(manifest.labels)
    is_classes = manifest.task == "multiclass"
    if not is_classes and manifest.task != "multilabel":
        raise ManifestError(
            f"thresholds need classes or labels. Received: {count} {TASKS[manifest.task]}."
        )
    # No probability reaches the number above 1: the first of two classes is always predicted.
    most = math.nextafter(1, 2) if is_classes and count == 2 else 1.0
    if len(values) != count or not all(0 <= value <= most for value in values):
        raise ManifestError(
            "thresholds must have a probability for each label. "
            f"Received: {values!s:.80} for {count} labels."
        )
    if is_classes and not math.isclose(sum(values), 1, abs_tol=1e-9):
        raise ManifestError(f"The thresholds of classes must sum to 1. Received: {values!s:.80}.")
    if is_classes and count > 2 and min(values) == 0:
        raise ManifestError(
            f"The thresholds of three or more classes must be above 0. Received: {values!s:.80}."
        )
    if manifest.reject_option is not None:
        raise ManifestError(
            "A model has either thresholds or a reject_option, which needs the most probable "
            "class. Received: both."
        )


def _check_intervals(manifest: Manifest, intervals: Intervals) -> None:
    if manifest.task != "regression":
        raise ManifestError(f"intervals need task=regression. Received: task={manifest.task!r}.")
    widths, count = intervals.half_widths, len(manifest.labels)
    if len(widths) != count or not all(width >= 0 for width in widths):
        raise ManifestError(
            "intervals must have a half width of at least 0 for each value. "
            f"Received: {widths!s:.80} for {count} values."
        )
    if not 0 < intervals.coverage < 1:
        raise ManifestError(
            f"The coverage of intervals must be between 0 and 1. Received: {intervals.coverage}."
        )


def _check_columns(manifest: Manifest) -> None:
    unknown = [name for name in manifest.nullable_columns if name not in manifest.columns]
    if unknown:
        raise ManifestError(
            f"nullable_columns must be among columns. Received: {unknown[0]!r:.80}."
        )


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number:.40}, which is too large for a float")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not a JSON number")


def _check_spec(spec: TensorSpec, needs_batch: bool) -> None:
    if spec.dtype not in DTYPES:
        raise ManifestError(
            f"dtype must be one of {', '.join(DTYPES)}. "
            f"Received: dtype={spec.dtype!r} of {spec.name}."
        )
    is_valid = all(size if isinstance(size, str) else size > 0 for size in spec.shape)
    begins_with_batch = bool(spec.shape) and isinstance(spec.shape[0], str)
    if not is_valid or (needs_batch and not begins_with_batch):
        raise ManifestError(
            "shape must begin with a named axis, followed by names or sizes above 0. "
            f"Received: shape={spec.shape} of {spec.name}."
        )
