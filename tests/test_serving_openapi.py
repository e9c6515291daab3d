"""Compares the live server with `/openapi.json`, mostly by schemathesis."""

import json
import re
import subprocess
import sys

import pytest
from jsonschema_rs import Draft202012Validator
from live import start

from serving.server import Settings

SCHEMATHESIS = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]


@pytest.fixture(scope="module")
def client(bundle, row_bundle):
    client, stop = start(Settings(bundle.parent.parent, log_requests=False))
    yield client
    stop()


def test_schemathesis_finds_no_undocumented_response(client, tmp_path):
    # The document does not say which shapes each model takes.
    checks = ["--checks=all", "--exclude-checks=positive_data_acceptance"]
    options = [*checks, "--max-examples=3", "--phases=examples,coverage,fuzzing"]
    finished = subprocess.run(
        [*SCHEMATHESIS, "run", f"http://127.0.0.1:{client.port}/openapi.json", *options,
         "--generation-deterministic", "--no-color"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-8000:]
    operations = sum(map(len, client.get("/openapi.json")[1]["paths"].values()))
    assert int(re.search(r"Tested: (\d+)", finished.stdout)[1]) == operations


IMAGE = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}
CLASSES = {"name": "probabilities", "parameters": {"classification": 2}}


@pytest.mark.parametrize(
    ("address", "path", "value"),
    [
        ("/v2/models/{model}/infer", "/v2/models/digits/infer", {"inputs": [IMAGE], "id": "7"}),
        (
            "/v2/models/{model}/versions/{version}/infer",
            "/v2/models/digits/versions/1/infer",
            {"inputs": [IMAGE], "outputs": [CLASSES]},
        ),
        ("/v1/models/{model}:predict", "/v1/models/softmax:predict", {"instances": [[1, 2, 3, 4]]}),
        ("/v1/models/{model}:predict", "/v1/models/softmax:predict", {"inputs": [[1, 2, 3, 4]]}),
    ],
)
def test_valid_requests_and_their_responses_are_as_documented(address, path, value, client):
    document = client.get("/openapi.json")[1]
    operation = document["paths"][address]["post"]
    status, response = client.post(path, value)
    assert status == 200
    for part, sent in (
        (operation["requestBody"], value),
        (operation["responses"]["200"], response),
    ):
        schema = part["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(sent)


def test_binary_responses_are_as_documented(client):
    tensor = {**IMAGE, "data": None, "parameters": {"binary_data_size": 784}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, received, _ = client("POST", "/v2/models/digits/infer", head + bytes(784), headers)
    operation = client.get("/openapi.json")[1]["paths"]["/v2/models/{model}/infer"]["post"]
    assert status == 200
    assert received["content-type"] in operation["responses"]["200"]["content"]
    assert "Inference-Header-Content-Length" in [p.get("name") for p in operation["parameters"]]
