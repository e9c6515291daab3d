"""Says what an export ran with and on."""

import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("hornbill", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")


def describe_environment() -> dict[str, str]:
    """Return the versions of the packages and of Python, and the machine with its processor."""
    versions = {package: version(package) for package in _PACKAGES}
    python = {"python": platform.python_version(), "machine": platform.machine()}
    return versions | python | {"cpu": processor_name()}


def processor_name() -> str:
    """Return the name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
