"""Imports modules of users whose packages have a name that a package of Hornbill has, too."""

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_OWN = ("app", "export", "models", "serving")


def import_users_module(name: str) -> Any:
    """Import a module, such as `models.unet` from a folder `models` of the current folder.

    Raises:
        Exception: whatever the import raises.
    """
    with _users_package(name.partition(".")[0]):
        return import_module(name)


@contextlib.contextmanager
def _users_package(package: str) -> Iterator[None]:
    """Set Hornbill's package of a name aside, if the current folder has one of that name.

    Afterwards Hornbill's modules are there again; those of the user stay where the names differ.
    """
    here = Path.cwd()
    spec = PathFinder.find_spec(package, [str(here)]) if package in _OWN else None
    if spec is None or here == _ROOT:
        yield
        return
    own = {name: sys.modules.pop(name) for name in _modules_of(package) if _is_own(name)}
    try:
        # By its place, since Python prefers a folder with an __init__.py, wherever it is.
        module = sys.modules[package] = module_from_spec(spec)
        if spec.loader is not None:  # it has an __init__.py
            spec.loader.exec_module(module)
        yield
    finally:
        for name in filter(_is_own, _modules_of(package)):
            del sys.modules[name]
        sys.modules.update(own)


def _modules_of(package: str) -> list[str]:
    return [name for name in sys.modules if name == package or name.startswith(f"{package}.")]


def _is_own(name: str) -> bool:
    """Return whether Hornbill has a module of a name."""
    path = _ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()
