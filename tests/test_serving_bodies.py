"""Long, slow and missing bodies, and clients that do not read: each holds only its own request."""

import asyncio
import codecs
import gzip
import http.client
import json
import math
import re
import shutil
import socket
from contextlib import ExitStack, closing, suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from live import start
from waiting import wait_until

from serving.errors import ServingError
from serving.manifest import Manifest
from serving.server import Settings
from serving.server.bodies import Bodies
from serving.server.errors import RequestError
from serving.server.hosts import Hosts
from serving.server.open_inference import OpenInference
from serving.server.rooms import Room
from serving.server.tf_serving import read_call, write_predictions

MAX_ROWS = 2_000
BODY_S = 1.0
INFER, PREDICT = "/v2/models/digits/infer", "/v1/models/softmax:predict"


@pytest.fixture(scope="module")
def manifests(bundle, row_bundle, raw_bundle):
    """The manifests of a model of images, one of rows, and one of rows with texts."""
    folders = {"digits": bundle, "softmax": row_bundle, "raw": raw_bundle[0]}
    return {
        name: Manifest.from_json((folder / "manifest.json").read_bytes())
        for name, folder in folders.items()
    }


@pytest.fixture(scope="module")
def client(bundle, row_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    for version in (bundle, row_bundle):
        shutil.copytree(version.parent, folder / version.parent.name)
    client, stop = start(
        Settings(
            folder,
            max_rows=MAX_ROWS,
            max_body_mb=4.0,
            max_requests=16,
            body_s=BODY_S,
            write_s=0.5,
            log_requests=False,
        )
    )
    yield client
    stop()


# A long body is read part by part; it must be understood, or refused, as if it was read at once.


def images(count):
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28))


def spoiled(text, place, removed, inserted):
    place %= len(text)
    return text[:place] + inserted + text[place + removed :]


MUTATIONS = st.tuples(
    st.integers(0, 10**6),
    st.integers(0, 2),
    st.sampled_from(["", "[", "]", ",", "1", " ", "{", "}", '"', "-", "null", "NaN", "[]", "\\"]),
)


def outcome(read, *arguments):
    try:
        arrays = read(*arguments).arrays
        return {name: repr(array.tolist()) for name, array in arrays.items()}  # NaN equals NaN
    except ServingError:  # each gets 400
        return "refused"


@settings(max_examples=25)
@given(MUTATIONS, st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_a_long_list_of_numbers_is_read_like_a_short_one(
    manifests, mutation, indent, is_flat, is_named
):
    data = images(30)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [30, 28, 28]}
    tensor["data"] = data.ravel().tolist() if is_flat else data.tolist()
    text = json.dumps({"inputs": [tensor]}, indent=indent)
    for changed in (text, spoiled(text, *mutation)):
        body, read = changed.encode(), OpenInference(manifests["digits"]).read
        assert len(body) > 65_536
        assert outcome(read, body, None, MAX_ROWS) == outcome(read, body, None, None)
    key = "inputs" if is_named else "instances"
    text = json.dumps({key: {"image": data.tolist()} if is_named else data.tolist()}, indent=indent)
    for changed in (text, spoiled(text, *mutation)):
        arguments = manifests["digits"], changed.encode()
        assert outcome(read_call, *arguments, MAX_ROWS) == outcome(read_call, *arguments, None)


def raw_rows(manifest, count):
    """Return rows of a table, with texts that look like JSON, and missing numbers."""
    texts = ['a,"]}' * 20, "[{" * 30, "\\" * 30, "é, NaN" * 30, "", '","' * 20]
    columns = [*manifest.columns, *manifest.string_columns]

    def cell(name, row, place):
        if name in manifest.string_columns:
            return texts[(row + place) % 6]
        return math.nan if name in manifest.nullable_columns and row % 7 == 6 else row

    return [
        {name: cell(name, row, place) for place, name in enumerate(columns)} for row in range(count)
    ]


@settings(max_examples=15)
@given(MUTATIONS, st.booleans(), st.booleans())
@example((127, 0, "["), False, False)  # renames a column of one row
def test_long_rows_of_a_table_are_read_like_short_ones(manifests, mutation, is_ascii, by_column):
    manifest = manifests["raw"]
    rows = raw_rows(manifest, 1_500)
    value = {"instances": rows}
    if by_column:
        value = {"inputs": {name: [row[name] for row in rows] for name in rows[0]}}
    text = json.dumps(value, ensure_ascii=is_ascii)
    for changed in (text, spoiled(text, *mutation)):
        body = changed.encode()
        assert len(body) > 65_536
        expected = outcome(read_call, manifest, body, None)
        assert changed != text or expected != "refused"
        assert outcome(read_call, manifest, body, MAX_ROWS) == expected


@pytest.mark.parametrize("item", ["[]", "{}", '{"image": 1}', "[[]]", '""', "0"])
def test_elements_are_counted_before_they_are_decoded(item, client):
    items = ",".join([item] * 1_000_000).encode()
    for text in (b'{"instances": [%b]}', b'{"inputs": {"inputs": [%b]}}'):
        status, _, body = client("POST", PREDICT, text % items[:3_900_000].rpartition(b",")[0])
        assert (status, b"must have at most" in body) in ((413, True), (400, True))


def test_json_besides_the_data_is_bounded(client):
    more = ",".join(["[]"] * 100_000)
    for text in ('{"instances": [], "more": {"a": {"b": [%s]}}}', '{"instances": []%s}'):
        body = text % (more if "%s]" in text else " " * 300_000)
        status, _, answer = client("POST", PREDICT, body)
        assert (status, b"besides its data" in answer) == (413, True)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "parameters": {"a": {}}}
    text = json.dumps({"inputs": [tensor]}).replace("{}", f'[{{"b": [{more}]}}]')
    assert client("POST", INFER, text)[0] == 413


def test_a_body_that_grows_too_much_when_it_is_decompressed_is_refused(client):
    small = gzip.compress(json.dumps({"instances": [[0] * 4] * 2_000}).encode(), 9)
    assert client("POST", PREDICT, small, {"Content-Encoding": "gzip"})[0] == 200
    large = gzip.compress(b"[" * 2_000_000, 9)
    status, _, body = client("POST", PREDICT, large, {"Content-Encoding": "gzip"})
    assert (status, b"200 times" in body) == (413, True)


def test_a_body_may_be_chunked_and_compressed(client):
    rows = [[5.1, 3.5, 1.4, 0.2]] * MAX_ROWS
    body = gzip.compress(json.dumps({"instances": rows}).encode(), 0)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    with closing(connection):
        parts = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
        headers = {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
        connection.request("POST", PREDICT, parts, headers, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, len(json.load(response)["predictions"])) == (200, MAX_ROWS)


def test_a_byte_order_mark_before_json_is_left_out(client):
    data = [0] * 784
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "data": data}
    for path, value in (
        (INFER, {"inputs": [tensor]}),
        (PREDICT, {"instances": [[1, 2, 3, 4]]}),
        (PREDICT, {"instances": [[1, 2, 3, 4]] * MAX_ROWS}),
    ):
        assert client("POST", path, codecs.BOM_UTF8 + json.dumps(value).encode())[0] == 200


@pytest.mark.parametrize(
    ("request_parameters", "tensor_parameters", "output_parameters", "message"),
    [
        ({"sequence_id": 7}, {}, {}, "sequence_id, which is not supported"),
        ({"sequence_start": True}, {}, {}, "sequence_start, which is not supported"),
        ({}, {"shared_memory_region": "a"}, {}, "image must be in the body"),
        ({}, {}, {"shared_memory_region": "a"}, "probabilities must be in the body"),
        ({"sequence_id": 0, "priority": 1}, {}, {}, None),
    ],
)
def test_what_is_not_supported_is_refused(
    request_parameters, tensor_parameters, output_parameters, message, client
):
    data = [0] * 784
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "data": data}
    value = {
        "parameters": request_parameters,
        "inputs": [{**tensor, "parameters": tensor_parameters}],
        "outputs": [{"name": "probabilities", "parameters": output_parameters}],
    }
    status, body = client.post(INFER, value)
    assert status == (400 if message else 200)
    assert message is None or message in body["error"]


# Outputs.


def outputs_of(manifest, rows):
    rng = np.random.default_rng(0)
    return [rng.random((rows, *spec.shape[1:])).astype(spec.dtype) for spec in manifest.outputs]


def body_of(response):
    return b"".join([response.body, *response.more])


@pytest.mark.parametrize("name", ["digits", "raw"])
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_a_long_response_is_the_same_as_one_that_is_written_at_once(name, key, manifests):
    manifest = manifests[name]
    rows = raw_rows(manifest, 3) if name == "raw" else images(3).tolist()
    value = {"instances": rows}
    if key == "inputs":
        by_column = name == "raw" and {one: [row[one] for row in rows] for one in rows[0]}
        value = {"inputs": by_column or rows}
    call = read_call(manifest, json.dumps(value).encode())
    outputs = outputs_of(manifest, 5_000)
    written = [body_of(write_predictions(manifest, call, outputs, long)) for long in (True, False)]
    assert written[0] == written[1]


def test_a_long_response_with_binary_tensors_is_the_same_too(manifests):
    protocol = OpenInference(manifests["digits"])
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784}
    outputs = outputs_of(manifests["digits"], 5_000)
    names = [spec.name for spec in manifests["digits"].outputs]
    for binary in range(len(names) + 1):
        wanted = [
            {"name": name, "parameters": {"binary_data": place < binary}}
            for place, name in enumerate(names)
        ]
        value = {"id": '"data":[]', "inputs": [tensor], "outputs": wanted}
        inference = protocol.read(json.dumps(value).encode())
        responses = [protocol.write(inference, outputs, is_long) for is_long in (True, False)]
        assert body_of(responses[0]) == body_of(responses[1])
        assert responses[0].headers == responses[1].headers


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("is_long", [False, True])
def test_an_output_that_is_not_finite_is_no_json_but_a_binary_tensor(wrong, is_long, manifests):
    manifest = manifests["digits"]
    outputs = outputs_of(manifest, 3)
    outputs[0][1, 2] = wrong
    call = read_call(manifest, json.dumps({"instances": images(1).tolist()}).encode())
    message = f"must be finite to be written as JSON. Received: {wrong} in"
    with pytest.raises(RequestError, match=message):
        write_predictions(manifest, call, outputs, is_long)
    protocol = OpenInference(manifest)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784}
    value = {"inputs": [tensor]}
    with pytest.raises(RequestError, match=message):
        protocol.write(protocol.read(json.dumps(value).encode()), outputs, is_long)
    value["parameters"] = {"binary_data_output": True}
    written = protocol.write(protocol.read(json.dumps(value).encode()), outputs, is_long)
    assert outputs[0].tobytes() in body_of(written)


# Heads: hosts and encodings.


class Fields:
    """The fields of a head."""

    def __init__(self, *hosts):
        self.hosts = hosts

    def get_all(self, _):
        return list(self.hosts)


@pytest.mark.parametrize(
    ("lines", "status"),
    [([], 400), (["Host: a", "Host: a"], 400), (["Host: a b"], 400), (["Host: a/b"], 400),
     (["Host: a"], 200), (["Host: [::1]:80"], 200), (["Host:"], 200)],
)  # fmt: skip
def test_a_request_must_have_one_host(lines, status, client):
    text = "\r\n".join(["GET /v2/health/live HTTP/1.1", *lines, "Connection: close", "", ""])
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(text.encode())
        assert int(connection.recv(100).split()[1]) == status


def test_only_allowed_hosts_are_answered_but_health_checks_are():
    hosts = Hosts(["models.example.com", "*.internal", "127.0.0.1", "[::1]"])
    for host in ("models.example.com", "MODELS.example.com:80", "a.b.internal", "127.0.0.1:1",
                 "[::1]:8000", "models.example.com."):  # fmt: skip
        hosts.check(Fields(host), False)
    for host in ("example.com", "internal", "models.example.com.evil.org", "evil.org", ""):
        hosts.check(Fields(host), True)
        with pytest.raises(RequestError, match="Host must be among") as error:
            hosts.check(Fields(host), False)
        assert error.value.status == 421


def test_an_encoding_in_two_lines_is_refused(client):
    body = gzip.compress(json.dumps({"instances": [[1, 2, 3, 4]]}).encode())
    lines = "Content-Encoding: gzip\r\n" * 2 + f"Content-Length: {len(body)}\r\n\r\n"
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: h\r\n{lines}".encode()
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(head + body)
        assert int(connection.recv(100).split()[1]) == 415


# Clients that do not send, and clients that do not read.


def in_flight(client):
    text = client("GET", "/metrics")[2].decode()
    return float(re.search(r"\nhornbill_requests_in_flight (\S+)", text)[1])


def test_bodies_that_arrive_at_once_are_not_given_up_however_many():
    async def receive_many():
        bodies = Bodies(1000, 2.0, 4, Room(1000, 1.0))
        watching = asyncio.create_task(bodies.watch())  # looks every 0.1 s

        async def arrive():
            await asyncio.sleep(0.06)
            return b"{}"

        await asyncio.sleep(0.06)
        headers = {"content-length": "2"}
        waiting = [bodies.receive(headers, arrive, f"127.0.0.1:{port}") for port in range(20)]
        found = await asyncio.gather(*waiting)
        watching.cancel()
        bodies.close()
        return [body.content for body in found]

    assert asyncio.run(receive_many()) == [b"{}"] * 20


def test_heads_without_bodies_take_no_places(client):
    head = f"POST {INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n".encode()
    with ExitStack() as stack:
        waiting = []
        for _ in range(40):
            connection = socket.create_connection(("127.0.0.1", client.port), timeout=10)
            waiting.append(stack.enter_context(connection))
            connection.sendall(head)
        assert client.post(PREDICT, {"instances": [[1, 2, 3, 4]]})[0] == 200
        assert in_flight(client) <= 1
        # The oldest gave way, the others when their time was over.
        answers = [connection.recv(1000) for connection in waiting]
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
    assert b"before 8 others of the same client" in answers[0]
    assert b"within 1 s" in answers[-1]


def long_request():
    rows = MAX_ROWS
    tensor = {"name": "image", "shape": [rows, 28, 28], "datatype": "UINT8"}
    tensor["parameters"] = {"binary_data_size": 784 * rows}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return text + bytes(784 * rows), headers


def read_until_closed(connection):
    received = b""
    with suppress(ConnectionError):  # it is reset
        while part := connection.recv(65_536):
            received += part
    return received


def test_a_client_that_does_not_read_is_given_up(client):
    body, headers = long_request()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {INFER} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", client.port), timeout=10)
            stack.enter_context(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            connection.sendall(head.encode() + body)
        assert client.post(PREDICT, {"instances": [[1, 2, 3, 4]]})[0] == 200
        unread = 'hornbill_requests_total{model="digits",route="infer",status="499"} 3.0'
        wait_until(lambda: unread in client("GET", "/metrics")[2].decode())
        assert in_flight(client) == 0
        assert len(read_until_closed(connection)) < 1_000_000


def test_a_long_response_arrives_whole_and_its_connection_stays_open(client):
    body, headers = long_request()
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    with closing(connection):
        for _ in range(2):
            connection.request("POST", INFER, body, headers)
            response = connection.getresponse()
            outputs = json.loads(response.read())["outputs"]
            assert [one["shape"][0] for one in outputs] == [MAX_ROWS] * len(outputs)
            assert all(len(one["data"]) == np.prod(one["shape"]) for one in outputs)


def test_those_who_find_no_room_wait_in_turn_or_are_refused():
    async def take_turns():
        room = Room(10, 0.05)
        assert await room.take(99) == 10
        with pytest.raises(RequestError, match="Try again later") as error:
            await room.take(1)
        assert error.value.status == 503
        order = []

        async def enter(amount):
            taken = await room.take(amount)
            order.append(amount)
            await asyncio.sleep(0)
            room.leave(taken)

        tasks = [asyncio.create_task(enter(amount)) for amount in (9, 2, 1)]
        await asyncio.sleep(0)
        assert room.is_full
        tasks[1].cancel()
        room.leave(10)
        await asyncio.wait(tasks)
        assert order == [9, 1]
        assert await room.take(10) == 10

    asyncio.run(take_turns())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 6), st.integers(0, 12)),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
@example([(6, 0, 9, 9), (9, 0, 9, 9), (4, 0, 1, 9)], True)  # the second is given up in time
@example([(5, 9, 5, 9), (5, 9, 5, 9)], False)  # each has half and asks for the rest
def test_no_taker_of_room_waits_for_ever_whoever_is_cancelled(takers, is_short_of_time):
    async def run():
        room, held = Room(10, 0.002 if is_short_of_time else 60.0), [0] * len(takers)
        refused = RequestError if is_short_of_time else ()

        async def take(place, amount, more, turns):
            try:
                held[place] = await room.take(amount)
                await turns_of(turns)
                if more := min(more, 10 - held[place]):
                    held[place] += await room.grow(more, 10 - held[place])
                assert sum(held) <= 20
                await turns_of(turns)
            except refused:
                pass
            finally:
                given_back, held[place] = held[place], 0
                room.leave(given_back)

        async def turns_of(count):
            for _ in range(count):
                await asyncio.sleep(0)

        async def take_until(place, amount, more, turns, end):
            task = asyncio.create_task(take(place, amount, more, turns))
            await turns_of(end)
            if end < 9:
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None

        async with asyncio.timeout(5):
            await asyncio.gather(*(take_until(n, *one) for n, one in enumerate(takers)))
            assert not room.is_full
            assert await room.take(10) == 10

    asyncio.run(run())


def test_the_next_one_that_fits_gets_room_when_the_first_gives_up():
    async def give_up():
        room = Room(10, 60.0)
        await room.take(8)
        first, second = (asyncio.create_task(room.take(amount)) for amount in (9, 2))
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.wait_for(second, 1) == 2

    asyncio.run(give_up())


def test_one_that_is_cancelled_while_another_leaves_does_not_fail():
    async def leave_and_cancel():
        room = Room(10, 60.0)
        await room.take(10)
        waiting = asyncio.create_task(room.take(5))
        await asyncio.sleep(0)
        waiting.cancel()
        room.leave(10)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await room.take(10) == 10

    asyncio.run(leave_and_cancel())


class Parts:
    """The parts of a chunked body, with a pause before each."""

    def __init__(self, body, pause_s=0.0):
        self.body, self.pause_s = body, pause_s

    async def __aiter__(self):
        for at in range(0, len(self.body), 100_000):
            await asyncio.sleep(self.pause_s)
            yield self.body[at : at + 100_000]


class Heads(dict):
    """The headers of a chunked body."""

    def get_all(self, name):
        return [self[name]] if name in self else []


def received(parts, *, size=3_000_000, taken_s=0.0, body_s=10.0, **more):
    """Return how many bytes were received of bodies that arrive at once, or their errors."""

    async def receive(bodies, room, one):
        body = await bodies.receive(Heads({"transfer-encoding": "chunked"} | more), one, "a:1")
        room.leave(body.room)
        return len(body.content)

    async def receive_all():
        room = Room(size, 10.0)
        bodies = Bodies(size, body_s, 100, room)
        watching = asyncio.create_task(bodies.watch())
        waiting = [asyncio.create_task(receive(bodies, room, one)) for one in parts]
        if taken_s:
            await asyncio.sleep(0.01)
            taken = await room.grow(size + 1, size)
            await asyncio.sleep(taken_s)
            room.leave(taken)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        watching.cancel()
        bodies.close()
        assert await room.take(size) == size
        return found

    return asyncio.run(receive_all())


def test_long_chunked_bodies_at_once_do_not_wait_for_each_other():
    assert received([Parts(bytes(2_500_000), 0.002) for _ in range(3)]) == [2_500_000] * 3


def test_the_time_for_which_a_body_waits_for_room_does_not_count():
    found = received([Parts(bytes(2_000_000), 0.01)], taken_s=0.8, body_s=0.5)
    assert found == [2_000_000]


def test_a_long_chunked_body_may_be_compressed():
    content = np.random.default_rng(0).bytes(2_000_000)
    parts = [Parts(gzip.compress(content, 1)) for _ in range(2)]
    assert received(parts, **{"content-encoding": "gzip"}) == [2_000_000] * 2


@pytest.mark.parametrize("length", [10_001, 60_000, 70_000])
def test_no_body_may_be_longer_than_the_longest_however_short_that_is(length):
    async def receive():
        bodies = Bodies(10_000, 2.0, 100, Room(10_000, 1.0))
        with pytest.raises(RequestError, match="must have at most 10,000 bytes") as error:
            await bodies.receive({"content-length": str(length)}, None, "a:1")
        bodies.close()
        return error.value.status

    assert asyncio.run(receive()) == 413
