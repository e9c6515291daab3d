"""Exports the models of Keras' own export tests, with Keras' own roads beside.

    python -m benchmarks.keras_cases            every case
    python -m benchmarks.keras_cases NAME …     some of them

The cases are those of `keras/src/export/*_test.py` of Keras 3.15 that need no other backend,
written anew: each type of model, structure of inputs, signature, variable axes, single layers,
texts. What these tests leave out stands at the end: nested structures, None, keyword arguments.

A road passes if its file answers as the model does, for the inputs of the case and for others of
another size. "Ours" is `export_bundle`, with its proof, and the ONNX graph of the bundle. Theirs
are `Model.export(format="onnx")`, which takes no layers, and `Model.export` to a SavedModel, or
`ExportArchive` for layers. Models whose answers are random or that change their state cannot have
an ONNX graph that answers as they do: here a refusal that says so is right.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from benchmarks.results import write_results
from export import ExportOptions, export_bundle
from serving import Predictor
from serving.runtime import onnxruntime

ALLOWED = 1e-4
Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """A model of Keras' tests.

    Attributes:
        build: Makes the model.
        arguments: Arguments with which it is called before it is exported, and compared.
        named: Arguments by name.
        signature: What is given as the inputs of the export; None for nothing.
        others: More arguments to compare, such as a larger batch; None for twice the batch.
        opset: Opset of the ONNX graph; None for the default.
        is_called: Whether it is called before it is exported.
        refused: What must be in the refusal of a model that ONNX cannot express; empty for others.
    """

    build: Callable[[], Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any] | None = None
    signature: Any = None
    others: tuple[tuple[Any, ...], ...] | None = None
    opset: int | None = None
    is_called: bool = True
    refused: str = ""


def floats(*shape: int) -> Array:
    """Draw normally distributed numbers, float32 of `shape`."""
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def texts(*lines: str) -> Array:
    """Return texts, `(batch,)`."""
    return np.array(lines, object)


@keras.saving.register_keras_serializable(package="keras_cases")
class Chain(keras.Model):
    """A class that calls its layers one after the other."""

    def __init__(self, parts: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, x: Any) -> Any:
        """Call every layer."""
        for part in self.parts:
            x = part(x)
        return x


class Function(keras.Model):
    """A class whose `call` is the function that it is given, of one argument."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def call(self, inputs: Any) -> Any:
        """Call the function."""
        return self.function(inputs)


class TwoArguments(keras.Model):
    """Two arguments, of which `build` has the shapes in another order."""

    def call(self, x: Any, y: Any) -> Any:
        """Add."""
        return x - y

    def build(self, y_shape: Any, x_shape: Any) -> None:  # noqa: ARG002
        """There is nothing to build."""
        self.built = True


class SideArguments(keras.Model):
    """Two arguments, one of them by name, without a `build`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(3), layers.Dense(3)

    def call(self, x: Any, *, side: Any, training: bool = False) -> Any:  # noqa: ARG002
        """Add."""
        return self.first(x) + self.second(side)


class Noise(layers.Layer):
    """Adds random numbers, at inference as well."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x: Any) -> Any:
        """Add."""
        return x + keras.random.uniform(ops.shape(x), seed=self.seed_generator)


class Counter(layers.Layer):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.add_variable((), "zeros", "int32", trainable=False)

    def call(self, x: Any) -> Any:
        """Count."""
        self.calls.assign_add(1)
        return ops.array(x), ops.array(self.calls.value)


class Largest(layers.Layer):
    """The largest of each row."""

    def call(self, x: Any) -> Any:
        """Reduce the axis."""
        return ops.max(x, axis=1)


class TableThenDense(keras.Model):
    """Texts looked up in a table of TensorFlow, before a model of Keras."""

    def __init__(self) -> None:
        super().__init__()
        keys, values = tf.constant(["a", "b", "c"]), tf.constant([1.0, 2.0, 3.0])
        pairs = tf.lookup.KeyValueTensorInitializer(keys, values)
        self.lookup_table = tf.lookup.StaticHashTable(pairs, default_value=-1.0)
        self.out = layers.Dense(1)

    def call(self, x: Any) -> Any:
        """Look up, then apply the layer."""
        return self.out(self.lookup_table.lookup(x))


def small_net(kind: str, shape: Any = (10,), parts: list[Any] | None = None) -> keras.Model:
    """Return the net of Keras' tests: sequential, functional or a class."""
    parts = parts or [
        layers.Dense(10, activation="relu"),
        layers.BatchNormalization(),
        layers.Dense(1, activation="sigmoid"),
    ]
    if kind == "sequential":
        return keras.Sequential(parts)
    if kind == "class":
        return Chain(parts)
    x = inputs = (
        [keras.Input(one) for one in shape] if isinstance(shape, list) else keras.Input(shape)
    )
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)


def bidirectional() -> keras.Model:
    """Return two LSTMs that read in both directions."""
    x = inputs = keras.Input((4, 10))
    for mode in ("sum", "concat"):
        lstm = layers.LSTM(10, return_sequences=True)
        x = layers.Bidirectional(lstm, merge_mode=mode)(x)
    return keras.Model(inputs, x)


def image_net(kind: str, shape: tuple[int | None, ...]) -> keras.Model:
    """Return a net of images of fixed or variable size."""
    parts = [
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    ]
    if kind == "sequential":
        return keras.Sequential([keras.Input(shape), *parts])
    return small_net(kind, shape, parts)


def text_and_image() -> keras.Model:
    """Return a net of a text and an image, both of variable size."""
    text, image = keras.Input((None, 64), name="text"), keras.Input((None, None, 3), name="image")
    pooled = [
        layers.GlobalAveragePooling1D()(layers.Dense(128, activation="relu")(text)),
        layers.GlobalAveragePooling2D()(layers.Conv2D(32, 1, activation="relu")(image)),
    ]
    joined = layers.Concatenate()(pooled)
    return keras.Model([text, image], layers.Dense(5, activation="softmax")(joined))


def two_and_two(is_dict: bool) -> keras.Model:
    """Return a functional model of two inputs and two outputs."""
    names = ("x1", "x2") if is_dict else (None, None)
    first, second = (keras.Input((2,), name=name) for name in names)
    outputs = [layers.Dense(3)(first), layers.Dense(3)(second)]
    return keras.Model({"x1": first, "x2": second} if is_dict else [first, second], outputs)


def shared_branches() -> keras.Model:
    """Return a functional model of a dict whose branches share a layer, after training."""
    shared = layers.Dense(8, activation="relu")
    inputs = {name: keras.Input((10,), name=name) for name in ("branch_a", "branch_b")}
    model = keras.Model(inputs, layers.Add()([shared(x) for x in inputs.values()]))
    model.compile("adam", "mse")
    model.fit({name: floats(5, 10) for name in inputs}, floats(5, 8), verbose=0)
    return model


def named_outputs() -> keras.Model:
    """Return a functional model with two named outputs, one of them of classes."""
    x = keras.Input((10,), name="x")
    shared = layers.Dense(20, activation="relu")(x)
    first = layers.Dense(1, activation="sigmoid", name="output1")(shared)
    return keras.Model(x, [first, layers.Dense(3, activation="softmax", name="output2")(shared)])


def skip_connection() -> keras.Model:
    """Return a functional model with a branch around a layer."""
    x = keras.Input((10,))
    both = layers.Add()([layers.Dense(16, activation="relu")(x), layers.Dense(16)(x)])
    return keras.Model(x, layers.Dense(1)(layers.Activation("relu")(both)))


def adapted() -> keras.Model:
    """Return a model with a normalization whose statistics are no weights."""
    normalization = layers.Normalization()
    normalization.adapt(3 * floats(100, 5) + 1)
    return keras.Sequential([keras.Input((5,)), normalization, layers.Dense(8), layers.Dense(1)])


def vectorized(is_sequential: bool) -> keras.Model:
    """Return a model that takes texts."""
    words = layers.TextVectorization()
    words.adapt(["one two", "three four", "five six"])
    parts = [words, layers.Embedding(10, 32), layers.Dense(1)]
    if is_sequential:
        return keras.Sequential([keras.Input((), dtype="string"), *parts])
    return Chain(parts)


def reloaded(build: Callable[[], Any], *arguments: Any) -> Any:
    """Return a model that was called, saved and loaded."""
    model = build()
    model(*arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path, custom_objects={type(model).__name__: type(model)})


def as_saved_model_layer() -> keras.Model:
    """Return a model around a SavedModel that Keras wrote."""
    model = small_net("functional")
    folder = tempfile.mkdtemp()
    model.export(folder, verbose=False)
    return keras.Sequential([keras.Input((10,)), layers.TFSMLayer(folder, call_endpoint="serve")])


@keras.saving.register_keras_serializable(package="keras_cases")
class TupleModel(keras.Model):
    """Takes a tuple, or a list."""

    def call(self, inputs: Any) -> Any:
        """Subtract."""
        first, second = inputs
        return ops.subtract(first, second)


@keras.saving.register_keras_serializable(package="keras_cases")
class DictModel(keras.Model):
    """Takes a dict."""

    def call(self, inputs: Any) -> Any:
        """Subtract."""
        return ops.subtract(inputs["x"], inputs["y"])


def _square(x: Any) -> Any:
    return ops.matmul(x, x)


def _nested(inputs: Any) -> Any:
    first, (second, third) = inputs["a"], inputs["b"]
    return {"sum": first + second, "more": [third["c"], first * third["c"]]}


def _with_none(inputs: Any) -> Any:
    return inputs["x"] * 2 if inputs.get("y") is None else inputs["x"] + inputs["y"]


def _sliced(x: Any) -> Any:
    return ops.slice_update(x, [0, 2], ops.slice(x, [0, 0], [1, 2]))


def _dynamically_sliced(x: Any) -> Any:
    start = ops.convert_to_tensor([0, 2])
    return ops.slice_update(x, start, ops.slice(x, [0, 0], [1, 2]))


def _branched(x: Any) -> Any:
    return ops.cond(ops.sum(x) > 0, lambda: x + 1.0, lambda: x - 1.0)


TYPES = ("sequential", "functional", "class")
TEN, PAIR = floats(3, 10), (floats(3, 10), 2 * floats(3, 10))
CHANCE, STATE = "must not depend on random numbers", "must not change its variables"
SIGNATURES = {
    "input_spec": keras.InputSpec(shape=(None, 10), dtype="float32", name="inputs"),
    "tensor_spec": tf.TensorSpec((None, 10), "float32", "inputs"),
    "keras_tensor": keras.KerasTensor((None, 10), "float32", name="inputs"),
    "tensor": ops.convert_to_tensor(TEN),
}


def _with_part(net: Callable[..., Any], part: Callable[[], Any]) -> Any:
    return net(parts=[part()])


def _two_axes(net: Callable[..., Any]) -> Any:
    return net([(None,), (None,)], [layers.Concatenate(), Largest()])


def _cases() -> Iterator[tuple[str, Case]]:
    for kind in TYPES:
        net = partial(small_net, kind)
        yield f"{kind}", Case(net, (TEN,))
        noise, counter, scaling = (
            partial(_with_part, net, part)
            for part in (Noise, Counter, partial(layers.Rescaling, 2.0))
        )
        yield f"{kind}: random layer", Case(noise, (TEN,), refused=CHANCE)
        yield f"{kind}: counter", Case(counter, (TEN,), refused=STATE)
        yield f"{kind}: rescaling", Case(scaling, (TEN,))
        for name, signature in SIGNATURES.items():
            yield f"{kind}: signature as {name}", Case(net, (TEN,), signature=(signature,))
        given = floats(3, 8), floats(3, 6)
        yield (
            f"{kind}: two variable axes",
            Case(
                partial(_two_axes, net),
                ([*given],),
                signature=[[keras.InputSpec(shape=(None, None), dtype="float32")] * 2],
                others=(([floats(6, 8), floats(6, 6)],), ([floats(6, 3), floats(6, 5)],)),
            ),
        )
    yield "bidirectional LSTM", Case(bidirectional, (floats(3, 4, 10),))
    yield from _structures()
    yield from _shapes()
    yield from _layers()
    yield from _texts()
    yield from _beyond()


def _structures() -> Iterator[tuple[str, Case]]:
    as_dict = {"x": PAIR[0], "y": PAIR[1]}
    for name, build, given in (
        ("tuple", TupleModel, PAIR),
        ("list", TupleModel, list(PAIR)),
        ("dict", DictModel, as_dict),
    ):
        yield f"structure: {name}", Case(build, (given,))
        yield (
            f"structure: {name}, saved and loaded",
            Case(partial(reloaded, build, given), (given,)),
        )
    yield "two arguments", Case(TwoArguments, PAIR)
    yield "several inputs and outputs", Case(partial(two_and_two, False), ([*_pair(2)],))
    as_dict = dict(zip(("x1", "x2"), _pair(2), strict=True))
    yield "dict of inputs, list of outputs", Case(partial(two_and_two, True), (as_dict,))
    as_dict = {"branch_a": PAIR[0], "branch_b": PAIR[1]}
    yield "dict of inputs, a shared layer", Case(shared_branches, (as_dict,))
    as_dict = {"x1": floats(3, 2), "x2": floats(3, 2)}
    net = partial(two_and_two, True)
    yield "dict of inputs, not called", Case(net, (as_dict,), is_called=False)
    spec = keras.InputSpec(shape=(None, 10), dtype="float32")
    yield (
        "dict of inputs, with a signature",
        Case(DictModel, ({"x": PAIR[0], "y": PAIR[1]},), signature=[{"x": spec, "y": spec}]),
    )
    yield "named outputs", Case(named_outputs, (TEN,))


def _pair(width: int) -> tuple[Array, Array]:
    return floats(3, width), 2 * floats(3, width)


def _shapes() -> Iterator[tuple[str, Case]]:
    fixed = tuple((floats(n, 32, 32, 3),) for n in (1, 2, 4))
    variable = tuple((floats(1, *side, 3),) for side in ((28, 28), (64, 64), (128, 96)))
    for kind in ("sequential", "functional"):
        net = partial(image_net, kind, (32, 32, 3))
        yield f"{kind}: images of fixed size", Case(net, fixed[0], others=fixed)
        net = partial(image_net, kind, (None, None, 3))
        yield f"{kind}: images of variable size", Case(net, variable[0], others=variable)
    sizes = ((1, 10, 28, 28), (2, 15, 64, 64), (1, 25, 48, 32))
    given = tuple(([floats(n, k, 64), floats(n, h, w, 3)],) for n, k, h, w in sizes)
    yield "text and image of variable size", Case(text_and_image, given[0], others=given)
    square = keras.InputSpec(shape=(None, None, None), dtype="float32")
    yield (
        "axes that must be equal",
        Case(
            lambda: Function(_square),
            (floats(3, 10, 10),),
            signature=(square,),
            others=((floats(2, 4, 4),),),
        ),
    )
    yield "opset 17", Case(partial(small_net, "sequential"), (TEN,), opset=17)
    named = keras.InputSpec(shape=(3, 10), dtype="float32", name="custom_input")
    yield (
        "name of an input",
        # It has a fixed batch.
        Case(partial(small_net, "sequential"), (TEN,), others=(), signature=[named]),
    )


def _layers() -> Iterator[tuple[str, Case]]:
    image = floats(2, 8, 8, 3)
    yield "layer: batch normalization", Case(layers.BatchNormalization, (TEN,))
    yield "layer: dense of 4", Case(partial(layers.Dense, 2), (floats(3, 4),))
    yield "layer: dense of 5", Case(partial(layers.Dense, 3), (floats(3, 5),))
    attention, given = partial(layers.MultiHeadAttention, 2, 2), (floats(3, 2, 2), floats(3, 2, 2))
    yield "layer: attention of two arguments", Case(attention, given)
    by_name = {"query": given[0], "value": given[1]}
    yield "layer: attention by name", Case(attention, (), named=by_name)
    yield "layer: flatten", Case(lambda: keras.Sequential([layers.Flatten()]), (floats(2, 3),))
    yield "skip connection", Case(skip_connection, (TEN,))
    convolution = [layers.Conv2D(4, 3, padding="same"), layers.GlobalAveragePooling2D()]
    yield "convolution", Case(lambda: keras.Sequential([*convolution, layers.Dense(2)]), (image,))
    yield "adapted normalization", Case(adapted, (floats(3, 5),))
    yield "repeat", Case(lambda: Function(partial(ops.repeat, repeats=2, axis=1)), (floats(1, 3),))
    yield "slice and update", Case(lambda: Function(_sliced), (floats(1, 4),))
    yield "slice at a tensor", Case(lambda: Function(_dynamically_sliced), (floats(1, 4),))
    yield "condition on the data", Case(lambda: Function(_branched), (floats(2, 4),))
    yield "layer of a SavedModel", Case(as_saved_model_layer, (TEN,))


def _texts() -> Iterator[tuple[str, Case]]:
    lines = texts("one two three four", "five seven")
    spec = (keras.InputSpec(shape=(None,), dtype="string"),)
    yield "text: vectorization", Case(partial(vectorized, True), (lines,))
    yield (
        "text: vectorization in a class",
        Case(partial(vectorized, False), (lines,), signature=spec),
    )
    table = np.array([["c", "b", "c", "a", "d"]], object)
    spec = (keras.InputSpec(shape=(None, 5), dtype="string"),)
    yield "text: a table of TensorFlow", Case(TableThenDense, (table,), signature=spec)


def _beyond() -> Iterator[tuple[str, Case]]:
    nested = {"a": TEN, "b": [PAIR[1], {"c": floats(3, 10)}]}
    yield "nested: dict of lists of dicts", Case(lambda: Function(_nested), (nested,))
    yield "nested: None", Case(lambda: Function(_with_none), ({"x": TEN, "y": None},))
    yield "keyword arguments", Case(SideArguments, (TEN,), named={"side": floats(3, 4)})


CASES: dict[str, Case] = dict(_cases())


def measure(name: str) -> dict[str, Any]:
    """Take a case along each road."""
    case = CASES[name]
    roads = {"ours": _ours, "onnx": _their_onnx, "saved_model": _their_saved_model}
    return {"what": name} | {key: _attempt(case, road) for key, road in roads.items()}


def _attempt(case: Case, road: Callable[[Case, Any, Path], Any]) -> dict[str, Any]:
    """Return whether a road's file answers as the model does, or why not, and the seconds."""
    keras.utils.set_random_seed(0)
    named = case.named or {}
    start = time.perf_counter()
    try:
        model = case.build()
        if case.is_called:
            answers(model, case.arguments, named)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = road(case, model, Path(folder))
            seconds = time.perf_counter() - start
            for arguments, by_name in _compared(case):
                _require_same(answers(model, arguments, by_name), run(arguments, by_name))
    except Exception as error:  # any error of a road is its result
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        is_right = bool(case.refused) and case.refused in reason
        return {"passes": is_right, "error": reason}
    finally:
        keras.backend.clear_session()
    return {"passes": True, "seconds": round(seconds, 2)}


def _compared(case: Case) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    named = case.named or {}
    yield case.arguments, named
    if case.others is None:
        yield doubled(case.arguments), doubled(named)
    for arguments in case.others or ():
        yield arguments, named


def doubled(structure: Any) -> Any:
    """Return a structure of arrays with twice the batch."""
    return keras.tree.map_structure(
        lambda array: None if array is None else np.concatenate([array, array]), structure
    )


def answers(model: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Array]:
    """Return the outputs of the model of Keras, flat."""
    tensors, by_name = _tensors(arguments), _tensors(named)
    return [np.asarray(output) for output in keras.tree.flatten(model(*tensors, **by_name))]


def _tensors(structure: Any) -> Any:
    return keras.tree.map_structure(
        lambda array: None if array is None else tf.constant(array), structure
    )


def flat(arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Array]:
    """Return the arrays among the arguments, in their order."""
    leaves = keras.tree.flatten([*arguments, *named.values()])
    return [array for array in leaves if array is not None]


def _ours(case: Case, model: Any, folder: Path) -> Any:
    given = flat(case.arguments, case.named or {})
    samples = given[0] if given[0].dtype == object else None
    options = ExportOptions(int8="never", opset=case.opset)
    bundle = export_bundle(
        model, folder, "model", samples=samples, options=options, inputs=case.signature
    )
    predictor = Predictor.load(bundle)

    def run(arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Array]:
        names = [spec.name for spec in predictor.manifest.inputs]
        inputs = dict(zip(names, flat(arguments, named), strict=True))
        return predictor.predict(inputs).arrays

    return run


def _their_onnx(case: Case, model: Any, folder: Path) -> Any:
    path = str(folder / "model.onnx")
    model.export(
        path,
        format="onnx",
        verbose=False,
        input_signature=case.signature,
        opset_version=case.opset,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Array]:
        names = [node.name for node in session.get_inputs()]
        found: list[Array] = session.run(
            None, dict(zip(names, flat(arguments, named), strict=True))
        )
        return found

    return run


def _their_saved_model(case: Case, model: Any, folder: Path) -> Any:
    if isinstance(model, keras.Model):
        model.export(folder, verbose=False, input_signature=case.signature)
    else:  # Model.export takes no layers
        archive = keras.export.ExportArchive()
        archive.track(model)
        shapes = [
            tf.TensorSpec((None, *array.shape[1:]), array.dtype)
            for array in flat(case.arguments, case.named or {})
        ]
        archive.add_endpoint("serve", model.call, input_signature=shapes)
        archive.write_out(str(folder), verbose=False)
    loaded = tf.saved_model.load(str(folder))

    def run(arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Array]:
        found = loaded.serve(*_tensors(arguments), **_tensors(named))
        return [np.asarray(output) for output in tf.nest.flatten(found)]

    return run


def _require_same(expected: list[Array], received: list[Array]) -> None:
    """Require each expected output among those received, in any order, and no others."""
    left = list(received)
    for wanted in expected:
        place = next((n for n, found in enumerate(left) if _is_near(wanted, found)), None)
        if place is None:
            shapes = ", ".join(str(found.shape) for found in left)
            raise ValueError(f"no output like {wanted.shape} among {shapes}")
        left.pop(place)
    if left:
        raise ValueError(f"{len(left)} outputs too many")


def _is_near(wanted: Array, found: Array) -> bool:
    if wanted.shape != found.shape:
        return False
    largest = np.abs(wanted).max(initial=1e-30)
    return bool(np.abs(wanted - found).max(initial=0) <= ALLOWED * largest)


def main() -> None:
    """Measure the cases that the arguments name, or all."""
    logging.disable(logging.ERROR)
    for name in sys.argv[1:] or CASES:
        row = measure(name)
        words = [
            f"{key} {'passes' if found['passes'] else found['error']}"
            for key, found in row.items()
            if isinstance(found, dict)
        ]
        print(f"{name:44} {'; '.join(words)}", flush=True)
        write_results("keras_cases", [row])


if __name__ == "__main__":
    main()
