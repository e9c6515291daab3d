"""Tells in a sentence why Keras, TensorFlow, tf2onnx or ONNX Runtime failed, and where."""

import re
import sysconfig
import traceback
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from .layer_names import layer_of

_MOST_LETTERS = 500
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
# Beginnings of the lines that Keras and TensorFlow append to an error.
_APPENDIX = (
    "Arguments received by",
    "[[{{node",
    "Stack trace for op definition",
    "Call arguments",
    "Example:",
)
# What Keras writes before the reason itself.
_WRAPPING = re.compile(
    r".*(?:Error encountered:|Exception encountered: |Exception encountered when calling \S+\.\n)"
    r"\s*(?=\S)",
    re.DOTALL,
)
_NOISE = re.compile(
    r" with name 'None'|\[ONNXRuntimeError\] : \d+ : \w+ : |\[ShapeInferenceError\] |"
    r"\S+\.(?:cc|h):\d+ (?:.* was false\. |\w+ )|\{\{function_node \S+\}\} |"
    r"\{\{node [^}]+\}\} ?|\[Op:\w*\](?: name:)?| for '[^']* = \w+\[[^']*'|"
    r" Full object config: .*| and with (?:computed )?input tensors.*|Detected at node .*|"
    r"Graph execution error:"
)
_NODE = re.compile(r"\{\{node ([^}]+)\}\}|Detected at node (\S+) ")
# Operators in the errors of ONNX' shape inference and of ONNX Runtime.
_OPERATORS = [
    re.compile(rf".*?{pattern}", re.DOTALL)
    for pattern in (
        r"op_type: ?(?P<kind>\w+), node name: (?P<name>[^)]*)\): ",
        r"while running (?P<kind>\w+) node\. Name:'(?P<name>[^']*)' Status Message: ",
        r"Node ?\((?P<name>[^)]*)\) Op \((?P<kind>\w+)\) ",
        r"In Node, \(\"(?P<name>[^\"]*)\", (?P<kind>\w+),.* , Error ",
    )
]
# Errors of Python, which say little without their name.
_NAMED = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError)
_MENDS = {
    "to a numpy array": "Use keras.ops instead of numpy.",
    "Tensor` as a Python `bool`": "Use keras.ops.where or keras.ops.cond instead of if.",
    "as a Python bool": "Use keras.ops.where or keras.ops.cond instead of if.",
    "only supports singleton tf.Variables": "Make layers and variables in __init__ or build.",
    "Iterating over a symbolic": "Use keras.ops.map or keras.ops.vectorized_map instead of for.",
}
_LIBRARIES = (
    "site-packages",
    "dist-packages",
    "__autograph_generated_file",
    "<frozen",
    sysconfig.get_path("stdlib"),
    str(Path(__file__).parent),
)


def describe_failure(error: Exception, layers: Collection[str] = ()) -> str:
    """Return where a library failed, why, and what helps, as sentences.

    Args:
        error: What the library raised.
        layers: Names of the model's layers, one of which may be in the name of a node.

    Example:
        `KeyError in layer 'head' (nets.py, line 12): 'image'.`
    """
    message = _message(error)
    node = _NODE.search(str(error))
    operator = next(filter(None, (one.match(message) for one in _OPERATORS)), None)
    if operator:
        where = f"{operator['kind']} of {_place(operator['name'], layers)}"
        message = message[operator.end() :]
    elif node and layers:
        where = _place(node[1] or node[2], layers)
    else:
        where = where_raised(error)
    reason = " ".join(_NOISE.sub("", message).split()).rstrip(".") or "no reason given"
    if len(reason) > _MOST_LETTERS:
        reason = f"{reason[:_MOST_LETTERS]}…"
    mends = [mend for sign, mend in _MENDS.items() if sign in reason]
    return " ".join([f"{where}: {reason}." if where else f"{reason}.", *mends[:1]])


@contextmanager
def plain_errors() -> Iterator[None]:
    """Keep Keras from rewriting errors and from taking the layers out of their tracebacks."""
    was_filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        with warnings.catch_warnings():
            # Keras warns, and raises an error as well.
            warnings.filterwarnings(
                "ignore", "Layer '.*' looks like it has unbuilt state, but Keras"
            )
            warnings.filterwarnings("ignore", r"`build\(\)` was called on layer")
            yield
    finally:
        if was_filtering:
            keras.config.enable_traceback_filtering()


def _place(name: str, layers: Collection[str]) -> str:
    """Return the innermost layer in the name of a node, or the name as it is."""
    layer = layer_of(name, layers)
    return repr(name) if layer is None else f"layer {layer!r}"


def _message(error: Exception) -> str:
    """Return the reason without what Keras and TensorFlow write around it."""
    text = str(getattr(error, "message", "") or error)
    if isinstance(error, KeyError) and error.args:
        text = repr(error.args[0]) if "encountered" not in text else str(error.args[0])
    lines = [line.rstrip() for line in _COLORS.sub("", text).splitlines()]
    ends = [n for n, line in enumerate(lines) if line.lstrip().startswith(_APPENDIX)]
    lines = [line for line in lines[: ends[0] if ends else None] if line]
    if any(line.lstrip().startswith("File ") for line in lines):  # a traceback in the message
        return lines[-1].strip().removeprefix(f"{type(error).__name__}: ")
    return _WRAPPING.sub("", "\n".join(lines)).strip()


def where_raised(error: Exception) -> str:
    """Return the type of an error of the user's own code, its layer, and its line."""
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [
        (Path(frame.f_code.co_filename).name, line)
        for frame, line in frames
        if not any(part in frame.f_code.co_filename for part in _LIBRARIES)
    ]
    layers = [layer for frame, _ in frames if (layer := _layer(frame)) is not None]
    is_named = isinstance(error, _NAMED) or not str(error)
    is_own = bool(own) and frames[-1][0].f_code.co_filename.endswith(own[-1][0])
    parts = [type(error).__name__] if is_named or is_own else []
    parts += [f"layer {layers[-1].name!r}"] if layers else []
    line = f" ({own[-1][0]}, line {own[-1][1]})" if own and layers else ""
    return " in ".join(parts) + line


def _layer(frame: Any) -> Any:
    found = frame.f_locals.get("self")
    is_layer = isinstance(found, keras.layers.Layer) and hasattr(found, "name")
    return found if is_layer else None
