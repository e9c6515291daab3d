"""From a trained Keras model to a published bundle: the steps, in their order."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export.onnx.convert import LOWEST_ONNXRUNTIME, OPSET, check_opset, convert_to_onnx
from serving.bundle import MANIFEST, MODEL
from serving.checking import check_finite, check_inputs, dtype_of
from serving.errors import InputError
from serving.manifest import FORMAT_VERSION, Baseline, Calibration, Manifest, Proof, RejectOption
from serving.parity import Inputs, Outputs, take_samples
from serving.verify import verify_bundle

from .environment import describe_environment
from .errors import ExportError, ProofError
from .golden import write_golden
from .inference import INPUT_DTYPES, InferenceFunction, trace_inference
from .memory import return_memory
from .model_card import write_card
from .output_kind import OutputKind, infer_task
from .parity import prove, require_same_as_original
from .preprocessing import describe_preprocessing
from .publish import (
    alone,
    check_name,
    check_same_contract,
    choose_version,
    new_workplace,
    publish,
    write_checksums,
)
from .quantization import POLICIES, Int8Data, evaluate_int8
from .sample_generation import draw_samples
from .samples import Samples, choose_golden, finite_samples, spread, with_edge_cases
from .saved_model import write_saved_model

_MAX_CALIBRATION = 512
_MAX_VERSIONS = 2**63  # TF Serving and Triton number them so


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a model beyond its graph.

    Attributes:
        family: the function that built it; `keras` for a model that was brought along.
        task: `multiclass`, `multilabel` or `regression`; None to find it out from the labels and
            the outputs.
        labels: name of each class, label or value, in the order of the answer; may be empty for a
            model of which nothing is known.
        columns: name of each column of numbers; empty for images.
        nullable_columns: which of the columns may have no value.
        string_columns: name of each column of text.
        metrics: measured on the test split.
        config: the training configuration, by flat key.
        data: the training data: source, SHA-256, samples of each split.
        figures: pictures for the model card.
        calibration: of the probabilities, already in the model.
        reject_option: which answers are sure enough.
        baseline: how often each class is answered.
        int8_data: what an int8 model is calibrated and judged on; None for the proof's samples.
    """

    family: str = "keras"
    task: str | None = None
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    nullable_columns: tuple[str, ...] = ()
    string_columns: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    data: dict[str, object] = field(default_factory=dict)
    figures: Sequence[Path] = ()
    calibration: Calibration | None = None
    reject_option: RejectOption | None = None
    baseline: Baseline | None = None
    int8_data: Int8Data | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        is_sequence = isinstance(self.labels, tuple | list)
        if not is_sequence or not all(isinstance(label, str) for label in self.labels):
            raise ExportError(f"labels must be a tuple of texts. Received: {self.labels!r:.80}.")
        if self.task not in (None, "multiclass", "multilabel", "regression"):
            raise ExportError(
                f"task must be multiclass, multilabel, regression or None. Received: {self.task!r}."
            )
        if (self.metrics or self.config) and not self.data:
            raise ExportError("metrics and config are of some data. Received: no data.")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a model is exported.

    Attributes:
        version: its number; None for the one after the latest.
        opset: of the ONNX graph.
        input_dtype: what inputs of float32 take instead, cast inside the graph, such as `uint8`.
        int8: whether a quantized model is tried: `auto` keeps it only if it is faster and as good,
            `always` keeps it, `never` tries none.
        sign: signs the finished folder, as `serving.signature.read_signer` returns it.

    Raises:
        ExportError: a value is out of range.
    """

    version: int | None = None
    opset: int = OPSET
    input_dtype: str | None = None
    int8: str = "auto"
    sign: Callable[[Path], None] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_opset(self.opset)
        if self.version is not None and type(self.version) is not int:
            raise ExportError(f"version must be a whole number. Received: {self.version!r}.")
        if self.version is not None and not 0 < self.version < _MAX_VERSIONS:
            raise ExportError(f"version must be from 1 to 2^63 - 1. Received: {self.version}.")
        if self.int8 not in POLICIES:
            raise ExportError(
                f"int8 must be one of {', '.join(POLICIES)}. Received: {self.int8!r}."
            )
        if self.input_dtype not in (None, *INPUT_DTYPES):
            raise ExportError(
                f"input_dtype must be one of {', '.join(INPUT_DTYPES)}. "
                f"Received: {self.input_dtype!r}."
            )


_DEFAULT_FACTS, _DEFAULT_OPTIONS = ModelFacts(), ExportOptions()


def export_bundle(
    model: keras.Model,
    output: str | Path,
    name: str,
    facts: ModelFacts = _DEFAULT_FACTS,
    samples: Samples | Inputs | None = None,
    options: ExportOptions = _DEFAULT_OPTIONS,
) -> Path:
    """Export a model as a version of a bundle, proven and verified.

    Args:
        model: functional or sequential.
        output: folder of bundles, such as `dist`.
        name: of the model; the bundle is `<output>/<name>/<version>`.
        facts: what else the bundle says of it.
        samples: what the proof is made on: `Samples`, edge cases included, or arrays, one or one
            for each input's name; None to draw them.
        options: how it is exported.

    Returns:
        The version's folder. After an error nothing was published and earlier versions are as
        they were.

    Raises:
        ExportError: the model or the samples cannot be used, the version is taken, or the
            contract differs from its predecessors'.
        ProofError: Keras, the SavedModel and the ONNX graph do not agree.

    Example:
        >>> bundle = export_bundle(model, "dist", "digits", ModelFacts(labels=tuple("0123456789")))
    """
    check_name(name)
    model_folder = Path(output) / name
    if model_folder.exists() and not model_folder.is_dir():
        raise ExportError(f"A bundle must be a folder. Received: {model_folder}, a file.")
    choose_version(model_folder, options.version)  # before the work, whether it is taken
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
        with alone(Path(output), name):
            workplace, is_alive = new_workplace(Path(output), name)
    except OSError as error:
        raise ExportError(
            f"Bundles must go to a folder that can be written. Received: {output}: "
            f"{error.strerror}."
        ) from None
    try:
        staged = workplace / name / "staged"
        staged.mkdir(parents=True)
        inference = trace_inference(model, options.input_dtype)
        manifest = _write_evidence(inference, facts, samples, options, staged)
        with alone(Path(output), name):
            number = choose_version(model_folder, options.version)
            check_same_contract(manifest, model_folder)
            numbered = replace(manifest, version=number)
            _write_words(numbered, facts.figures, staged)
            if options.sign is not None:
                options.sign(staged)
            write_checksums(staged)
            _verify(staged)
            return publish(staged.rename(staged.parent / str(number)), numbered, model_folder)
    except OSError as error:
        raise ExportError(
            f"A bundle must be written whole. Received: {output}: {error.strerror or error}."
        ) from None
    finally:
        is_alive.release()
        shutil.rmtree(workplace, ignore_errors=True)  # another export may be clearing up too


def _write_evidence(
    inference: InferenceFunction,
    facts: ModelFacts,
    samples: Samples | Inputs | None,
    options: ExportOptions,
    folder: Path,
) -> Manifest:
    """Write the artifacts, prove them, write the golden samples; return the manifest."""
    chosen = _choose_samples(inference, samples)
    answers = inference.predict(chosen.inputs)
    chosen, answers = finite_samples(chosen, answers)
    require_same_as_original(inference, chosen.inputs, answers)
    meaning = _meaning(answers, facts)
    write_saved_model(inference, folder)
    metadata = {
        "name": folder.parent.name,
        "labels": meaning.labels,
        "columns": facts.columns,
        "nullable_columns": facts.nullable_columns,
        "string_columns": facts.string_columns,
        "preprocessing": describe_preprocessing(inference.model),
    }
    graph = convert_to_onnx(inference, metadata, options.opset)
    (folder / MODEL).write_bytes(graph.SerializeToString(deterministic=True))
    del graph
    return_memory()
    proof = prove(inference, folder, chosen, answers, meaning)
    golden = choose_golden(chosen)
    golden_answers = {name: array[golden] for name, array in answers.items()}
    golden_inputs = take_samples(chosen.inputs, golden)
    write_golden(inference, golden_inputs, golden_answers, folder)
    data = facts.int8_data or _own_data(chosen)
    int8 = evaluate_int8(inference, folder, data, golden_inputs, meaning, options.int8)
    manifest = _manifest(inference, facts, meaning, proof, folder.parent.name, options.opset)
    return replace(manifest, int8=int8)


def _own_data(samples: Samples) -> Int8Data:
    """Calibrate on the samples of the proof, where none of training are known."""
    count = len(samples)
    inputs = take_samples(samples.inputs, spread(count, _MAX_CALIBRATION))
    return Int8Data(inputs, samples.source, inputs, None, f"{samples.source}, against float32")


def _choose_samples(inference: InferenceFunction, samples: Samples | Inputs | None) -> Samples:
    if samples is None:
        return draw_samples(inference)
    if isinstance(samples, Samples):
        return samples
    arrays = inference.by_name(samples)
    for spec in inference.inputs:
        array = np.asarray(arrays[spec.name]) if spec.name in arrays else None
        if array is not None and np.can_cast(array.dtype, dtype_of(spec), "same_kind"):
            arrays = {**arrays, spec.name: array.astype(dtype_of(spec))}
    try:
        check_inputs(arrays, inference.inputs)
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                check_finite(name, array, ())
    except InputError as error:
        raise ExportError(f"Samples must fit the model. {error}") from None
    return with_edge_cases(arrays, "the samples given", has_unknown=False)


def _meaning(answers: Outputs, facts: ModelFacts) -> OutputKind:
    if facts.task is not None:
        answer = "values" if facts.task == "regression" else "probabilities"
        if answer not in answers or answers[answer].shape[1:] != (len(facts.labels),):
            shapes = ", ".join(f"{name} {array.shape[1:]}" for name, array in answers.items())
            raise ExportError(
                f"A model of task={facts.task} must have the output "
                f"{answer!r}, one element a label. "
                f"Received: {shapes} for {len(facts.labels)} labels."
            )
        return OutputKind(facts.task, answer, facts.labels)
    return infer_task(answers, facts.labels)


def _manifest(
    inference: InferenceFunction,
    facts: ModelFacts,
    meaning: OutputKind,
    proof: Proof,
    name: str,
    opset: int,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        version=0,  # known once no other export can take it
        family=facts.family,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=inference.inputs,
        outputs=inference.outputs,
        task=meaning.task,
        prediction_output=meaning.prediction_output,
        labels=meaning.labels,
        columns=facts.columns,
        nullable_columns=facts.nullable_columns,
        string_columns=facts.string_columns,
        preprocessing=describe_preprocessing(inference.model),
        parameters=inference.model.count_params(),
        metrics=facts.metrics,
        config=facts.config,
        data=facts.data,
        calibration=facts.calibration,
        reject_option=facts.reject_option,
        baseline=facts.baseline,
        int8=None,  # known later
        opset=opset,
        lowest_onnxruntime=LOWEST_ONNXRUNTIME[opset],
        environment=describe_environment(),
        proof=proof,
    )


def _write_words(manifest: Manifest, figures: Sequence[Path], folder: Path) -> None:
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    (folder / "figures").mkdir()
    for figure in figures:
        shutil.copyfile(figure, folder / "figures" / figure.name)
    write_card(manifest, [figure.name for figure in figures], folder)


def _verify(folder: Path) -> None:
    """What a receiver will run is run before anyone receives it."""
    failed: list[Any] = [check for check in verify_bundle(folder) if not check.passed]
    if failed:
        raise ProofError(f"A bundle must verify. Received: {failed[0].name}: {failed[0].detail}")
