"""serving/ as a package of its own, and in a container."""

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PREDICT = """
import sys
import numpy as np
from hornbill_serving import Predictor, verify_bundle
assert all(check.passed for check in verify_bundle(sys.argv[1]))
print(Predictor.load(sys.argv[1]).predict(np.zeros((3, 28, 28), np.uint8)).probabilities.shape)
"""
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("app", "export", "models", "serving", "keras", "tensorflow"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""


def run(*command, **options):
    finished = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **options
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder,
        cwd=ROOT / "serving")  # fmt: skip
    (wheel,) = folder.iterdir()
    return wheel


def test_serving_is_a_wheel_of_its_own_as_it_stands(wheel, bundle, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        files = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info" not in name
        }
        archive.extractall(tmp_path)
    sources = {
        f"hornbill_serving/{path.relative_to(ROOT / 'serving').as_posix()}": path.read_bytes()
        for path in (ROOT / "serving").rglob("*")
        if path.suffix in (".py", ".html")
    }
    assert files == sources
    code = f"{BLOCKED}sys.path.insert(0, {str(tmp_path)!r})\n{PREDICT}"
    assert run(sys.executable, "-c", code, bundle, cwd=tmp_path) == "(3, 10)\n"


@pytest.mark.slow
def test_the_wheel_predicts_in_an_empty_environment(wheel, bundle, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    assert run(python, "-c", PREDICT, bundle, cwd=tmp_path) == "(3, 10)\n"
    assert "keras" not in run(python, "-m", "pip", "list")


@pytest.mark.slow
def test_the_container_has_all_that_its_server_needs(bundle, tmp_path):
    """What the Dockerfile installs and starts, in an environment instead of a container."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    for name in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        for source in name.split():
            assert (ROOT / source).exists(), source
    (install,) = re.findall(r"^RUN pip (.*?) +&&", text, re.MULTILINE)
    (entry,) = re.findall(r"^ENTRYPOINT \[(.*)\]$", text, re.MULTILINE)
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    folder = tmp_path / "venv" / "bin"
    run(folder / "python", "-m", "pip", *shlex.split(install), cwd=ROOT)
    command, *arguments = [part.strip().strip('"') for part in entry.split(",")]
    arguments = [str(bundle.parent.parent) if part == "/models" else part for part in arguments]
    help_text = run(folder / command, arguments[0], "--help")
    assert "--host" in help_text
    (check,) = re.findall(r'"-c", "(.*)"\]', text)
    with subprocess.Popen([folder / command, *arguments], stderr=subprocess.DEVNULL) as server:
        try:
            retry = f"import time\nfor _ in range(100):\n try:\n  {check}\n  break\n"
            retry += " except OSError: time.sleep(0.2)\nelse: raise SystemExit(1)"
            run(sys.executable, "-c", retry)
        finally:
            server.terminate()
    assert server.returncode in (0, -15, 143)
