"""What operators set: tokens in a file, TLS, a path behind a proxy, origins, a socket, metrics."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress

import pytest
from live import Client, start
from processes import children
from test_serving_running import BODY, COMMAND, PREDICT, serving
from waiting import wait_until

from serving.errors import InputError
from serving.server import Settings
from serving.server.running import check_files, find_socket

PAGE = "https://page.example"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text("# who may ask\nann  first-token\n\nben second-token\n")
    return path


@pytest.fixture(scope="module")
def client(committed_models, tokens):
    settings = Settings(
        committed_models, token_file=tokens, root_path="/ml", cors_origins=(PAGE,), poll_s=0.1
    )
    client, stop = start(settings)
    yield client
    stop()


def ask(client, token, path=PREDICT, **headers):
    return client("POST", path, BODY, {"Authorization": f"Bearer {token}"} | headers)


def test_each_token_of_the_file_is_accepted_and_a_change_is_followed(client, tokens, caplog):
    before = tokens.read_text()
    assert [ask(client, token)[0] for token in ("first-token", "second-token", "third", "")] == [
        200, 200, 401, 401,
    ]  # fmt: skip
    tokens.write_text("cy third\n")
    wait_until(lambda: ask(client, "third")[0] == 200)
    assert ask(client, "first-token")[0] == 401
    tokens.write_text("three words here\n")  # then the tokens from before stay
    wait_until(lambda: "Received: 3 words in line 1. The settings from before st" in caplog.text)
    assert ask(client, "third")[0] == 200
    tokens.unlink()
    wait_until(lambda: "tokens does not exist. The settings from before stay." in caplog.text)
    assert ask(client, "third")[0] == 200
    tokens.write_text(before)
    wait_until(lambda: ask(client, "first-token")[0] == 200)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a name and a token in a line. Received: no token."),
        ("# only a comment\n", "Received: no token."),
        ("lonely-secret\n", "Received: 1 words in line 1."),
        ("ann a\nben b c\n", "Received: 3 words in line 2."),
        ("ann same\nben same\n", "Received: that of line 2 has two, ann and ben."),
        ("ann é\n", "cannot be read as ASCII text"),
    ],
)
def test_a_file_of_tokens_with_a_fault_is_refused_without_showing_a_token(text, message, tmp_path):
    path = tmp_path / "tokens"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        check_files(Settings(tmp_path, token_file=path))
    assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="gone does not exist."):
        check_files(Settings(tmp_path, token_file=tmp_path / "gone"))


def test_a_path_is_the_same_with_and_without_the_prefix_of_the_proxy(client):
    assert client.get("/ml/v2/health/ready") == client.get("/v2/health/ready")
    assert ask(client, "first-token", f"/ml{PREDICT}")[0] == 200
    assert client("GET", "/mlv2/health/ready")[0] == 401  # another path, which needs a token
    authorization = {"Authorization": "Bearer first-token"}
    status, headers, _ = client("GET", "/ml", headers=authorization)
    assert (status, headers["location"]) == (307, "/ml/")
    _, _, page = client("GET", "/ml/", headers={"Accept": "text/html"})
    assert b"<!doctype html>" in page[:20].lower()
    _, _, document = client("GET", "/ml/openapi.json", headers=authorization)
    assert json.loads(document)["servers"] == [{"url": "/ml"}]


@pytest.mark.parametrize("root_path", ["/ml", "/models"])
def test_a_browser_gets_from_the_prefix_to_the_page_without_a_token(root_path, tokens, tmp_path):
    settings = Settings(tmp_path, token_file=tokens, root_path=root_path)
    client, stop = start(settings, "/v2/health/live")
    try:
        browser, program = {"Accept": "text/html,*/*"}, {"Authorization": "Bearer first-token"}
        status, headers, _ = client("GET", root_path, headers=browser)
        assert (status, headers["location"]) == (307, f"{root_path}/")
        assert client("GET", f"{root_path}/", headers=browser)[0] == 200
        assert client("GET", root_path)[0] == 401
        listed = client("GET", f"{root_path}/models", headers=program | browser)
        assert (listed[0], json.loads(listed[2])) == (200, {"models": []})
    finally:
        stop()


def test_only_pages_of_the_server_and_of_allowed_origins_may_change_what_is_served(client):
    def unload(**headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(client, "first-token", "/v2/repository/models/digits/unload", **headers)

    refused_later = 400  # since this server does not unload by requests
    for headers in (
        {},
        {"Origin": PAGE, "Sec_Fetch_Site": "cross-site"},
        {"Origin": f"http://127.0.0.1:{client.port}"},
        {"Origin": "https://models.example", "Sec_Fetch_Site": "same-origin"},  # behind a proxy
    ):
        assert unload(**headers)[0] == refused_later, headers
    for headers in (
        {"Origin": "https://other.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site"},
    ):
        status, _, body = unload(**headers)
        assert status == 403, headers
        assert "if --cors-origin allows its origin" in json.loads(body)["error"]


@pytest.mark.parametrize("path", ["models", "/", "/a/", "/a//b", "/a b", "/a?b", "/ä"])
def test_a_root_path_that_is_no_path_is_refused(path, tmp_path):
    with pytest.raises(InputError, match="root_path must begin with / and not end with it"):
        Settings(tmp_path, root_path=path)


def test_pages_of_an_allowed_origin_may_ask_without_a_token_and_read_every_response(client):
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    status, headers, body = client("OPTIONS", PREDICT, headers=asked)
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in headers["access-control-allow-methods"]
    for token, wanted in (("first-token", 200), ("wrong", 401)):
        status, headers, _ = ask(client, token, Origin=PAGE)
        assert (status, headers["access-control-allow-origin"]) == (wanted, PAGE)
        assert "x-request-id" in headers["access-control-expose-headers"]
        assert headers["vary"] == "origin"


def test_pages_of_another_origin_are_told_nothing(client):
    asked = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    status, headers, _ = client("OPTIONS", PREDICT, headers=asked)
    assert status in (401, 405)
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("origin", ["", "example.org", "https://", "https://a/b", "ftp://a", "é"])
def test_an_origin_of_another_form_is_refused(origin, tmp_path):
    with pytest.raises(InputError, match="An origin must be"):
        Settings(tmp_path, cors_origins=(origin,))


def test_metrics_tell_requests_errors_queue_and_process_for_each_model(client):
    ask(client, "first-token")
    ask(client, "first-token", "/v1/models/digits:predict")
    ask(client, "first-token", "/v1/models/invented:predict")
    authorization = {"Authorization": "Bearer first-token"}

    def metrics():
        text = client("GET", "/metrics", headers=authorization)[2].decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    route = 'model="{}",route="predict"'
    wait_until(lambda: metrics().get('hornbill_queue_seconds_total{model="softmax"}', 0) > 0)
    found = metrics()
    good = f'hornbill_requests_total{{{route.format("softmax")},status="200"}}'
    bad = f'hornbill_requests_total{{{route.format("digits")},status="400"}}'
    assert found[good] > 0
    assert found[bad] > 0
    assert found[f"hornbill_request_duration_seconds_count{{{route.format('softmax')}}}"] > 0
    assert not [name for name in found if "invented" in name]
    assert found["process_resident_memory_bytes"] > 10e6
    assert found["process_cpu_seconds_total"] > 0.1


def make_certificate(folder, name="server", curve="P-256"):
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out"]
    subprocess.run(
        [*command, certificate, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_certificates_that_do_not_fit_are_refused(tmp_path):
    certificate, key = make_certificate(tmp_path)
    _, other = make_certificate(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("text")
    locked = tmp_path / "locked.key"
    lock = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", key, "-out", locked]
    subprocess.run(lock, check=True, capture_output=True)
    check_files(Settings(tmp_path, tls_certificate=certificate, tls_key=key))
    for pair, message in (
        ((certificate, other), "which do not belong together"),
        ((certificate, text), "a certificate in PEM and its private key, without a password"),
        ((key, key), "a certificate in PEM and its private key"),
        ((certificate, locked), "without a password"),
        (make_certificate(tmp_path, "p521", "P-521"), "P-256, P-384 or Ed25519."),
        ((certificate, tmp_path / "gone"), "gone does not exist."),
    ):
        with pytest.raises(InputError, match=message):
            check_files(Settings(tmp_path, tls_certificate=pair[0], tls_key=pair[1]))
    with pytest.raises(InputError, match="TLS needs a certificate and its key. Received: no key."):
        Settings(tmp_path, tls_certificate=certificate)


class UnixClient(Client):
    """Sends requests over TLS to a Unix domain socket."""

    def __init__(self, path, certificate):
        self.path, self.context = path, ssl.create_default_context(cafile=certificate)

    def __call__(self, method, path, body=None, headers=()):
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(20)
            plain.connect(str(self.path))
            with self.context.wrap_socket(plain, server_hostname="localhost") as secured:
                connection = http.client.HTTPConnection("localhost")
                connection.sock = secured
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                return response.status, dict(response.getheaders()), response.read()


def test_a_socket_with_tls_serves_and_a_killed_process_is_told_and_replaced(row_bundle, tmp_path):
    certificate, key = make_certificate(tmp_path)
    path = tmp_path / "hornbill.sock"
    with socket.socket(socket.AF_UNIX) as dead:  # left by a server that was killed
        dead.bind(str(path))
    with subprocess.Popen(
        [*COMMAND, row_bundle.parent, "--uds", path, "--tls-cert", certificate, "--tls-key", key],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr.readline().split()[3] == f"unix:{path},"
            client = UnixClient(path, certificate)

            def answers():
                with suppress(OSError):
                    return client("POST", PREDICT, BODY)[0] == 200
                return False

            wait_until(answers)
            _, headers, _ = client("GET", "/v2/health/live")
            worker = int(headers["x-request-id"].partition("-")[0], 16)
            assert worker in children(process)
            with pytest.raises(InputError, match="a server listens there."):
                find_socket(path)
            os.kill(worker, signal.SIGKILL)
            wait_until(answers)
        finally:
            process.terminate()
        output, errors = process.communicate()
    assert f"Worker 1, process {worker}, was killed by SIGKILL. A new one takes" in errors
    assert all(line.startswith("{") for line in output.splitlines())
    assert not path.exists()


def test_a_socket_is_taken_before_its_server_listens(tmp_path):
    path = tmp_path / "a.sock"
    program = "import sys; from pathlib import Path; from serving.server.running import *; "
    program += "find_socket(Path(sys.argv[1])); print('has it', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout.readline() == "has it\n"
        with pytest.raises(InputError, match="a server listens there."):
            find_socket(path)
        first.communicate("\n")
    assert find_socket(path).uds == path


@pytest.mark.parametrize("name", ["gone/a.sock", "a" * 120])
def test_a_place_where_no_socket_can_be_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        find_socket(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="another file"):
        find_socket(tmp_path / "file")


def redirected(redirection, *command):
    return ["sh", "-c", f'{redirection}; exec "$0" "$@"', sys.executable, *command]


def test_a_server_whose_log_cannot_be_written_answers(row_bundle):
    command = redirected("exec 0<&- 1>&- 2>/dev/full", *COMMAND[1:])
    with serving(row_bundle.parent, command=command) as (client, process):
        assert client("POST", PREDICT, BODY)[0] == 200
        process.terminate()
        assert process.wait(10) in (0, -signal.SIGTERM)


def test_no_socket_takes_the_place_of_a_closed_stream():
    program = """
import socket
from app.system.standard_streams import open_closed_streams
open_closed_streams()
print("nobody reads this", flush=True)
with socket.socket() as one:
    raise SystemExit(one.fileno() < 3)
"""
    command = redirected("exec 0<&- 1>&- 2>&-", "-c", program)
    assert subprocess.run(command, check=False).returncode == 0
