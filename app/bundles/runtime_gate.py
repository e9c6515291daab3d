"""Runs a bundle's golden samples with several versions of ONNX Runtime, each by itself.

Each version is installed into a folder that is removed afterwards; the environment of this process
stays as it is.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import distributions
from pathlib import Path

import serving
from app.errors import ConfigError, RunError
from serving.errors import one_line
from serving.runtime_report import RuntimeReport, report_runtime

_VERSION = re.compile(r"\d+(\.\d+)+([a-z]+\d+)?(\.[a-z]+\d+)?")
# Seconds that installing a version may take, and loading and running the bundle.
_INSTALL_SECONDS, _RUN_SECONDS = 600, 300
_FIRST_FOR_NUMPY_2 = (1, 19)
_NOT_FOUND = re.compile(r"from versions: (?P<versions>[^)]*)\)")

Install = Callable[[str, Path], None]


def parse_versions(text: str) -> list[str]:
    """Return the versions of a list that is separated by commas.

    Raises:
        ConfigError: one is no version.
    """
    versions = [part.strip() for part in text.split(",")]
    wrong = next((each for each in versions if not _VERSION.fullmatch(each)), None)
    if wrong is not None:
        raise ConfigError(
            "--runtimes must be versions of onnxruntime, such as 1.20.1,1.24.4. "
            f"Received: {wrong!r:.80}."
        )
    return list(dict.fromkeys(versions))


def install_runtime(version: str, folder: Path) -> None:
    """Install a version of onnxruntime, with the numpy that it needs, into a folder.

    Its other dependencies are for tools that change graphs, and take minutes to install.

    Raises:
        RunError: it does not exist, has no package for this machine, or takes too long.
    """
    _pip_install([f"onnxruntime=={version}"], version, folder)
    (package,) = distributions(name="onnxruntime", path=[str(folder)])
    numpy = [each for each in package.requires or () if re.match(r"numpy\b", each)]
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _FIRST_FOR_NUMPY_2:
        numpy.append("numpy<2")  # not all of these versions say so
    _pip_install(numpy, version, folder)


def _pip_install(requirements: Sequence[str], version: str, folder: Path) -> None:
    """Install packages without what they require; `version` of onnxruntime is for the message."""
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-input", "--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(folder),
        *requirements,
    ]  # fmt: skip
    # pip's own temporary files are removed with the folder too, also if pip is killed.
    try:
        finished = _run(command, {"TMPDIR": str(folder)}, _INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise RunError(
            f"onnxruntime {version} must be installed within {_INSTALL_SECONDS} seconds. "
            "Received: a pip that takes longer. Try again with a faster package index."
        ) from None
    if finished.returncode:
        found = _NOT_FOUND.search(finished.stderr)
        latest = found["versions"].split(", ")[-5:] if found else ["none"]
        lines = [line for line in finished.stderr.splitlines() if line.startswith("ERROR:")]
        reason = one_line(lines[-1] if lines else finished.stderr)[:200]
        if latest != ["none"]:
            reason = f"Those that can be are …, {', '.join(latest)}."
        raise RunError(
            f"onnxruntime {version} cannot be installed here with Python "
            f"{sys.version_info.major}.{sys.version_info.minor}. {reason}"
        )


def try_runtimes(
    bundle: Path,
    versions: Sequence[str],
    install: Install = install_runtime,
    begin: Callable[[str], None] = lambda _: None,
) -> list[RuntimeReport]:
    """Return what the installed version and each of `versions` make of the golden samples.

    Args:
        bundle: folder of a version.
        versions: versions of ONNX Runtime.
        install: installs a version into a folder.
        begin: called with each step, such as `installing onnxruntime 1.20.1`.

    Raises:
        RunError: a version cannot be installed.
        ManifestError: the bundle has no golden samples.
    """
    reports = [report_runtime(bundle)]
    for version in versions:
        begin(f"installing onnxruntime {version}")
        with tempfile.TemporaryDirectory(prefix="hornbill-") as folder:
            install(version, Path(folder))
            begin(f"running the golden samples with onnxruntime {version}")
            reports.append(_report_in(Path(folder), version, bundle.absolute()))
    return reports


def _report_in(folder: Path, version: str, bundle: Path) -> RuntimeReport:
    """Return the report of a process that sees the packages of a folder, and `serving`."""
    root = Path(serving.__file__).parents[1]
    # Without `site`, whose packages would be those of this environment.
    command = [sys.executable, "-S", "-m", "serving.runtime_report", str(bundle)]
    paths = {"PYTHONPATH": os.pathsep.join([str(folder), str(root)])}
    try:
        finished = _run(command, paths, _RUN_SECONDS)
    except subprocess.TimeoutExpired:
        return RuntimeReport(version, failure=f"it took more than {_RUN_SECONDS} seconds")
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
        return RuntimeReport(version, failure=one_line(lines[-1])[:200])
    return RuntimeReport(**json.loads(finished.stdout.splitlines()[-1]))


def _run(
    command: list[str], environment: dict[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
