"""Parity holds whatever instruction sets the processor has. Run with `make test-isa`.

Each test runs the parity tests in a process that may use only some instruction sets. TensorFlow's
oneDNN has settings for that; for ONNX Runtime, `cpuid_mask.c` hides the other instruction sets.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.isa

HERE = Path(__file__).parent
PARITY_TESTS = "converts or agrees or loses_no_digits or is_refused_by_the_proof"
CANNOT_MASK = 77


def run_parity_tests(settings):
    command = [
        sys.executable, "-m", "pytest", "-q", "-m", "not slow and not isa", "-k", PARITY_TESTS,
        # It would handle the signal that the mask uses; without it, its settings are unknown.
        "-p", "no:faulthandler", "-o", "addopts=", "-W", "ignore::pytest.PytestConfigWarning",
        "-p", "no:cacheprovider", "-p", "no:schemathesis",
        *map(str, sorted(HERE.glob("test_export_*.py"))),
    ]  # fmt: skip
    environment = {**os.environ, **settings}
    return subprocess.run(
        command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
        {"TF_ENABLE_ONEDNN_OPTS": "0"},
    ],
    ids=lambda settings: "-".join(*settings.items()),
)
def test_models_keep_parity_when_onednn_uses_fewer_instruction_sets(settings):
    finished = run_parity_tests(settings)
    assert finished.returncode == 0, finished.stdout[-4000:]


@pytest.fixture(scope="session")
def cpuid_mask(tmp_path_factory):
    """The shared library of `cpuid_mask.c`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("mask") / "cpuid_mask.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "cpuid_mask.c"]
    subprocess.run(command, check=True)
    settings = {"LD_PRELOAD": str(library), "CPUID_MASK": "avx2"}
    tried = subprocess.run([shutil.which("true")], env=settings, check=False)
    if tried.returncode == CANNOT_MASK:
        pytest.skip("needs a processor on which CPUID can fault")
    return library


@pytest.mark.parametrize("most", ["avx", "avx2", "avx512"])
def test_models_keep_parity_on_an_older_processor(most, cpuid_mask):
    finished = run_parity_tests({"LD_PRELOAD": str(cpuid_mask), "CPUID_MASK": most})
    assert finished.returncode == 0, finished.stdout[-4000:]
