"""The arguments of an export: facts about the model, and options."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.manifest import (
    Baseline,
    Calibration,
    Importance,
    Intervals,
    RejectOption,
    ScoreInterval,
    Thresholds,
    TrainingCells,
)
from serving.row_format import RowFormat

from .backends import check_backend
from .errors import ExportError
from .half_precision import PRECISIONS
from .inference import INPUT_DTYPES
from .onnx.opsets import check_opset
from .quantization import POLICIES, Int8Data

_MAX_VERSION = 2**63 - 1  # TF Serving and Triton store version numbers as int64


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known about a model beyond its graph.

    Attributes:
        family: Function that built the model; `keras` for a third-party model.
        task: `multiclass`, `multilabel` or `regression`; None to infer it from the labels and the
            outputs.
        labels: Name of each class, label or value, in the order of the predicted elements. May be
            empty for a model about which nothing is known.
        columns: Name of each numeric column; empty for images.
        nullable_columns: The columns among `columns` that may have missing values.
        string_columns: Name of each text column.
        row_format: How the cells of a table become these columns; None for plain numbers and texts.
        training_cells: Ranges and frequent texts of the columns in training.
        metrics: Metrics measured on the test split.
        metric_intervals: Interval of each metric.
        config: Training configuration, by flat key.
        data: Description of the training data: source, SHA-256, number of samples in each split.
        figures: Pictures for the model card.
        calibration: How the probabilities were calibrated; the temperature is already in the model.
        reject_option: Which predictions are confident enough to be accepted.
        baseline: How often each class is predicted.
        thresholds: The probabilities from which on classes or labels are predicted.
        intervals: Intervals around predicted values.
        positive: The one of two classes that average precision and thresholds are about.
        target_units: The unit of values that had one in the data, by label.
        reference_scores: Metrics of simple models on the test split, by the name of the model.
        importance: Importance of the columns.
        warnings: What a user of the model should know, a sentence each.
        int8_data: Samples to calibrate and evaluate an int8 model on; None to use those of the
            proof.

    Raises:
        ExportError: A value has the wrong type or contradicts another.
    """

    family: str = "keras"
    task: str | None = None
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    nullable_columns: tuple[str, ...] = ()
    string_columns: tuple[str, ...] = ()
    row_format: RowFormat | None = None
    training_cells: TrainingCells | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metric_intervals: dict[str, ScoreInterval] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    data: dict[str, object] = field(default_factory=dict)
    figures: Sequence[Path] = ()
    calibration: Calibration | None = None
    reject_option: RejectOption | None = None
    baseline: Baseline | None = None
    thresholds: Thresholds | None = None
    intervals: Intervals | None = None
    positive: str | None = None
    reference_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    target_units: dict[str, str] = field(default_factory=dict)
    importance: Importance | None = None
    warnings: tuple[str, ...] = ()
    int8_data: Int8Data | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        is_sequence = isinstance(self.labels, tuple | list)
        if not is_sequence or not all(isinstance(label, str) for label in self.labels):
            raise ExportError(f"labels must be a tuple of strings. Received: {self.labels!r:.80}.")
        if self.task not in (None, "multiclass", "multilabel", "regression"):
            raise ExportError(
                f"task must be multiclass, multilabel, regression or None. Received: {self.task!r}."
            )
        if (self.metrics or self.config) and not self.data:
            raise ExportError(
                "metrics and config need data, which describes what they belong to. "
                "Received: data={}."
            )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        version: Version number; None for the one after the latest.
        opset: Opset of the ONNX graph; None for 18, or the lowest later one that the model needs.
        input_dtype: Dtype that float32 inputs take instead, such as `uint8`. The graph casts it.
        int8: Whether to make a quantized model: `auto` keeps it only if it is faster and as
            accurate on samples that are not drawn, `always` keeps it, `never` makes none.
        precision: `float16` adds a graph in half precision, for GPUs and browsers.
        has_float16_io: Whether its inputs and outputs are float16 too.
        trained_on: Backend of Keras that trained the model, `jax` or `torch`: the proof compares
            with its predictions, made in a process of its own. None for TensorFlow.
        sign: Function that signs the finished folder, from `serving.signature.read_signer`.

    Raises:
        ExportError: A value is out of range.
    """

    version: int | None = None
    opset: int | None = None
    input_dtype: str | None = None
    int8: str = "auto"
    precision: str = "float32"
    has_float16_io: bool = False
    trained_on: str | None = None
    sign: Callable[[Path], None] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_opset(self.opset)
        check_backend(self.trained_on)
        if self.version is not None and type(self.version) is not int:
            raise ExportError(f"version must be an integer. Received: {self.version!r}.")
        if self.version is not None and not 0 < self.version <= _MAX_VERSION:
            raise ExportError(f"version must be from 1 to 2^63 - 1. Received: {self.version}.")
        if self.int8 not in POLICIES:
            raise ExportError(
                f"int8 must be one of {', '.join(POLICIES)}. Received: {self.int8!r}."
            )
        if self.precision not in PRECISIONS:
            raise ExportError(
                f"precision must be one of {', '.join(PRECISIONS)}. Received: {self.precision!r}."
            )
        if self.has_float16_io and self.precision != "float16":
            raise ExportError(
                "float16 inputs and outputs need precision=float16. "
                f"Received: precision={self.precision}."
            )
        if self.input_dtype not in (None, *INPUT_DTYPES):
            raise ExportError(
                f"input_dtype must be one of {', '.join(INPUT_DTYPES)}. "
                f"Received: {self.input_dtype!r}."
            )
