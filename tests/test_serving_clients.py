"""Unmodified third-party clients against a live server: tritonclient and KServe's client."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from live import start
from tritonclient.utils import InferenceServerException

from serving import Predictor
from serving.inputs import read_inputs
from serving.server import Settings


@pytest.fixture(scope="module")
def port(bundle, row_bundle):
    client, stop = start(Settings(bundle.parent.parent, log_requests=False))
    yield client.port
    stop()


@pytest.fixture(scope="module")
def client(port):
    with triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=4) as client:
        yield client


def image_input(images, is_binary=True):
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    return tensor.set_data_from_numpy(images, binary_data=is_binary)


def test_tritonclient_reports_the_server_and_the_model_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "9")
    assert not client.is_model_ready("none")


def test_tritonclient_reads_metadata_configuration_and_statistics(client, images):
    assert client.get_server_metadata()["name"] == "hornbill"
    metadata = client.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    config = client.get_model_config("digits", "1")
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [28, 28]}]

    def predicted_samples():
        (stats,) = client.get_inference_statistics("digits", "1")["model_stats"]
        return stats["inference_count"]

    before = predicted_samples()
    client.infer("digits", [image_input(images)])
    assert predicted_samples() == before + len(images)
    names = [stats["name"] for stats in client.get_inference_statistics()["model_stats"]]
    assert sorted(names) == ["digits", "softmax"]


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("received", [None, "gzip", "deflate"])
def test_tritonclient_infers_with_json_and_binary_tensors_compressed_or_not(
    is_binary, sent, received, client, bundle, images
):
    expected = Predictor.load(bundle).predict(images)
    outputs = [
        triton.InferRequestedOutput(name, binary_data=is_binary)
        for name in ("features", "probabilities")
    ]
    response = client.infer(
        "digits", [image_input(images, is_binary)], outputs=outputs, request_id="seven",
        request_compression_algorithm=sent, response_compression_algorithm=received,
    )  # fmt: skip
    np.testing.assert_array_equal(response.as_numpy("probabilities"), expected.probabilities)
    np.testing.assert_array_equal(response.as_numpy("features"), expected.features)
    assert response.get_response()["id"] == "seven"
    assert [output["name"] for output in response.get_response()["outputs"]] == [
        "features",
        "probabilities",
    ]


def test_tritonclient_gets_all_outputs_by_default(client, images):
    response = client.infer("digits", [image_input(images)], model_version="1")
    assert response.get_output("features")["shape"] == [len(images), 32]
    assert response.as_numpy("probabilities").shape == (len(images), 10)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_tritonclient_gets_the_best_classes(is_binary, client, bundle, images):
    wanted = triton.InferRequestedOutput("probabilities", binary_data=is_binary, class_count=3)
    texts = client.infer("digits", [image_input(images)], outputs=[wanted]).as_numpy(
        "probabilities"
    )
    probabilities = Predictor.load(bundle).predict(images).probabilities
    assert texts.shape == (len(images), 3)
    for row, expected in zip(texts, probabilities, strict=True):
        texts_of_row = [text.decode() if is_binary else text for text in row]
        values, indices, labels = zip(*(text.split(":") for text in texts_of_row), strict=True)
        assert [int(index) for index in indices] == list(np.argsort(-expected)[:3])
        assert indices == labels  # the label of a digit is the digit
        np.testing.assert_allclose(np.array(values, float), np.sort(expected)[::-1][:3], atol=1e-6)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_tritonclient_sends_rows_with_texts_and_missing_values(is_binary, raw_bundle):
    folder, table = raw_bundle
    predictor = Predictor.load(folder)
    named, _ = read_inputs([table], predictor.manifest)
    # NaN is not JSON, and tritonclient does not write it
    rows = slice(None) if is_binary else ~np.isnan(named["inputs"]).any(axis=1)
    inputs = {name: array[rows] for name, array in named.items()}
    tensors = [
        triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, is_binary)
        for (name, array), datatype in zip(inputs.items(), ("FP32", "BYTES"), strict=True)
    ]
    client, stop = start(Settings(folder.parent, log_requests=False))
    try:
        with triton.InferenceServerClient(f"127.0.0.1:{client.port}") as own:
            response = own.infer("raw", tensors).as_numpy("probabilities")
    finally:
        stop()
    np.testing.assert_array_equal(response, predictor.predict(inputs).probabilities)


def test_tritonclient_sends_many_requests_at_once(client, port, bundle, images):
    expected = Predictor.load(bundle).predict(images).probabilities
    tensors = [image_input(image[np.newaxis]) for image in images]
    pending = [client.async_infer("digits", [tensor]) for tensor in tensors]

    async def ask():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as own:
            assert await own.is_model_ready("digits")
            return await asyncio.gather(*(own.infer("digits", [tensor]) for tensor in tensors))

    for responses in ([request.get_result() for request in pending], asyncio.run(ask())):
        received = np.concatenate([response.as_numpy("probabilities") for response in responses])
        np.testing.assert_allclose(received, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "version", "tensor", "status", "message"),
    [
        ("none", "", np.zeros((1, 28, 28), "uint8"), 404, "The model must be one of: digits"),
        (
            "digits",
            "9",
            np.zeros((1, 28, 28), "uint8"),
            404,
            "The version of digits must be one of",
        ),
        ("digits", "", np.zeros((1, 28), "uint8"), 400, "image must have shape [batch, 28, 28]"),
    ],
)
def test_tritonclient_raises_the_message_of_the_server(
    name, version, tensor, status, message, client
):
    with pytest.raises(InferenceServerException) as raised:
        client.infer(name, [image_input(tensor)], model_version=version)
    assert int(raised.value.status()) == status
    assert raised.value.message().startswith(message)


# KServe's package and TensorFlow need different protobufs, so it has its own environment.
KSERVE = """
import asyncio, json, sys
import httpx, numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

BASE = sys.argv[1]

def request(images, is_binary):
    tensor = InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=is_binary)
    return InferRequest("digits", [tensor], request_id="seven")

async def refusal(client, *arguments, **named):
    try:
        await client.infer(BASE, *arguments, **named)
    except httpx.HTTPStatusError as error:
        return error.response.status_code, str(error)
    raise AssertionError("not refused")

async def main():
    v1, v2 = (InferenceRESTClient(RESTConfig(protocol=name)) for name in ("v1", "v2"))
    assert await v2.is_server_live(BASE) and await v2.is_server_ready(BASE)
    assert await v2.is_model_ready(BASE, "digits")
    assert not await v2.is_model_ready(BASE, "none")
    images = np.arange(2 * 28 * 28).astype("uint8").reshape(2, 28, 28)
    binary, plain = [
        await v2.infer(BASE, request(images, is_binary), model_name="digits")
        for is_binary in (True, False)
    ]
    assert (binary.model_name, binary.id) == ("digits", "seven")
    assert [output.name for output in binary.outputs] == ["probabilities", "features"]
    for first, second in zip(binary.outputs, plain.outputs, strict=True):
        np.testing.assert_array_equal(first.as_numpy(), second.as_numpy())
    status, message = await refusal(v2, request(images[0], True), model_name="digits")
    assert status == 400 and "image must have shape [batch, 28, 28]" in message, message
    assert await v1.is_server_live(BASE) and await v1.is_model_ready(BASE, "softmax")
    rows = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    (probabilities,) = (await v1.infer(BASE, rows, model_name="softmax"))["predictions"]
    assert len(probabilities) == 3
    status, message = await refusal(v1, {"instances": [[5.1]]}, model_name="softmax")
    assert status == 400 and "inputs must have shape [batch, 4]" in message, message
    await v1.close()
    await v2.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_kserve_client_uses_both_protocols(port, tmp_path):
    python = tmp_path / "kserve" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", tmp_path / "kserve"],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "kserve>=0.15"],
        [python, "-c", KSERVE, f"http://127.0.0.1:{port}"],
    ):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
