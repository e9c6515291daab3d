"""A server in a thread of the test process, and a plain HTTP client."""

import asyncio
import atexit
import http.client
import json
import socket
import threading
import time

from granian.server.embed import Server as Granian

from serving.server import Server
from serving.server.running import OPTIONS

READY = "/v2/health/ready"
# All servers of a test process try their models in the same ones, which import onnxruntime once.
_TRIALS = []


@atexit.register
def end_trials():
    while _TRIALS:
        _TRIALS.pop().close()


def free_port():
    """Return a port of 127.0.0.1 on which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Client:
    """Sends requests to one server."""

    def __init__(self, port):
        self.port = port

    def __call__(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self("GET", path)
        return status, json.loads(body)

    def post(self, path, value, **headers):
        status, _, body = self("POST", path, json.dumps(value), headers)
        return status, json.loads(body)


def wait_until_ready(client, path=READY):
    for _ in range(1200):
        try:
            if client.get(path)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server was not ready in time")


def wait_until_tried(client):
    """Wait until no version is loading: on a busy machine, some are when the server is ready."""
    for _ in range(1200):
        status, _, body = client("POST", "/v2/repository/index")
        if status != 200 or b"LOADING" not in body:  # a client without a token cannot know
            return
        time.sleep(0.05)


def start(settings, wait_for=READY, **options):
    """Run a server in a thread; return its client and a function that stops it.

    `wait_for` is the path that must succeed first; once the server is ready, all versions must have
    been tried too. Options are passed to Granian.
    """
    port = free_port()
    ended = threading.Event()

    async def serve():
        server = Granian(
            Server(settings, idle=_TRIALS),
            port=port,
            log_enabled=False,
            **{**OPTIONS, **options},
        )
        serving = asyncio.create_task(server.serve())
        await asyncio.get_running_loop().run_in_executor(None, ended.wait)
        server.stop()
        await serving

    def stop():
        ended.set()
        thread.join()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    client = Client(port)
    try:
        wait_until_ready(client, wait_for)
        if wait_for == READY:
            wait_until_tried(client)
    except BaseException:
        stop()
        raise
    return client, stop
