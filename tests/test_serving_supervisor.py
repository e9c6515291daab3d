"""`hornbill serve` as processes: what requests see of its end, and of the end of a worker."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest
from checksums import write_checksums
from hostile_graphs import add_endless_loop, write_hostile
from live import Client, free_port
from processes import children, is_alive, reap
from waiting import wait_until

PREDICT = "/v1/models/softmax:predict"
BODY = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}).encode()
COMMAND = [sys.executable, "-c", "from app.commands.cli import main; main()", "serve"]


@contextmanager
def serving(folder, *options, path="/v2/health/ready"):
    """Run `hornbill serve`; yield a client once a path succeeds, and its process."""
    client = Client(free_port())
    command = [*COMMAND, str(folder), "--port", str(client.port), "--quiet", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: succeeds(client, path))
        yield client, process
    finally:
        for _ in range(2):  # the second ends the delay
            process.terminate()
        reap(process, 40)


def succeeds(client, path):
    with suppress(OSError):
        return client.get(path)[0] == 200
    return False


class KeptAlive:
    """Sends requests on one connection for as long as it stays open."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.connect()

    def __call__(self):
        """Return the status of a request, and whether the connection was closed by its response."""
        self.connection.request("POST", PREDICT, BODY)
        response = self.connection.getresponse()
        response.read()
        return response.status, response.getheader("connection") == "close"

    def close(self):
        self.connection.close()


def test_at_sigterm_the_server_is_not_ready_and_keep_alive_clients_lose_no_request(row_bundle):
    lost, answered, closed = [], [], []

    def keep_sending():
        with closing(KeptAlive(client.port)) as send:
            try:
                is_closed = False
                while not is_closed:
                    status, is_closed = send()
                    answered.append(status)
                closed.append(send)
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)

    with serving(row_bundle.parent, "--drain-delay", "60") as (client, process):
        senders = [threading.Thread(target=keep_sending) for _ in range(6)]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(answered) > 50)
        assert not closed
        process.send_signal(signal.SIGTERM)
        for sender in senders:
            sender.join()
        assert (lost, set(answered), len(closed)) == ([], {200}, 6)
        assert client.get("/v2/health/ready") == (503, {"ready": False, "live": True})
        assert client.get("/v2/models/softmax/ready")[0] == 503
        assert client.get("/v2/health/live")[0] == 200
        with closing(KeptAlive(client.port)) as late:
            assert late() == (200, True)  # it still listens
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
        assert process.returncode == 0
        with pytest.raises(ConnectionRefusedError):
            client.get("/v2/health/live")


def test_a_bundle_without_end_neither_stops_a_model_nor_delays_the_end(row_bundle, tmp_path):
    shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    write_hostile(row_bundle, tmp_path / "endless", add_endless_loop)
    endless = serving(tmp_path, "--drain-delay", "0", path="/v2/models/softmax/ready")
    with endless as (client, process):
        assert client("POST", PREDICT, BODY)[0] == 200
        (worker,) = [n for n in children(process) if "spawn_main" in command_of(n)]
        trials = children_of(worker)
        assert trials
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)  # a process that hangs is killed after half a minute
        assert process.returncode == 0
        wait_until(lambda: not any(map(is_alive, trials)))


def command_of(number):
    with suppress(OSError), open(f"/proc/{number}/cmdline") as file:  # noqa: PTH123
        return file.read()
    return ""


def children_of(number):
    found = []
    for thread in os.listdir(f"/proc/{number}/task"):  # noqa: PTH208
        with suppress(OSError), open(f"/proc/{number}/task/{thread}/children") as file:  # noqa: PTH123
            found += map(int, file.read().split())
    return found


def test_a_killed_worker_is_logged_and_connections_wait_for_the_next(row_bundle):
    with serving(row_bundle.parent) as (client, process):
        (worker,) = [n for n in children(process) if "spawn_main" in command_of(n)]
        os.kill(worker, signal.SIGKILL)
        with closing(KeptAlive(client.port)) as kept:
            assert kept() == (200, False)
        for number in (process.pid, *children(process)):  # as a terminal does at Ctrl-C
            os.kill(number, signal.SIGINT)
        _, errors = process.communicate(timeout=40)
    assert process.returncode == 0
    assert errors.count("takes its place") == 1
    assert f"Worker 1, process {worker}, was killed by SIGKILL. A new one takes its" in errors


def test_a_worker_that_takes_the_place_of_another_is_ready_when_it_accepts(row_bundle):
    answered = {200: set(), 503: set()}

    def answers():
        status, headers, _ = client("GET", "/v2/health/ready")
        answered[status].add(int(headers["x-request-id"].partition("-")[0], 16))
        return len(answered[200])

    with serving(row_bundle.parent, "--workers", "2") as (client, _):
        wait_until(lambda: answers() == 2)
        killed = min(answered[200])
        answered[503].clear()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_alive(killed))
        wait_until(lambda: answers() == 3)
    assert not answered[503]


@pytest.mark.slow
def test_a_server_whose_worker_ends_again_and_again_ends(row_bundle):
    with serving(row_bundle.parent) as (client, process):
        for _ in range(5):
            wait_until(lambda: succeeds(client, "/v2/health/ready"))
            time.sleep(6)  # Granian itself only counts those that end at once
            (worker,) = [n for n in children(process) if "spawn_main" in command_of(n)]
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda number=worker: not is_alive(number))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("A new one takes its place.") == 4
    assert errors.count("ended too often within a minute: the server ends.") == 1


@pytest.mark.slow
def test_under_load_only_requests_in_flight_are_lost_with_a_killed_worker(row_bundle, tmp_path):
    """Versions come and go meanwhile, which loses none."""
    model = shutil.copytree(row_bundle.parent, tmp_path / "softmax")
    lost, statuses, is_over = [], [], threading.Event()

    def keep_sending():
        send = None
        while not is_over.is_set():
            send = send or KeptAlive(client.port)
            try:
                statuses.append(send()[0])
            except (OSError, http.client.HTTPException):
                lost.append(time.monotonic())
                send.close()
                send = None
        send.close()

    def version():
        return succeeds(client, "/v2/models/softmax/versions/2/ready")

    senders = [threading.Thread(target=keep_sending) for _ in range(6)]
    with serving(tmp_path, "--workers", "2") as (client, process):
        for sender in senders:
            sender.start()
        for _ in range(2):
            second = shutil.copytree(model / "1", model / ".2")
            manifest = json.loads((second / "manifest.json").read_text())
            (second / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
            write_checksums(second)
            second.rename(model / "2")
            wait_until(version)  # a swap
            shutil.rmtree(model / "2")
            wait_until(lambda: not version())  # a rollback
        assert not lost
        for killed in (1, 2):
            workers = [n for n in children(process) if "spawn_main" in command_of(n)]
            os.kill(workers[0], signal.SIGKILL)
            time.sleep(8)
            assert len(lost) <= killed * len(senders)
        is_over.set()
        for sender in senders:
            sender.join()
    assert lost
    assert set(statuses) == {200}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", client.port))
