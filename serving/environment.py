"""Describes the software and the machine that a result was made with."""

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

# It reads a file each time.
_version_of = cache(version)


def describe_environment(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of `packages` and of Python, the architecture and the processor."""
    python = {"python": platform.python_version(), "machine": platform.machine()}
    return package_versions(packages) | python | {"cpu": processor_name()}


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package."""
    return {package: _version_of(package) for package in packages}


def processor_name() -> str:
    """Return the name of the processor, or the architecture if the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
