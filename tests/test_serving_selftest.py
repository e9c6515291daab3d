"""The server sends golden samples to itself; a process that answers otherwise is replaced."""

import itertools
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import BUNDLES
from live import Client, free_port, start
from test_serving_running import BODY, PREDICT
from waiting import wait_until

from serving.golden import read_golden
from serving.server import Settings
from serving.server.models import load_model
from serving.server.selftest import make_selftest

PROGRAM = """
import sys
from pathlib import Path
from serving.server import Settings
from serving.server.running import find_address, run_server
settings = Settings(Path(sys.argv[1]), selftest_s=0.3)
run_server(settings, find_address("127.0.0.1", int(sys.argv[2])))
"""


def weights(folder):
    """Return the bytes of the largest tensor of a model."""
    import onnx

    tensors = onnx.load(folder / "model.onnx").graph.initializer
    return max((onnx.numpy_helper.to_array(t) for t in tensors), key=lambda a: a.size)


def overwrite(process, pattern, replacement):
    """Overwrite bytes wherever a process has them in its memory; return how often."""
    count = 0
    maps = Path(f"/proc/{process}/maps").read_text().splitlines()
    with Path(f"/proc/{process}/mem").open("r+b", buffering=0) as memory:
        for line in maps:
            start, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if not rights.startswith("rw"):
                continue
            with suppress(OSError, OverflowError, ValueError):
                memory.seek(int(start, 16))
                content = memory.read(int(end, 16) - int(start, 16))
                for match in re.finditer(re.escape(pattern), content):
                    memory.seek(int(start, 16) + match.start())
                    memory.write(replacement)
                    count += 1
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show the memory")
def test_a_process_whose_weights_changed_in_memory_is_replaced(row_bundle):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, row_bundle.parent, str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    client = Client(port)

    def worker():
        with suppress(OSError):
            status, headers, _ = client("GET", "/v2/health/ready")
            return int(headers["x-request-id"].partition("-")[0], 16) if status == 200 else None

    try:
        wait_until(worker)
        first, right = worker(), client("POST", PREDICT, BODY)
        row = weights(row_bundle)[0].tobytes()
        assert overwrite(first, row, bytes(len(row)))
        wait_until(lambda: worker() not in (None, first))
        assert client("POST", PREDICT, BODY)[::2] == right[::2]
    finally:
        process.terminate()
        _, errors = process.communicate()
    message = "ERROR hornbill.server: softmax version 1 fails its self-test: a golden sample gets"
    assert message in errors


@pytest.fixture(scope="module", params=["digits", "raw", "softmax"])
def version(request):
    return BUNDLES / "dist" / request.param / "1"


@pytest.fixture(scope="module")
def model(version):
    return load_model(version)


def test_a_version_is_tested_with_images_numbers_and_texts(model):
    assert model.selftest is not None
    length = int(model.selftest.headers["inference-header-content-length"])
    inference = model.open_inference.read(model.selftest.body, length)
    (first, *_) = inference.arrays.values()
    assert len(first) == 1
    response = model.open_inference.write(inference, model.run(inference.arrays))
    assert response.body == model.selftest.expected


def test_a_version_whose_answers_vary_by_themselves_is_not_tested(model, version):
    noise = itertools.count(1)

    def run(arrays):
        return [output + np.float32(1e-3) * next(noise) for output in model.run(arrays)]

    golden = read_golden(version, "input", model.manifest.inputs)
    assert make_selftest(model.manifest, model.open_inference, run, golden) is None
    assert make_selftest(model.manifest, model.open_inference, model.run, golden) == model.selftest


def test_a_golden_sample_may_be_longer_than_the_bodies_of_clients(tmp_path):
    shutil.copytree(BUNDLES / "dist" / "digits", tmp_path / "digits")
    client, stop = start(Settings(tmp_path, max_body_mb=0.0005))
    try:
        assert client.get("/v2/models/digits/ready")[0] == 200
        assert client("POST", "/v1/models/digits:predict", b" " * 501)[0] == 413
    finally:
        stop()
