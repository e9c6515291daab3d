"""Models that users bring: built by their function, given a head, kept in the run's folder."""

import contextlib
import inspect
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from app.config.reading_config import MAX_SIDE
from app.config.run_config import RunConfig
from app.data.array_folders import (
    has_many_numbers,
    has_one_hot_rows,
    head_of_targets,
    may_be_classes,
    may_be_probabilities,
)
from app.data.arrays import NamedArrays
from app.data.datasets import Dataset
from app.data.pipelines import seed_everything
from app.data.reading_progress import tell
from app.data.source_kinds import NAMED, is_array_folder, parts_of
from app.data.splits import Splits, some
from app.data.summary import count_missing
from app.data.tables import SUFFIXES, open_table
from app.data.targets import has_decimals
from app.data.targets import has_many_numbers as numbers_in_table
from app.errors import ConfigError
from app.system.keras_defaults import keras_defaults
from app.system.user_code import (
    describe_error,
    find_class,
    is_passed,
    is_reference,
    load_object,
    named_objects,
    shown_name,
)
from models.config import OwnModelConfig
from models.errors import OwnModelError
from models.own import Targets, add_head, encoded_width, head_of, units_of, unused_outputs
from serving.errors import HornbillError, one_line

from .model_sizes import columns_of
from .preprocessing import adapt_normalization, batches_of

# The untrained model of a run, from which it is resumed without the user's function.
UNTRAINED = "untrained.keras"
# Samples that tell the statistics of a layer `Normalization`.
_SAMPLED = 10_000
# A class in the configuration of a saved model, other than one of Keras.
_CLASS = re.compile(r'"module": "(?!keras[."])([\w.]+)", "class_name": "(\w+)"')
_LOSS = "Set loss to a function of targets and outputs; add_loss and regularizers count too."
_METRICS = "Set metrics to functions of targets and outputs."
# Methods that decide results in Keras but are not called here, and what to do instead.
_NOT_CALLED = {
    "train_step": _LOSS,
    "compute_loss": _LOSS,
    "test_step": f"{_LOSS} {_METRICS}",
    "compute_metrics": _METRICS,
    "fit": "Leave it out: settings and callbacks say how to train.",
    "evaluate": f"Leave it out. {_METRICS}",
    "predict_step": "Compute what it returns in call.",
}
# Arguments that the data decides.
_BY_DATA = ("input_shape", "num_classes", "num_outputs", "outputs")


@dataclass(frozen=True)
class Builder:
    """What builds a user's model.

    Attributes:
        name: the reference to it, or the path of its file.
        function: a function of `arguments`.
        arguments: those of `input_shape`, `num_classes`, `num_outputs` and `outputs` that the
            function takes.
        is_fresh: whether the model has random weights; one from a file was trained before.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[str, ...] = ()
    is_fresh: bool = True
    # A model without arguments is built once; it is asked for its head and image size as well.
    _built: list[Any] = field(default_factory=list, compare=False)
    _noted: set[str] = field(default_factory=set, compare=False)

    def build(self, seed: int, facts: Mapping[str, Any], dtype: str = "float32") -> keras.Model:
        """Return a new model with inputs and outputs.

        Args:
            seed: seed of its weights.
            facts: the values of arguments.
            dtype: dtype of the inputs of a model that does not name its own.

        Raises:
            ConfigError: the function raises an error, or returns no model, or one that trains in
                its own way.
        """
        model = self._built[0] if self._built else self._call(seed, facts)
        if not self.arguments:
            self._built[:] = [model]
        if not isinstance(model, keras.Model):
            raise ConfigError(
                "The function must return a keras.Model. "
                f"Received: {shown_name(self.name)}, which returned {type(model).__name__}."
            )
        self._check_training(model)
        return self._with_inputs(model, facts.get("input_shape"), dtype)

    def _check_training(self, model: keras.Model) -> None:
        """Refuse a model with training steps of its own; note one that is compiled."""
        kind = type(model)
        for method, fix in _NOT_CALLED.items():
            owner = next(each for each in kind.__mro__ if method in vars(each))
            package = owner.__module__.partition(".")[0]
            # The tasks of KerasHub prepare data there, for the same steps.
            is_same = package == "keras_hub" and method in ("fit", "evaluate")
            if package != "keras" and not is_same:
                raise ConfigError(
                    f"A model must not override {method}, which would not be called. "
                    f"Received: {shown_name(self.name)}, of the class {kind.__name__}. {fix}"
                )
        if model.compiled and "compiled" not in self._noted:
            self._noted.add("compiled")
            tell(
                f"{shown_name(self.name)} returns a compiled model. Its optimizer, loss and "
                "metrics are not used: the settings optimizer.name, loss, metrics and so on decide."
            )

    def _call(self, seed: int, facts: Mapping[str, Any]) -> Any:
        """Return what the function returns."""
        seed_everything(seed)
        arguments = {name: facts[name] for name in self.arguments}
        try:
            with keras_defaults():  # the function may change settings of Keras
                return self.function(**arguments)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:  # whatever the function raises
            given = ", ".join(f"{name}={value}" for name, value in arguments.items())
            raise ConfigError(
                "The function must build a Keras model. "
                f"Received: {shown_name(self.name)}({given}), which raised {describe_error(error)}"
            ) from None

    def _with_inputs(self, model: keras.Model, shape: Any, dtype: str) -> keras.Model:
        """Return a functional model; one that was only declared gets inputs of a shape."""
        if getattr(model, "inputs", None):
            if type(model).call is keras.Sequential.call:
                return keras.Model(model.inputs, model.outputs[0], name=model.name)
            if hasattr(model, "operations"):
                return model
        if shape is None:
            return model
        if isinstance(shape, dict):
            raise ConfigError(
                "A model with several inputs must be functional. "
                f"Received: {self.name}, of the class {type(model).__name__}."
            )
        inputs = keras.Input(shape, dtype=dtype, name="inputs")
        try:
            return keras.Model(inputs, model(inputs))
        except (Exception, SystemExit) as error:  # whatever the model's `call` raises
            raise ConfigError(
                f"The model must take the data, {dtype} {(None, *shape)}. "
                f"Received: {self.name}, which raised {describe_error(error)}"
            ) from None


def builder_of(family: str) -> Builder:
    """Return what builds a user's model.

    Raises:
        ConfigError: the reference names nothing that can be called, the function needs other
            arguments, or the file cannot be loaded.
    """
    if not is_reference(family):
        return Builder(family, lambda: _read_file(Path(family)), is_fresh=False)
    found = load_object(family, "The model")
    if isinstance(found, keras.Model):
        return Builder(family, lambda: found, is_fresh=False)
    if not callable(found):
        raise ConfigError(
            "The model must be a function that returns a keras.Model. "
            f"Received: {family}, of the type {type(found).__name__}."
        )
    parameters = inspect.signature(found).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for each in parameters:
        is_given = each.name in _BY_DATA or each.default is not inspect.Parameter.empty
        if not is_given and each.kind not in kinds:
            raise ConfigError(
                f"A function that builds a model may need {', '.join(_BY_DATA)}. "
                f"Received: {family}, which needs {each.name!r}. Give it a default."
            )
    names = tuple(each.name for each in parameters if each.name in _BY_DATA)
    return Builder(family, found, names)


def _read_file(path: Path) -> keras.Model:
    if not path.is_file():
        raise ConfigError(f"The model must be a file that exists. Received: {path}.")
    if not zipfile.is_zipfile(path):  # Keras would say that it is not there
        raise ConfigError(
            f"The model must be a .keras file that Keras has saved. Received: {path}, another file."
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras, zipfile and h5py each raise their own
        raise ConfigError(
            f"The model must be a .keras file that Keras can load. Received: {path}: "
            f"{one_line(error):.200} Custom layers must be importable: give a function that loads "
            "the file, file.py:function."
        ) from None


def decide_head(config: RunConfig, builder: Builder) -> RunConfig:
    """Return the configuration with a head: that of the model, or the one that suits the targets.

    Raises:
        ConfigError: see `Builder.build`; or the model has several outputs.
    """
    if not isinstance(config.model, OwnModelConfig) or config.model.head != "auto":
        return config
    net = None if builder.arguments else builder.build(config.seed, {})
    source = parts_of(config.data)[0]
    of_data = _head_of_data(source, config.reading.target)
    own, units = "linear", 0
    if net is not None and getattr(net, "outputs", None):
        try:
            own, units = head_of(net), units_of(net)
        except OwnModelError as error:
            raise ConfigError(f"{error} It is {shown_name(builder.name)}.") from None
    if own != "linear":
        head = own
    elif units == 1 and _may_be_values(source, config.reading.target):
        head = "linear"
    elif of_data == "linear" and is_array_folder(source) and may_be_classes(Path(source)):
        head = _head_of_whole_floats(config.training.loss, units)
    elif of_data == "linear" and is_array_folder(source) and may_be_probabilities(Path(source)):
        asks = "num_classes" in builder.arguments or _is_of_classes(config.training.loss)
        head = _head_of_probabilities(asks or has_one_hot_rows(Path(source)))
    else:
        head = of_data
    return replace(config, model=replace(config.model, head=head), chosen=config.chosen | {"head"})


def _head_of_whole_floats(loss: str, units: int) -> str:
    """Return the head for a few whole numbers that are stored as floats.

    Several units, or a cross entropy, have classes; otherwise floats are values, which is told.
    """
    if units > 1 or _is_of_classes(loss):
        return "softmax"
    tell(
        "y holds a few whole numbers, but as floats, which are predicted as values. For classes, "
        "give integers, as of y.astype(int), or set head=softmax."
    )
    return "linear"


def _head_of_probabilities(are_classes: bool) -> str:
    """Return the head for rows that sum to 1: probabilities, or values, which is told."""
    if are_classes:
        return "softmax"
    tell(
        "The rows of y sum to 1, and are predicted as values. For probabilities of classes, set "
        "head=softmax."
    )
    return "linear"


def _is_of_classes(loss: str) -> bool:
    return "crossentropy" in loss.lower().replace("_", "")


def _head_of_data(source: str, targets: Sequence[str]) -> str:
    """Return the head that suits the targets, as far as the source tells without being read."""
    if is_array_folder(source):
        return head_of_targets(Path(source))
    if source in NAMED:
        return "linear" if NAMED[source].task == "regression" else "softmax"
    path = Path(source)
    if path.suffix.lower() not in SUFFIXES:
        return "softmax"
    table = open_table(path)
    if len(targets) > 1:
        return "linear" if numbers_in_table(table, targets) else "sigmoid"
    return "linear" if has_decimals(table, targets) else "softmax"


def _may_be_values(source: str, targets: Sequence[str]) -> bool:
    """Return whether targets that could be classes could be values as well."""
    if is_array_folder(source):
        return has_many_numbers(Path(source))
    path = Path(source)
    return path.suffix.lower() in SUFFIXES and numbers_in_table(open_table(path), targets)


def image_size_of_model(builder: Builder, config: RunConfig) -> tuple[int, ...]:
    """Return height and width of the images that a model takes; empty if it takes any."""
    if builder.arguments or config.reading.image_size:
        return ()
    inputs: Any = getattr(builder.build(config.seed, {}), "inputs", None) or ()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    is_image = len(shape) in (3, 4) and None not in shape[1:3]
    # What is longer is a sequence, or an image that is read at no such size.
    return tuple(shape[1:3]) if is_image and max(shape[1:3]) <= MAX_SIDE else ()


def build_with_head(
    builder: Builder, config: RunConfig, dataset: Dataset, splits: Splits
) -> keras.Model:
    """Return the untrained model of a run, from the data's inputs to probabilities or values.

    Raises:
        ConfigError: the model cannot be built, or does not suit the data.
    """
    rows = None
    if dataset.kind == "rows" and (dataset.codes is not None or count_missing(dataset).any()):
        rows = columns_of(dataset, splits)
    shapes = _input_shapes(dataset)
    shape: Any = {name: size for name, (size, _) in shapes.items()}
    if rows is not None:
        shape = (encoded_width(rows),)
    elif len(shape) == 1:
        (shape,) = shape.values()
    count = len(dataset.labels)
    is_sigmoid = getattr(config.model, "head", "") == "sigmoid" and "head" in config.given
    if is_sigmoid and dataset.task == "multiclass" and count > 2:
        raise ConfigError(
            f"head=sigmoid is for labels, or two classes. Received: {dataset.source}, with "
            f"{count} classes. Leave it out."
        )
    facts = {"input_shape": shape, **dict.fromkeys(_BY_DATA[1:], count)}
    dtypes = {dtype for _, dtype in shapes.values()}
    dtype = dtypes.pop() if dtypes in ({"int32"}, {"int64"}) else "float32"
    net = builder.build(config.seed, facts, dtype)
    is_standardized = builder.is_fresh and config.training.loss in ("auto", "mse")
    targets = Targets(dataset.task, count, is_standardized)
    try:
        model = add_head(net, shapes, targets, rows, isinstance(dataset.inputs, NamedArrays))
        unused = unused_outputs(net)
    except OwnModelError as error:
        raise ConfigError(
            f"{error} It is {shown_name(builder.name)}, on {dataset.source}."
        ) from None
    if unused:
        tell(
            f"{', '.join(unused)} of the outputs of {shown_name(builder.name)} are neither trained "
            "nor exported: of a dict, these are probabilities, logits or values, and features "
            "(batch, units)."
        )
    return model


def _input_shapes(dataset: Dataset) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each input of the data."""
    inputs = dataset.inputs
    if isinstance(inputs, NamedArrays):
        return {name: (a.shape[1:], a.dtype.name) for name, a in inputs.named.items()}
    name = "image" if dataset.kind == "images" else "inputs"
    return {name: (inputs.shape[1:], inputs.dtype.name)}


def save_untrained(model: keras.Model, config: RunConfig, folder: Path) -> RunConfig:
    """Save the untrained model of a run; return the configuration that reads it.

    Raises:
        ConfigError: Keras cannot save it.
    """
    path = folder / UNTRAINED
    try:
        model.save(path)
    except OSError:
        raise
    except Exception as error:  # whatever a layer's get_config raises
        raise ConfigError(
            f"Keras must be able to save the model. Received: {config.family}: "
            f"{one_line(error):.200}"
        ) from None
    return with_untrained(config, folder)


def with_untrained(config: RunConfig, folder: Path) -> RunConfig:
    """Return the configuration of a run whose untrained model is in its folder."""
    if not isinstance(config.model, OwnModelConfig):
        return config
    return replace(config, model=replace(config.model, file=str(folder / UNTRAINED)))


@contextlib.contextmanager
def own_layers(family: str, file: Path) -> Iterator[None]:
    """Let Keras find the custom layers of a user's model: in their modules, and by its function.

    A module that cannot be imported is told only if Keras misses it.

    Args:
        family: the reference to the function, or the path of its file.
        file: the saved model.

    Raises:
        ConfigError: Keras cannot load the model inside the context.
    """
    objects, reason = {}, ""
    if is_reference(family):
        try:
            objects = named_objects(family)
        except ConfigError as error:
            reason = f" {error}"
        objects |= _classes_in(file)
    try:
        with keras.saving.custom_object_scope(objects):
            yield
    except HornbillError:
        raise
    except Exception as error:  # Keras raises whatever a layer's constructor does
        found = re.search(r"Could not locate [^.]*|Exception encountered: (?!<)[^.]*", str(error))
        text = found[0] if found else str(error)
        raise ConfigError(
            f"Keras must be able to save and load the model of {shown_name(family)}: "
            f"{one_line(text):.200}. Its layers need get_config, and classes and functions must be "
            "in modules by their name, or be registered with "
            f"keras.saving.register_keras_serializable.{_of_a_script(family)}{reason}"
        ) from None


def _classes_in(file: Path) -> dict[str, Any]:
    """Return the custom classes of a saved model that are found in their modules, by name."""
    try:
        with zipfile.ZipFile(file) as parts:
            config = parts.read("config.json").decode()
    except (OSError, KeyError, zipfile.BadZipFile):  # Keras says what is wrong
        return {}
    named = {pair for pair in _CLASS.findall(config) if pair[0] != "builtins"}
    found = {name: find_class(module, name) for module, name in named}
    return {name: each for name, each in found.items() if isinstance(each, type)}


def _of_a_script(family: str) -> str:
    """Return what to do about a model that is in the script which trained it."""
    if not family.startswith("__main__:") or is_passed(family):
        return ""
    return (
        " It is in the script that trained it: move it to a module of its own and train again, or "
        "call app.bundles.export_run in the script."
    )


def own_net(model: keras.Model) -> keras.Model | None:
    """Return the user's model inside a model of `build_with_head`; None if there is none."""
    return next((layer for layer in model.layers if isinstance(layer, keras.Model)), None)


def adapt_normalizations(model: keras.Model, dataset: Dataset, train: np.ndarray) -> None:
    """Adapt the layers `Normalization` of the user's model that have no statistics yet.

    A layer that the model does not call with values, such as one inside a mapped function, is told.

    Args:
        model: a model of `build_with_head`.
        dataset: the samples.
        train: indices of the training split.
    """
    net = own_net(model)
    waiting = [] if net is None else list(filter(_lacks_statistics, net._flatten_layers()))
    if not waiting:
        return
    sample = train[some(len(train), _SAMPLED)]
    flat = keras.Model(model.inputs, model.outputs)  # takes a list, whatever the form of its inputs
    while waiting:
        # One may read what another one returns.
        first = _reached(flat, waiting, next(batches_of(model, dataset, sample[:2])))
        if first is None:
            break
        layer, _ = first
        batches = batches_of(model, dataset, sample)
        found = (_reached(flat, [layer], batch) for batch in batches)
        adapt_normalization(layer, (each[1] for each in found if each is not None))
        waiting.remove(layer)
    if waiting:
        tell(
            f"The layer {', '.join(layer.name for layer in waiting)} keeps mean 0 and variance 1: "
            "what reaches it is not known before training. Call its adapt in the function."
        )


def _lacks_statistics(layer: keras.Layer) -> bool:
    """Return whether a layer is a `Normalization` that was neither adapted nor given statistics."""
    if not isinstance(layer, keras.layers.Normalization) or layer.invert or not layer.built:
        return False
    if layer.input_mean is not None or int(layer.count):  # Keras itself leaves the count at 0
        return False
    mean, variance = map(keras.ops.convert_to_numpy, (layer.adapt_mean, layer.adapt_variance))
    return not mean.any() and bool((variance == 1).all())


class _Reached(BaseException):
    """Ends the computation of a model at a layer; Keras passes it on, unlike an `Exception`."""


def _reached(
    model: keras.Model, layers: Sequence[keras.Layer], batch: Any
) -> tuple[keras.Layer, np.ndarray] | None:
    """Return the first of some layers that a model calls, and its input; None if there is none."""

    def stop(layer: keras.Layer, inputs: Any) -> None:
        raise _Reached(layer, keras.ops.convert_to_numpy(inputs))

    for layer in layers:
        layer.call = partial(stop, layer)
    try:
        model(batch, training=False)
    except _Reached as reached:
        layer, inputs = reached.args
        return layer, inputs
    except Exception:  # whatever the model raises; the training names it
        return None
    finally:
        for layer in layers:
            del layer.call
    return None
