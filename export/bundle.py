"""From a trained Keras model to a published bundle: the steps, in their order."""

import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from serving.bundle import MANIFEST, MODEL, read_manifest
from serving.manifest import FORMAT_VERSION, Manifest, Proof
from serving.verify import verify_bundle

from .card import write_card
from .errors import ExportError, ProofError
from .golden import write_golden
from .inference import InferenceFunction, trace_inference
from .onnx_graph import OPSET, convert_to_onnx
from .preprocessing import describe_preprocessing
from .proof import prove
from .publish import check_name, check_same_contract, next_version, publish, write_checksums
from .samples import Samples, choose_golden
from .saved_model import write_saved_model

_PACKAGES = ("hornbill", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model beyond its graph.

    Attributes:
        family: the function that built it.
        labels: name of each class, label or value, in the order of the answer.
        columns: name of each column of numbers; empty for images.
        metrics: measured on the test split.
        config: the training configuration, by flat key.
        data: the training data: source, SHA-256, samples of each split.
        figures: pictures for the model card.
        kind_of_targets: `classes`, `labels` or `values`.
        gaps: which of the columns may have no value.
        text_columns: name of each column of text.
    """

    family: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: dict[str, float]
    config: dict[str, object]
    data: dict[str, object]
    figures: Sequence[Path] = ()
    kind_of_targets: str = "classes"
    gaps: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()


def export_bundle(
    model: keras.Model, facts: ModelFacts, samples: Samples, output: str | Path, name: str
) -> Path:
    """Export a model as the next version of a bundle, proven and verified.

    Args:
        model: functional, with one named input or a dict of them, and a dict of outputs.
        facts: what else the bundle says of it.
        samples: what the proof is made on, the edge cases included.
        output: folder of bundles, such as `dist`.
        name: of the model; the bundle is `<output>/<name>/<version>`.

    Returns:
        The version's folder. After an error nothing was published and earlier versions are as
        they were.

    Raises:
        ExportError: the model cannot be exported, or differs in its contract from its
            predecessors.
        ProofError: Keras, the SavedModel and the ONNX graph do not agree.
    """
    check_name(name)
    model_folder = Path(output) / name
    if model_folder.exists() and not model_folder.is_dir():
        raise ExportError(f"A bundle must be a folder. Received: {model_folder}, a file.")
    try:
        Path(output).mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=output))
    except OSError as error:
        raise ExportError(
            f"Bundles must go to a folder that can be written. Received: {output}: "
            f"{error.strerror}."
        ) from None
    try:
        number = next_version(model_folder)
        staged = workplace / name / str(number)
        staged.mkdir(parents=True)
        _write_version(trace_inference(model), facts, samples, staged, model_folder)
        return publish(staged.parent, read_manifest(staged), model_folder)
    except OSError as error:
        raise ExportError(
            f"A bundle must be written whole. Received: {output}: {error.strerror or error}."
        ) from None
    finally:
        shutil.rmtree(workplace)


def _write_version(
    inference: InferenceFunction,
    facts: ModelFacts,
    samples: Samples,
    staged: Path,
    model_folder: Path,
) -> None:
    name, number = staged.parent.name, int(staged.name)
    _write_artifacts(inference, facts, name, staged)
    proof = prove(inference, staged, samples, facts.kind_of_targets)
    manifest = _manifest(inference, facts, proof, name, number)
    check_same_contract(manifest, model_folder)
    write_golden(inference, choose_golden(samples), staged)
    _write_words(manifest, facts.figures, staged)
    _verify(staged)


def _write_artifacts(
    inference: InferenceFunction, facts: ModelFacts, name: str, folder: Path
) -> None:
    write_saved_model(inference, folder)
    metadata = {
        "name": name,
        "labels": facts.labels,
        "columns": facts.columns,
        "text_columns": facts.text_columns,
    }
    graph = convert_to_onnx(inference, metadata)
    (folder / MODEL).write_bytes(graph.SerializeToString(deterministic=True))


def _manifest(
    inference: InferenceFunction, facts: ModelFacts, proof: Proof, name: str, number: int
) -> Manifest:
    environment = {package: version(package) for package in _PACKAGES}
    environment |= {"python": platform.python_version(), "machine": platform.machine()}
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        version=number,
        family=facts.family,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=inference.inputs,
        outputs=inference.outputs,
        kind_of_targets=facts.kind_of_targets,
        labels=facts.labels,
        columns=facts.columns,
        gaps=facts.gaps,
        text_columns=facts.text_columns,
        preprocessing=describe_preprocessing(inference.model),
        parameters=inference.model.count_params(),
        metrics=facts.metrics,
        config=facts.config,
        data=facts.data,
        opset=OPSET,
        environment=environment,
        proof=proof,
    )


def _write_words(manifest: Manifest, figures: Sequence[Path], folder: Path) -> None:
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    (folder / "figures").mkdir()
    for figure in figures:
        shutil.copyfile(figure, folder / "figures" / figure.name)
    write_card(manifest, [figure.name for figure in figures], folder)
    write_checksums(folder)


def _verify(folder: Path) -> None:
    """What a receiver will run is run before anyone receives it."""
    failed: list[Any] = [check for check in verify_bundle(folder) if not check.passed]
    if failed:
        raise ProofError(f"A bundle must verify. Received: {failed[0].name}: {failed[0].detail}")
