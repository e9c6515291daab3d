"""Hostile requests: malformed, truncated or endless ones are refused and disturb no other request.

After each test the server must respond, have no request in flight, and have logged no error.
"""

import copy
import gzip
import http.client
import io
import json
import logging
import re
import shutil
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from granian.http import HTTP1Settings
from hypothesis import assume, example, given
from hypothesis import strategies as st
from live import start
from PIL import Image

from serving.server import Settings
from serving.server.tensors import classify

# Long enough for a busy machine to send a valid body.
BODY_S, SILENCE_S = 1.0, 0.5
MAX_BYTES = 1_000_000
INFER, PREDICT, TEXTS = (
    "/v2/models/digits/infer",
    "/v1/models/softmax:predict",
    "/v2/models/raw/infer",
)
RAW_PREDICT = "/v1/models/raw:predict"
IMAGES = "/images/digits"


class Errors(logging.Handler):
    """Collects the errors that are logged."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.records = []

    def emit(self, record):
        self.records.append(record.getMessage())


@pytest.fixture(scope="module")
def served(bundle, row_bundle, raw_bundle, tmp_path_factory):
    """A client of a server with three models, and the errors that the server logs."""
    folder = tmp_path_factory.mktemp("hostile")
    for version in (bundle, row_bundle, raw_bundle[0]):
        shutil.copytree(version.parent, folder / version.parent.name)
    errors = Errors()
    loggers = [logging.getLogger(name) for name in ("hornbill.server", "_granian", "asyncio")]
    for logger in loggers:
        logger.addHandler(errors)
    client, stop = start(
        Settings(
            folder,
            max_body_mb=MAX_BYTES / 1e6,
            max_rows=MAX_BYTES,  # so that only the size of the body is limited
            body_s=BODY_S,
            log_requests=False,
        ),
        http1_settings=HTTP1Settings(header_read_timeout=int(1000 * SILENCE_S)),
    )
    yield client, errors
    stop()
    for logger in loggers:
        logger.removeHandler(errors)


@pytest.fixture(scope="module")
def client(served):
    return served[0]


@pytest.fixture(autouse=True)
def the_server_stays_healthy(served):
    client, errors = served
    errors.records.clear()
    yield
    assert errors.records == []
    status, response = client.post(PREDICT, {"instances": [[5.1, 3.5, 1.4, 0.2]]})
    assert (status, len(response["predictions"])) == (200, 1)
    for _ in range(60):  # a client that has gone may be noticed later
        in_flight = re.search(r"\nhornbill_requests_in_flight (\S+)", metrics(client))[1]
        if in_flight == "0.0":
            return
        time.sleep(0.05)
    raise AssertionError(f"{in_flight} requests in flight")


def metrics(client):
    return client("GET", "/metrics")[2].decode()


def speak(port, *parts, pause_s=0.0):
    """Send bytes; return the status, headers and body before the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with suppress(ConnectionError):  # it may hang up before the end
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, dict(response.getheaders()), response.read()


def listen(port, *parts):
    """Send bytes, then nothing; return what arrives until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(path=INFER, *lines, method="POST"):
    first = f"{method} {path} HTTP/1.1\r\nHost: h\r\n".encode()
    return first + b"".join(line.encode("latin-1") + b"\r\n" for line in lines) + b"\r\n"


def assert_refused(response, *statuses):
    status, _, body = response
    assert status in (statuses or range(400, 500)), (status, body)
    error = json.loads(body)
    assert list(error) == ["error"]
    assert error["error"].strip()
    assert "Traceback" not in error["error"]
    return error["error"]


def assert_accepted_or_refused(response):
    if response[0] != 200:
        assert_refused_or_no_http(response)


def assert_refused_or_no_http(response, *statuses):
    """Granian itself refuses bytes that are not HTTP, with a 400 without a body."""
    status, headers, body = response
    if status == 400 and not body and "x-request-id" not in headers:
        return
    assert_refused(response, *statuses)


ROUTES = st.sampled_from([INFER, PREDICT, TEXTS, RAW_PREDICT, IMAGES])
NUMBERS = st.integers() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=True)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["inputs", "instances", "name", "shape", "data", "b64", "parameters"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(ROUTES, st.binary(max_size=100))
def test_any_bytes_are_refused(client, route, body):
    assert_refused(client("POST", route, body), 400)


@given(ROUTES, JSON)
def test_any_json_is_refused(client, route, value):
    assert_refused(client("POST", route, json.dumps(value)), 400)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (PREDICT, b'{"instances": [{"\xff": 1}]}'),
        (PREDICT, b'{"inputs": {"\xff": 1}}'),
        (PREDICT, b'{"\xff": 1}'),
        (RAW_PREDICT, b'{"instances": [{"inputs": [1, 2], "texts": ["\xff"]}]}'),
        (RAW_PREDICT, b'{"inputs": {"inputs": [[1, 2]], "texts": [["\xff"]]}}'),
        (
            TEXTS,
            b'{"inputs": [{"name": "inputs", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},'
            b' {"name": "texts", "shape": [1, 1], "datatype": "BYTES", "data": ["\xff"]}]}',
        ),
        (TEXTS, b'{"inputs": [], "outputs": [{"name": "\xff"}]}'),
        (TEXTS, b'{"inputs": [], "parameters": {"\xff": 1}}'),
    ],
)
def test_json_that_is_not_utf8_is_refused(route, body, client):
    assert_refused(client("POST", route, body), 400)


PIXELS = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [7] * 784}
NUMBER = {"name": "inputs", "shape": [1, 2], "datatype": "FP32", "data": [[1.5, -2]]}
TEXT = {"name": "texts", "shape": [1, 1], "datatype": "BYTES", "data": ["red"]}
CLASSES = {"name": "probabilities", "parameters": {"classification": 2, "binary_data": False}}
GOOD = [
    (INFER, {"id": "1", "inputs": [PIXELS], "outputs": [CLASSES], "parameters": {"a": 1}}),
    (TEXTS, {"inputs": [NUMBER, {**TEXT, "parameters": {}}], "parameters": {}, "outputs": []}),
    (PREDICT, {"signature_name": "serving_default", "instances": [[1, 2, 3, 4.5]]}),
    (RAW_PREDICT, {"instances": [{"inputs": [1, 2], "texts": ["red"]}]}),
    (RAW_PREDICT, {"inputs": {"inputs": [[1, 2]], "texts": [[{"b64": "cmVk"}]]}}),
]


def test_the_requests_before_their_mutation_are_valid(client):
    for route, value in GOOD:
        assert client.post(route, value)[0] == 200


def spoil(data, value):
    """Draw a request with one change at any place."""
    if isinstance(value, dict | list) and value and data.draw(st.booleans() | st.just(True)):
        keys = list(value) if isinstance(value, dict) else list(range(min(len(value), 3)))
        key = data.draw(st.sampled_from(keys))
        change = data.draw(st.sampled_from(["inside", "inside", "replace", "remove", "twice"]))
        if change == "inside":
            value[key] = spoil(data, value[key])
        elif change == "replace":
            value[key] = data.draw(JSON)
        elif change == "remove":
            value.pop(key)
        elif isinstance(value, list):
            value.append(value[key])
        return value
    return data.draw(JSON)


@given(st.data(), st.sampled_from(GOOD))
def test_a_mutated_request_succeeds_or_is_refused(client, data, good):
    route, value = copy.deepcopy(good)
    text = json.dumps(spoil(data, value))
    assert_accepted_or_refused(client("POST", route, text))


@given(
    st.sampled_from([INFER, TEXTS]),
    st.lists(st.integers(-1, 5) | st.integers(), max_size=4),
    JSON | st.integers(0, 40),
    st.integers(0, 300) | st.integers() | st.text(st.characters(codec="latin-1"), max_size=5),
    st.binary(max_size=40),
)
@example(TEXTS, [10**12, 1], 4, 0, b"\0\0\0\0")
@example(TEXTS, [1, 1], 8, 0, b"\xff\xff\xff\xff" + b"red!")
@example(INFER, [1, 28, 28], 784, 10**30, b"")
@example(INFER, [1, 28, 28], 785, 0, bytes(784))
@example(INFER, [1, 28, 28], -1, -5, bytes(784))
def test_binary_tensors_with_wrong_sizes_are_refused(client, route, shape, size, length, tail):
    texts = {**TEXT, "shape": shape, "parameters": {"binary_data_size": size}}
    pixels = {**PIXELS, "shape": shape, "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [NUMBER, texts] if route == TEXTS else [pixels]}).encode()
    for lie in (length, len(text)):
        spoken = str(lie).translate({10: None, 13: None}).encode("latin-1")
        headers = {"Inference-Header-Content-Length": spoken}
        assert_accepted_or_refused(client("POST", route, text + tail, headers))


@pytest.mark.parametrize("shape", [[10**12, 1], [2**62, 1], [2**63 - 1, 1]])
def test_a_declared_shape_allocates_nothing_before_its_data_arrives(shape, client):
    tensor = {**TEXT, "shape": shape, "data": [], "parameters": {"binary_data_size": 5}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    response = client("POST", TEXTS, text + b"\1\0\0\0r", headers)
    assert f"texts must have {shape[0]} texts. Received: 1, truncated" in assert_refused(
        response, 400
    )


def test_null_for_a_text_is_refused_with_how_to_write_a_missing_one(client):
    for data in ([None], [[None]]):
        value = {"inputs": [NUMBER, {**TEXT, "data": data}]}
        response = client("POST", TEXTS, json.dumps(value))
        assert 'Write a missing text as "".' in assert_refused(response, 400)


def test_a_size_of_thousands_of_digits_is_refused(client):
    text = json.dumps({"inputs": [PIXELS]}).replace("[1, 28, 28]", f"[{'9' * 4300}, 28, 28]")
    assert "shape[0]" in assert_refused(client("POST", INFER, text), 400)


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (INFER, '{"inputs": %s}'),
        (INFER, '{"inputs": [], "parameters": {"binary_data_output": %s}}'),
        (INFER, '{"inputs": [], "more": %s}'),
        (INFER, json.dumps({"inputs": [PIXELS]}).replace(json.dumps(PIXELS["data"]), "%s")),
        (PREDICT, '{"instances": %s}'),
        (PREDICT, '{"inputs": {"inputs": %s}}'),
        (RAW_PREDICT, '{"inputs": {"inputs": [[1]], "texts": [[{"b64": "", "more": %s}]]}}'),
    ],
)
def test_lists_within_lists_are_refused_however_deep(route, text, client):
    # At some depth below a thousand, one of the functions that parse runs out of stack.
    for depth in (*range(940, 1000, 3), 5_000, 100_000):
        assert_refused(client("POST", route, text % ("[" * depth + "]" * depth)), 400)


@pytest.mark.parametrize("piece", [b'\\"', b'"', b'"\\', b"NaN", b'\\""'])
def test_an_unterminated_text_next_to_nan_is_read_in_one_pass(piece, client):
    body = b'{"instances": [NaN, "' + piece * (900_000 // len(piece))
    assert_refused(client("POST", PREDICT, body), 400)  # within the client's 20 s


def test_an_output_can_only_be_requested_once(client):
    value = {"inputs": [PIXELS], "outputs": [{"name": "probabilities"}] * 1000}
    response = client("POST", INFER, json.dumps(value))
    assert "Each output must be requested once" in assert_refused(response, 400)


def test_integers_and_bools_are_classified_by_value():
    for values in (np.array([[0, 255, 3]], np.uint8), np.array([[False, True, False]])):
        assert classify(values, 1, ())[0, 0].split(":")[1] == "1"


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_bodies_that_do_not_match_their_encoding_are_refused(encoding, compress, client):
    def post(body, name=encoding):
        return client("POST", INFER, body, {"Content-Encoding": name})

    bomb = compress(bytes(100_000_000))
    assert len(bomb) < MAX_BYTES
    assert_refused(post(bomb), 413)
    whole = compress(json.dumps({"inputs": [PIXELS]}).encode())
    assert post(whole)[0] == 200
    for changed in (b"", whole[:-1], whole[:9], whole + b"x", whole + whole, b"x" + whole, b"{}"):
        assert_refused(post(changed), 400)
    assert_refused(post(compress(whole)), 400)
    for name in ("br", "zstd", f"{encoding}, {encoding}", "x" * 1000):
        assert_refused(post(whole, name), 415)


@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=60))
def test_any_bytes_declared_as_compressed_are_refused(client, encoding, body):
    assert_refused(client("POST", INFER, body, {"Content-Encoding": encoding}), 400)


def test_a_body_that_does_not_arrive_times_out(client):
    halves = [(50, b""), (50, b"{"), (999_999, b'{"inputs": []}')]
    heads = [(head(INFER, f"Content-Length: {length}"), body) for length, body in halves]
    with ThreadPoolExecutor() as threads:
        responses = list(threads.map(lambda parts: listen(client.port, *parts), heads))
    for response in responses:
        assert response.startswith(b"HTTP/1.1 408")
        error = json.loads(response.partition(b"\r\n\r\n")[2])["error"]
        assert error.startswith("The body must arrive")


def test_a_body_that_arrives_too_slowly_times_out(client):
    parts = [head(INFER, "Transfer-Encoding: chunked"), *[b"1\r\n \r\n"] * 8]
    assert_refused(speak(client.port, *parts, pause_s=BODY_S / 5), 408)


def test_an_idle_connection_is_closed(client):
    with ThreadPoolExecutor() as threads:
        halves = [b"POST ", head()[:-2], b"\r\n"]
        assert set(threads.map(lambda content: listen(client.port, content), halves)) == {b""}


def test_a_refused_body_is_not_read_forever(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(head("/nowhere", "Content-Length: 1000000000"))

        def send_on():
            for _ in range(100):
                connection.sendall(b"x")
                time.sleep(0.05)

        with pytest.raises(ConnectionError):
            send_on()


@pytest.mark.parametrize("path", ["/nowhere", "/v2/models/none/infer", "/images/softmax", "/v2"])
def test_a_connection_stays_open_after_a_response_before_the_body(path, client):
    body = json.dumps(GOOD[2][1]).encode()
    good = head(PREDICT, f"Content-Length: {len(body)}") + body
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        for content, status in (
            ([head(path, "Content-Length: 2"), b"{}"], (404, 400, 405)),
            ([head(path, "Transfer-Encoding: chunked"), b"1\r\n{\r\n0\r\n\r\n"], (404, 400, 405)),
            ([good, b""], (200,)),
        ):
            connection.sendall(content[0])
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status in status
            response.read()
            connection.sendall(content[1])


def test_aborted_bodies_do_not_stay_in_flight(client):
    for number in range(40):
        with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
            connection.sendall(head(INFER, "Content-Length: 784") + b"x" * (number % 3))
            if number % 2:  # a reset rather than an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -1"],
        ["Content-Length: x"],
        ["Content-Length: 1", "Content-Length: 2"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: 99999999999"],
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip"],
        ["no colon"],
        ["a b: c"],
    ],
    ids=" ".join,
)
def test_heads_that_are_not_http_are_refused(lines, client):
    response = speak(client.port, head(INFER, *lines), b"{}\r\n\r\n")
    assert_refused_or_no_http(response, 400, 413)


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",  # TLS
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: h\r\n\r\n",
        head(INFER, "Transfer-Encoding: chunked") + b"zz\r\n",
        head(INFER, "Transfer-Encoding: chunked") + b"-1\r\n",
        head(INFER, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        head("/v2/chat", "Connection: Upgrade", "Upgrade: websocket", method="GET"),
    ],
    ids=repr,
)
def test_requests_of_other_protocols_are_refused(content, client):
    assert_refused_or_no_http(speak(client.port, content))


@given(st.binary(min_size=1, max_size=60))
@example(b"PRI * HTTP/2.0\r\n\r\nSM")
def test_any_bytes_instead_of_a_request_are_refused_or_disconnected(client, content):
    response = listen(client.port, content + b"\r\n\r\n")
    assert not response or response.startswith(b"HTTP/1.1 4")


@given(
    st.sampled_from(["X-Request-Id", "Accept-Encoding", "Accept", "Authorization", "Expect"]),
    st.text(st.characters(codec="latin-1", exclude_characters="\0\r\n"), max_size=40),
)
def test_any_header_is_tolerated(client, name, value):
    body = json.dumps(GOOD[2][1])
    parts = head(PREDICT, f"{name}: {value}", f"Content-Length: {len(body)}"), body.encode()
    assert_accepted_or_refused(speak(client.port, *parts))


PATHS = [
    "/v2/models/../../etc/passwd", "/v2/models/%2e%2e/infer", "/v2/models/..%2f..%2fx/infer",
    "/v2/models/%00/infer", "/v2/models/digits%00/infer", "/v2/models/digits%2finfer%00",
    "/v2/models/digits/versions/../1/infer", "/v2/models/digits/versions/%2e/infer",
    "/v2/models/digits/versions/-1/infer", "/v2/models/digits/versions/1e0/infer",
    "/v2/models/digits/versions/" + "9" * 5000 + "/infer", "/v2/models/" + "x" * 60_000 + "/infer",
    "/v2/models//infer", "//v2/models/digits/infer", "/v2/models/digits/infer/",
    "/v2/models/%ff%fe/infer", "/v2/models/%d9%a1/infer", "/v2/models/di%0agits/infer",
    "/v2/models/digits%20/infer", "/v2/models/DIGITS/infer", "/v2/models/%25%32%65/infer",
    "/v1/models/..%2f:predict", "/v1/models/:predict", "/v1/models/softmax:predict:predict",
    "/v1/models/softmax:train", "/v1/models/softmax/versions/%00:predict", "/%2e%2e",
    "/v2/models/%c2%b2/infer", "/v2/models/digits/versions/%d9%a1/infer", "*", "http://x/y",
    "/" + "../" * 99,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:50])
def test_a_path_without_a_model_is_refused(path, client):
    body = json.dumps({"inputs": [PIXELS]})
    lines = f"Content-Length: {len(body)}", "Connection: close"
    assert_refused(speak(client.port, head(path, *lines), body.encode()), 400, 404, 405)
    assert_refused(speak(client.port, head(path, "Connection: close", method="GET")), 400, 404, 405)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=30))
def test_any_model_name_is_refused(client, name):
    assume(name not in ("digits", "softmax", "raw"))  # hypothesis tries words from the source code
    for method, path in (("POST", f"/v2/models/{name}/infer"), ("GET", f"/v1/models/{name}")):
        lines = "Connection: close", "Content-Length: 0"
        assert_refused_or_no_http(speak(client.port, head(path, *lines, method=method)))


def image_file(name, mode):
    gray = np.full((90, 70), 220, np.uint8)
    gray[20:70, 30:38] = 20
    file = io.BytesIO()
    Image.fromarray(gray).convert(mode).save(file, name)
    return file.getvalue()


FILES = [
    image_file(name, mode)
    for name in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
    for mode in ("L", "RGB")
]


def test_the_images_before_their_mutation_are_valid(client):
    for file in FILES:
        assert client("POST", IMAGES, file)[0] == 200


# Pillow warns about metadata that it cannot read, and still reads the image.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=5),
    st.integers(0, 10_000),
)
def test_a_mutated_image_succeeds_or_is_refused(client, file, changes, length):
    changed = bytearray(file)
    for place, value in changes:
        changed[min(place, len(changed) - 1)] = value
    assert_accepted_or_refused(client("POST", IMAGES, bytes(changed[:length])))


def png(width, height, pixels):
    """A PNG whose header claims a size."""

    def chunk(name, content):
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", size), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    )


def test_an_image_that_is_too_large_when_decoded_is_refused(client):
    assert client("POST", IMAGES, png(70, 90, bytes(71 * 90)))[0] == 200
    for side in (9_000, 100_000, 2**31 - 1):
        response = client("POST", IMAGES, png(side, side, bytes(100_000)))
        assert "at most 50,000,000 pixels" in assert_refused(response, 400)
    assert_refused(client("POST", IMAGES, png(8_000, 8_000, b"")), 400)


def test_a_batch_of_the_largest_body_succeeds(client):
    rows = MAX_BYTES // 4 // 4 - 20
    tensor = {"name": "inputs", "shape": [rows, 4], "datatype": "FP32",
              "parameters": {"binary_data_size": rows * 16}}  # fmt: skip
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, _, body = client("POST", "/v2/models/softmax/infer", text + bytes(rows * 16), headers)
    assert status == 200
    assert json.loads(body)["outputs"][0]["shape"] == [rows, 3]
