"""Cleaning a graph does not change what it computes."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.passes.deadline import in_time, time_limit
from export.passes.pipeline import clean_graph, clean_model
from export.passes.simplification import simplify
from serving.runtime import onnxruntime


class Builder:
    """A graph of random operations on one value, whose shape is known throughout."""

    def __init__(self, shape):
        self.nodes, self.constants, self.shape, self.name = [], [], tuple(shape), "x"
        self.start = self.shape

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op, *inputs, shape=None, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(op, [self.name, *inputs], names, **attributes))
        self.name = names[0]
        self.shape = self.shape if shape is None else tuple(shape)

    def model(self):
        used = {name for node in self.nodes for name in node.input}
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in dict.fromkeys([self.name, *self.extra])
        ]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *self.start[1:]])
        constants = [c for c in self.constants if c.name in used]
        graph = helper.make_graph(self.nodes, "g", [x], outputs, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    extra = ()


def transpose(b, draw):
    order = draw(st.permutations(range(1, len(b.shape))))
    perm = [0, *order]
    b.add("Transpose", shape=[b.shape[a] for a in perm], perm=perm)


def relu(b, draw):
    b.add(draw(st.sampled_from(["Relu", "Sigmoid", "Neg", "Identity"])))


def add_constant(b, draw):
    rank = draw(st.integers(0, len(b.shape)))
    shape = [1 if draw(st.booleans()) or a == 0 else b.shape[a] for a in range(len(b.shape))]
    shape = shape[len(shape) - rank :]
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    b.add(draw(st.sampled_from(["Add", "Mul"])), b.constant(values))


def residual(b, draw):
    before = b.name
    b.add("Relu")
    b.add("Add", before)


def reduce(b, draw):
    axes = draw(st.lists(st.integers(1, len(b.shape) - 1), min_size=1, unique=True))
    kept = draw(st.booleans()) or len(axes) > len(b.shape) - 3
    shape = [1 if a in axes else s for a, s in enumerate(b.shape) if kept or a not in axes]
    signed = [a - len(b.shape) if draw(st.booleans()) else a for a in axes]
    b.add("ReduceMean", b.constant(np.array(signed)), shape=shape, keepdims=int(kept))


def reduce_everything_but_the_batch(b, draw):
    axes = list(range(1, len(b.shape)))
    b.add("ReduceMax", b.constant(np.array(axes)), shape=[b.shape[0], *[1] * len(axes)])


def softmax(b, draw):
    b.add("Softmax", axis=draw(st.integers(-len(b.shape) + 1, -1)))


def concat(b, draw):
    axis = draw(st.integers(1, len(b.shape) - 1))
    shape = [s * (2 if a == axis else 1) for a, s in enumerate(b.shape)]
    if np.prod(shape[1:]) < 4000:
        b.add("Concat", b.name, shape=shape, axis=axis)


def split(b, draw):
    axis = draw(st.integers(1, len(b.shape) - 1))
    size = b.shape[axis]
    if size > 1:
        first = draw(st.integers(1, size - 1))
        shape = [first if a == axis else s for a, s in enumerate(b.shape)]
        b.add(
            "Split", b.constant(np.array([first, size - first])), shape=shape, outputs=2, axis=axis
        )


def pad(b, draw):
    pads = np.array(
        [
            [0, *draw(st.lists(st.integers(0, 1), min_size=r - 1, max_size=r - 1))]
            for r in [len(b.shape)] * 2
        ]
    )
    b.add("Pad", b.constant(pads.reshape(-1)), shape=np.add(b.shape, pads.sum(axis=0)).tolist())


def cut(b, draw):
    axis = draw(st.integers(1, len(b.shape) - 1))
    if b.shape[axis] > 1:
        ends = [b.constant(np.array([v])) for v in (1, b.shape[axis])]
        shape = [s - (a == axis) for a, s in enumerate(b.shape)]
        b.add("Slice", *ends, b.constant(np.array([axis])), shape=shape)


def squeeze(b, draw):
    ones = [a for a, s in enumerate(b.shape) if s == 1 and a]
    if ones and len(b.shape) > 3:
        shape = [s for a, s in enumerate(b.shape) if a != ones[0]]
        b.add("Squeeze", b.constant(np.array(ones[:1])), shape=shape)


def enlarge(b, draw):
    if len(b.shape) == 4 and np.prod(b.shape[1:]) < 2000:
        scales = np.array([1, 2, 1, 1], "float32")
        b.nodes.append(
            helper.make_node(
                "Resize", [b.name, "", b.constant(scales)], ["r" + b.name], mode="nearest"
            )
        )
        b.name, b.shape = "r" + b.name, (b.shape[0], 2 * b.shape[1], *b.shape[2:])


def affine(b, draw):
    """Products and sums with a number for each element of one axis, as in a normalization."""
    axis = draw(st.integers(1, len(b.shape) - 1))
    shape = [s if a == axis else 1 for a, s in enumerate(b.shape)][1:]
    for op in draw(st.lists(st.sampled_from(["Add", "Mul"]), min_size=1, max_size=3)):
        values = np.random.default_rng(len(b.nodes)).normal(size=shape).astype("float32")
        b.add(op, b.constant(np.abs(values) if draw(st.booleans()) else values))


def convolution(b, draw):
    if len(b.shape) == 4:
        channels = draw(st.integers(1, 3))
        random = np.random.default_rng(len(b.nodes))
        kernel = random.normal(size=(channels, b.shape[1], 1, 1)).astype("float32")
        bias = [b.constant(random.normal(size=channels).astype("float32"))]
        with_bias = bias if draw(st.booleans()) else []
        b.add("Conv", b.constant(kernel), *with_bias, shape=[2, channels, *b.shape[2:]])


def product(b, draw):
    random = np.random.default_rng(len(b.nodes))
    kernel = random.normal(size=(b.shape[-1], draw(st.integers(1, 3)))).astype("float32")
    b.add("MatMul", b.constant(kernel), shape=[*b.shape[:-1], kernel.shape[1]])


def max_pool(b, draw):
    """A pool that keeps the size, so that constants along any axis may follow it."""
    if len(b.shape) == 4:
        draw(st.sampled_from([convolution, product]))(b, draw)
        b.add("MaxPool", kernel_shape=[3, 3], pads=[1] * 4)
        affine(b, draw)
        if draw(st.booleans()):
            b.add("Relu")


def hard_sigmoid(b, draw):
    three, nil, six = (b.constant(np.float32(v)) for v in (3, 0, 6))
    b.add("Add", three)
    b.add("Clip", nil, six)
    b.add("Div", six)


def reshape_by_shape(b, draw):
    """A reshape whose target is computed from the shape of the input."""
    start, end = (b.constant(np.array([v])) for v in (0, 1))
    rest = b.constant(np.array([int(np.prod(b.shape[1:]))]))
    n = len(b.nodes)
    b.nodes += [
        helper.make_node("Shape", [b.name], [f"shape{n}"]),
        helper.make_node("Slice", [f"shape{n}", start, end], [f"batch{n}"]),
        helper.make_node("Concat", [f"batch{n}", rest], [f"target{n}"], axis=0),
    ]
    b.add("Reshape", f"target{n}", shape=[2, int(np.prod(b.shape[1:]))])
    back = b.constant(np.array([-1, *b.start[1:]]))
    if np.prod(b.start[1:]) == np.prod(b.shape[1:]):
        b.add("Reshape", back, shape=[2, *b.start[1:]])
    else:
        b.add("Reshape", b.constant(np.array([-1, b.shape[1], 1, 1])), shape=[2, b.shape[1], 1, 1])


OPERATIONS = [transpose] * 6 + [
    relu, add_constant, residual, reduce, reduce_everything_but_the_batch, softmax, concat, split,
    pad, cut, squeeze, enlarge, affine, affine, convolution, convolution, product,
    max_pool, max_pool, hard_sigmoid, reshape_by_shape,
]  # fmt: skip


@st.composite
def models(draw):
    b = Builder([2, *draw(st.lists(st.integers(1, 4), min_size=3, max_size=3))])
    seen = []
    for operation in draw(st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=12)):
        operation(b, draw)
        seen.append(b.name)
    b.extra = [name for name in draw(st.lists(st.sampled_from(seen), max_size=2)) if name != "x"]
    if draw(st.booleans()):
        columns = int(np.prod(b.shape[1:]))
        weights = np.random.default_rng(1).normal(size=(columns, 3)).astype("float32")
        b.add("Reshape", b.constant(np.array([-1, columns])), shape=[2, columns])
        b.add("MatMul", b.constant(weights), shape=[2, 3])
    return b.model() if b.name != "x" else None


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"x": x})


@given(models())
def test_a_cleaned_graph_computes_the_same_outputs(model):
    if model is None:
        return
    shape = [2, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])]
    x = np.random.default_rng(2).normal(size=shape).astype("float32")
    expected = run(model, x)
    names = [output.name for output in model.graph.output]
    changed = clean_graph(model, ())
    onnx.checker.check_model(changed, full_check=True)
    assert [output.name for output in changed.graph.output] == names
    for before, after in zip(expected, run(changed, x), strict=True):
        scale = max(1, np.abs(before).max())
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * scale)


def mean_of_images(opset, channels=8):
    """A graph of the mean over the axes that group normalization reduces."""
    axes = [1, 2, 4]
    constants, inputs, attributes = [], ["x"], {"axes": axes}
    if opset >= 18:
        constants = [numpy_helper.from_array(np.array(axes), "axes")]
        inputs, attributes = ["x", "axes"], {}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 112, 112, 2, channels])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, 1, 2, 1])
    node = helper.make_node("ReduceMean", inputs, ["y"], name="mean", **attributes)
    graph = helper.make_graph([node], "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("opset", [17, 18])
def test_a_mean_over_axes_that_are_not_adjacent_loses_no_digits(opset):
    x = np.full((2, 112, 112, 2, 8), 0.1, "float32")  # each sum is rounded in the same direction
    cleaned = clean_graph(mean_of_images(opset), ())
    onnx.checker.check_model(cleaned, full_check=True)
    assert [node.op_type for node in cleaned.graph.node] == ["ReduceMean"] * 3
    (received,) = run(cleaned, x)
    np.testing.assert_allclose(received, np.full((2, 1, 1, 2, 1), 0.1), rtol=2e-6)


def test_axes_of_size_1_do_not_separate_the_axes_of_a_mean():
    cleaned = clean_graph(mean_of_images(18, channels=1), ())
    assert [node.op_type for node in cleaned.graph.node] == ["ReduceMean"]
    (axes,) = [numpy_helper.to_array(constant) for constant in cleaned.graph.initializer]
    assert axes.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("first", "expected"),
    [("Conv", ["Conv", "Relu", "MaxPool", "Neg"]), ("Neg", ["Neg", "MaxPool", "Relu", "Neg"])],
)
def test_a_relu_comes_in_front_of_the_max_pool_of_a_convolution(first, expected):
    b = Builder((1, 3, 6, 6))
    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype("float32")
    b.add(first, *([b.constant(kernel)] if first == "Conv" else []))
    b.add("MaxPool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2], shape=(1, 3, 3, 3))
    b.add("Relu")
    b.add("Neg")
    cleaned = clean_graph(b.model(), [])
    assert [node.op_type for node in cleaned.graph.node] == expected
    x = np.random.default_rng(0).normal(size=b.start).astype("float32")
    (before,), (after,) = run(b.model(), x), run(cleaned, x)
    np.testing.assert_array_equal(after, before)


def test_channels_come_first_before_arithmetic_with_a_constant_for_each():
    b = Builder((1, 6, 4, 3))
    b.add("Sub", b.constant(np.array([1, 2, 3], np.float32)))
    b.add("Div", b.constant(np.array([[[[4, 5, 6]]]], np.float32)))
    b.add("Transpose", shape=(1, 3, 6, 4), perm=[0, 3, 1, 2])
    b.add("Conv", b.constant(np.ones((2, 3, 2, 2), np.float32)), shape=(1, 2, 5, 3))
    cleaned = clean_graph(b.model(), [])
    assert [node.op_type for node in cleaned.graph.node] == ["Transpose", "Sub", "Div", "Conv"]
    x = np.random.default_rng(0).normal(size=b.start).astype("float32")
    (before,), (after,) = run(b.model(), x), run(cleaned, x)
    np.testing.assert_allclose(after, before, rtol=1e-5)


def cleaned_by(*passes, without=()):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model, left_out = clean_model(ir.from_proto(proto), (), without, passes)
    return [node.op_type for node in model.graph], left_out


def breaks_the_graph_and_fails(model):
    next(iter(model.graph)).op_type = "Softmax"
    raise IndexError("tuple index out of range")


def never_ends(model):
    with time_limit(-1):
        for _ in in_time(model.graph):
            pass


def test_a_pass_that_fails_or_takes_too_long_is_left_out_and_the_others_run():
    nodes, left_out = cleaned_by(breaks_the_graph_and_fails, never_ends, simplify)
    assert nodes == ["Relu"]
    assert left_out == {
        "breaks_the_graph_and_fails": "tuple index out of range",
        "never_ends": "it took too long",
    }


def test_passes_are_left_out_by_name():
    nodes, left_out = cleaned_by(simplify, without=("simplify",))
    assert nodes == ["Relu", "Relu"]
    assert not left_out
