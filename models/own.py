"""Models that users bring: they get inputs and a head that suit the data, and go the same way.

The user's model is nested as it is. Around it are what turns the inputs of the data into its inputs
and its outputs into probabilities or values, so that the exported graph takes the data itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .checks import fits
from .columns import encode_columns
from .config import ColumnsConfig, OwnModelConfig, RowsConfig
from .config.own import RAW_OUTPUTS
from .errors import OwnModelError
from .graph import activation_of, producer
from .heads import BothClasses
from .precision import Float32Layer
from .rows import prepare_columns

_MADE_UP = ("keras_tensor", "input_layer")
_TASKS = {"multiclass": "classes", "multilabel": "labels", "regression": "values"}


@dataclass(frozen=True)
class Targets:
    """What a model is to predict.

    Attributes:
        task: `multiclass`, `multilabel` or `regression`.
        count: number of classes, labels or values.
        is_standardized: whether a linear output stands for standardized values, which the exported
            graph turns into values; otherwise it stands for the values themselves.
    """

    task: str
    count: int
    is_standardized: bool = False


def load_own_model(config: OwnModelConfig) -> keras.Model:
    """Load the untrained model of a run, with its head."""
    # The run has written the file itself.
    return settled(keras.saving.load_model(config.file, compile=False, safe_mode=False))


def settled(net: keras.Model) -> keras.Model:
    """Return a model whose layers `Normalization` compute outside the graph that built them.

    Keras builds those inside a subclassed model while it traces its `call`, and they keep tensors
    of that graph as their statistics.
    """
    for layer in net._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.finalize_state()
        elif isinstance(layer, keras.layers.Normalization):
            layer.build_from_config(layer.get_build_config())
    return net


def head_of(net: keras.Model) -> str:
    """Return the head that a model has by its last activation: `softmax`, `sigmoid` or `linear`.

    Raises:
        OwnModelError: it has several outputs, or an output with more axes than batch and units.
    """
    _, output = _main_output(net)
    activation = activation_of(output)
    return activation if activation in ("softmax", "sigmoid") else "linear"


def units_of(net: keras.Model) -> int:
    """Return the number of units of the output that is compared with the targets.

    Raises:
        OwnModelError: see `head_of`.
    """
    _, output = _main_output(net)
    _require_rows(output)
    return int(output.shape[1]) if len(output.shape) > 1 else 1


def unused_outputs(net: keras.Model) -> list[str]:
    """Return the names of a model's outputs that `add_head` leaves out.

    Raises:
        OwnModelError: see `head_of`.
    """
    name, _ = _main_output(net)
    output: Any = net.output
    named = output if isinstance(output, dict) else {}
    return [each for each in named if each != name and not _are_features(each, named)]


def add_head(
    net: keras.Model,
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    targets: Targets,
    rows: RowsConfig | None = None,
    is_named: bool = False,
) -> keras.Model:
    """Return a model from the inputs of the data to `probabilities` or `values`.

    Args:
        net: the user's model.
        shapes: shape of a sample, and dtype, of each input of the data.
        targets: what it is to predict.
        rows: columns with texts or missing values, which are encoded in front of the model; None
            gives it the inputs as they are.
        is_named: whether a single input is given as a dict too, as several are.

    Returns:
        A model whose inputs have the names of `shapes`, or those of
        `models.rows.prepare_columns`. Its output is a dict with `probabilities` float32
        `(batch, classes)` or `values` float32 `(batch, values)`, and with `features` if `net` has
        an output of this name. The layer `raw_outputs` is what `net` returns.

    Raises:
        OwnModelError: inputs or outputs do not suit the data.
    """
    if rows is None:
        given = {
            name: keras.Input(shape, dtype=dtype, name=name)
            for name, (shape, dtype) in shapes.items()
        }
        inputs = given if is_named or len(given) > 1 else next(iter(given.values()))
        taken = _matched(net, given)
    else:
        inputs, prepared = prepare_columns(rows)
        encoded = encode_columns(prepared, rows, ColumnsConfig())
        taken = _matched(net, {"encoded columns": encoded})
    outputs = _apply(net, taken)
    name, _ = _main_output(net)
    raw = outputs[name] if isinstance(outputs, dict) else keras.tree.flatten(outputs)[0]
    _require_rows(raw)
    if len(raw.shape) == 1:
        raw = keras.layers.Reshape((1,), name="unit")(raw)
    raw = keras.layers.Activation("linear", dtype="float32", name=RAW_OUTPUTS)(raw)
    activation = activation_of(raw) or _measured(settled(net), name)
    named = {_HEADS[targets.task][0]: _HEADS[targets.task][1](raw, activation, targets)}
    if isinstance(outputs, dict) and _are_features("features", outputs):
        named["features"] = keras.layers.Identity(name="features", dtype="float32")(
            outputs["features"]
        )
    taken_names = {*named, net.name, RAW_OUTPUTS} & set(shapes)
    if rows is None and taken_names:
        raise OwnModelError(
            "An input must not have the name of an output, or of the model. "
            f"Received: {', '.join(sorted(taken_names))}. Rename it in the data and in the model."
        )
    return keras.Model(inputs, named, name="own_model")


def encoded_width(rows: RowsConfig) -> int:
    """Return the number of columns that `add_head` makes of columns with texts."""
    _, prepared = prepare_columns(rows)
    return int(encode_columns(prepared, rows, ColumnsConfig()).shape[1])


def prepared_tensors(model: keras.Model) -> Any:
    """Return what is computed once for each sample before training, a tensor or a dict of them.

    It is the prepared columns if columns are encoded in front of the user's model, else the inputs.
    """
    names = [layer.name for layer in model.layers]
    for name in ("columns", "fill_missing"):
        if name in names and not isinstance(model.get_layer(name), keras.layers.InputLayer):
            return model.get_layer(name).output
    inputs: dict[str, Any] = {tensor.name: tensor for tensor in model.inputs}
    is_named = len(inputs) > 1 or isinstance(model.input, dict)
    return inputs if is_named else model.inputs[0]


def ends_in_logits(model: keras.Model) -> bool:
    """Return whether `raw_outputs` of a model with classes or labels are logits."""
    output = model.output.get("probabilities")
    if output is None:
        return False
    last = producer(output)
    if isinstance(last, BothClasses):
        last = producer(last.input)
    is_added = last.name in ("probabilities", "second_class")
    return is_added and isinstance(last, keras.layers.Activation | keras.layers.Softmax)


def _main_output(net: keras.Model) -> tuple[str, Any]:
    """Return the output to compare with the targets, and its name if outputs are a dict."""
    output = getattr(net, "output", None)
    if isinstance(output, dict):
        known = [name for name in ("probabilities", "logits", "values") if name in output]
        names = known[:1] if len(known) == 1 or len(output) > 1 else list(output)
        if len(names) == 1:
            return names[0], output[names[0]]
    elif output is not None and len(found := keras.tree.flatten(output)) == 1:
        return "", found[0]
    shapes = ", ".join(str(tensor.shape) for tensor in keras.tree.flatten(output or ()))
    raise OwnModelError(
        "The model must have one output, or a dict of outputs with probabilities, logits or "
        f"values. Received: {shapes or 'none'}. Several values or labels are the columns of one."
    )


def _are_features(name: str, outputs: Mapping[str, Any]) -> bool:
    """Return whether an output of several is features of samples, `(batch, units)`."""
    return name == "features" and name in outputs and len(outputs[name].shape) == 2


def _apply(net: keras.Model, taken: Sequence[Any]) -> Any:
    structure = getattr(net, "_inputs_struct", None)
    packed = taken[0] if structure is None else keras.tree.pack_sequence_as(structure, taken)
    return net(packed)


def _matched(net: keras.Model, given: Mapping[str, Any]) -> list[Any]:
    """Return a tensor for each input of a model, in its order."""
    wanted = net.inputs
    names = _input_names(net)
    if len(given) != len(wanted) or (len(given) > 1 and set(given) != set(names)):
        raise OwnModelError(
            f"The model must have the inputs of the data: {_shown(given)}. "
            f"Received: a model with {_shown(dict(zip(names, wanted, strict=True)))}."
        )
    order = [given[name] for name in names] if len(given) > 1 else list(given.values())
    pairs = zip(names, order, wanted, strict=True)
    return [_in_form(name, tensor, own, given) for name, tensor, own in pairs]


def _input_names(net: keras.Model) -> list[str]:
    structure = net.input
    if isinstance(structure, dict):
        return [name for tensor in net.inputs for name, each in structure.items() if each is tensor]
    # Keras numbers the names that it makes up.
    is_made_up = len(net.inputs) == 1 and net.inputs[0].name.startswith(_MADE_UP)
    return ["input"] if is_made_up else [tensor.name for tensor in net.inputs]


def _in_form(name: str, tensor: Any, wanted: Any, given: Mapping[str, Any]) -> Any:
    """Return a tensor in the shape and dtype that an input takes."""
    shape, own = tuple(tensor.shape[1:]), tuple(wanted.shape[1:])
    if shape != own and (*own, 1) == shape:  # gray images
        tensor = keras.layers.Reshape(own, name="without_channel")(tensor)
    elif shape != own and (*shape, 1) == own:
        tensor = keras.layers.Reshape(own, name="channel")(tensor)
    elif _is_gray(shape) and fits((*shape[:2], 3), own):
        tensor = keras.layers.Concatenate(name="three_channels")([tensor] * 3)
    elif not fits(shape, own):
        is_color = len(shape) == 3 and shape[2] == 3
        takes_gray = any(fits(gray, own) for gray in (shape[:2], (*shape[:2], 1)))
        fix = " Turn the images to gray, or give it three channels."
        raise OwnModelError(
            f"The model must take what the data holds: {_shown(given)}. "
            f"Received: a model with the input {wanted.dtype} {tuple(wanted.shape)}."
            f"{fix if is_color and takes_gray else ''}"
        )
    is_text = "string" in (tensor.dtype, wanted.dtype)
    if is_text and tensor.dtype != wanted.dtype:
        raise OwnModelError(
            f"The model must take what the data holds: {_shown(given)}. "
            f"Received: a model with the input {name} of {wanted.dtype}."
        )
    return tensor if tensor.dtype == wanted.dtype else keras.ops.cast(tensor, wanted.dtype)


def _is_gray(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[2] == 1


def _shown(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {t.dtype} {tuple(t.shape)}" for name, t in tensors.items())


def _require_rows(output: Any) -> None:
    if len(output.shape) > 2 or output.shape[1:] == (None,):
        raise OwnModelError(
            f"The output of the model must be (batch, units). Received: {output.shape}. A model "
            "with images or sequences as outputs is trained by Keras, and exported by hornbill "
            "export FILE.keras."
        )


def _measured(net: keras.Model, name: str) -> str:
    """Return the last activation of a model whose inside is unknown, by outputs for some inputs."""
    random = np.random.default_rng(0)

    def some(tensor: Any) -> Any:
        shape = (32, *[n or 8 for n in tensor.shape[1:]])
        # Whole numbers may be ids, of which the model may know few.
        is_whole = "int" in tensor.dtype
        array = random.integers(0, 2, shape) if is_whole else random.normal(0, 3, shape)
        return keras.ops.convert_to_tensor(array, tensor.dtype)

    outputs = _apply(net, [some(tensor) for tensor in net.inputs])
    found = outputs[name] if isinstance(outputs, dict) else keras.tree.flatten(outputs)[0]
    values = keras.ops.convert_to_numpy(found).reshape(32, -1)
    if values.min() < 0 or values.max() > 1:
        return "linear"
    is_softmax = values.shape[1] > 1 and np.allclose(values.sum(axis=1), 1, atol=1e-3)
    return "softmax" if is_softmax else "sigmoid"


def _classes(raw: Any, activation: str, targets: Targets) -> Any:
    units = raw.shape[1]
    if units == 1 and targets.count == 2 and activation in ("sigmoid", "linear"):
        second = raw
        if activation == "linear":
            second = keras.layers.Activation("sigmoid", dtype="float32", name="second_class")(raw)
        return BothClasses(name="probabilities", dtype="float32")(second)
    _require_units(units, targets)
    if activation == "softmax":
        return keras.layers.Identity(name="probabilities", dtype="float32")(raw)
    _require(activation, ("linear",), "softmax or logits", targets)
    return keras.layers.Softmax(name="probabilities", dtype="float32")(raw)


def _labels(raw: Any, activation: str, targets: Targets) -> Any:
    _require_units(raw.shape[1], targets)
    _require(activation, ("sigmoid", "linear"), "sigmoid or logits", targets)
    if activation == "sigmoid":
        return keras.layers.Identity(name="probabilities", dtype="float32")(raw)
    return keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(raw)


def _values(raw: Any, activation: str, targets: Targets) -> Any:
    _require_units(raw.shape[1], targets)
    if activation == "softmax":
        _require(activation, (), "a linear layer", targets)
    if targets.is_standardized and activation == "linear":
        return keras.layers.Normalization(invert=True, name="values", dtype="float32")(raw)
    return keras.layers.Identity(name="values", dtype="float32")(raw)


_Head = Callable[[Any, str, Targets], Any]
_HEADS: dict[str, tuple[str, _Head]] = {
    "multiclass": ("probabilities", _classes),
    "multilabel": ("probabilities", _labels),
    "regression": ("values", _values),
}


def _require_units(units: int, targets: Targets) -> None:
    if units != targets.count:
        also = " (or one, for two classes)" if targets.count == 2 else ""
        is_single = units == 1 and targets.task == "multiclass"
        numbers = " To predict numbers: --set head=linear." if is_single else ""
        raise OwnModelError(
            f"The model must end with an output for each of the {targets.count} "
            f"{_TASKS[targets.task]}{also}. Received: {units}. A function can take their number as "
            f"the argument num_classes or num_outputs.{numbers}"
        )


def _require(activation: str, allowed: Sequence[str], wanted: str, targets: Targets) -> None:
    if activation not in allowed:
        raise OwnModelError(
            f"A model for {_TASKS[targets.task]} must end with {wanted}. "
            f"Received: {targets.count} outputs of {activation}."
        )


def in_precision(model: keras.Model, policy: str) -> keras.Model:
    """Return a copy of a model whose layers compute in a mixed precision, with the same weights.

    The layer that computes what the loss sees, and layers that need it, stay in float32.

    Args:
        model: a model of `add_head`.
        policy: dtype policy of the layers, such as `mixed_bfloat16`.

    Raises:
        OwnModelError: Keras cannot copy the model.
    """
    last = producer(model.get_layer(RAW_OUTPUTS).input)
    kept = {id(layer) for layer in model.layers if not isinstance(layer, keras.Model)}
    kept.add(id(last))

    def changed(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):  # an operation, which has no weights
            return layer
        config = layer.get_config()
        is_wide = getattr(layer.dtype_policy, "name", "") == "float32"
        if is_wide and id(layer) not in kept and not isinstance(layer, _FLOAT32):
            config["dtype"] = policy
        return type(layer).from_config(config)

    try:
        copy = keras.models.clone_model(model, clone_function=changed, recursive=True)
        copy.set_weights(model.get_weights())
    except Exception as error:  # whatever a layer's constructor raises
        raise OwnModelError(f"Keras cannot copy the model in {policy}: {error}") from None
    # The constructor of a subclassed model makes its layers as it likes.
    parts = (part for part in copy._flatten_layers() if part.weights and not part._layers)
    if not any(part.dtype_policy.name == policy for part in parts):
        raise OwnModelError(f"No layer of a copy of the model computes in {policy}.")
    return settled(copy)


_FLOAT32 = (
    Float32Layer,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.StringLookup,
    keras.layers.Softmax,
)
