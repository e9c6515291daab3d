"""Finds the shapes of arguments that Keras did not note, from those that layers inside noted."""

import inspect
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras

# Parameters that a caller gives, not a user of the model, and their values at inference.
GIVEN_BY_CALLERS = {"training": False, "mask": None}
# Tracing a large model takes a second.
_MOST_TRIES = 100


def given_by_callers(model: Any) -> dict[str, Any]:
    """Return `training` and `mask` as at inference, if `call` has no defaults for them."""
    parameters = inspect.signature(model.call).parameters
    return {
        name: value
        for name, value in GIVEN_BY_CALLERS.items()
        if name in parameters and parameters[name].default is inspect.Parameter.empty
    }


def find_shapes(
    model: Any, known: dict[str, Any], missing: Sequence[str]
) -> dict[str, keras.InputSpec]:
    """Return a spec for each missing argument of `call` with which Keras can trace the model.

    Args:
        model: Model that was called with more arguments than it has noted.
        known: A `keras.InputSpec`, or a structure of these, for each argument that it has noted.
        missing: Names of the others.

    Returns:
        The first that fit, among the shapes of the layers inside; empty if none do.
    """
    if not all(layer.built for layer in model._flatten_layers()):
        return {}  # a try would build a layer with a wrong shape
    taken = [spec.shape[1:] for spec in keras.tree.flatten(known) if spec is not None]
    candidates = dict.fromkeys(_noted_inside(model))
    ordered = sorted(candidates, key=lambda one: one[0][1:] in taken)  # others than these first
    tries = itertools.product(ordered, repeat=len(missing))
    for chosen in itertools.islice(tries, _MOST_TRIES):
        specs = (keras.InputSpec(dtype, shape) for shape, dtype in chosen)
        found = dict(zip(missing, specs, strict=True))
        if _is_traceable(model, known, found):
            return found
    return {}


def are_required(model: Any, known: dict[str, Any], found: dict[str, keras.InputSpec]) -> bool:
    """Return whether the weights require these sizes of the last axes: others cannot be traced."""
    others = (
        {**found, name: keras.InputSpec(spec.dtype, (*spec.shape[:-1], size))}
        for name, spec in found.items()
        for size in (1, (spec.shape[-1] or 0) + 1)
        if size != spec.shape[-1]
    )
    return not any(_is_traceable(model, known, other) for other in others)


def _noted_inside(model: Any) -> Iterator[tuple[tuple[int | None, ...], str]]:
    """Yield the shape and the dtype of what each layer inside was called with."""
    for layer in model._flatten_layers():
        dtype = "int32" if isinstance(layer, keras.layers.Embedding) else "float32"
        for shape in (getattr(layer, "_build_shapes_dict", None) or {}).values():
            is_plain = isinstance(shape, list | tuple) and len(shape) > 0
            if is_plain and all(size is None or isinstance(size, int) for size in shape):
                yield (None, *shape[1:]), dtype


def _is_traceable(model: Any, known: dict[str, Any], found: dict[str, keras.InputSpec]) -> bool:
    given = keras.tree.map_structure(
        lambda spec: spec and keras.KerasTensor((None, *spec.shape[1:]), spec.dtype),
        {**known, **found},
    )
    try:
        model(**given, **given_by_callers(model))
    except Exception:  # Keras raises anything
        return False
    return True
