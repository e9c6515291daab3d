"""Code of users: functions, classes and objects that settings name by a reference.

A reference is `file.py:name` or `package.module:name`. An object that Python code passes gets a
reference too; another process finds it if its module can be imported.
"""

import ast
import importlib
import importlib.util
import re
import secrets
import sys
import traceback
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any

from app.errors import ConfigError
from models.checks import suggest
from serving.errors import one_line

from .user_packages import import_users_module

_FORM = re.compile(r"(?P<place>.+\.py|[A-Za-z_]\w*(\.\w+)*):(?P<name>[A-Za-z_<][\w.<>]*)(#\d+)?")
_SUFFIX = ".py"
# Characters of an error that are shown.
_LONGEST = 250
_INNER_ERROR = re.compile(r"(?P<name>\w+): (?P<text>.*)\nTraceback \(most recent call last\)")
# The cause, on the line in front of the nodes of TensorFlow's graph; a long trace precedes it.
_GRAPH_ERROR = re.compile(r"(?:\(\d+\) [A-Z_]+: +)?(?P<text>\S[^\n]*?)\s*\[\[{{node ")
# Names of nodes and operators in TensorFlow's graph, which a user has not given.
_NAMES = re.compile(r"{{[^}]*}} *|\s*\[Op:\w*\](?: name:[^\n]*)?")
# What may give names that are not written in a file.
_DYNAMIC = ("exec", "globals", "locals", "setattr", "vars")
_ROOT = Path(__file__).parents[2]
# Objects that Python code has passed, by reference.
_PASSED: dict[str, Any] = {}
# Modules of files that were imported, with the time of the file's last change.
_FILES: dict[Path, tuple[int, Any]] = {}


def is_reference(text: Any) -> bool:
    """Return whether a text is `file.py:name` or `package.module:name`."""
    return isinstance(text, str) and _FORM.fullmatch(text) is not None


def has_module(name: str) -> bool:
    """Return whether the package of a module is there. Nothing is imported."""
    package = name.partition(".")[0]
    folders = [*sys.path, str(Path.cwd())]
    return package in sys.modules or PathFinder.find_spec(package, folders) is not None


def reference_to(thing: Any) -> str:
    """Return a reference to an object, by which `load_object` finds it in this process.

    Functions and classes get the name that other processes import them by, other objects a number
    that another process does not use.
    """
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    reference = f"{named.__module__}:{named.__qualname__}"
    if getattr(sys.modules.get(named.__module__), named.__qualname__, None) is not thing:
        known = [n for n, each in _PASSED.items() if each is thing]
        reference = known[0] if known else f"{reference}#{secrets.randbelow(10**9)}"
    pass_object(reference, thing)
    return reference


def pass_object(reference: str, thing: Any) -> None:
    """Let a reference name an object in this process."""
    _PASSED[reference] = thing


def is_passed(reference: str) -> bool:
    """Return whether a reference names an object that Python code has passed in this process."""
    return reference in _PASSED


def is_object(reference: Any) -> bool:
    """Return whether a reference names an object, rather than a function or class of a module."""
    return is_reference(reference) and "#" in reference


def absolute_reference(reference: str) -> str:
    """Return a reference whose file has an absolute path, so that it is found from any folder."""
    place, _, name = reference.rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place.endswith(_SUFFIX) else reference


def bare_reference(reference: str) -> str:
    """Return a reference without its folders, which are private to this machine."""
    place, _, name = reference.rpartition(":")
    return f"{Path(place).name}:{name}" if place.endswith(_SUFFIX) else reference


def shown_name(reference: str) -> str:
    """Return a reference for people; that of an object is the name of its class."""
    name, _, number = reference.partition("#")
    return name.rpartition(":")[2] if number else bare_reference(name)


def load_object(reference: str, what: str) -> Any:
    """Return the object that a reference names.

    Args:
        reference: `file.py:name` or `package.module:name`. A module is looked for in the current
            folder too, and beside a file are the modules that it imports.
        what: what the object is for, as an error names it, such as `loss`.

    Raises:
        ConfigError: the reference has another form, or its module cannot be imported or has no
            such name; or it names an object of another process.
    """
    if reference in _PASSED:
        return _PASSED[reference]
    if is_object(reference):
        raise ConfigError(
            f"{what} must be in this process, or be named by file.py:name. Received: "
            f"{shown_name(reference)}, an object that Python code has passed in another process."
        )
    if not is_reference(reference):
        raise ConfigError(
            f"{what} must be file.py:name or package.module:name. Received: {reference!r}."
        )
    place, _, name = reference.rpartition(":")
    found = import_place(place, what)
    for part in name.split("."):
        if not hasattr(found, part):
            raise _nothing_named(reference, what, part, vars(found))
        found = getattr(found, part)
    return found


def check_reference(reference: str, what: str) -> None:
    """Require the file of a reference, and the name in it. Nothing is imported.

    Raises:
        ConfigError: there is none.
    """
    place, _, name = reference.rpartition(":")
    if not place.endswith(_SUFFIX):
        return
    path, first = Path(place), name.partition(".")[0]
    if not path.is_file():
        raise ConfigError(f"{what} must be in a file that exists. Received: {reference}.")
    names = _names_in(path)
    if names and first not in names:
        raise _nothing_named(reference, what, first, names)


def _nothing_named(reference: str, what: str, part: str, names: Iterable[str]) -> ConfigError:
    place = reference.rpartition(":")[0]
    return ConfigError(
        f"{what} must name something in {place}. Received: {reference!r}; there is no "
        f"{part!r}.{suggest(part, [n for n in names if not n.startswith('_')])}"
    )


def _names_in(path: Path) -> set[str]:
    """Return all names that a file gives to something; empty if only its import can tell."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()  # its import says what is wrong
    names = set()
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=alias):
                names.add(alias or name.partition(".")[0])
            case ast.Name(id=name, ctx=ast.Store()) | ast.MatchAs(name=str(name)):
                names.add(name)
            case ast.Name(id=name) if name in _DYNAMIC:
                return set()
    return set() if {"*", "__getattr__"} & names else names


def import_place(place: str, what: str) -> Any:
    """Import `file.py` or `package.module`.

    Raises:
        ConfigError: there is none, or it raises an error; the message names file and line.
    """
    if place.endswith(_SUFFIX):
        path = Path(place).absolute()
        if not path.is_file():
            raise ConfigError(f"{what} must be in a file that exists. Received: {place}.")
        _look_in(path.parent)
        return _imported(place, what, lambda: _import_file(path))
    _look_in(Path.cwd())
    return _imported(place, what, lambda: import_users_module(place))


def named_objects(reference: str) -> dict[str, Any]:
    """Return the classes and functions in the module of a reference, by name.

    Those of the user's modules that it imports follow, as far as names are free. Keras finds the
    custom layers and functions of a saved model among them.

    Raises:
        ConfigError: see `import_place`.
    """
    modules = _with_imports(import_place(reference.rpartition(":")[0], "The model"))
    found: dict[str, Any] = {}
    for module in reversed(modules):
        found |= {name: each for name, each in vars(module).items() if callable(each)}
    return found


def _with_imports(module: Any) -> list[Any]:
    """Return a module and the user's modules that it takes something from, nearest first."""
    found = [module]
    for each in found:
        for value in list(vars(each).values()):
            is_module = isinstance(value, ModuleType)
            name = value.__name__ if is_module else getattr(value, "__module__", None)
            other = sys.modules.get(name) if isinstance(name, str) else None
            file = getattr(other, "__file__", None)
            if other not in found and file and _is_own(file):
                found.append(other)
    return found


def find_class(module: str, name: str) -> Any:
    """Return a class of a module, which is imported; None if there is none."""
    try:
        found = sys.modules.get(module) or import_users_module(module)
    except (Exception, SystemExit):  # whatever the module raises
        return None
    return getattr(found, name, None)


def describe_error(error: BaseException) -> str:
    """Return an error in one line, with the line of the user's code that caused it."""
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    name, text = type(error).__name__, str(error)
    if found := _INNER_ERROR.search(text):  # of Python code that TensorFlow has called
        name, text = found["name"], found["text"]
        frames += re.findall(r'File "(.+?)", line (\d+)', str(error))
    elif found := _GRAPH_ERROR.search(text):
        text = found["text"]
    own = [frame for frame in frames if _is_own(frame[0])]
    where = f" in line {own[-1][1]} of {Path(own[-1][0]).name}" if own else ""
    text = one_line(_NAMES.sub("", text))
    return f"{name}{where}: {shorten(text, _LONGEST, placeholder=' …')}"


def _is_own(file: str) -> bool:
    """Return whether a file is neither a part of Hornbill nor of Python or a package."""
    if file.startswith("<frozen "):
        return False
    ours = (_ROOT / name for name in ("app", "export", "models", "serving"))
    path = Path(file)
    library = Path(re.__file__).parents[1]
    is_installed = "site-packages" in path.parts or path.is_relative_to(library)
    return not is_installed and not any(path.is_relative_to(folder) for folder in ours)


def _imported(place: str, what: str, load: Any) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:  # whatever the module raises
        raise ConfigError(
            f"{what} must be in a module that can be imported. "
            f"Received: {place}: {describe_error(error)}"
        ) from None


def _look_in(folder: Path) -> None:
    """Let modules import others from a folder, as in scripts that lie there."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import_file(path: Path) -> Any:
    changed = path.stat().st_mtime_ns
    before, module = _FILES.get(path, (None, None))
    if before == changed:
        return module
    name = _free_name(path)
    known = sys.modules.get(path.stem)
    if before is None and getattr(known, "__file__", None) == str(path):
        _FILES[path] = (changed, known)  # Python code has imported it already
        return known
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Keras finds classes by the name of their module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _FILES[path] = (changed, module)
    return module


def _free_name(path: Path) -> str:
    """Return the name for the module of a file; not that of another one, such as `types`."""
    stem, own = path.stem, {module.__name__ for _, module in _FILES.values()}
    if stem in own:
        return stem
    try:
        spec = importlib.util.find_spec(stem)
    except (ImportError, ValueError):
        spec = None
    is_free = spec is None or spec.origin == str(path)
    return stem if is_free else f"own_{stem}"
