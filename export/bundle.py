"""From a trained Keras model to a published bundle: the steps, in order."""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from export.onnx.convert import LEFT_OUT, convert_to_graph
from export.onnx.files import forget_weights, write_graph
from export.onnx.opsets import LOWEST_ONNXRUNTIME, OPSET
from serving.bundle import KERAS_MODEL, MANIFEST, MODEL
from serving.checking import check_finite, check_inputs, dtype_of
from serving.environment import describe_environment
from serving.errors import InputError, cannot_write
from serving.manifest import FORMAT_VERSION, Float16, Manifest, Proof, describe_spec
from serving.parity import Inputs, Outputs, count_samples, take_samples
from serving.verify import verify_bundle

from .backends import describe_backend, require_runnable
from .batches import (
    as_whole_batch,
    explain_difference,
    samples_taken_alone,
    whole_batches,
    with_accepted_edge_cases,
    with_observed_batch,
)
from .browser_proof import write_browser_proof
from .conditioning import stable_samples
from .errors import ExportError, ProofError, explained
from .faulty_passes import without_faulty_pass
from .golden import write_golden
from .half_precision import write_float16
from .inference import InferenceFunction, trace_inference
from .memory import return_memory
from .model_card import write_model_card
from .noise import describe_noise, draw_noise, require_same_draws
from .options import ExportOptions, ModelFacts
from .output_kind import OutputKind, infer_task, values_kind
from .parity import prove, require_same_as_original
from .preprocessing import describe_preprocessing
from .publish import (
    check_free,
    check_name,
    check_same_contract,
    choose_version,
    new_workplace,
    publish,
    require_room,
    version_lock,
    write_checksums,
)
from .quantization import Int8Data, evaluate_int8, require_float32
from .sample_generation import draw_samples
from .samples import Samples, choose_golden, finite_samples, spread, with_edge_cases
from .saved_model import write_saved_model
from .steps import begin_step

_PACKAGES = ("hornbill", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")
_MAX_CALIBRATION = 512
_DEFAULT_FACTS, _DEFAULT_OPTIONS = ModelFacts(), ExportOptions()


def export_bundle(  # noqa: PLR0913 - most have a default
    model: keras.Model,
    output: str | Path,
    name: str,
    facts: ModelFacts = _DEFAULT_FACTS,
    samples: Samples | Inputs | None = None,
    options: ExportOptions = _DEFAULT_OPTIONS,
    *,
    inputs: Any = None,
) -> Path:
    """Export a model as a proven and verified version of a bundle.

    Args:
        model: Model or layer: functional, sequential, or a class with a `call` of its own that was
            called or whose `inputs` are given.
        output: Folder of bundles, such as `dist`.
        name: Name of the model; the bundle is `<output>/<name>/<version>`.
        facts: What the bundle states about the model beyond its graph.
        samples: Samples for the proof: `Samples`, which include edge cases, or one array
            `(samples, …)` for each input; None to draw them.
        options: How to export the model.
        inputs: What the model takes, if it has not been called or takes more than that:
            `keras.InputSpec`, an array, a shape with the batch such as `(None, 28, 28)`, or a dict
            or list of them, see `export.signatures.arguments_of`.

    Returns:
        The version's folder. After an error nothing is published and earlier versions are
        unchanged.

    Raises:
        ExportError: The model or the samples cannot be used, the version exists, or the inputs,
            outputs or labels differ from those of the previous version.
        ProofError: Keras, the SavedModel and the ONNX graph do not compute the same function.

    Example:
        >>> bundle = export_bundle(model, "dist", "digits", ModelFacts(labels=tuple("0123456789")))
    """
    check_name(name)
    model_folder = Path(output) / name
    check_free(model_folder)
    choose_version(model_folder, options.version)  # fails before the work if it exists
    with _staging_folder(Path(output), name) as staged:
        begin_step("tracing the model")
        has_columns = bool(facts.columns or facts.string_columns)
        inference = trace_inference(model, options.input_dtype, inputs, has_columns)
        facts = with_split_columns(facts, inference)
        check_same_contract({"inputs": inference.inputs}, model_folder)  # before the work
        require_runnable(options.trained_on, inference.inputs, inference.noise)
        if options.trained_on not in (None, "tensorflow"):
            inference = replace(inference, backend=options.trained_on)
        require_room(Path(output), 2 * inference.weight_bytes)
        manifest = _write_evidence(inference, facts, samples, options, staged, model_folder)
        with version_lock(Path(output), name):
            number = choose_version(model_folder, options.version)
            check_same_contract(vars(manifest), model_folder)
            numbered = replace(manifest, version=number)
            begin_step("writing and verifying the bundle")
            _complete(numbered, facts.figures, options, staged)
            return publish(staged.rename(staged.parent / str(number)), numbered, model_folder)


@contextmanager
def _staging_folder(output: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder to write a version in, and always remove it at the end."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with version_lock(output, name):
            workplace, in_use = new_workplace(output, name)
    except OSError as error:
        raise ExportError(cannot_write(output, error)) from None
    try:
        staged = workplace / name / "staged"
        staged.mkdir(parents=True)
        yield staged
    except OSError as error:
        raise ExportError(
            f"{cannot_write(output, error)} The bundle is incomplete, so nothing was published."
        ) from None
    finally:
        in_use.release()
        shutil.rmtree(workplace, ignore_errors=True)  # another export may be removing it too


@dataclass(frozen=True)
class _Known:
    """A traced model, samples, and what Keras predicts for them."""

    inference: InferenceFunction
    samples: Samples
    expected: Outputs


def _write_evidence(
    inference: InferenceFunction,
    facts: ModelFacts,
    samples: Samples | Inputs | None,
    options: ExportOptions,
    folder: Path,
    model_folder: Path,
) -> Manifest:
    """Write the artifacts, prove them, write the golden samples; return the manifest."""
    require_float32(inference, options.int8)
    begin_step("predicting with Keras")
    known, are_finite = _predict_samples(inference, samples)
    inference, chosen, expected = known.inference, known.samples, known.expected
    if inference.whole_batches:
        _refuse_int8(options.int8)
    require_same_as_original(inference, chosen.inputs, expected)
    if inference.noise:
        require_same_draws(inference.model, inference.by_name(chosen.inputs))
    kind = _output_kind(expected, facts)
    known_so_far = {"outputs": inference.outputs, **vars(kind)}
    check_same_contract(known_so_far, model_folder)  # before the work
    notes = _write_models(inference, folder)
    proven: list[tuple[_Known, Proof]] = []

    def prove_graph(_written: Any) -> None:
        begin_step("proving SavedModel and ONNX")
        proven.append(_prove(known, folder, kind, options, samples is None))

    written, faulty = without_faulty_pass(
        partial(
            _write_graph, inference, _metadata(inference, facts, kind, folder), options, folder
        ),
        prove_graph,
    )
    known, proof = proven[-1]
    inference = known.inference
    golden_inputs = _write_golden_samples(inference, known.samples, known.expected, folder)
    data = facts.int8_data or _int8_data_from(known.samples, samples is None)
    data = replace(
        data,
        calibration=_with_noise(inference, data.calibration),
        evaluation=_with_noise(inference, data.evaluation),
        are_finite=are_finite,
        thresholds=None if facts.thresholds is None else facts.thresholds.values,
    )
    int8, without_int8 = evaluate_int8(inference, folder, data, golden_inputs, kind, options.int8)
    manifest = _manifest(inference, facts, kind, proof, folder.parent.name, written.opset)
    notes += tuple(
        f"The ONNX graph was not cleaned by {name}: {reason}"
        for name, reason in (written.left_out | faulty).items()
    )
    if without_int8:
        notes += (without_int8,)
    float16 = _half_precision(known, golden_inputs, folder, kind, options)
    return replace(manifest, int8=int8, float16=float16, warnings=(*manifest.warnings, *notes))


def _predict_samples(
    inference: InferenceFunction, samples: Samples | Inputs | None
) -> tuple[_Known, bool]:
    """Return the samples of a proof with what Keras predicts, and whether all of it is finite.

    What is not finite is left out.
    """
    chosen = _choose_samples(inference, samples)
    if samples is not None:
        chosen = with_accepted_edge_cases(inference, chosen)
    count = count_samples(chosen.inputs)
    inference = with_observed_batch(inference, chosen.inputs)
    if inference.whole_batches:
        chosen, expected = as_whole_batch(inference, chosen)
    else:
        chosen, expected = finite_samples(chosen, inference.predict(chosen.inputs))
    return _Known(inference, chosen, expected), count_samples(chosen.inputs) == count


def _half_precision(
    known: _Known, golden: Inputs, folder: Path, kind: OutputKind, options: ExportOptions
) -> Float16 | None:
    """Write and prove the graph in half precision, if it was asked for."""
    if options.precision != "float16":
        return None
    if known.inference.whole_batches:
        raise ExportError(
            "float16 needs a model that takes samples one by one. "
            "Received: a model of whole batches. Leave out --precision float16."
        )
    begin_step("converting to float16 and proving it")
    indices = choose_golden(known.samples)
    wanted = {name: array[indices] for name, array in known.expected.items()}
    return write_float16(known.inference, folder, golden, wanted, kind, options.has_float16_io)


def _prove(
    known: _Known, folder: Path, kind: OutputKind, options: ExportOptions, are_drawn: bool
) -> tuple[_Known, Proof]:
    """Prove the artifacts; if that fails, for other batches or samples if those are why."""
    inference, chosen, expected = known.inference, known.samples, known.expected
    try:
        return known, prove(inference, folder, chosen, expected, kind)
    except ExportError as error:
        if inference.whole_batches:
            raise
        if not isinstance(error, ProofError):  # an artifact does not run
            taken, outputs = samples_taken_alone(inference, chosen, expected)
            if taken is chosen:
                raise
            return _prove(_Known(inference, taken, outputs), folder, kind, options, are_drawn)
        found = explain_difference(inference, chosen.inputs, expected)
        if found.whole_batches:
            _refuse_int8(options.int8)
            known = _Known(found, *as_whole_batch(found, chosen))
        else:
            stable, outputs = stable_samples(inference, chosen, expected, kind, are_drawn)
            if stable is chosen:
                raise
            known = _Known(inference, stable, outputs)
    return known, prove(known.inference, folder, known.samples, known.expected, kind)


def _refuse_int8(policy: str) -> None:
    if policy == "always":
        raise ExportError(
            "int8 needs a model that takes samples one by one. "
            "Received: a model of whole batches. Leave out --int8 always."
        )


def _choose_samples(inference: InferenceFunction, samples: Samples | Inputs | None) -> Samples:
    if samples is None:
        try:
            return draw_samples(inference)
        except ExportError:
            convert_to_graph(inference, {})  # samples are no use if ONNX cannot express the model
            raise
    if isinstance(samples, Samples):
        sizes = tuple(_with_noise(inference, inputs) for inputs in samples.of_other_sizes)
        return replace(samples, inputs=_with_noise(inference, samples.inputs), of_other_sizes=sizes)
    arrays = _cast_samples(inference, samples)
    try:
        check_inputs(arrays, inference.inputs)
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                check_finite(name, array, ())
    except InputError as error:
        raise ExportError(f"Samples must fit the model's inputs. {error}") from None
    return with_edge_cases(arrays, "the samples given", has_unknown=False)


def _cast_samples(inference: InferenceFunction, samples: Inputs) -> dict[str, np.ndarray]:
    """Return an array for each input, cast to its dtype where numpy calls that the same kind."""
    names = [spec.name for spec in inference.inputs]
    arrays = {  # without what `without_empty_inputs` left out
        name: array
        for name, array in inference.by_name(samples).items()
        if name in names or np.size(array)
    }
    arrays = {**inference.by_name(_with_noise(inference, arrays))}
    for spec in inference.inputs:
        array = np.asarray(arrays[spec.name]) if spec.name in arrays else None
        if array is not None and np.can_cast(array.dtype, dtype_of(spec), "same_kind"):
            arrays = {**arrays, spec.name: array.astype(dtype_of(spec))}
    return arrays


def _with_noise(inference: InferenceFunction, inputs: Inputs) -> Inputs:
    """Return inputs with noise for each sample, where they lack it and its shape is known."""
    for name, kind in inference.noise.items():
        named = inference.by_name(inputs)
        (spec,) = (spec for spec in inference.inputs if spec.name == name)
        rest = [size for size in spec.shape[1:] if isinstance(size, int)]
        if name not in named and len(rest) == len(spec.shape) - 1:
            inputs = {**named, name: draw_noise(kind, (count_samples(named), *rest))}
    return inputs


def draft_manifest(
    inference: InferenceFunction,
    facts: ModelFacts,
    name: str,
    samples: Samples | Inputs | None = None,
) -> Manifest:
    """Return what the manifest of a model will say, before anything is written or proven.

    Args:
        inference: The traced model.
        facts: What the bundle states about it.
        name: Name of the model.
        samples: As for `export_bundle`.

    Raises:
        ExportError: The samples cannot be used, or the labels do not suit its outputs.
    """
    known, _ = _predict_samples(inference, samples)
    kind = _output_kind(known.expected, facts)
    return _manifest(known.inference, facts, kind, Proof("", 0, (), {}, ()), name, OPSET)


def with_split_columns(facts: ModelFacts, inference: InferenceFunction) -> ModelFacts:
    """Return the facts with the names of columns divided among the inputs of numbers and of texts.

    Raises:
        ExportError: There are more or fewer names than columns.
    """
    names = (*facts.columns, *facts.string_columns)
    if not names:
        return facts
    widths = {spec.name: spec.shape[1] for spec in inference.inputs}
    numbers, texts = (widths.get(name, 0) for name in ("inputs", "texts"))
    if not (isinstance(numbers, int) and isinstance(texts, int)) or numbers + texts != len(names):
        takes = ", ".join(map(describe_spec, inference.inputs))
        raise ExportError(
            f"There must be a name for each column of {takes}. Received: {len(names)}."
        )
    return replace(facts, columns=names[:numbers], string_columns=names[numbers:])


def _output_kind(outputs: Outputs, facts: ModelFacts) -> OutputKind:
    if facts.task is None:
        return infer_task(outputs, facts.labels)
    if facts.family == "keras" and facts.task == "regression":
        return values_kind(outputs, facts.labels)
    name = "values" if facts.task == "regression" else "probabilities"
    if name not in outputs or outputs[name].shape[1:] != (len(facts.labels),):
        shapes = ", ".join(f"{name} {array.shape[1:]}" for name, array in outputs.items())
        raise ExportError(
            f"A model of task={facts.task} must have the output {name!r}, "
            f"with one element for each label. "
            f"Received: {shapes} for {len(facts.labels)} labels."
        )
    return OutputKind(facts.task, name, facts.labels)


def _write_models(inference: InferenceFunction, folder: Path) -> tuple[str, ...]:
    """Write the SavedModel, and the Keras model if it has features; return what was left out."""
    begin_step("writing the SavedModel")
    write_saved_model(inference, folder)
    if not any(spec.name == "features" for spec in inference.outputs):
        return ()
    if inference.noise:
        return (_without_keras("A model with inputs of noise cannot be saved."),)
    try:
        with explained("Keras must be able to save the model"):
            inference.model.save(folder / KERAS_MODEL)
    except ExportError as error:  # of a class without a config
        (folder / KERAS_MODEL).unlink(missing_ok=True)
        return (_without_keras(str(error)),)
    return ()


def _without_keras(reason: str) -> str:
    return f"There is no {KERAS_MODEL} for other models on these features. {reason}"


def _metadata(
    inference: InferenceFunction, facts: ModelFacts, kind: OutputKind, folder: Path
) -> dict[str, Any]:
    """Return what the ONNX file states besides its graph."""
    return {
        "name": folder.parent.name,
        "labels": kind.labels,
        "columns": facts.columns,
        "nullable_columns": facts.nullable_columns,
        "string_columns": facts.string_columns,
        "preprocessing": describe_preprocessing(inference.model),
    }


@dataclass(frozen=True)
class _Written:
    """The opset of the graph that was written, and why passes over it were left out, by name."""

    opset: int
    left_out: dict[str, str]


def _write_graph(
    inference: InferenceFunction,
    metadata: dict[str, Any],
    options: ExportOptions,
    folder: Path,
    without: Collection[str],
) -> _Written:
    begin_step("converting to ONNX")
    graph = convert_to_graph(inference, metadata, options.opset, without)
    write_graph(graph, folder / MODEL)
    left_out = json.loads(graph.metadata_props.get(LEFT_OUT, "{}"))
    written = _Written(int(graph.opset_imports[""]), left_out)
    forget_weights(graph)
    return_memory(inference.model)
    return written


def _write_golden_samples(
    inference: InferenceFunction, samples: Samples, expected: Outputs, folder: Path
) -> Inputs:
    """Write the golden samples and what Keras predicts for them; return their inputs.

    Whole batches are written for each number of samples, the largest first.
    """
    if inference.whole_batches:
        for number, (batch, outputs) in enumerate(whole_batches(inference, samples.inputs)):
            write_golden(inference, batch, outputs, folder, f"test_data_set_{number}")
        return samples.inputs
    chosen = choose_golden(samples)
    inputs = take_samples(samples.inputs, chosen)
    write_golden(inference, inputs, {name: a[chosen] for name, a in expected.items()}, folder)
    return inputs


def _int8_data_from(samples: Samples, are_drawn: bool) -> Int8Data:
    """Return the samples of the proof as int8 data, for models without known training samples."""
    inputs = take_samples(samples.inputs, spread(len(samples), _MAX_CALIBRATION))
    source = samples.source
    return Int8Data(inputs, source, inputs, None, f"{source}, against float32", are_drawn=are_drawn)


def _manifest(
    inference: InferenceFunction,
    facts: ModelFacts,
    kind: OutputKind,
    proof: Proof,
    name: str,
    opset: int,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        version=0,  # assigned under the lock, when no other export can take the number
        family=facts.family,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=inference.inputs,
        outputs=inference.outputs,
        task=kind.task,
        prediction_output=kind.prediction_output,
        labels=kind.labels,
        columns=facts.columns,
        nullable_columns=facts.nullable_columns,
        string_columns=facts.string_columns,
        row_format=facts.row_format,
        preprocessing=describe_preprocessing(inference.model),
        parameters=inference.model.count_params(),
        metrics=facts.metrics,
        metric_intervals=facts.metric_intervals,
        config=facts.config,
        data=facts.data,
        calibration=facts.calibration,
        reject_option=facts.reject_option,
        baseline=facts.baseline,
        int8=None,  # the caller adds it
        opset=opset,
        lowest_onnxruntime=LOWEST_ONNXRUNTIME[opset],
        environment=_environment(inference),
        proof=proof,
        thresholds=facts.thresholds,
        intervals=facts.intervals,
        reference_scores=facts.reference_scores,
        importance=facts.importance,
        warnings=(*facts.warnings, *describe_noise(inference.noise)),
        whole_batches=inference.whole_batches,
        quantization=inference.quantization,
        training_cells=facts.training_cells,
        target_units=facts.target_units,
        positive=facts.positive,
    )


def _environment(inference: InferenceFunction) -> dict[str, str]:
    """Return the packages and the machine, and the backend that the proof compares with."""
    found = describe_environment(_PACKAGES)
    if inference.backend is not None:
        found["compared with"] = f"keras on {describe_backend(inference.backend)}"
    return found


def _complete(
    manifest: Manifest, figures: Sequence[Path], options: ExportOptions, folder: Path
) -> None:
    """Write the remaining files, sign the folder, and verify it as a receiver will."""
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    (folder / "figures").mkdir()
    for figure in figures:
        shutil.copyfile(figure, folder / "figures" / figure.name)
    write_browser_proof(folder)
    write_model_card(manifest, [figure.name for figure in figures], folder)
    if options.sign is not None:
        options.sign(folder)
    write_checksums(folder)
    failed: list[Any] = [check for check in verify_bundle(folder) if not check.passed]
    if failed:
        raise ProofError(
            "The exported bundle failed its own verification, so nothing was published. "
            f"Received: {failed[0].name}: {failed[0].detail}"
        )
