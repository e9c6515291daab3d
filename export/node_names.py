"""Finds the layer of a node by its name."""

import re
from collections.abc import Collection

# TensorFlow numbers scopes of the same name, and Keras opens the scope of a layer twice.
_NUMBERED = re.compile(r"(.+)_\d+")


def layer_of(name: str, layers: Collection[str]) -> str | None:
    """Return the innermost layer among the parts of a TensorFlow name; None if there is none.

    Args:
        name: Name of a node, such as `digit_net_1/block1_conv_1/convolution`.
        layers: Names of the model's layers.
    """
    for part in reversed(name.split("/")):
        numbered = _NUMBERED.fullmatch(part)
        for candidate in (numbered.group(1) if numbered else part, part):
            if candidate in layers:
                return candidate
    return None
