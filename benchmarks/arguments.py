"""Arguments of benchmarks that name files: a wrong one ends the program with one line."""

import sys
from pathlib import Path
from typing import NoReturn

from serving.errors import HornbillError
from serving.versions import find_version


def bundle_argument(path: str) -> Path:
    """Return the folder of the version that an argument names; serves as `type` of argparse.

    Raises:
        SystemExit: there is no bundle; the status is 2.
    """
    try:
        return find_version(path)
    except HornbillError as error:
        _refuse(str(error))


def path_argument(path: str) -> Path:
    """Return the path of a file or folder that exists; serves as `type` of argparse.

    Raises:
        SystemExit: there is no such file; the status is 2.
    """
    if not Path(path).exists():
        _refuse(f"A file or folder must exist. Received: {path}, which does not exist.")
    return Path(path)


def new_path_argument(path: str) -> Path:
    """Return the path of a folder that does not exist yet; serves as `type` of argparse.

    Raises:
        SystemExit: it exists; the status is 2.
    """
    if Path(path).exists():
        _refuse(f"A new folder must be named. Received: {path}, which exists.")
    return Path(path)


def _refuse(line: str) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    raise SystemExit(HornbillError.exit_status)
