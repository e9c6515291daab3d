"""The examples of docs/serving.md run as they are, except for the port and the name of a model."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from live import free_port, start
from PIL import Image

from serving.server import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "serving.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


REQUESTS = [
    line[2:] for block in blocks("console") for line in block.splitlines() if "curl" in line
]


@pytest.fixture(scope="module")
def place(bundle, row_bundle, images):
    """The folder of `dist`, with an image next to it, and the ports of a server."""
    folder = bundle.parent.parent.parent
    image = "docs/examples/three.png"
    (folder / image).parent.mkdir(parents=True)
    Image.fromarray(images[3]).resize((200, 200)).save(folder / image)
    port = free_port()
    address = f"127.0.0.1:{port}"
    client, stop = start(Settings(bundle.parent.parent, log_requests=False, grpc_address=address))
    yield folder, {"8000": client.port, "8001": port}
    stop()


def run(place, command, code):
    folder, ports = place
    for documented, port in ports.items():
        code = code.replace(f"localhost:{documented}", f"localhost:{port}")
    return subprocess.run(
        [*command, code.replace("/iris", "/softmax")],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.parametrize("request_line", REQUESTS)
def test_the_curl_examples_run(request_line, place):
    finished = run(place, ["bash", "-c"], f"{request_line} --fail")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(("{", "["))
    assert '"error"' not in finished.stdout


@pytest.mark.parametrize("example", blocks("python"))
def test_the_python_examples_run(example, place):
    finished = run(place, [sys.executable, "-c"], example)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on the PATH")
@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_the_same_model_runs_in_javascript(package, place, tmp_path):
    (example,) = blocks("javascript")
    folder, _ = place
    script = tmp_path / "example.mjs"
    script.write_text(
        example.replace("onnxruntime-node", package).replace("dist/", f"{folder / 'dist'}/")
    )
    # Only the CPU's library, which is in the package itself.
    variables = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
    install = ["npm", "install", "--silent", "--no-audit", "--prefix", str(tmp_path), package]
    subprocess.run(install, check=True, capture_output=True, env=variables)
    finished = subprocess.run(
        [shutil.which("node"), str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    probabilities = [float(text) for text in re.findall(r"\d\.\d+(?:e-\d+)?", finished.stdout)]
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)
