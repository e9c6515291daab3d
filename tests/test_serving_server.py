"""The server over real sockets: its responses and its errors."""

import asyncio
import gzip
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from checksums import write_checksums
from color_bundles import write_color_bundle
from live import Client, free_port, start, wait_until_ready
from PIL import Image
from waiting import wait_until

from serving import Predictor
from serving.errors import InputError
from serving.server import Settings
from serving.server.batching import Batcher, Cost, Limits
from serving.server.errors import RequestError
from serving.server.image_requests import write_image_response
from serving.server.models import load_model
from serving.server.open_inference import OpenInference
from serving.server.repository import Repository
from serving.server.telemetry import AccessLog, LogLine
from serving.server.trials import Trials
from serving.server.turns import Turns
from serving.server.versions import LoadedModel

HINT = "The body must be the file itself, as curl --data-binary @FILE sends it."
LIVE = "/v2/health/live"
TOKEN = "secret"  # noqa: S105  # of a server that ends with the test


@pytest.fixture(scope="module")
def client(bundle, row_bundle):
    assert bundle.parent.parent == row_bundle.parent.parent
    client, stop = start(Settings(bundle.parent.parent, log_requests=False, max_body_mb=1))
    yield client
    stop()


def digits(images, **more):
    tensor = {
        "name": "image",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "data": images.ravel().tolist(),
    }
    return {"inputs": [tensor], **more}


def test_health_and_metadata_follow_the_protocol(client):
    assert client.get("/v2/health/live") == (200, {"live": True})
    assert client.get("/v2/health/ready") == (200, {"ready": True, "live": True})
    assert client.get("/v2")[1]["name"] == "hornbill"
    assert client.get("/v2/models/digits/ready") == (200, {"name": "digits", "ready": True})
    status, model = client.get("/v2/models/digits/versions/1")
    assert status == 200
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    assert [output["name"] for output in model["outputs"]] == ["probabilities", "features"]


def test_a_response_has_the_outputs_of_the_predictor(client, bundle, images):
    status, response = client.post("/v2/models/digits/infer", digits(images, id="seven"))
    assert status == 200
    assert (response["model_name"], response["model_version"], response["id"]) == (
        "digits",
        "1",
        "seven",
    )
    probabilities, features = response["outputs"]
    expected = Predictor.load(bundle).predict(images)
    received = np.array(probabilities["data"], np.float32).reshape(probabilities["shape"])
    np.testing.assert_array_equal(received, expected.probabilities)
    assert features["shape"] == list(expected.features.shape)


def test_nested_data_gives_the_same_outputs_as_flat_data(client, images):
    flat = digits(images)
    nested = digits(images)
    nested["inputs"][0]["data"] = images.tolist()
    first, second = (client.post("/v2/models/digits/infer", body) for body in (flat, nested))
    assert first == second


def test_outputs_can_be_selected_and_classified(client, images):
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    _, response = client.post("/v2/models/digits/infer", digits(images, outputs=outputs))
    (output,) = response["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [len(images), 2])
    value, index, label = output["data"][0].split(":")
    assert label == "0123456789"[int(index)]
    assert 0.1 <= float(value) <= 1


def test_binary_tensors_work_in_requests_and_responses(client, bundle, images):
    tensor = {"name": "image", "shape": list(images.shape), "datatype": "UINT8",
              "parameters": {"binary_data_size": images.nbytes}}  # fmt: skip
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, headers, body = client(
        "POST", "/v2/models/digits/infer", head + images.tobytes(), headers
    )
    assert status == 200
    length = int(headers["inference-header-content-length"])
    outputs = json.loads(body[:length])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert length + sum(sizes) == len(body)
    received = np.frombuffer(body[length : length + sizes[0]], np.float32).reshape(-1, 10)
    expected = Predictor.load(bundle).predict(images).probabilities
    np.testing.assert_array_equal(received, expected)


def test_a_raw_body_is_one_sample(client, images):
    headers = {"Inference-Header-Content-Length": "0"}
    status, headers, body = client("POST", "/v2/models/digits/infer", images[:1].tobytes(), headers)
    assert status == 200
    outputs = json.loads(body[: int(headers["inference-header-content-length"])])["outputs"]
    assert outputs[0]["shape"] == [1, 10]


def test_tf_serving_requests_can_have_rows_or_columns(client, row_bundle):
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
    expected = Predictor.load(row_bundle).predict(np.array(rows, np.float32)).probabilities
    status, by_row = client.post("/v1/models/softmax:predict", {"instances": rows})
    assert status == 200
    np.testing.assert_array_equal(np.array(by_row["predictions"], np.float32), expected)
    named = {"instances": [{"inputs": row} for row in rows]}
    assert client.post("/v1/models/softmax:predict", named)[1] == by_row
    _, by_column = client.post("/v1/models/softmax/versions/1:predict", {"inputs": rows})
    assert by_column == {"outputs": by_row["predictions"]}
    state = client.get("/v1/models/softmax")[1]
    assert state["model_version_status"][0]["state"] == "AVAILABLE"
    assert state["ready"]


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_requests_and_responses_can_be_compressed(encoding, compress, client, images):
    body = compress(json.dumps(digits(images)).encode())
    headers = {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    status, headers, response = client("POST", "/v2/models/digits/infer", body, headers)
    assert (status, headers["content-encoding"]) == (200, encoding)
    unpack = gzip.decompress if encoding == "gzip" else zlib.decompress
    assert json.loads(unpack(response))["outputs"][0]["shape"] == [len(images), 10]


@pytest.mark.parametrize("name", ["Identity", "", " IDENTITY "])
def test_a_body_can_be_declared_as_uncompressed(name, client, images):
    headers = {"Content-Encoding": name}
    body = json.dumps(digits(images))
    assert client("POST", "/v2/models/digits/infer", body, headers)[0] == 200


def test_a_gzip_body_can_have_several_members(client, images):
    body = json.dumps(digits(images)).encode()
    several = gzip.compress(body[:50]) + gzip.compress(b"") + gzip.compress(body[50:])
    headers = {"Content-Encoding": "gzip"}
    assert client("POST", "/v2/models/digits/infer", several, headers)[0] == 200
    refused = client("POST", "/v2/models/digits/infer", gzip.compress(b"") * 10_000, headers)
    assert refused[0] == 400
    assert "at most 100 members" in json.loads(refused[2])["error"]
    bomb = gzip.compress(b" " * 600_000) * 2
    assert client("POST", "/v2/models/digits/infer", bomb, headers)[0] == 413


def test_a_field_that_is_null_counts_as_missing(client, images):
    response = client.post("/v2/models/digits/infer", digits(images))
    nothing = digits(images, parameters=None, outputs=None, id=None)
    nothing["inputs"][0]["parameters"] = None
    assert client.post("/v2/models/digits/infer", nothing) == response
    outputs = [{"name": name, "parameters": None} for name in ("probabilities", "features")]
    assert client.post("/v2/models/digits/infer", digits(images, outputs=outputs)) == response
    row = [[5.1, 3.5, 1.4, 0.2]]
    by_row = client.post("/v1/models/softmax:predict", {"instances": row, "inputs": None})
    assert by_row == client.post("/v1/models/softmax:predict", {"instances": row})


def test_a_refused_method_gets_the_list_of_allowed_methods(client):
    assert client("DELETE", "/models")[1]["allow"] == "GET, HEAD"
    assert client("GET", "/v2/models/digits/infer")[1]["allow"] == "POST"


def wrong(**changes):
    tensor = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}
    return {"inputs": [tensor | changes]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "The body must be an inference request"),
        ("[]", "The body must be an inference request"),
        ({}, "missing required field `inputs`"),
        (wrong(name="x"), "Inputs must be image, each once. Received: x"),
        ({"inputs": []}, "Inputs must be image, each once. Received: none"),
        (wrong(datatype="FP32"), "datatype UINT8. Received: FP32. Scale images to 0..255"),
        (wrong(data=[0.5] * 784), "`float` - at `$[0]`. Scale images to 0..255"),
        (wrong(shape=[1, 28]), "image must have shape [batch, 28, 28]. Received: [1, 28]"),
        (wrong(shape=[0, 28, 28], data=[]), "image must have shape [batch, 28, 28]"),
        (wrong(shape=[2, 28, 28]), "must have 1568 elements for its shape [2, 28, 28]"),
        (wrong(data=[256] * 784), "Elements of image must fit UINT8. Received: 256 to 256"),
        (wrong(data=["0"] * 784), "data of image must hold UINT8"),
        (wrong(data=[True] * 784), "data of image must hold UINT8"),
        (wrong(data=[[[0] * 28] * 27]), "a list of length 27 in place of 28"),
        (wrong(data=None), "data of image must hold UINT8"),
        (wrong(parameters={"binary_data_size": 9}), "must be at most 0, the rest of the body"),
        ({**wrong(), "outputs": [{"name": "y"}]}, "Outputs must be among probabilities, features"),
        ({**wrong(), "outputs": 1}, "The body must be an inference request"),
        ({**wrong(), "parameters": []}, "The body must be an inference request"),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_400_with_the_reason(body, message, client):
    text = body if isinstance(body, str) else json.dumps(body)
    status, _, response = client("POST", "/v2/models/digits/infer", text)
    assert status == 400
    assert message in json.loads(response)["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        (
            "GET",
            "/v2/models/none",
            404,
            "The model must be one of: digits, softmax. Received: none",
        ),
        ("GET", "/v2/models/digits/versions/9", 404, "must be one of: 1. Received: 9"),
        ("GET", "/v2/models/digits/versions/x", 404, "Received: x"),
        ("GET", "/v2/models/..%2f..%2fetc/ready", 404, "There is no such path"),
        ("GET", "/nowhere", 404, "There is no such path"),
        ("GET", "/v2/models/digits/infer", 405, "This path only accepts POST"),
        ("POST", "/v2/models/digits", 405, "This path only accepts GET, HEAD"),
    ],
)
def test_an_unknown_path_or_method_is_refused_with_the_reason(
    method, path, status, message, client
):
    response = client(method, path)
    assert response[0] == status
    assert message in json.loads(response[2])["error"]


def test_bodies_are_bounded_before_and_after_decompression(client):
    status, _, body = client("POST", "/v2/models/digits/infer", b" " * 1_000_001)
    assert status == 413
    bomb = gzip.compress(b" " * 50_000_000)
    status, _, body = client("POST", "/v2/models/digits/infer", bomb, {"Content-Encoding": "gzip"})
    assert status == 413
    assert "at most 1,000,000 bytes" in json.loads(body)["error"]


def test_samples_are_bounded(row_bundle):
    client, stop = start(Settings(row_bundle.parent, max_rows=2, log_requests=False))
    try:
        row = [5.1, 3.5, 1.4, 0.2]
        assert client.post("/v1/models/softmax:predict", {"instances": [row] * 2})[0] == 200
        status, response = client.post("/v1/models/softmax:predict", {"instances": [row] * 3})
        assert (status, response["error"]) == (
            413,
            "A request must have at most 2 samples. Received: 3.",
        )
    finally:
        stop()


def test_a_long_request_with_too_many_numbers_is_refused_before_decoding(row_bundle):
    client, stop = start(Settings(row_bundle.parent, max_rows=2, log_requests=False))
    zeros = "0," * 600_000 + "0"
    try:
        for shape, status in (([600_000, 4], 413), ([2, 4], 400)):
            tensor = (
                f'{{"name": "inputs", "datatype": "FP32", "shape": {shape}, "data": [{zeros}]}}'
            )
            response = client("POST", "/v2/models/softmax/infer", f'{{"inputs": [{tensor}]}}')
            assert response[0] == status
        assert b"must have at most 8 elements. Received: more." in response[2]
        response = client("POST", "/v1/models/softmax:predict", f'{{"inputs": [[{zeros}]]}}')
        assert (response[0], b"at most 8 elements" in response[2]) == (400, True)
    finally:
        stop()


def test_a_chunked_body_that_is_too_long_gets_413(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    chunks = iter([b" " * 100_000] * 30)
    connection.request("POST", "/v2/models/digits/infer", chunks, encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert connection.getresponse().status == 413
    connection.close()


def test_a_model_named_like_a_path_is_found(row_bundle, tmp_path):
    copy = shutil.copytree(row_bundle, tmp_path / "stats" / "1")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"name": "stats"}))
    model = onnx.load(copy / "model.onnx")
    next(p for p in model.metadata_props if p.key == "name").value = '"stats"'
    onnx.save(model, copy / "model.onnx")
    (copy / "SHA256SUMS").unlink()
    write_checksums(copy)
    client, stop = start(Settings(tmp_path, log_requests=False))
    try:
        assert client.get("/v2/models/stats")[1]["inputs"][0]["name"] == "inputs"
    finally:
        stop()


def test_a_log_that_cannot_be_written_is_dropped(monkeypatch, caplog):
    with Path("/dev/full").open("wb", buffering=0) as stream:
        monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=stream))
        log = AccessLog()
        for _ in range(2):
            log.write(LogLine(0.0, "1", "GET", "/", 200, 0.1, 2))
            log.flush()
        log.close()
    assert caplog.text.count("1 requests could not be logged: [Errno 28] No space left") == 2


def test_log_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch, caplog):
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stream:
        monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=stream))
        log = AccessLog()
        for _ in range(12):
            log.write(LogLine(0.0, "1", "GET", "/" * 1_000_000, 200, 0.1, 2))
            log.flush()
        log.close()  # does not wait for the reader
        os.close(read)
        log.close()  # the thread ends with the pipe
    counts = re.findall(r"(\d+) requests were not logged: the reader", caplog.text)
    assert sum(map(int, counts)) == 5


def test_nan_is_refused_and_null_is_nan(client):
    for value in ("NaN", "null"):
        body = f'{{"instances": [[1, 2, 3, {value}]]}}'
        status, _, response = client("POST", "/v1/models/softmax:predict", body)
        assert status == 400
        assert "inputs must be finite. Received: nan at (0, 3)" in json.loads(response)["error"]


def test_concurrent_requests_get_the_same_outputs_as_single_ones(client, bundle, images):
    predictor = Predictor.load(bundle)
    responses = {}

    def ask(number):
        image = np.roll(images[number % len(images)], number, axis=0)[np.newaxis]
        _, response = client.post("/v2/models/digits/infer", digits(image))
        responses[number] = (image, response["outputs"][0]["data"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image, data in responses.values():
        alone = predictor.predict(image).probabilities[0]
        np.testing.assert_allclose(np.array(data, np.float32), alone, atol=1e-6)
    metrics = client("GET", "/metrics")[2].decode()
    assert 'hornbill_predictions_total{label="0",model="digits",version="1"}' in metrics
    assert 'hornbill_model_version{model="digits",version="1"} 1.0' in metrics


def test_a_token_protects_all_paths_but_health(bundle):
    client, stop = start(Settings(bundle.parent, token=TOKEN, log_requests=False))
    try:
        assert client.get("/v2/health/live")[0] == 200
        assert client.get("/v2/models/digits")[0] == 401
        for scheme in ("Bearer", "bearer", "BEARER "):
            headers = {"Authorization": f"{scheme} {TOKEN}"}
            assert client("GET", "/v2/models/digits", None, headers)[0] == 200
    finally:
        stop()


def as_version(version_folder, number):
    """Copy a version under another number; return the copy."""
    copy = shutil.copytree(version_folder, version_folder.parent / f".{number}")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"version": number}))
    (copy / "SHA256SUMS").unlink()
    write_checksums(copy)
    return copy


def test_a_new_version_takes_over_and_a_broken_one_does_not(row_bundle, tmp_path):
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    client, stop = start(Settings(tmp_path, poll_s=0.05, log_requests=False))
    body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    failed = []
    is_over = threading.Event()

    def keep_sending():
        while not is_over.is_set():
            status, response = client.post("/v1/models/softmax:predict", body)
            if status != 200:
                failed.append(response)

    def states():
        versions = client.get("/v1/models/softmax")[1]["model_version_status"]
        return {version["version"]: version["state"] for version in versions}

    def wait_for(wanted):
        wait_until(lambda: states() == wanted)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        wait_for({"1": "AVAILABLE"})
        second = as_version(tmp_path / "softmax" / "1", 2)
        whole = (second / "model.onnx").read_bytes()
        (second / "model.onnx").write_bytes(whole[:-1])
        second = second.rename(second.parent / "2")
        wait_for({"1": "AVAILABLE", "2": "END"})
        (second / "model.onnx").write_bytes(whole)
        wait_for({"2": "AVAILABLE"})
        assert client.get("/v2/models/softmax")[1]["versions"] == ["2"]
        (second / "README.md").unlink()  # as a removal begins
        wait_for({"1": "AVAILABLE", "2": "END"})
        shutil.rmtree(second)
        wait_for({"1": "AVAILABLE"})
    finally:
        is_over.set()
        sender.join()
        stop()
    assert not failed


def test_a_version_without_checksums_may_still_be_being_copied(row_bundle, tmp_path, caplog):
    version = shutil.copytree(row_bundle, tmp_path / "softmax" / "1")
    (version / "SHA256SUMS").rename(tmp_path / "late")
    caplog.set_level("INFO", "hornbill.server")
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False), LIVE)
    try:
        wait_until(lambda: "SHA256SUMS is missing. It may still be being copied." in caplog.text)
        assert "cannot be served" not in caplog.text
        (tmp_path / "late").rename(version / "SHA256SUMS")
        wait_until(lambda: client.get("/v2/models/softmax/ready")[0] == 200)
    finally:
        stop()


def test_a_stray_file_does_not_stop_a_served_version(row_bundle, tmp_path, caplog):
    model = shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False))
    body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}

    try:
        (model / "1" / ".DS_Store").write_bytes(b"")
        wait_until(lambda: "cannot be served: Every file must be listed" in caplog.text)
        assert client.post("/v1/models/softmax:predict", body)[0] == 200
        (model / "1" / ".DS_Store").unlink()
        caplog.set_level("INFO", "hornbill.server")
        wait_until(lambda: "is ready" in caplog.text)
        assert client.post("/v1/models/softmax:predict", body)[0] == 200
        caplog.clear()
        (model / "1" / "model.onnx").chmod(0o600)  # other rights are a change too
        wait_until(lambda: "is ready" in caplog.text)
    finally:
        stop()


def test_a_failed_version_is_retried_after_a_growing_pause(row_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.server.versions._RETRY_S", 0.0)
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    failing, tried = [True, True], []

    def load(folder, settings):
        tried.append(folder.name)
        if failing and failing.pop():
            raise OSError("too many open files")
        return load_model(folder, settings)

    monkeypatch.setattr("serving.server.loading.load_model", load)
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False), LIVE)
    try:
        wait_until(lambda: client.get("/v1/models")[1]["models"])
        assert tried == ["1", "1", "1"]
    finally:
        stop()


def test_all_versions_are_served_on_request(row_bundle, tmp_path):
    model = shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    as_version(model / "1", 2).rename(model / "2")
    client, stop = start(Settings(tmp_path, versions="all", log_requests=False))
    try:
        assert client.get("/v2/models/softmax")[1]["versions"] == ["1", "2"]
        row = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
        for number in (1, 2):
            assert client.post(f"/v1/models/softmax/versions/{number}:predict", row)[0] == 200
    finally:
        stop()


def test_the_root_path_is_a_page_for_browsers_and_json_for_programs(client):
    assert client.get("/")[1] == {"status": "alive"}
    status, headers, page = client("GET", "/", headers={"Accept": "text/html,*/*"})
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<canvas" in page
    assert b"/v2/models/{model}/infer" in client("GET", "/docs")[2]


def test_a_request_is_logged_with_its_own_id(row_bundle, capfd):
    client, stop = start(Settings(row_bundle.parent))
    try:
        _, headers, _ = client("GET", "/v2", headers={"X-Request-Id": "mine-7"})
        assert headers["x-request-id"] == "mine-7"
    finally:
        stop()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (line,) = [line for line in lines if line["id"] == "mine-7"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v2", 200)


def never(arrays):
    raise AssertionError("a short request is not checked before it is run")


def test_requests_with_inputs_in_another_order_share_a_batch():
    def run(arrays):
        return [np.stack([a.sum(axis=1) for a in arrays.values()], axis=1)]

    async def ask():
        with ThreadPoolExecutor(1) as executor:
            turns = Turns(executor, 1)
            batcher = Batcher(run, never, Cost(9.0, 0.1, 100), turns, Limits(100, 64))
            first = {"a": np.ones((1, 2)), "b": np.ones((1, 3))}
            second = {"b": np.ones((1, 2)), "a": np.ones((1, 3))}
            asked = [batcher.infer(arrays) for arrays in (first, second, first)]
            return await asyncio.wait_for(asyncio.gather(*asked), 30)

    responses = [response[0].tolist() for response in asyncio.run(ask())]
    assert responses == [[[2, 3]], [[2, 3]], [[2, 3]]]


def test_rows_larger_than_the_measured_ones_are_run_in_a_thread():
    cost = Cost(0.1, 0.01, 10)
    assert cost.of(2, 20) == pytest.approx(0.11)
    assert cost.of(2, 21) == np.inf


def test_the_variable_axis_of_a_raw_request_follows_from_its_bytes(row_bundle):
    manifest = Predictor.load(row_bundle).manifest
    spec = replace(manifest.inputs[0], shape=("batch", "length", 2))
    protocol = OpenInference(replace(manifest, inputs=(spec,)))
    numbers = np.arange(6, dtype=np.float32)
    (array,) = protocol.read(numbers.tobytes(), 0).arrays.values()
    np.testing.assert_array_equal(array, numbers.reshape(1, 3, 2))
    with pytest.raises(RequestError, match="must have shape"):
        protocol.read(b"", 0)
    with pytest.raises(RequestError, match="must have 16 bytes"):
        protocol.read(numbers[:5].tobytes(), 0)


def test_versions_that_all_fail_are_tried_once_each(row_bundle, tmp_path, caplog):
    for number in (1, 2):
        version = shutil.copytree(row_bundle, tmp_path / "softmax" / str(number))
        (version / "model.onnx").write_bytes(b"")
        (version / "a\x1b[2J").write_bytes(b"")  # its name must not reach a terminal as it is
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False), LIVE)
    try:
        wait_until(lambda: caplog.text.count("cannot be served") == 2)
        time.sleep(0.5)
        versions = client.get("/v1/models/softmax")[1]["model_version_status"]
        assert {version["version"]: version["state"] for version in versions} == {
            "1": "END",
            "2": "END",
        }
        assert not client.get("/v1/models/softmax/versions/2")[1]["ready"]
    finally:
        stop()
    assert caplog.text.count("cannot be served") == 2
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("is_one_model", [False, True])
def test_served_versions_stay_while_their_folder_cannot_be_read(
    is_one_model, row_bundle, tmp_path, caplog
):
    caplog.set_level("INFO", "hornbill.server")
    root, aside = tmp_path / "dist", tmp_path / "aside"
    model = shutil.copytree(row_bundle.parent, root / "softmax")
    client, stop = start(Settings(model if is_one_model else root, poll_s=0.02, log_requests=False))
    try:
        root.rename(aside)
        wait_until(lambda: "does not exist." in caplog.text)
        assert client.get("/v1/models")[1] == {"models": ["softmax"]}
        # The model is replaced while the root is missing: a model that is missing is not served.
        whole = (aside / "softmax").rename(tmp_path / "whole")
        (aside / "softmax").symlink_to("softmax")
        aside.rename(root)
        wait_until(lambda: "cannot be read: too many levels of" in caplog.text)
        time.sleep(0.1)  # a few polls
        assert client.get("/v1/models")[1] == {"models": ["softmax"]}
        root.rename(aside)
        (aside / "softmax").unlink()
        whole.rename(aside / "softmax")
        aside.rename(root)
        # Each is logged once; the root may have been found missing a second time.
        warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
        assert len(warnings) in (2, 3)
        as_version(model / "1", 2).rename(model / "2")
        for _ in range(100):
            if client.get("/v2/models/softmax")[1]["versions"] == ["2"]:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("version 2 was not found")
        assert "softmax version 1 is no longer served" in caplog.text
    finally:
        stop()


def test_versions_stay_when_their_folder_goes_away_while_it_is_read(row_bundle, tmp_path):
    class Folder(type(Path())):
        def iterdir(self):
            entries = list(super().iterdir())
            if self == root and is_leaving:
                self.rename(tmp_path / "aside")
            return iter(entries)

    root, is_leaving = Folder(tmp_path / "dist"), False
    shutil.copytree(row_bundle.parent, root / "softmax")
    is_read = []

    async def serve(model):
        return LoadedModel(model, None)

    async def read_twice(executor):
        nonlocal is_leaving
        repository = Repository(Settings(root), Trials(), serve, executor)
        is_read.append(await repository.refresh())
        await repository.wait_for("softmax", None, 30)
        is_leaving = True
        is_read.append(await repository.refresh())
        repository.close()
        return list(repository.models)

    with ThreadPoolExecutor(1) as executor:
        assert asyncio.run(read_twice(executor)) == ["softmax"]
    assert is_read == [True, False]


def test_a_folder_whose_name_is_not_utf8_is_ignored(row_bundle, tmp_path, caplog):
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    shutil.copytree(row_bundle.parent, tmp_path / os.fsdecode(b"\xff"))
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False))
    try:
        for path in ("/metrics", "/models", "/v1/models"):
            assert client("GET", path)[0] == 200
        assert client.get("/v1/models")[1] == {"models": ["softmax"]}
    finally:
        stop()
    assert caplog.text.count("is ignored: the name of a model must be UTF-8") == 1


def test_a_folder_without_models_gets_one_warning(tmp_path, caplog):
    _, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False), LIVE)
    try:
        wait_until(lambda: f"{tmp_path} has no models" in caplog.text)
        time.sleep(0.1)  # several polls
    finally:
        stop()
    assert caplog.text.count(f"{tmp_path} has no models") == 1


def test_a_folder_of_broken_models_gets_a_closing_warning(row_bundle, tmp_path, caplog):
    model = shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    (model / "1" / "model.onnx").unlink()
    caplog.set_level("INFO", "hornbill.server")
    client, stop = start(Settings(tmp_path, poll_s=0.02, log_requests=False), LIVE)
    warning = f"{tmp_path} has no version that can be served: nothing is served until one is added"
    try:
        wait_until(lambda: caplog.messages[-1:] == [f"{warning} or repaired."])
        shutil.copy(row_bundle / "model.onnx", model / "1" / "model.onnx")
        wait_until(lambda: client.get("/v1/models")[1] == {"models": ["softmax"]})
    finally:
        stop()


def test_a_folder_that_cannot_be_served_is_refused(row_bundle, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for folder, message in (
        (loop, "too many levels"),
        (tmp_path / "none", "does not exist"),
        (row_bundle / "manifest.json", "not a directory"),
        (row_bundle, "a single version. Serve its parent folder"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(folder)


@pytest.mark.parametrize("name", ["max_requests", "max_rows", "max_body_mb", "max_delay_ms"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**20])
def test_a_setting_out_of_range_is_refused(name, value, tmp_path):
    with pytest.raises(InputError, match=f"{name} must be above 0 and at most"):
        Settings(tmp_path, **{name: value})


def test_a_request_that_cannot_be_run_does_not_fail_its_batch(row_bundle):
    model = load_model(row_bundle)
    rows = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, np.nan], [6.7, 3.0, 5.2, 2.3]]
    requests = [{"inputs": np.array([row], np.float32)} for row in rows]

    settings = Settings(row_bundle.parent, max_delay_ms=1000.0)

    async def ask(executor):
        batcher = model.batcher(
            lambda outputs: counted.append(len(outputs[0])), Turns(executor, 1), settings
        )
        responses = await asyncio.gather(*map(batcher.infer, requests), return_exceptions=True)
        return responses, batcher.counts.batches

    counted = []
    with ThreadPoolExecutor(1) as executor:
        (first, error, last), batches = asyncio.run(ask(executor))
    assert (batches, counted) == (1, [1, 1])
    assert "inputs must be finite. Received: nan at (0, 3)" in str(error)
    for outputs, request in ((first, requests[0]), (last, requests[2])):
        np.testing.assert_array_equal(outputs[0], model.run(request)[0])


def as_png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_an_image_file_gets_the_prediction_of_the_predictor(client, bundle, images):
    status, _, body = client("POST", "/images/digits", as_png(images[0]))
    assert status == 200
    response = json.loads(body)
    expected = Predictor.load(bundle).predict(images[:1])
    assert response["label"] == expected.labels[0]
    assert response["accepted"] is bool(expected.accepted[0])
    np.testing.assert_array_equal(
        np.array(response["probabilities"], np.float32), expected.probabilities[0]
    )
    np.testing.assert_array_equal(np.reshape(response["image"]["data"], (28, 28)), images[0])
    assert client("POST", "/images/digits/versions/1", as_png(images[0]))[0] == 200


def test_an_image_gets_labels_or_values_from_a_model_of_those(bundle, tmp_path):
    for task in ("multilabel", "regression"):
        write_color_bundle(tmp_path, bundle, task, name=task)
    client, stop = start(Settings(tmp_path, log_requests=False))
    try:
        image = as_png(np.full((9, 5, 3), (250, 20, 200), np.uint8))
        labels, values = (
            json.loads(client("POST", f"/images/{name}", image)[2])
            for name in ("multilabel", "regression")
        )
    finally:
        stop()
    assert labels["labels"] == ["red", "blue"]
    assert labels["probabilities"] == pytest.approx([1, 0, 1], abs=0.001)
    assert values["values"] == pytest.approx([250, 20, 200])
    assert values["image"]["shape"] == [32, 32, 3]
    assert labels.keys() - values.keys() == {"labels", "probabilities"}
    assert values.keys() - labels.keys() == {"values"}


def test_a_large_image_takes_room_until_its_client_has_read_it(bundle, tmp_path):
    write_color_bundle(tmp_path, bundle, size=(300, 400))
    client, stop = start(Settings(tmp_path, max_body_mb=1.0, body_s=0.3, log_requests=False))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8).repeat(100, 0)
    pixels = pixels.repeat(100, 1)
    file = as_png(pixels)
    head = f"POST /images/colors HTTP/1.1\r\nHost: h\r\nContent-Length: {len(file)}\r\n\r\n"
    try:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", client.port))
            slow.sendall(head.encode() + file)
            slow.recv(1, socket.MSG_PEEK)  # its response has begun
            status, _, body = client("POST", "/images/colors", file)
            assert (status, b"may have 1,000,000 bytes at once" in body) == (503, True)
            response = http.client.HTTPResponse(slow)
            response.begin()
            image = json.loads(response.read())["image"]
        np.testing.assert_array_equal(np.reshape(image["data"], image["shape"]), pixels)
        assert client("POST", "/images/colors", file)[0] == 200
    finally:
        stop()


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_prediction_for_an_image_must_be_finite(task, wrong, bundle, tmp_path):
    model = load_model(write_color_bundle(tmp_path, bundle, task))
    prediction = model.prediction([np.array([[0.1, wrong, 0.2]], np.float32)])
    with pytest.raises(RequestError, match=f"must be finite .* Received: {wrong} in"):
        write_image_response(prediction, np.zeros((32, 32, 3), np.uint8), 1.0, 1.0)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/images/digits", b"no image", 400, "cannot be read as an image, such as PNG or JPEG"),
        ("/images/digits", b"", 400, "cannot be read as an image, such as PNG or JPEG"),
        ("/images/digits", b"--a1\r\nContent-Type: image/png\r\n\r\n\x89PNG", 400, HINT),
        ("/images/digits", b"data:image/png;base64,iVBORw0KGgo=", 400, HINT),
        ("/images/digits", b"iVBORw0KGgo=", 400, HINT),
        ("/images/softmax", b"", 400, "The model must take uint8 images, gray or RGB"),
        ("/images/none", b"", 404, "The model must be one of"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(path, body, status, message, client):
    received, _, response = client("POST", path, body)
    assert received == status
    assert message in json.loads(response)["error"]


def test_models_are_listed_with_failed_versions(bundle, tmp_path):
    shutil.copytree(bundle.parent, tmp_path / "digits")
    broken = shutil.copytree(tmp_path / "digits" / "1", tmp_path / "digits" / "2")
    (broken / "model.onnx").write_bytes(b"")
    write_color_bundle(tmp_path, bundle, name="pairs", batch=2)
    client, stop = start(Settings(tmp_path, log_requests=False))
    try:
        first, second, pairs = client.get("/models")[1]["models"]
    finally:
        stop()
    assert (first["version"], first["state"], first["image_shape"]) == ("1", "ready", [28, 28])
    assert first["labels"] == list("0123456789")
    assert (second["version"], second["state"]) == ("2", "failed")
    assert "model.onnx" in second["reason"]
    assert (pairs["state"], pairs["image_shape"], pairs["batch_size"]) == ("ready", [32, 32, 3], 2)


def test_metrics_have_the_baseline_of_the_bundle(client, bundle):
    shares = Predictor.load(bundle).manifest.baseline.fractions
    text = client("GET", "/metrics")[2].decode()
    for label, share in enumerate(shares):
        series = f'hornbill_baseline_fraction{{label="{label}",model="digits",version="1"}}'
        assert f"{series} {share}\n" in text
    assert sum(shares) == pytest.approx(1)


def test_metrics_are_those_of_the_moment(row_bundle, monkeypatch):
    monkeypatch.setattr("serving.server.app._FLUSH_S", 60.0)
    client, stop = start(Settings(row_bundle.parent, log_requests=False))
    try:
        text = client("GET", "/metrics")[2].decode()
    finally:
        stop()
    assert 'hornbill_model_state{model="softmax",state="ready",version="1"} 1.0\n' in text
    assert "\nhornbill_requests_in_flight 0.0\n" in text


def test_processes_share_their_metrics(row_bundle):
    """Every worker reports the requests of all workers."""
    port = free_port()
    code = "from app.commands.cli import main; main()"
    options = ["--port", str(port), "--workers", "2", "--quiet", "--drain-delay", "0"]
    command = [sys.executable, "-c", code, "serve", str(row_bundle.parent.parent), *options]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=root) as process:
        try:
            client = Client(port)
            wait_until_ready(client)
            body = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
            for _ in range(30):
                assert client.post("/v1/models/softmax:predict", body)[0] == 200
            time.sleep(0.2)  # a request is counted when it is completed
            texts = [client("GET", "/metrics")[2].decode() for _ in range(8)]
            line = 'hornbill_requests_total{model="softmax",route="predict",status="200"} 30.0'
            assert all(line in text for text in texts)
        finally:
            process.terminate()
