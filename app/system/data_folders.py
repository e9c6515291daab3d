"""Finds data by a short name: in the working folder, then in the folders of HORNBILL_DATA."""

import os
from pathlib import Path

from app.errors import DataError

# One folder, or several that are separated as in PATH.
VARIABLE = "HORNBILL_DATA"


def data_folders() -> list[Path]:
    """Return the absolute paths of the folders that HORNBILL_DATA names; they may not exist."""
    names = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    return [Path(name).expanduser().absolute() for name in names]


def find_data(name: str) -> str:
    """Return the path of a file or folder that exists, or `name` itself if there is none.

    Args:
        name: an absolute path, which is not looked for; or one relative to the working folder or to
            a folder of HORNBILL_DATA, such as `mnist.npz` or `tables/adult.csv`.
    """
    if os.path.exists(name) or not name or "\0" in name:  # noqa: PTH110 - a name may be too long
        return name
    found = (str(folder / name) for folder in data_folders())
    return next(filter(os.path.exists, found), name)


def where_looked(name: str) -> str:
    """Return a sentence for the end of an error: where a name was looked for, and found nothing."""
    if os.path.isabs(name):  # noqa: PTH117
        return ""
    folders = data_folders()
    if not folders:
        return f" Looked in {Path.cwd()}; {VARIABLE} names no other folder."
    named = (f"{folder}{'' if folder.is_dir() else ', which does not exist'}" for folder in folders)
    return f" Looked in {Path.cwd()} and, by {VARIABLE}, in {'; '.join(named)}."


def require_data(name: str) -> Path:
    """Return the path of a file or folder that exists, see `find_data`.

    Raises:
        DataError: there is none. The message says where it was looked for.
    """
    path = Path(find_data(name))
    if not path.exists():
        raise DataError(f"{name} does not exist.{where_looked(name)}")
    return path
