"""Benchmarks of the server count what it answers, even if it answers nonsense or not at all."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("grpc")

from benchmarks import attack, soak  # they need gRPC
from benchmarks.servers import wait_until_ready


@pytest.fixture
def answering():
    """Return a function that starts a server, which answers all with a status and a body."""
    servers = []

    def start(status, body=b""):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1].server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"outputs": []}', b'{"error": "a"}'])
def test_a_malformed_answer_is_an_outcome(answering, body):
    requests = [soak.Request("JSON", "/", b"{}", {}, 200, soak.np.zeros((1, 2), "float32"))]
    found = soak.send((answering(200, body), 1), requests, 3, 0)
    ((kind, outcome),) = found
    assert (kind, found.total()) == ("JSON", 3)
    assert outcome in {"JSONDecodeError", "TypeError", "IndexError", "KeyError"}


def test_only_answered_images_are_timed_under_attack(answering):
    statuses, times = attack.measure(answering(503), "mlp", 0.03)
    assert set(statuses) == {503}
    assert times == []
    statuses, times = attack.measure(answering(200), "mlp", 0.03)
    assert statuses[200] == len(times) > 0


def test_a_server_that_ends_is_not_waited_for():
    with subprocess.Popen([sys.executable, "-c", ""]) as server:
        server.wait()
        with pytest.raises(SystemExit, match="ended with status 0 before it was ready"):
            wait_until_ready(server, 1)
