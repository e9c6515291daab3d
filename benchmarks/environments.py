"""Virtual environments for the servers of other projects, one for each server."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_INSTALLED = "installed.txt"
_SCRIPT = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


class Unavailable(Exception):  # noqa: N818  # a result that is reported, not an error
    """A server cannot be measured; the message says why."""


def make_environment(folder: Path, packages: Sequence[str]) -> Path:
    """Return the Python of an environment with the packages. The first call creates it.

    Args:
        folder: folder of the environment.
        packages: requirements from PyPI, in pip's syntax.

    Raises:
        Unavailable: pip cannot install them; the next call tries again.
    """
    python, installed = folder.absolute() / "bin/python", folder / _INSTALLED
    wanted = "\n".join(packages)
    if not (installed.exists() and installed.read_text() == wanted):
        print(f"installing {', '.join(packages)} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *packages]
        finished = subprocess.run(install, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise Unavailable(f"pip: {last_line(finished.stderr)}")
        installed.write_text(wanted)
    return python


def read_versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of packages, which are given in pip's syntax."""
    names = [re.split("[<>=!~[]", package)[0] for package in packages]
    command = [str(python), "-c", _SCRIPT, *names]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(finished.stdout)
    return versions


def last_line(text: str) -> str:
    """Return the last line that is not empty, cut to 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"
