"""Logs a bundle to an MLflow server: a run with its metrics and card, and its model.

The model is MLflow's ONNX flavor with the bytes of the bundle's graph, and the bundle as it is in a
folder beside it: MLflow finds a graph only beside `MLmodel`.
Source: MLflow 3, `mlflow.onnx` and the format of models.
"""

import contextlib
import hashlib
import io
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# MLflow itself tries a server that is down for minutes, and reads these when it is imported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from app.errors import SharingError
from app.system.addresses import without_credentials
from serving.bundle import CHECKSUMS, MODEL, check_names, read_manifest, weights_file
from serving.errors import one_line
from serving.golden import read_golden
from serving.manifest import Manifest
from serving.manifest import TensorSpec as BundleSpec
from serving.packed import files_to_pack

_CARD = "README.md"
# What MLflow takes: characters of a tag and of a parameter, parameters in a request.
_TAG, _PARAMETER, _BATCH = 8_000, 6_000, 100
_NOT_IN_KEYS = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True)
class Logged:
    """What was logged.

    Attributes:
        run_id: id of the run.
        model: address of the model: `models:/ID`, or `models:/NAME/VERSION` if it was registered.
        url: page of the run, without credentials.
    """

    run_id: str
    model: str
    url: str


def log_bundle(folder: Path, server: str, experiment: str | None, register: bool) -> Logged:
    """Log a version to an MLflow server, all of it or nothing.

    Args:
        folder: folder of the version.
        server: address of the server, `http://…` or `https://…`.
        experiment: name of the experiment; None for the name of the model.
        register: whether to add the model to the registered model of its name.

    Raises:
        SharingError: the server does not respond, or refuses; or its store of artifacts or the
            folder of temporary files cannot be written.
        ManifestError: a file of the version is missing, changed, unlisted or a link, or there are
            no golden samples.
    """
    check_names(folder)
    manifest = read_manifest(folder)
    for _ in files_to_pack(folder, manifest):
        pass  # every file is checked before anything is logged
    with _told(server):
        mlflow.set_tracking_uri(server)
        mlflow.set_registry_uri(server)
        client = mlflow.MlflowClient()
        name = experiment or manifest.name
        found = client.get_experiment_by_name(name)
        experiment_id = found.experiment_id if found else client.create_experiment(name)
        run = client.create_run(experiment_id, run_name=f"{manifest.name} {manifest.version}")
        run_id = run.info.run_id
        try:
            with mlflow.start_run(run_id):
                model = _log(folder, manifest, register)
        except BaseException:
            _remove(client, run_id)
            raise
    url = f"{without_credentials(server).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    return Logged(run_id, model, url)


def _remove(client: Any, run_id: str) -> None:
    """Remove a run and its model, as far as the server responds."""
    with contextlib.suppress(Exception):
        for output in client.get_run(run_id).outputs.model_outputs:
            client.delete_logged_model(output.model_id)
        client.delete_run(run_id)


def _log(folder: Path, manifest: Manifest, register: bool) -> str:
    """Log to the active run; return the address of the model."""
    card = (folder / _CARD).read_text("utf-8") if (folder / _CARD).exists() else ""
    sums = hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()
    tags = {
        "hornbill.bundle": f"{manifest.name}/{manifest.version}",
        "hornbill.sha256sums": sums,
        "hornbill.task": manifest.task,
    }
    mlflow.set_tags({**tags, "mlflow.note.content": card[:_TAG]})
    mlflow.log_metrics(_metrics_of(manifest))
    parameters = list(_parameters_of(manifest).items())
    for start in range(0, len(parameters), _BATCH):
        mlflow.log_params(dict(parameters[start : start + _BATCH]))
    info = Model.log(
        artifact_path=None,
        name=manifest.name.replace(".", "_"),  # MLflow's names of models have none
        flavor=SimpleNamespace(__name__=mlflow.onnx.FLAVOR_NAME, save_model=write_model),
        folder=folder,
        tags=tags,
        registered_model_name=manifest.name if register else None,
        validate_serving_input=False,  # the golden samples are its proof
    )
    if not register:
        return f"models:/{info.model_id}"
    version = str(info.registered_model_version)
    mlflow.MlflowClient().update_model_version(manifest.name, version, card[:_TAG])
    return f"models:/{manifest.name}/{version}"


def write_model(path: Path | str, folder: Path, mlflow_model: Any = None, **_: Any) -> None:
    """Write the folder of a model: `MLmodel`, the graph, requirements, and the bundle.

    Args:
        path: the folder, which must be empty or missing.
        folder: folder of the version.
        mlflow_model: `mlflow.models.Model` to add the flavor to; None for a new one.

    Raises:
        ManifestError: a file of the version is missing or changed.
    """
    path, manifest = Path(path), read_manifest(folder)
    model = mlflow_model or Model()
    specs = (manifest.inputs, manifest.outputs)
    mlflow.onnx.save_model(
        onnx.ModelProto(),
        path,
        mlflow_model=model,
        signature=ModelSignature(*(Schema([_as_mlflow(s) for s in each]) for each in specs)),
        input_example=_example_of(folder, manifest),
        pip_requirements=mlflow.onnx.get_default_pip_requirements(),
        onnx_execution_providers=["CPUExecutionProvider"],  # which the proof was made on
    )
    for name, content in files_to_pack(folder, manifest):
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for file in (folder / MODEL, weights_file(folder / MODEL)):
        if file.exists():  # MLflow would write the graph in bytes of its own
            shutil.copyfile(file, path / file.name)
    files = [file for file in path.rglob("*") if file.is_file()]
    model.model_size_bytes = sum(file.stat().st_size for file in files)
    model.save(str(path / "MLmodel"))


def _as_mlflow(spec: BundleSpec) -> TensorSpec:
    dtype = np.dtype(str) if spec.dtype == "string" else np.dtype(spec.dtype)
    return TensorSpec(dtype, tuple(-1 if isinstance(n, str) else n for n in spec.shape), spec.name)


def _example_of(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Return the first golden sample, or all where the batch is whole."""
    golden = read_golden(folder, "input", manifest.inputs)
    count = None if manifest.whole_batches else 1
    return {
        name: array[:count].astype(str) if array.dtype == object else array[:count]
        for name, array in golden.items()
    }


def _metrics_of(manifest: Manifest) -> dict[str, float]:
    """Return the metrics of the test split, and the ends of their intervals."""
    metrics = dict(manifest.metrics)
    for name, interval in manifest.metric_intervals.items():
        metrics |= {f"{name}/low": interval.low, f"{name}/high": interval.high}
    return {_NOT_IN_KEYS.sub("_", name): value for name, value in metrics.items()}


def _parameters_of(manifest: Manifest) -> dict[str, str]:
    """Return the settings of the training, and what describes the model."""
    values: dict[str, Any] = {
        "family": manifest.family,
        "parameters": manifest.parameters,
        "opset": manifest.opset,
        "lowest_onnxruntime": manifest.lowest_onnxruntime,
        **_flat(manifest.config, "config"),
        **_flat(manifest.data, "data"),
    }
    return {_NOT_IN_KEYS.sub("_", key)[:250]: str(v)[:_PARAMETER] for key, v in values.items()}


def _flat(value: Mapping[str, object], prefix: str) -> dict[str, object]:
    """Return nested settings by their joined keys, such as `config.optimizer.name`."""
    found: dict[str, object] = {}
    for key, item in value.items():
        name = f"{prefix}.{key}"
        found |= _flat(item, name) if isinstance(item, dict) else {name: item}
    return found


@contextlib.contextmanager
def _told(server: str) -> Iterator[None]:
    """Raise MLflow's errors as `SharingError`, and print nothing of what it prints.

    MLflow passes on the errors of requests, which are OSErrors too, and those of files: artifacts
    may be in a folder of this machine. A store of another kind needs a package of its own.
    """
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    quiet = contextlib.ExitStack()
    quiet.enter_context(warnings.catch_warnings(action="ignore"))
    quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
    quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
    try:
        with quiet:
            yield
    except (mlflow.MlflowException, OSError, ModuleNotFoundError) as error:
        raise SharingError(_message_of(without_credentials(server), error)) from None


def _message_of(server: str, error: Exception) -> str:
    text = without_credentials(one_line(error))
    for word in ("Connection refused", "Name or service not known", "timed out"):
        if word.lower() in text.lower():
            return f"The MLflow server {server} must respond. Received: {word.lower()}."
    if any(word in text for word in ("401", "403", "Unauthorized", "PERMISSION_DENIED")):
        return (
            f"The MLflow server {server} must accept the credentials, of MLFLOW_TRACKING_TOKEN or "
            "of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Received: a refusal."
        )
    return f"The MLflow server {server} must take the bundle. Received: {text:.300}."
