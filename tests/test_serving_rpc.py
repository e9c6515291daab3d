"""gRPC over real sockets: protocols, errors, limits, and hostile clients."""

import asyncio
import gzip
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from hypothesis import given
from hypothesis import strategies as st
from live import free_port, start
from test_serving_operation import make_certificate
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException
from waiting import wait_until

from serving import Predictor
from serving.inputs import read_inputs
from serving.server import Settings
from serving.server.rpc.messages import POOL, message_class

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
HEALTH = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
TOKEN = "secret"  # noqa: S105  # of a server that ends with the test


def start_both(folder, **settings):
    """Serve a folder over both protocols; return the client for REST, gRPC's address, `stop`."""
    address = f"127.0.0.1:{free_port()}"
    models = ("digits", "softmax") if folder.name == "dist" else (folder.name,)
    named = {"log_requests": False, "grpc_address": address, "require": models, **settings}
    client, stop = start(Settings(folder, **named))
    return client, address, stop


@pytest.fixture(scope="module")
def server(bundle, row_bundle):
    client, address, stop = start_both(bundle.parent.parent, max_body_mb=1, body_s=1.0)
    yield client, address
    stop()


@pytest.fixture(scope="module")
def address(server):
    return server[1]


@pytest.fixture(scope="module")
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture(scope="module")
def call(address):
    """Call a method with a message, or its bytes; return the response's bytes."""
    with grpc.insecure_channel(address) as channel:

        def send(method, message, **options):
            content = message if isinstance(message, bytes) else message.SerializeToString()
            return channel.unary_unary(method)(content, timeout=20, **options)

        yield send


def refusal(send, *arguments, **options):
    with pytest.raises(grpc.RpcError) as raised:
        send(*arguments, **options)
    return raised.value.code().name, raised.value.details()


def image_input(images):
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    return tensor.set_data_from_numpy(images)


def typed_request(images, **fields):
    request = service_pb2.ModelInferRequest(model_name="digits", **fields)
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    tensor.contents.uint_contents.extend(images.ravel().tolist())
    return request


def test_tritonclient_reports_the_server_and_the_model_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "9")
    assert not client.is_model_ready("none")


def test_tritonclient_reads_metadata_configuration_and_statistics(client, images):
    assert client.get_server_metadata().name == "hornbill"
    metadata = client.get_model_metadata("digits", as_json=True)
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": ["-1", "28", "28"]}
    ]
    config = client.get_model_config("digits", as_json=True)["config"]
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": ["28", "28"]}]

    def predicted():
        return client.get_inference_statistics("digits").model_stats[0].inference_count

    before = predicted()
    client.infer("digits", [image_input(images)])
    assert predicted() == before + len(images)
    stats = client.get_inference_statistics().model_stats
    assert sorted(one.name for one in stats) == ["digits", "softmax"]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritonclient_infers_compressed_or_not(compression, client, bundle, images):
    expected = Predictor.load(bundle).predict(images)
    outputs = [triton.InferRequestedOutput(name) for name in ("features", "probabilities")]
    for request_id in ("seven", "eight", ""):
        response = client.infer(
            "digits", [image_input(images)], outputs=outputs, request_id=request_id,
            compression_algorithm=compression,
        )  # fmt: skip
        np.testing.assert_array_equal(response.as_numpy("probabilities"), expected.probabilities)
        np.testing.assert_array_equal(response.as_numpy("features"), expected.features)
        received = response.get_response()
        assert (received.id, received.model_name, received.model_version) == (
            request_id, "digits", "1",
        )  # fmt: skip
        assert [output.name for output in received.outputs] == ["features", "probabilities"]


def test_tritonclient_gets_the_best_classes_and_what_follows_from_them(client, bundle, images):
    wanted = [
        triton.InferRequestedOutput("probabilities", class_count=3),
        triton.InferRequestedOutput("label"),
    ]
    response = client.infer("digits", [image_input(images)], outputs=wanted)
    expected = Predictor.load(bundle).predict(images)
    texts = response.as_numpy("probabilities")
    assert texts.shape == (len(images), 3)
    best = [int(row[0].decode().split(":")[1]) for row in texts]
    assert best == expected.probabilities.argmax(axis=1).tolist()
    assert [text.decode() for text in response.as_numpy("label")] == expected.labels


def test_tritonclient_sends_rows_with_texts_and_missing_values(raw_bundle):
    folder, table = raw_bundle
    predictor = Predictor.load(folder)
    inputs, _ = read_inputs([table], predictor.manifest)
    tensors = [
        triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)
        for (name, array), datatype in zip(inputs.items(), ("FP32", "BYTES"), strict=True)
    ]
    _, address, stop = start_both(folder.parent)
    try:
        with triton.InferenceServerClient(address) as own:
            response = own.infer("raw", tensors).as_numpy("probabilities")
            request = service_pb2.ModelInferRequest(model_name="raw")
            numbers, texts = inputs.values()
            for (name, array), datatype in zip(inputs.items(), ("FP32", "BYTES"), strict=True):
                request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            request.inputs[0].contents.fp32_contents.extend(numbers.ravel())
            request.inputs[1].contents.bytes_contents.extend(
                text.encode() for text in texts.ravel()
            )
        with grpc.insecure_channel(address) as channel:
            typed = channel.unary_unary(INFER)(request.SerializeToString(), timeout=20)
    finally:
        stop()
    expected = predictor.predict(inputs).probabilities
    np.testing.assert_array_equal(response, expected)
    output = service_pb2.ModelInferResponse.FromString(typed).outputs[0]
    received = np.array(output.contents.fp32_contents, np.float32)
    np.testing.assert_array_equal(received, expected.ravel())


def test_tritonclient_sends_many_requests_at_once(client, address, bundle, images):
    expected = Predictor.load(bundle).predict(images).probabilities
    tensors = [image_input(image[np.newaxis]) for image in images]

    async def ask():
        async with triton_aio.InferenceServerClient(address) as own:
            assert await own.is_model_ready("digits")
            return await asyncio.gather(*(own.infer("digits", [tensor]) for tensor in tensors))

    with ThreadPoolExecutor(8) as pool:
        pooled = list(pool.map(lambda tensor: client.infer("digits", [tensor]), tensors))
    for responses in (pooled, asyncio.run(ask())):
        received = np.concatenate([response.as_numpy("probabilities") for response in responses])
        np.testing.assert_allclose(received, expected, atol=1e-6)


def test_typed_contents_get_typed_contents_unless_raw_ones_are_asked_for(call, bundle, images):
    expected = Predictor.load(bundle).predict(images)
    response = service_pb2.ModelInferResponse.FromString(call(INFER, typed_request(images)))
    assert [list(output.shape) for output in response.outputs] == [[12, 10], [12, 32]]
    received = np.array(response.outputs[0].contents.fp32_contents, np.float32)
    np.testing.assert_array_equal(received, expected.probabilities.ravel())
    raw = typed_request(images, parameters={"binary_data_output": {"bool_param": True}})
    response = service_pb2.ModelInferResponse.FromString(call(INFER, raw))
    assert response.raw_output_contents[0] == expected.probabilities.tobytes()


def test_errors_have_the_status_and_the_sentence_of_rest(client, call, images):
    with pytest.raises(InferenceServerException, match="The model must be one of: digits") as found:
        client.infer("none", [image_input(images)])
    assert found.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match="must have shape") as found:
        client.infer("digits", [image_input(images[:, :3])])
    assert found.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert refusal(call, "/x.Y/Z", b"")[0] == "UNIMPLEMENTED"
    for name in ("ModelStreamInfer", "TraceSetting", "LogSettings", "SystemSharedMemoryStatus"):
        code, details = refusal(call, f"/inference.GRPCInferenceService/{name}", b"")
        assert code == "UNIMPLEMENTED"
        assert f"Received: {name} of inference.GRPCInferenceService, which is not" in details
    assert refusal(call, INFER, b"\xff")[0] == "INVALID_ARGUMENT"
    assert refusal(call, INFER, bytes(2_000_000))[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.raw_input_contents.append(b""), "must have raw_input_contents or contents"),
        (lambda r: r.inputs[0].contents.uint_contents.append(1), "must have 784 elements"),
        (lambda r: r.inputs[0].contents.uint_contents.__setitem__(0, 256), "must fit UINT8"),
        (lambda r: r.inputs[0].contents.fp32_contents.append(1), "must be in uint_contents"),
        (lambda r: r.inputs.append(r.inputs[0]), "Received: image, image"),
        (lambda r: r.inputs.pop(), "Inputs must be image, each once. Received: none"),
        (lambda r: r.outputs.add(name="x"), "Outputs must be among"),
        (
            lambda r: r.inputs[0].parameters["shared_memory_region"].MergeFrom(
                service_pb2.InferParameter(string_param="mine")
            ),
            "shared_memory_region is not supported",
        ),
        (
            lambda r: r.parameters["sequence_id"].MergeFrom(
                service_pb2.InferParameter(int64_param=7)
            ),
            "sequence_id is not supported",
        ),
        (
            lambda r: r.outputs.add(name="probabilities").parameters["classification"].MergeFrom(
                service_pb2.InferParameter(string_param="3")
            ),
            "classification must be a number",
        ),
    ],
)  # fmt: skip
def test_a_request_that_does_not_fit_is_refused(change, message, call, images):
    request = typed_request(images[:1])
    change(request)
    code, details = refusal(call, INFER, request)
    assert code == "INVALID_ARGUMENT"
    assert message in details


def test_a_sequence_of_raw_tensors_is_refused(call, images):
    request = typed_request(images[:1])
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(images[:1].tobytes())
    request.parameters["sequence_id"].int64_param = 7
    code, details = refusal(call, INFER, request)
    assert (code, "sequence_id is not supported" in details) == ("INVALID_ARGUMENT", True)


# Bytes of fields with numbers that the messages have, and others.
FIELDS = st.recursive(
    st.binary(max_size=40),
    lambda inner: st.lists(st.tuples(st.integers(1, 16), inner), max_size=4).map(
        lambda fields: b"".join(
            bytes([number << 3 | 2, len(content) & 127]) + content[: len(content) & 127]
            for number, content in fields
            if number < 16
        )
    ),
)


@given(content=FIELDS, method=st.sampled_from([INFER, PREDICT]))
def test_bytes_that_are_no_message_are_refused(content, method, call):
    code, details = refusal(call, method, content)
    assert code in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert details


@given(
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([1, 2, 28]), max_size=4),
    datatype=st.sampled_from(["UINT8", "FP32", "BYTES", "", "x"]),
    raw=st.lists(st.binary(max_size=8) | st.just(bytes(784)), max_size=2),
    values=st.lists(st.integers(0, 2**32 - 1), max_size=3) | st.just([1] * 784),
    outputs=st.lists(st.sampled_from(["probabilities", "label", "x", ""]), max_size=2),
)
def test_messages_of_any_content_are_refused_or_answered(
    shape, datatype, raw, values, outputs, call
):
    request = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=raw)
    tensor = request.inputs.add(name="image", datatype=datatype, shape=shape)
    tensor.contents.uint_contents.extend(values)
    for name in outputs:
        request.outputs.add(name=name)
    code = "OK"
    try:
        response = service_pb2.ModelInferResponse.FromString(call(INFER, request))
    except grpc.RpcError as error:
        code = error.code().name
    if code == "OK":
        assert response.outputs[0].shape[0] == shape[0]
    assert code in ("OK", "INVALID_ARGUMENT")


def tf_request(images, **fields):
    """Return a predict request and the message of its tensor, from this server's own pool."""
    request = message_class("tensorflow.serving.PredictRequest")(**fields)
    request.model_spec.name = "digits"
    tensor = request.inputs["image"]
    tensor.dtype = 4
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = images.tobytes()
    return request, tensor


def test_tf_serving_predicts(call, bundle, images):
    request, _ = tf_request(images, output_filter=["probabilities"])
    response = message_class("tensorflow.serving.PredictResponse").FromString(
        call(PREDICT, request)
    )
    assert list(response.outputs) == ["probabilities"]
    output = response.outputs["probabilities"]
    received = np.array(output.float_val, np.float32).reshape(12, 10)
    np.testing.assert_array_equal(received, Predictor.load(bundle).predict(images).probabilities)
    assert (response.model_spec.name, response.model_spec.version.value) == ("digits", 1)


def test_tf_serving_repeats_the_last_value_of_a_tensor(call, bundle):
    images = np.full((1, 28, 28), 7, np.uint8)
    request, tensor = tf_request(images)
    tensor.ClearField("tensor_content")
    tensor.int_val.append(7)
    response = message_class("tensorflow.serving.PredictResponse").FromString(
        call(PREDICT, request)
    )
    received = np.array(response.outputs["probabilities"].float_val, np.float32)
    expected = Predictor.load(bundle).predict(images).probabilities
    np.testing.assert_array_equal(received, expected[0])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda r: r.inputs["x"], "INVALID_ARGUMENT", "Inputs must be image. Received: image, x"),
        (
            lambda r: setattr(r.inputs["image"], "dtype", 1),
            "INVALID_ARGUMENT",
            "image must have dtype DT_UINT8. Received: DT_FLOAT",
        ),
        (
            lambda r: setattr(r.inputs["image"], "dtype", 99),
            "INVALID_ARGUMENT",
            "image must have dtype DT_UINT8. Received: 99",
        ),
        (
            lambda r: r.inputs["image"].tensor_shape.dim.add(size=1),
            "INVALID_ARGUMENT",
            "image must have shape",
        ),
        (
            lambda r: r.inputs["image"].ClearField("tensor_content"),
            "INVALID_ARGUMENT",
            "must have 784 elements in tensor_content or int_val",
        ),
        (lambda r: r.output_filter.append("x"), "INVALID_ARGUMENT", "Outputs must be among"),
        (
            lambda r: setattr(r.model_spec, "signature_name", "x"),
            "INVALID_ARGUMENT",
            "signature_name must be serving_default",
        ),
        (
            lambda r: setattr(r.model_spec.version, "value", 9),
            "NOT_FOUND",
            "The version of digits must be one of: 1. Received: 9",
        ),
        (
            lambda r: setattr(r.model_spec, "version_label", "x"),
            "NOT_FOUND",
            "The version of digits must be one of: 1. Received: x",
        ),
        (
            lambda r: setattr(r.model_spec, "version_label", "1"),
            "INVALID_ARGUMENT",
            "must not be a number",
        ),
    ],
)
def test_tf_serving_refuses_what_does_not_fit(change, code, message, call, images):
    request, _ = tf_request(images[:1])
    change(request)
    received, details = refusal(call, PREDICT, request)
    assert received == code
    assert message in details


# TF Serving's own stubs without TensorFlow, whose import takes longer than this test.
STUBS = """
import importlib.util, sys, types
package = types.ModuleType("tensorflow")
package.__path__ = importlib.util.find_spec("tensorflow").submodule_search_locations
sys.modules["tensorflow"] = package
"""
TF_SERVING = """
import sys
import grpc, numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc
from tensorflow.core.framework import tensor_pb2

images = np.load(sys.argv[2])
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "digits"
    request.model_spec.signature_name = "serving_default"
    tensor = tensor_pb2.TensorProto(dtype=4, tensor_content=images.tobytes())
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    request.inputs["image"].CopyFrom(tensor)
    response = stub.Predict(request, 20.0)
    shape = [dim.size for dim in response.outputs["probabilities"].tensor_shape.dim]
    values = np.array(response.outputs["probabilities"].float_val, np.float32).reshape(shape)
    np.testing.assert_array_equal(values, np.load(sys.argv[3]))
    assert response.model_spec.version.value == 1
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "digits"
    found = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(asked, 20.0).metadata["signature_def"].Unpack(found)
    signature = found.signature_def["serving_default"]
    assert [dim.size for dim in signature.inputs["image"].tensor_shape.dim] == [-1, 28, 28]
    assert signature.inputs["image"].dtype == 4
    assert sorted(signature.outputs) == ["features", "probabilities"]
    del asked.metadata_field[:]
    try:
        stub.GetModelMetadata(asked, 20.0)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    else:
        raise AssertionError("not refused")
"""


def run_program(python, *arguments):
    command = [python, "-W", "ignore", "-c", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_tf_servings_own_stubs_predict_and_read_metadata(address, bundle, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "expected.npy", Predictor.load(bundle).predict(images).probabilities)
    program = STUBS + TF_SERVING, address, tmp_path / "images.npy", tmp_path / "expected.npy"
    run_program(sys.executable, *program)


# KServe's package and TensorFlow need different protobufs, so it has its own environment.
KSERVE = """
import asyncio, sys
import grpc, numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

async def main():
    async with InferenceGRPCClient(sys.argv[1]) as client:
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("digits")
        images = np.arange(2 * 28 * 28).astype("uint8").reshape(2, 28, 28)
        answers = []
        for is_binary in (True, False):
            tensor = InferInput("image", list(images.shape), "UINT8")
            tensor.set_data_from_numpy(images, binary_data=is_binary)
            answers.append(await client.infer(InferRequest("digits", [tensor], request_id="seven")))
        binary, plain = answers
        assert (binary.model_name, binary.id) == ("digits", "seven")
        for first, second in zip(binary.outputs, plain.outputs, strict=True):
            np.testing.assert_array_equal(first.as_numpy(), second.as_numpy())
        try:
            await client.infer(InferRequest("none", [tensor]))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("not refused")

asyncio.run(main())
"""


@pytest.mark.slow
def test_kserve_client_infers(address, tmp_path):
    python = tmp_path / "kserve" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "kserve"]
    for command in ([sys.executable, "-m", "venv", tmp_path / "kserve"], install):
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stderr
    run_program(python, KSERVE, address)


def test_the_health_service_follows_readiness(row_bundle, tmp_path):
    folder, away = tmp_path / "dist", tmp_path / "away"
    shutil.copytree(row_bundle.parent, folder / "softmax")
    _, address, stop = start_both(folder, require=("softmax",), poll_s=0.05)
    serving, not_serving = HEALTH
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def status(service):
            return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status

        try:
            for service in ("", "inference.GRPCInferenceService", "grpc.health.v1.Health"):
                assert status(service) == serving
            assert refusal(status, "none")[0] == "NOT_FOUND"
            watched = stub.Watch(health_pb2.HealthCheckRequest(service="none"), timeout=20)
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            watched.cancel()
            watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(watched).status == serving
            (folder / "softmax").rename(away)
            assert next(watched).status == not_serving
            assert status("") == not_serving
            away.rename(folder / "softmax")
            assert next(watched).status == serving
            assert status("") == serving
        finally:
            stop()


def test_reflection_describes_every_service(address, call):
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = database.get_services()
        assert "inference.GRPCInferenceService" in services
        for service in services:
            file = database.FindFileContainingSymbol(service)
            names = {f"{file.package}.{one.name}" for one in file.service}
            assert service in names
        method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        request = message_class("grpc.reflection.v1alpha.ServerReflectionRequest")(
            list_services="*"
        )
        (response,) = channel.stream_stream(method)(iter([request.SerializeToString()]), timeout=20)
        assert b"inference.GRPCInferenceService" in response


def test_every_call_but_health_needs_the_token(row_bundle):
    _, address, stop = start_both(row_bundle.parent, token=TOKEN)
    try:
        with triton.InferenceServerClient(address) as own:
            assert own.is_server_live()
            with pytest.raises(InferenceServerException, match="must present the token") as found:
                own.is_model_ready("softmax")
            assert found.value.status() == "StatusCode.UNAUTHENTICATED"
            assert own.is_model_ready("softmax", headers={"authorization": f"Bearer {TOKEN}"})
    finally:
        stop()


def test_calls_are_counted_and_logged_with_those_of_rest(row_bundle, capfd):
    client, address, stop = start_both(row_bundle.parent, log_requests=True)
    try:
        with grpc.insecure_channel(address) as channel:
            send = channel.unary_unary(INFER)
            metadata = [("x-request-id", "mine-8")]
            refusal(send, b"", timeout=20, metadata=metadata)
            text = client("GET", "/metrics")[2].decode()
    finally:
        stop()
    name = "inference.GRPCInferenceService/ModelInfer"
    counted = f'hornbill_requests_total{{model="",route="{name}",status="NOT_FOUND"}} 1.0'
    assert counted in text
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (line,) = [line for line in lines if line["id"] == "mine-8"]
    assert (line["path"], line["status"]) == (INFER, "NOT_FOUND")


def predict_request(name, **spec):
    request = message_class("tensorflow.serving.PredictRequest")()
    request.model_spec.name = name
    for field, value in spec.items():
        setattr(request.model_spec, field, value)
    return request.SerializeToString()


def test_refused_calls_are_counted_with_the_name_of_a_model_that_is_served(row_bundle):
    client, address, stop = start_both(row_bundle.parent, token=TOKEN)
    token = {"authorization": f"Bearer {TOKEN}"}
    named = service_pb2.ModelInferRequest(model_name="softmax").SerializeToString()
    invented = service_pb2.ModelInferRequest(model_name="invented").SerializeToString()
    calls = [
        (INFER, named, token),
        (INFER, named, {}),
        (INFER, named + b"\xff", token),
        (INFER, invented, token),
        (INFER, invented, {}),
        (PREDICT, predict_request("softmax", signature_name="other"), token),
        (PREDICT, predict_request("softmax"), {}),
        (PREDICT, b"\xff", token),
    ]
    try:
        with grpc.insecure_channel(address) as channel:
            for method, content, metadata in calls:
                send = channel.unary_unary(method)
                refusal(send, content, timeout=20, metadata=list(metadata.items()))
        text = client("GET", "/metrics", headers=token)[2].decode()
    finally:
        stop()
    pattern = r'hornbill_requests_total{model="(.*)",route="(.*/.*)",status="(.*)"} (.*)'
    found = {(*names,): float(count) for *names, count in re.findall(pattern, text)}
    infer, predict = INFER[1:], PREDICT[1:]
    assert found == {
        ("softmax", infer, "INVALID_ARGUMENT"): 2,
        ("", infer, "NOT_FOUND"): 1,
        ("", infer, "UNAUTHENTICATED"): 2,  # whose messages are not received
        ("softmax", predict, "INVALID_ARGUMENT"): 1,
        ("", predict, "INVALID_ARGUMENT"): 1,
        ("", predict, "UNAUTHENTICATED"): 1,
    }
    assert "invented" not in text


def test_models_are_loaded_and_unloaded_over_tls(committed_models, tmp_path):
    certificate, key = make_certificate(tmp_path)
    settings = {"tls_certificate": certificate, "tls_key": key, "model_control": "explicit"}
    _, address, stop = start_both(committed_models, require=("softmax",), **settings)
    port = address.rpartition(":")[2]
    secure = {"ssl": True, "root_certificates": str(certificate)}
    try:
        with triton.InferenceServerClient(f"localhost:{port}", **secure) as own:
            models = own.get_model_repository_index().models
            assert [(one.name, one.state) for one in models] == [
                ("digits", "UNAVAILABLE"), ("softmax", "READY"),
            ]  # fmt: skip
            own.load_model("digits")
            assert own.is_model_ready("digits")
            own.unload_model("digits")
            assert not own.is_model_ready("digits")
            with pytest.raises(InferenceServerException, match="The model must be one of"):
                own.load_model("none")
            with pytest.raises(InferenceServerException, match="without parameters. Received: c"):
                own.load_model("digits", config="{}")
    finally:
        stop()


def test_limits_are_those_of_rest(row_bundle):
    _, address, stop = start_both(row_bundle.parent, max_rows=3)
    rows = np.zeros((4, 4), np.float32)
    tensor = triton.InferInput("inputs", [4, 4], "FP32").set_data_from_numpy(rows)
    try:
        with triton.InferenceServerClient(address) as own:
            with pytest.raises(InferenceServerException, match="at most 3 samples") as found:
                own.infer("softmax", [tensor])
            assert found.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    finally:
        stop()


def long_request(field, content, count):
    """Return a long request with a field repeated in its input: two bytes or more for each."""
    one = bytes([field << 3 | 2, len(content)]) + content
    return b"\x0a\x06digits" + one * count


@pytest.mark.parametrize("content", [b"", b"\x2a\x00", b"\x22\x00"])
def test_a_message_of_many_fields_is_refused(content, call):
    message = long_request(5, content, 400_000 // (2 + len(content)))
    code, details = refusal(call, INFER, message)
    assert code == "RESOURCE_EXHAUSTED"
    assert "must have at most 100,000 fields" in details


def test_a_compressed_message_is_bounded_after_decompression(address, call):
    message = b"\x3a\x80\x80\x80\x04" + bytes(8 << 20)  # a raw tensor of zeros
    code, _ = refusal(call, INFER, message, compression=grpc.Compression.Gzip)
    assert code == "RESOURCE_EXHAUSTED"
    assert len(gzip.compress(message, 1)) < 1_000_000  # so its size does not tell


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(
        ">I", stream
    ) + payload  # fmt: skip


def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADERS = b"\x83\x86" + literal(b":path", INFER.encode()) + literal(b":authority", b"x") + literal(
    b"content-type", b"application/grpc"
) + literal(b"te", b"trailers")  # fmt: skip


PING, PING_ANSWER = frame(6, 0, 0, b"hornbill"), frame(6, 1, 0, b"hornbill")


def request_message(images):
    """Return a request as a message of gRPC: with a flag and its length."""
    request = typed_request(images).SerializeToString()
    return b"\0" + struct.pack(">I", len(request)) + request


@contextmanager
def raw_client(address, settings=b""):
    """Connect without a client's library; yield a function that sends and one that receives."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as stream:
        stream.sendall(PREFACE + frame(4, 0, 0, settings))
        yield stream.sendall, lambda: stream.recv(65536)


def frames(receive, content=b""):
    """Yield the type and the stream of each frame in what has arrived and in what arrives."""
    while True:
        while len(content) < 9 or len(content) < 9 + int.from_bytes(content[:3], "big"):
            part = receive()
            assert part, "the server has hung up"
            content += part
        yield content[3], int.from_bytes(content[5:9], "big")
        content = content[9 + int.from_bytes(content[:3], "big") :]


def test_clients_that_send_no_message_are_cut_off_and_hold_no_place(bundle):
    _, address, stop = start_both(bundle.parent.parent, max_requests=2, body_s=0.5)
    streams = set(range(1, 21, 2))
    try:
        with raw_client(address) as (send, receive):
            for number in streams:
                send(frame(1, 4, number, HEADERS))
            with triton.InferenceServerClient(address) as own:
                assert own.is_model_ready("digits")
            ended = (stream for kind, stream in frames(receive) if kind in (1, 3))
            while streams:
                streams.discard(next(ended))
    finally:
        stop()


def test_a_call_without_the_token_is_refused_before_its_message_arrives(row_bundle):
    _, address, stop = start_both(row_bundle.parent, token=TOKEN, body_s=60.0)
    try:
        with raw_client(address) as (send, receive):
            send(frame(1, 4, 1, HEADERS))
            send(frame(0, 0, 1, b"\0" + struct.pack(">I", 1_000_000) + bytes(1000)))
            assert (1, 1) in frames(receive)  # its status
    finally:
        stop()


def test_clients_that_do_not_read_their_response_are_cut_off(bundle, images):
    _, address, stop = start_both(bundle.parent.parent, body_s=0.5)
    message = request_message(images)
    parts = [message[place : place + 16_000] for place in range(0, len(message), 16_000)]
    no_window = struct.pack(">HI", 4, 0)
    try:
        with raw_client(address, no_window) as (send, receive):
            send(frame(1, 4, 1, HEADERS))
            for part in parts:
                send(frame(0, int(part is parts[-1]), 1, part))
            assert (3, 1) in frames(receive)  # the stream is reset
    finally:
        stop()


def test_a_client_that_goes_away_leaves_the_queue(server, call, images):
    client, address = server
    with grpc.insecure_channel(address) as channel:
        pending = [
            channel.unary_unary(INFER).future(typed_request(images).SerializeToString())
            for _ in range(50)
        ]
        for one in pending:
            one.cancel()

    def in_flight():
        text = client("GET", "/metrics")[2].decode()
        return "hornbill_requests_in_flight 0.0" in text or "in_flight 1.0" in text

    wait_until(in_flight)
    assert call(INFER, typed_request(images))


def test_calls_in_flight_are_completed_when_a_server_ends(bundle, images):
    port, grpc_port = free_port(), free_port()
    code = "from app.commands.cli import main; main()"
    served = str(bundle.parent.parent), "--require", "digits", "--quiet", "--drain-delay", "0"
    command = [sys.executable, "-c", code, "serve", *served]
    ports = ["--port", str(port), "--grpc-port", str(grpc_port)]
    message = request_message(images)
    half = len(message) // 2
    with subprocess.Popen([*command, *ports], stderr=subprocess.PIPE, text=True) as process:
        try:
            with triton.InferenceServerClient(f"127.0.0.1:{grpc_port}") as own:
                wait_until(lambda: is_ready(own))
            with raw_client(f"127.0.0.1:{grpc_port}") as (send, receive):
                send(frame(1, 4, 1, HEADERS) + frame(0, 0, 1, message[:half]) + PING)
                received = b""
                while PING_ANSWER not in received:  # so the server knows of the call
                    received += receive()
                process.terminate()
                time.sleep(0.5)
                assert process.poll() is None
                send(frame(0, 1, 1, message[half:]))
                rest = received.partition(PING_ANSWER)[2]
                assert (0, 1) in frames(receive, rest)  # a refusal has no message
        finally:
            process.terminate()
            _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"gRPC on 127.0.0.1:{grpc_port}" in error
    assert "Traceback" not in error


def is_ready(client):
    try:
        return client.is_server_ready()
    except InferenceServerException:
        return False


def proto_fields(path):
    """Yield the message, name, number and type of each field in a .proto file."""
    place = []
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] in (["message"], ["enum"], ["service"], ["oneof"]):
            place.append((words[0], words[1]))
        if "=" in words and place and place[-1][0] in ("message", "oneof"):
            *kind, name, _, number = line.partition(";")[0].split()
            message = ".".join(one for what, one in place if what == "message")
            yield message, name, int(number), " ".join(kind)
        if line.strip().startswith("}") or line.rstrip().endswith("{}"):
            place.pop()


def test_the_compiled_messages_are_those_of_the_proto_files():
    folder = Path(sys.modules[message_class.__module__].__file__).parent
    for path in folder.glob("*.proto"):
        file = POOL.FindFileByName(path.name)

        def messages(kinds, prefix=""):
            for kind in kinds:
                if not kind.GetOptions().map_entry:
                    yield prefix + kind.name, kind
                    yield from messages(kind.nested_types, f"{prefix}{kind.name}.")

        compiled = {
            (name, field.name, field.number)
            for name, kind in messages(file.message_types_by_name.values())
            for field in kind.fields
        }
        assert compiled == {found[:3] for found in proto_fields(path)}


def test_the_messages_are_those_of_the_published_protocols():
    ours = POOL.FindFileByName("open_inference.proto")
    for name, kind in ours.message_types_by_name.items():
        theirs = getattr(service_pb2, name, None)
        if theirs is None:  # of model_config.proto
            continue
        for field in kind.fields:
            other = theirs.DESCRIPTOR.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (
                other.number, other.type, other.is_repeated,
            )  # fmt: skip
