"""The manifest of a bundle: what an exported model says of itself, and the proof of it.

The schema lives with the reader; `export/` writes what is defined here.
"""

import json
import math
from dataclasses import asdict, dataclass

from .errors import ManifestError
from .schema import decode

FORMAT_VERSION = 5
DTYPES = ("float32", "float64", "uint8", "int8", "int32", "int64", "bool", "string")
# What a model is for, and what its labels name.
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
        name: its name in the ONNX graph and in the SavedModel's signature.
        dtype: numpy's name of its type.
        shape: its axes, each a size or the name of a variable axis (`batch`).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def describe_spec(spec: TensorSpec) -> str:
    """Return such as `image uint8 [batch, 28, 28]`."""
    return f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]"


@dataclass(frozen=True)
class Parity:
    """How far one artifact's output is from Keras' at one batch size.

    Attributes:
        artifact: `saved_model` or `onnx`.
        output: name of the output.
        batch_size: samples in a call.
        max_absolute_difference: the largest over all samples.
        max_relative_difference: the same, as a share of the output's largest magnitude.
        top1_match: share of the samples with the same most probable class, which must be
            1.0; None for outputs that are no probabilities.
    """

    artifact: str
    output: str
    batch_size: int
    max_absolute_difference: float
    max_relative_difference: float
    top1_match: float | None


@dataclass(frozen=True)
class Proof:
    """That the artifacts compute one function.

    Attributes:
        source: where the samples came from.
        samples: how many there were, edge cases not counted.
        edge_cases: images or rows made to be hard.
        tolerances: largest difference allowed: absolute of `probabilities`; of other outputs by
            their dtype, as a share of the output's largest magnitude; none where it is not named.
        agreements: what was measured.
    """

    source: str
    samples: int
    edge_cases: tuple[str, ...]
    tolerances: dict[str, float]
    parity: tuple[Parity, ...]


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy, before and after logits were divided by a temperature.

    Attributes:
        temperature: fitted on validation samples; it is inside the graph.
        fitted_on: what samples, in words.
        measured_on: what other samples, in words.
        ece_before: expected calibration error there, 15 bins of equal width, without it.
        ece_after: the same, of the model as it is here.
    """

    temperature: float
    fitted_on: str
    measured_on: str
    ece_before: float
    ece_after: float


@dataclass(frozen=True)
class RejectOption:
    """Which answers are sure enough to be accepted.

    Attributes:
        threshold: least probability of the predicted class.
        target_accuracy: of accepted answers, for which it was chosen.
        chosen_on: what samples, in words.
        measured_on: what other samples, in words.
        coverage: share of the answers that are accepted there.
        accuracy: of these.
    """

    threshold: float
    target_accuracy: float
    chosen_on: str
    measured_on: str
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class Baseline:
    """What the model answers to samples of the kind that it was made for.

    In production, answers that are spread otherwise show that the inputs have changed.

    Attributes:
        measured_on: what samples, in words.
        shares: of the samples whose most probable class is each label, in the order of the labels.
    """

    measured_on: str
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Int8:
    """Whether the int8 model earned its place, and by what numbers.

    Attributes:
        kept: whether `model.int8.onnx` is in the bundle.
        policy: `auto`: kept if faster at batch 1 or 64 on the exporting machine and at most 0.1
            points of accuracy are lost; or `always`.
        latency_ratio_1: its time over float32's at batch 1, on one thread.
        latency_ratio_64: the same at batch 64.
        accuracy_float32: share of right answers; of values R².
        accuracy_int8: the same; None where nothing is known of the outputs.
        calibrated_on: what samples, in words.
        measured_on: what other samples, in words.
        agreements: how far it is from Keras, if it is kept.
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


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        format_version: of this schema.
        name: the model's name.
        version: the model's version, from 1.
        family: the function that built the model; `keras` for one that was brought along.
        created: when, UTC, ISO 8601.
        inputs: the raw inputs; preprocessing is inside the graph.
        outputs: what the model gives.
        task: `multiclass`: a sample is of one class; `multilabel`: it has any number of labels;
            `regression`: numbers are predicted; `unknown`: nothing is known of the outputs.
        prediction_output: name of the output that predicts, one element a label; None if unknown.
        labels: name of each class, label or value, in the order of the answer.
        columns: name of each column of `inputs`; empty for images.
        nullable_columns: which of these may have no value, NaN.
        string_columns: name of each column of `texts`, where the model has this input.
        preprocessing: the layers that prepare the input inside the graph, in order.
        parameters: number of weights.
        metrics: measured on the test split, such as `accuracy`; empty where none was.
        config: the training configuration, keys as in `config.toml`; empty if not trained here.
        data: the training data: source, SHA-256, number of samples in each split; or empty.
        calibration: of the probabilities; None where none was fitted.
        reject_option: which answers are sure enough; None where all are taken.
        baseline: how often each class is answered; None where no test samples were at hand.
        int8: whether a quantized model is here too; None where none was tried.
        opset: of the ONNX graph.
        lowest_onnxruntime: the first release that knows this opset.
        environment: versions and machine that made the bundle.
        proof: that the artifacts agree.
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

    @property
    def probabilities(self) -> str | None:
        """Name of the output that holds probabilities; None if none is known to."""
        return self.prediction_output if self.task in ("multiclass", "multilabel") else None

    def to_json(self) -> str:
        """Return the manifest as the text of `manifest.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read the text of `manifest.json`.

        Raises:
            ManifestError: it is no JSON, of another format version, or lacks or mistypes a key.
        """
        try:
            value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"manifest.json must be JSON. Received: {error}.") from None
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ManifestError(
                "manifest.json must be text of UTF-8. Received: half of a surrogate pair."
            ) from None
        received = value.get("format_version") if isinstance(value, dict) else None
        if received != FORMAT_VERSION:
            raise ManifestError(
                f"manifest.json must have format_version {FORMAT_VERSION}. "
                f"Received: format_version={received!r}."
            )
        manifest = decode(cls, value, "manifest.json")
        _check_meaning(manifest)
        return manifest


def _check_meaning(manifest: Manifest) -> None:
    """Require members that fit each other."""
    for spec in (*manifest.inputs, *manifest.outputs):
        _check_spec(spec)
    if manifest.task not in TASKS:
        raise ManifestError(
            f"task must be one of {', '.join(TASKS)}. Received: task={manifest.task!r}."
        )
    if (manifest.prediction_output is None) != (manifest.task == "unknown"):
        raise ManifestError(
            "prediction_output must be the name of an output, or null where task is unknown. "
            f"Received: prediction_output={manifest.prediction_output!r} of {manifest.task}."
        )
    strange = [name for name in manifest.nullable_columns if name not in manifest.columns]
    if strange:
        raise ManifestError(f"nullable_columns must name columns. Received: {strange[0]!r:.80}.")
    if manifest.calibration is not None and not manifest.calibration.temperature > 0:
        raise ManifestError(
            "calibration must have a temperature above 0. "
            f"Received: {manifest.calibration.temperature}."
        )
    if manifest.reject_option is not None and not 0 <= manifest.reject_option.threshold <= 1:
        raise ManifestError(
            f"reject_option must have a threshold from 0 to 1. "
            f"Received: {manifest.reject_option.threshold}."
        )
    if manifest.reject_option is not None and manifest.task != "multiclass":
        raise ManifestError(
            f"reject_option needs task=multiclass. Received: task={manifest.task!r}."
        )
    if manifest.baseline is not None and len(manifest.baseline.shares) != len(manifest.labels):
        raise ManifestError(
            "baseline must have a share of each label. Received: "
            f"{len(manifest.baseline.shares)} shares of {len(manifest.labels)} labels."
        )


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number:.40}, which no float can hold")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is no JSON number")


def _check_spec(spec: TensorSpec) -> None:
    if spec.dtype not in DTYPES:
        raise ManifestError(
            f"A tensor must be of {', '.join(DTYPES)}. Received: {spec.name}, dtype={spec.dtype!r}."
        )
    is_sound = all(size if isinstance(size, str) else size > 0 for size in spec.shape)
    if not spec.shape or not isinstance(spec.shape[0], str) or not is_sound:
        raise ManifestError(
            "A tensor must have a named first axis and named ones or sizes behind it. "
            f"Received: {spec.name}, shape={spec.shape}."
        )
