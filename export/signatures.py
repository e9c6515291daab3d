"""What a model takes, where its graph does not say so: names, shapes and dtypes."""

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from .argument_shapes import GIVEN_BY_CALLERS, are_required, find_shapes
from .errors import ExportError
from .tensor_names import is_made_up, unique_names

# Operations of TensorFlow that move what they read, and do not change it.
_PASS_ON = ("Identity", "Reshape", "ExpandDims", "Squeeze", "StridedSlice", "Transpose")
_COMPARISONS = ("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a model's `call`, with a `keras.InputSpec` in place of each array.

    Attributes:
        positional: Arguments by position; each a spec, or a structure of specs and None.
        named: Arguments by name.
        parameters: Names of the parameters of `call`.
        only_name: Name that was given to the only input; empty if none was.
    """

    positional: tuple[Any, ...]
    named: dict[str, Any]
    parameters: tuple[str, ...]
    only_name: str = ""

    @property
    def leaves(self) -> list[Any]:
        """The specs, in order; None where an argument is None."""
        return [leaf for _, leaf in self._paths()]

    @property
    def batch_size(self) -> int | None:
        """The number of samples with which the model was called; None if that is not known."""
        sizes = [spec.shape[0] for spec in self.leaves if spec is not None and spec.shape]
        return next((size for size in sizes if size is not None), None)

    @property
    def names(self) -> list[str]:
        """Name of each leaf: its keys in a dict, or its argument, or `input_` and its number."""
        found = [self._name(number, *one) for number, one in enumerate(self._paths())]
        return unique_names(found)

    def filled(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments by position and by name with other leaves."""
        structure = (self.positional, self.named)
        positional, named = keras.tree.pack_sequence_as(structure, list(leaves))
        return positional, named

    def _paths(self) -> list[tuple[Any, Any]]:
        return list(keras.tree.flatten_with_path((self.positional, self.named)))

    def _name(self, number: int, path: tuple[Any, ...], spec: Any) -> str:
        is_named, argument, *rest = path
        keys = [key for key in rest if isinstance(key, str)]
        if keys:
            return "_".join(keys)
        if spec is not None and spec.name:
            return str(spec.name)
        if rest:
            return f"input_{number}"
        if self.only_name:
            return self.only_name
        if is_named:
            return str(argument)
        return self.parameters[argument] if argument < len(self.parameters) else f"input_{number}"


def arguments_of(model: Any, given: Any = None) -> Arguments:
    """Return the arguments with which a model is called.

    Args:
        model: Model or layer whose graph Keras does not know.
        given: What it takes: anything with a shape and a dtype, such as `keras.InputSpec` or an
            array, or a shape with the batch, such as `(None, 28, 28)`; or a dict or list of these.
            The keys of a dict are names of the arguments of `call`, if all of them are; otherwise
            it is the first argument, as it is; with one key, see `dict_argument_of`. A list of one
            is its element, as in `keras.Model.export`. None takes the shapes with which the model
            was called or built.

    Raises:
        ExportError: It was neither called nor built and nothing is given, or an argument of `call`
            is missing.
    """
    names, required = _parameters(model)
    found = _arranged(model, _as_specs(_given_or_noted(model, given)), names, required)
    by_position = dict(zip(names, found.positional, strict=False))
    known = {**by_position, **found.named}
    missing = [name for name in required if name not in known]
    return _completed(model, known, missing, names) if missing else found


def dict_argument_of(model: Any, given: Any = None) -> Arguments | None:
    """Return a dict as the only argument of `call`; None if there is no dict.

    A dict with one key may name an input, or be what `call` takes: only a trace tells.

    Args:
        model: As for `arguments_of`, which raised no error.
        given: The same.
    """
    names, required = _parameters(model)
    specs = _as_specs(_given_or_noted(model, given))
    return Arguments((specs,), {}, names) if isinstance(specs, dict) and len(required) < 2 else None


def _given_or_noted(model: Any, given: Any) -> Any:
    """Return what is given, or the shapes that Keras noted, if there is one."""
    noted = _noted_shapes(model)
    if isinstance(given, list | tuple) and len(given) == 1 and not _is_shape(given):
        given = given if isinstance(noted, list) and len(noted) == 1 else given[0]
    found = noted if given is None else given
    if found is None:
        what = f"{model.name!r}, of the class {type(model).__name__}"
        names, _ = _parameters(model)
        if getattr(model, "_called", False):
            raise ExportError(
                "Keras must be able to trace call, in order to note what the model takes. "
                f"Received: {what}, whose call it could not trace. {_advice(names)} The error "
                "then says what it cannot trace."
            )
        raise ExportError(
            "A model must have been called, or its inputs must be given. "
            f"Received: {what}. {_advice(names)}"
        )
    if not any(leaf is not None for leaf in keras.tree.flatten(_as_specs(found))):
        raise ExportError(f"A model must take at least one input. Received: {given!r:.80}.")
    return found


def _arranged(
    model: Any, specs: Any, names: tuple[str, ...], required: tuple[str, ...]
) -> Arguments:
    """Return the arguments that specs stand for: one, or several in a dict or a list."""
    kinds = {one.kind for one in inspect.signature(model.call).parameters.values()}
    if isinstance(specs, dict):
        if inspect.Parameter.VAR_KEYWORD in kinds and specs.keys() >= set(required):
            return Arguments((), specs, names)
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return Arguments(tuple(specs.values()), {}, tuple(specs))
        if specs.keys() <= set(names):
            return _in_order(model, specs, names)
        if len(specs) == 1:
            ((only_name, spec),) = specs.items()
            return Arguments((spec,), {}, names, only_name)
    if isinstance(specs, list) and (len(required) > 1 or inspect.Parameter.VAR_POSITIONAL in kinds):
        return Arguments(tuple(specs), {}, names)
    return Arguments((specs,), {}, names)


def _in_order(model: Any, specs: dict[str, Any], names: tuple[str, ...]) -> Arguments:
    """Return arguments by position as far as possible, in which order they become inputs."""
    parameters = inspect.signature(model.call).parameters
    first = tuple(
        itertools.takewhile(
            lambda name: (
                name in specs and parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            ),
            names,
        )
    )
    named = {name: spec for name, spec in specs.items() if name not in first}
    return Arguments(tuple(specs[name] for name in first), named, names)


def _completed(
    model: Any, known: dict[str, Any], missing: list[str], names: tuple[str, ...]
) -> Arguments:
    """Return all arguments, if the weights leave no choice for those that are missing."""
    found = find_shapes(model, known, missing)
    if found and are_required(model, known, found):
        return _in_order(model, {**known, **found}, names)
    specs = {**known, **dict.fromkeys(missing), **found}
    lines = [_as_option(name, spec) for name, spec in specs.items()]
    raise ExportError(
        f"Each argument of call must be given. Received: {model.name!r}, of the class "
        f"{type(model).__name__}, without {' and '.join(missing)}, whose shapes Keras does not "
        f"note. Give {' '.join(lines)}, or inputs=… from Python."
    )


def _as_option(name: str, spec: Any) -> str:
    """Return the option of the command line for an argument, with dots for what is not known."""
    if not isinstance(spec, keras.InputSpec):
        return f"--input '{name}=float32[batch,…]'"
    axes = ["batch", *("steps" if size is None else str(size) for size in spec.shape[1:])]
    return f"--input '{name}={spec.dtype}[{','.join(axes)}]'"


def with_read_dtypes(
    call: Any, specs: list[keras.InputSpec], batch: int | None
) -> list[keras.InputSpec]:
    """Return specs in which a float that is only ever cast to integers is an int32, or a string.

    Keras notes the shapes with which a model was called, not the dtypes. Tokens and texts would be
    floats. What a mask compares with a whole number is the same for both.

    Args:
        call: Function of a list of tensors.
        specs: The specs, of a float where nothing else is known.
        batch: Number of samples; None for any.
    """
    signature = [tf.TensorSpec((batch, *spec.shape[1:]), spec.dtype) for spec in specs]
    traced = tf.function(lambda *leaves: call(list(leaves))).get_concrete_function(*signature)
    return [
        _with_dtype(spec, _dtypes_read(tensor)) if tensor.dtype.is_floating else spec
        for spec, tensor in zip(specs, traced.inputs, strict=False)
    ]


def _with_dtype(spec: keras.InputSpec, read: set[str]) -> keras.InputSpec:
    return keras.InputSpec(*read, spec.shape) if read in ({"int32"}, {"string"}) else spec


def _dtypes_read(tensor: Any) -> set[str]:
    """Return the dtypes to which operations cast a float: int32 or string, or float32 for none."""
    found: set[str] = set()
    for reader in tensor.consumers():
        cast = reader.outputs[0].dtype if reader.type == "Cast" else None
        if reader.type in _PASS_ON or (cast and cast.is_floating):
            found |= _dtypes_read(reader.outputs[0])
        elif cast and cast != tf.bool:
            found.add("string" if cast == tf.string else "int32")
        elif not cast and reader.type != "Shape" and not _compares_with_whole(reader, tensor):
            found.add("float32")
    return found


def _compares_with_whole(reader: Any, tensor: Any) -> bool:
    """Return whether an operation compares a tensor with whole numbers, as masks do with 0."""
    if reader.type not in _COMPARISONS:
        return False
    others = [tf.get_static_value(one) for one in reader.inputs if one is not tensor]
    return all(other is not None and (other == other.round()).all() for other in others)


def _parameters(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the parameters of `call`, and of those without a default."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [
        one
        for one in inspect.signature(model.call).parameters.values()
        if one.kind in kinds and one.name not in GIVEN_BY_CALLERS
    ]
    required = tuple(one.name for one in found if one.default is one.empty)
    return tuple(one.name for one in found), required


def _noted_shapes(model: Any) -> Any:
    """Return the tensors that a model's graph takes, or the shapes with which it was built.

    None if it has neither.
    """
    if getattr(model, "inputs", None):
        return (model._functional if isinstance(model, keras.Sequential) else model).input
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes or not model.built:
        return None
    plain = {name: _plain(shape) for name, shape in shapes.items()}
    if len(plain) == 1:
        (shape,) = plain.values()
        return shape
    return {
        name.removesuffix("_shape"): shape for name, shape in plain.items() if shape is not None
    }


def _plain(structure: Any) -> Any:
    """Return a structure of shapes without Keras' tracking containers."""
    if isinstance(structure, Mapping):
        return {key: _plain(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple) and not _is_shape(structure):
        return [_plain(value) for value in structure]
    return None if structure is None else tuple(structure)


def _is_shape(value: Any) -> bool:
    is_sequence = isinstance(value, list | tuple)
    return is_sequence and all(size is None or isinstance(size, int) for size in value)


def _as_specs(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {str(key): _as_specs(value) for key, value in given.items()}
    if given is None:
        return None
    if _is_shape(given) and given and (isinstance(given, tuple) or {*given} != {None}):
        return keras.InputSpec(shape=tuple(given), dtype="float32")
    if isinstance(given, list | tuple):
        return [_as_specs(value) for value in given]
    if hasattr(given, "shape") and hasattr(given, "dtype") and given.shape is not None:
        dtype = keras.backend.standardize_dtype(given.dtype or "float32")
        dtype = "float32" if dtype == "float64" else dtype
        axes = [size if isinstance(size, int) else None for size in tuple(given.shape)]
        return keras.InputSpec(shape=tuple(axes), dtype=dtype, name=_own_name(given))
    raise ExportError(
        "Inputs must be keras.InputSpec, arrays or shapes, or a dict or list of them. "
        f"Received: {given!r:.80}."
    )


def _own_name(given: Any) -> str | None:
    """Return the name that a spec was given; None for an array, or a name that Keras made up."""
    name = getattr(given, "name", None)
    return name if isinstance(name, str) and not is_made_up(name) else None


def _advice(names: Sequence[str]) -> str:
    example = f"{names[0] if names else 'x'}=float32[batch,28,28]"
    return f"Give the shapes, such as --input {example}, or inputs=… from Python."
