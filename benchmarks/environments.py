"""Environments for other projects' servers, one each, so that none decides another's versions."""

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


class Unavailable(Exception):  # noqa: N818  # a finding about another project, which is reported
    """A server cannot be measured, for the reason that is its text."""


def make_environment(folder: Path, packages: Sequence[str]) -> Path:
    """Return the Python of an environment that has the packages; made on first use.

    Args:
        folder: of the environment.
        packages: from PyPI, as pip takes them.

    Raises:
        Unavailable: pip cannot install them. What it left is mended by the next call.
    """
    python, note = folder.absolute() / "bin/python", folder / _INSTALLED
    wanted = "\n".join(packages)
    if not (note.exists() and note.read_text() == wanted):
        print(f"installing {', '.join(packages)} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *packages]
        finished = subprocess.run(install, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise Unavailable(f"pip: {last_line(finished.stderr)}")
        note.write_text(wanted)
    return python


def read_versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages that an environment has, asked for as pip takes them."""
    names = [re.split("[<>=!~[]", package)[0] for package in packages]
    command = [str(python), "-c", _SCRIPT, *names]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(finished.stdout)
    return versions


def last_line(text: str) -> str:
    """Return the last line that says something, cut to a length for one line of a report."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
