"""Reads what a model takes from the command line, before Keras is imported."""

import re
from collections.abc import Sequence

from app.errors import ConfigError
from serving.manifest import DTYPES, TensorSpec

_INPUT = re.compile(r"(?:(?P<name>\w+)\s*=\s*)?(?P<dtype>[a-z]+\d*)\s*\[(?P<axes>[^\[\]]*)\]")
_FORM = "name=dtype[batch,size,…], such as image=float32[batch,28,28] or tokens=int32[batch,steps]"


def parse_inputs(texts: Sequence[str]) -> TensorSpec | dict[str, TensorSpec]:
    """Parse texts such as `image=float32[batch,28,28]`.

    The first axis is the batch. An axis that is no number is variable. A single input needs no
    name.

    Returns:
        A spec for each name; the spec alone if it has no name.

    Raises:
        ConfigError: a text has another form, or several inputs have no names or equal ones.

    Examples:
        >>> parse_inputs(["x=float32[batch,28,28]"])
        {'x': TensorSpec(name='x', dtype='float32', shape=('batch', 28, 28))}
    """
    found = [_parse(text) for text in texts]
    if len(found) == 1 and not found[0].name:
        return found[0]
    names = [spec.name for spec in found]
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(
            f"Each of several inputs must have a name of its own. Received: {', '.join(texts)}."
        )
    return {spec.name: spec for spec in found}


def _parse(text: str) -> TensorSpec:
    match = _INPUT.fullmatch(text.strip())
    axes = [axis.strip() for axis in match["axes"].split(",")] if match else []
    is_known = match is not None and match["dtype"] in DTYPES
    if match is None or not is_known or not all(re.fullmatch(r"\w+|\?|-1", a) for a in axes):
        raise ConfigError(f"An input must have the form {_FORM}. Received: {text!r:.80}.")
    _, *rest = [int(axis) if axis.isdecimal() else axis for axis in axes]
    if 0 in rest:
        raise ConfigError(f"Each axis must have a size above 0. Received: {text!r:.80}.")
    return TensorSpec(match["name"] or "", match["dtype"], ("batch", *rest))
