"""`hornbill serve` as processes: shutdown, limits of requests, the token, and the log."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from live import Client, free_port
from processes import reap

from serving.errors import InputError
from serving.server import Settings
from serving.server.running import find_address

PREDICT = "/v1/models/softmax:predict"
BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
COMMAND = [sys.executable, "-c", "from app.commands.cli import main; main()", "serve"]
COMMAND += ["--drain-delay", "0"]
TOKEN = "secret"  # noqa: S105  # of a server that ends with the test


def has_ipv6():
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@contextmanager
def serving(folder, *options, workers=1, stdout=subprocess.DEVNULL, command=COMMAND, **environment):
    """Run `hornbill serve`; yield a client once it is ready, and its process."""
    port = free_port()
    process = subprocess.Popen(
        [*command, str(folder), "--port", str(port), "--workers", str(workers), *options],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    client = Client(port)
    try:
        wait_for_all(client, workers)
        yield client, process
    finally:
        process.terminate()
        reap(process, 10)


def wait_for_all(client, workers):
    """Wait for every worker; a worker's request ids begin with its process id."""
    ready = set()
    for _ in range(1200):
        with suppress(OSError):
            status, headers, _ = client("GET", "/v2/health/ready")
            if status == 200:
                ready.add(headers["x-request-id"].partition("-")[0])
            if len(ready) == workers:
                return
        time.sleep(0.05)
    raise AssertionError(f"{len(ready)} of {workers} processes are ready after a minute.")


@contextmanager
def half_sent(port, *lines):
    """Send a request up to the middle of its body; yield a function that completes it."""
    head = [f"POST {PREDICT} HTTP/1.1", "Host: h", f"Content-Length: {len(BODY)}", *lines]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + BODY[:9])

        def finish():
            connection.sendall(BODY[9:])
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, json.loads(response.read())

        yield finish


@contextmanager
def half_read(port, *lines):
    """Send a request with a long response and read none of it; yield a function that does."""
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]] * 16384}).encode()
    head = [f"POST {PREDICT} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *lines]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        connection.recv(1, socket.MSG_PEEK)

        def finish():
            response = http.client.HTTPResponse(connection)
            response.begin()
            return response.status, json.loads(response.read())

        yield finish


@pytest.fixture(scope="module")
def limited(row_bundle):
    """A client of a server with a token that allows three requests in flight."""
    with serving(row_bundle.parent, "--max-requests", "3", "--token", TOKEN) as (client, _):
        yield client


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_in_flight_at_sigterm_is_completed_before_the_processes_end(workers, row_bundle):
    with serving(row_bundle.parent, workers=workers) as (client, process):
        with half_sent(client.port) as finish:
            time.sleep(0.1)  # until its head is read
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            status, response = finish()
        assert (status, len(response["predictions"])) == (200, 1)
        _, errors = process.communicate(timeout=10)
        assert process.returncode in (0, -signal.SIGTERM)
        assert "Traceback" not in errors
        with pytest.raises(ConnectionRefusedError):
            client.get("/v2/health/live")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1"),
        ("localhost", "http://127.0.0.1"),
        ("0.0.0.0", "http://0.0.0.0"),  # noqa: S104  # listened on for a moment
        pytest.param(
            "::1",
            "http://[::1]",
            marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6"),
        ),
    ],
)
def test_a_host_name_or_an_ip_address_gets_a_free_port(host, url):
    address = find_address(host, 0)
    assert address.port > 0
    assert address.url() == f"{url}:{address.port}"


@pytest.mark.parametrize(
    "host", ["", " ", "no.such.name.invalid", "203.0.113.1", "é" * 70, "a..b", "1.2.3.4.5"]
)
def test_a_host_of_another_machine_is_refused(host):
    with pytest.raises(
        InputError, match="The host must be an address of this machine and the port must be free"
    ):
        find_address(host, 0)


def test_a_port_in_use_is_refused():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(InputError, match="Address already in use"),
    ):
        find_address("127.0.0.1", listener.getsockname()[1])


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6_is_served_with_the_token_of_the_environment_and_the_banner_has_the_port(row_bundle):
    with subprocess.Popen(
        [*COMMAND, str(row_bundle.parent), "--host", "::1", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HORNBILL_TOKEN": TOKEN},
    ) as process:
        try:
            url = process.stderr.readline().split()[3].rstrip(",")
            for line in process.stderr:
                if "is ready" in line:
                    break
            host, _, port = url.removeprefix("http://").rpartition(":")
            assert host == "[::1]"
            connection = http.client.HTTPConnection("::1", int(port), timeout=10)
            connection.request("GET", "/v2/health/live")
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (200, True)
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 401
            connection.close()
        finally:
            process.terminate()


def test_worker_processes_end_with_the_main_process(row_bundle):
    with serving(row_bundle.parent, workers=2) as (client, process):
        process.kill()
        for _ in range(100):
            try:
                client.get("/v2/health/live")
            except OSError:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the server still responds")
        process.communicate(timeout=10)  # until none of them holds standard error any more


def test_a_log_that_nobody_reads_does_not_block_requests(row_bundle):
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    try:
        with serving(row_bundle.parent, stdout=write) as (client, process):
            assert client("POST", PREDICT, BODY)[0] == 200
            time.sleep(0.6)  # requests are logged twice a second
            assert client("POST", PREDICT, BODY)[0] == 200
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=10)
            assert "Fatal" not in errors
    finally:
        os.close(read)
        os.close(write)


def test_too_many_requests_get_503_and_those_in_flight_are_completed(limited):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with ExitStack() as stack:
        bearer = f"Authorization: Bearer {TOKEN}"
        begun = [stack.enter_context(half_read(limited.port, bearer)) for _ in range(3)]
        for _ in range(5):
            status, received, body = limited("POST", PREDICT, BODY, headers)
            assert (status, received["retry-after"]) == (503, "1")
            assert "At most 3 requests may be in flight" in json.loads(body)["error"]
        assert limited.get("/v2/health/live")[0] == 200
        assert limited.get("/v2/health/ready")[0] == 200
        for finish in begun:
            status, response = finish()
            assert (status, len(response["predictions"])) == (200, 16384)
        assert limited("POST", PREDICT, BODY, headers)[0] == 200


def test_requests_whose_bodies_have_not_arrived_do_not_count(limited):
    bearer = f"Authorization: Bearer {TOKEN}"
    with ExitStack() as stack:
        begun = [stack.enter_context(half_sent(limited.port, bearer)) for _ in range(4)]
        time.sleep(0.1)  # until their heads are read
        assert limited("POST", PREDICT, BODY, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert {finish()[0] for finish in begun} == {200}


def test_requests_without_the_token_are_refused_for_every_path(limited):
    for given in ("", TOKEN, "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "é"):
        headers = {"Authorization": given.encode("latin-1")} if given else {}
        for method, path in (("POST", PREDICT), ("GET", "/metrics"), ("GET", "/nowhere")):
            status, received, body = limited(method, path, None, headers)
            assert (status, received["www-authenticate"]) == (401, "Bearer")
            assert "Requests must present the token" in json.loads(body)["error"]
    assert limited.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("token", "message"), [(" ", "token must not be empty"), ("é", "token must only have ASCII")]
)
def test_a_token_that_no_header_can_hold_is_refused(token, message, row_bundle):
    with pytest.raises(InputError, match=message):
        Settings(row_bundle.parent, token=token)


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_variable_of_the_token_opens_no_server(token, run, row_bundle, monkeypatch):
    monkeypatch.setenv("HORNBILL_TOKEN", token)
    message = f"hornbill: --token or HORNBILL_TOKEN must not be empty. Received: {token!r}.\n"
    assert run("serve", row_bundle.parent, "--port", 0) == (2, "", message)
    monkeypatch.delenv("HORNBILL_TOKEN")
    assert run("serve", row_bundle.parent, "--port", 0, "--token", token) == (2, "", message)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such policy")
def test_the_process_runs_under_batch_scheduling(limited):
    _, headers, _ = limited("GET", "/v2/health/ready")
    process = int(headers["x-request-id"].partition("-")[0], 16)
    assert os.sched_getscheduler(process) == os.SCHED_BATCH
