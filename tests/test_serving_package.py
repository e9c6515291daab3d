"""serving/ as a separate package, without TensorFlow, without telemetry, and in a container."""

import ast
import os
import re
import shlex
import subprocess
import sys
import zipfile
from importlib import metadata
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


def test_serving_can_be_built_as_a_separate_wheel(wheel, bundle, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        files = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info" not in name
        }
        archive.extractall(tmp_path)
    sources = {
        f"hornbill_serving/{path.relative_to(ROOT / 'serving').as_posix()}": path.read_bytes()
        for path in (ROOT / "serving").rglob("*")
        if path.suffix in (".py", ".html", ".proto", ".binpb")
    }
    assert files == sources
    code = f"{BLOCKED}sys.path.insert(0, {str(tmp_path)!r})\n{PREDICT}"
    assert run(sys.executable, "-c", code, bundle, cwd=tmp_path) == "(3, 10)\n"


def leave_at_home(home, bundle, **variables):
    """Predict and verify in processes with the home folder `home`; return the files left there."""
    # Nothing else is inherited: where CI or the like is set, onnxruntime reports nothing anyway.
    kept = ("PATH", "OPENBLAS_CORETYPE")
    inherited = {key: os.environ[key] for key in kept if key in os.environ}
    environment = {**inherited, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    predict = PREDICT.replace("hornbill_serving", "serving")
    verify = "import sys; from app.commands.cli import main; main(['verify', sys.argv[1]])"
    for code in (predict, verify):
        run(sys.executable, "-c", code, bundle, cwd=ROOT, env=environment)
    return [path for path in home.rglob("*") if path.is_file()]


def test_telemetry_is_off_unless_the_user_turned_it_on(bundle, tmp_path):
    """With telemetry, onnxruntime writes a device id and a database into the home folder."""
    silent, reporting = tmp_path / "silent", tmp_path / "reporting"
    silent.mkdir()
    reporting.mkdir()
    assert leave_at_home(silent, bundle) == []
    left = leave_at_home(reporting, bundle, ORT_DISABLE_TELEMETRY="0")
    version = tuple(map(int, metadata.version("onnxruntime").split(".")[:2]))
    assert bool(left) == (version >= (1, 29))


def imported_packages(path):
    """The packages that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_no_test_of_serving_imports_what_imports_tensorflow():
    files = [*(ROOT / "tests").glob("test_serving_*.py"), ROOT / "tests" / "live.py"]
    heavy = {"app", "benchmarks", "export", "keras", "models", "tensorflow"}
    assert {file.name: heavy & set(imported_packages(file)) for file in files} == {
        file.name: set() for file in files
    }


def test_the_tests_of_serving_run_where_tensorflow_is_missing():
    """Imports three of the files, and runs one test of each."""
    code = f"""{BLOCKED.replace('"app", "export", "models", "serving", ', "")}
import pytest
files = [f"tests/test_serving_{{name}}.py" for name in ("manifest", "predictor", "server")]
names = "a_manifest_is_read or labels_are or health_and_metadata"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *files, "-k", names]))
"""
    assert "\n3 passed" in run(sys.executable, "-c", code, cwd=ROOT)


@pytest.mark.slow
def test_the_wheel_predicts_in_an_empty_environment(wheel, bundle, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    assert run(python, "-c", PREDICT, bundle, cwd=tmp_path) == "(3, 10)\n"
    assert "keras" not in run(python, "-m", "pip", "list")


@pytest.mark.slow
def test_the_container_has_everything_that_its_server_needs(bundle, tmp_path):
    """Runs what the Dockerfile installs and starts, in a virtual environment."""
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


def test_the_package_loads_its_parts_when_they_are_first_used():
    code = """
import sys
import serving
print("numpy" in sys.modules, hasattr(serving, "Predictors"), sorted(serving.__all__)[0])
from serving import *
print("numpy" in sys.modules, Predictor.__name__, serving.Predictor is Predictor)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert finished.stdout == "False False Check\nTrue Predictor True\n"


def test_a_model_of_images_loads_without_what_reads_cells_of_tables(bundle):
    code = """
import sys
import numpy as np
from serving import Predictor
Predictor.load(sys.argv[1]).predict(np.ones((1, 28, 28), np.uint8))
print([name for name in ("columns", "date_text", "unit_text") if f"serving.{name}" in sys.modules])
"""
    finished = subprocess.run(
        [sys.executable, "-c", code, bundle],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert finished.stdout == "[]\n"
