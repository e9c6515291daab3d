"""Imports what a package exports when it is first used, so that the package itself loads fast."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes_on_first_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562).

    Args:
        package: name of the package.
        modules: by the name of an attribute, the module of the package that defines it.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
