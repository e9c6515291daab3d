"""`hornbill log`: MLflow gets the bundle as it is, and its own ONNX flavor runs it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import numpy as np
import pytest
from conftest import BUNDLES
from live import free_port

from serving import Predictor
from serving.bundle import read_manifest
from serving.golden import read_golden

# MLflow's own code hints a type that MLflow warns about when it loads a model.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")
DIGITS = BUNDLES / "dist" / "digits" / "1"
RAW = BUNDLES / "dist" / "raw" / "1"


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Runs in an environment of its own, without Hornbill: MLflow loads and runs a model.
RECEIVE = """
import json, os, sys
import mlflow
import numpy as np
model, folder = sys.argv[1:]
mlflow.artifacts.download_artifacts(model, dst_path=folder)
loaded = mlflow.pyfunc.load_model(folder)
example = json.load(open(folder + "/serving_input_example.json"))["inputs"]
found = loaded.predict({name: np.array(value, np.uint8) for name, value in example.items()})
print(json.dumps({name: value.tolist() for name, value in found.items()}))
"""


def test_mlflow_runs_the_graph_of_a_bundle_with_its_signature_and_example(tmp_path):
    import mlflow

    from app.sharing.mlflow_models import write_model

    write_model(tmp_path / "model", RAW)
    assert (tmp_path / "model" / "model.onnx").read_bytes() == (RAW / "model.onnx").read_bytes()
    assert contents(tmp_path / "model" / "raw") == contents(RAW.parent)
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert str(model.metadata.signature.inputs) == (
        "['inputs': Tensor('float32', (-1, 2)), 'texts': Tensor('str', (-1, 1))]"
    )
    assert [spec.name for spec in model.metadata.signature.outputs] == ["probabilities", "features"]
    golden = read_golden(RAW, "input", read_manifest(RAW).inputs)
    assert [len(value) for value in model.input_example.values()] == [1, 1]
    expected = Predictor.load(RAW, int8="never").predict(golden).probabilities
    texts = golden["texts"].astype(str)
    np.testing.assert_array_equal(
        model.predict({**golden, "texts": texts})["probabilities"], expected
    )


def test_a_server_that_is_down_and_what_is_no_server_are_told(run):
    url = f"http://127.0.0.1:{free_port()}"
    status, output, error = run("log", DIGITS, "--server", url, "--quiet")
    assert (status, output) == (2, "")
    assert error == (
        f"hornbill: The MLflow server {url} must respond. Received: connection refused.\n"
    )
    status, _, error = run("log", DIGITS, "--server", "sqlite:///x.db")
    assert status == 2
    assert "must be the address of an MLflow server, http://… or https://…." in error


class _Tracking(BaseHTTPRequestHandler):
    """A server of MLflow that knows one run; its store of artifacts fails in the way of a test."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        root = self.server.artifacts
        model = f"m-{self.server.server_port}"  # MLflow keeps the store of a model
        status, value = 200, {}
        if "mlflow-artifacts" in path:
            self.server.uploading.set()
            self.server.end_upload.wait(20)
            status = 413
        elif "experiments" in path:
            value = {"experiment": {"experiment_id": "1", "name": "digits",
                                    "artifact_location": root}}  # fmt: skip
        elif "logged-models" in path:
            info = {"model_id": model, "experiment_id": "1", "name": "digits",
                    "artifact_uri": f"{root}/{model}/artifacts", "source_run_id": "r1",
                    "creation_timestamp_ms": 1, "last_updated_timestamp_ms": 1,
                    "status": "LOGGED_MODEL_PENDING", "model_type": ""}  # fmt: skip
            value = {"model": {"info": info, "data": {}}}
        elif "runs/" in path:
            info = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "run_name": "digits",
                    "status": "RUNNING", "start_time": 1, "lifecycle_stage": "active",
                    "artifact_uri": f"{root}/r1/artifacts"}  # fmt: skip
            value = {"run": {"info": info, "data": {}, "inputs": {}, "outputs": {}}}
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def tracking():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Tracking) as server:
        server.requests, server.artifacts = [], "mlflow-artifacts:/1"
        server.uploading, server.end_upload = threading.Event(), threading.Event()
        server.end_upload.set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.end_upload.set()
        server.shutdown()


@pytest.mark.parametrize(
    ("artifacts", "reason"),
    [
        ("mlflow-artifacts:/1", "413 Client Error"),
        ("/dev/null/artifacts", "Not a directory: '/dev/null/artifacts"),
    ],
)
def test_artifacts_that_cannot_be_stored_are_one_line_without_credentials(
    tracking, run, artifacts, reason
):
    tracking.artifacts = artifacts
    host = f"127.0.0.1:{tracking.server_port}"
    status, output, error = run("log", DIGITS, "--server", f"http://maya:secret@{host}")
    assert (status, output) == (2, "")
    announced, told = error.splitlines()
    assert announced == f"logging {DIGITS} to http://{host} …"
    assert told.startswith(f"hornbill: The MLflow server http://{host} must take the bundle. Rec")
    assert reason in told
    assert "secret" not in error
    assert "POST /api/2.0/mlflow/runs/delete" in tracking.requests


def test_sigterm_leaves_no_run_on_the_server(tracking):
    tracking.end_upload.clear()
    code = "from app.entry import main; main()"
    server = f"http://127.0.0.1:{tracking.server_port}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "log", DIGITS, "--server", server, "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert tracking.uploading.wait(60)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        tracking.end_upload.set()
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "hornbill: Interrupted.\n")
    assert "POST /api/2.0/mlflow/runs/delete" in tracking.requests


@pytest.fixture(scope="module")
def mlflow_python(tmp_path_factory):
    """Python of an environment of its own with MLflow, whose server needs other versions."""
    folder = tmp_path_factory.mktemp("mlflow") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = [f"mlflow[auth]=={version('mlflow-skinny')}"]
    packages += [f"{name}=={version(name)}" for name in ("onnx", "onnxruntime")]
    pip = [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet"]
    subprocess.run([*pip, *packages], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def server(mlflow_python, tmp_path_factory):
    """The address of MLflow's own server, which takes `admin` with `a secret word`."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = sqlite:///{folder}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a secret word",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [
        mlflow_python, "-m", "mlflow", "server", "--app-name", "basic-auth", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/store.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(1500):
        try:
            urllib.request.urlopen(f"{url}/health")  # noqa: S310
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
    else:
        raise AssertionError("the server was not ready in time")
    yield url
    os.killpg(process.pid, signal.SIGTERM)  # its workers too
    process.wait()


@pytest.mark.slow  # installs MLflow, starts its server
def test_a_bundle_is_logged_to_mlflow_and_received_without_hornbill(
    server, mlflow_python, run, tmp_path, monkeypatch
):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a wrong word")
    status, _, error = run("log", DIGITS, "--server", server, "--quiet")
    assert status == 2
    assert "must accept the credentials, of MLFLOW_TRACKING_TOKEN or" in error
    assert error.count("\n") == 1

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a secret word")
    client = mlflow.MlflowClient(server)
    assert client.get_experiment_by_name("digits") is None
    status, output, error = run("log", DIGITS.parent, "--server", server, "--register", "--json")
    assert (status, error) == (0, "")
    logged = json.loads(output)
    assert logged["model"] == "models:/digits/1"
    found = client.get_run(logged["run_id"])
    manifest = read_manifest(DIGITS)
    assert found.data.metrics.items() >= manifest.metrics.items()
    assert found.data.params["family"] == manifest.family
    card = (DIGITS / "README.md").read_text()
    assert found.data.tags["mlflow.note.content"] == card[:8000]
    sums = hashlib.sha256((DIGITS / "SHA256SUMS").read_bytes()).hexdigest()
    assert found.data.tags["hornbill.sha256sums"] == sums
    assert client.get_model_version("digits", "1").description == card[:8000]

    folder = tmp_path / "received"
    finished = subprocess.run(
        [mlflow_python, "-c", RECEIVE, "models:/digits/1", folder],
        env=os.environ | {"MLFLOW_TRACKING_URI": server, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert contents(folder / "digits") == contents(DIGITS.parent)
    assert (folder / "model.onnx").read_bytes() == (DIGITS / "model.onnx").read_bytes()
    golden = read_golden(DIGITS, "output", manifest.outputs)
    received = json.loads(finished.stdout.splitlines()[-1])
    np.testing.assert_allclose(received["probabilities"], golden["probabilities"][:1], atol=1e-5)
    assert run("verify", folder / "digits")[0] == 0


@pytest.mark.slow
def test_a_bundle_that_cannot_be_logged_leaves_no_run(server, tmp_path, monkeypatch):
    import mlflow

    from app.sharing import mlflow_models
    from app.sharing.mlflow_models import log_bundle
    from serving import ManifestError

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a secret word")
    client = mlflow.MlflowClient(server)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_models, "write_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            log_bundle(RAW, server, "half", register=True)
    (experiment,) = [e for e in client.search_experiments() if e.name == "half"]
    assert client.search_runs([experiment.experiment_id]) == []
    assert client.search_logged_models([experiment.experiment_id]) == []
    assert [m.name for m in client.search_registered_models() if m.name == "raw"] == []

    copy = shutil.copytree(RAW, tmp_path / "1")
    (copy / "README.md").write_text("changed")
    with pytest.raises(ManifestError, match="README.md must have the SHA-256"):
        log_bundle(copy, server, "changed", register=False)
    assert client.get_experiment_by_name("changed") is None
