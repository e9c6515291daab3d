"""Chains of operators become those that ONNX has, or that ONNX Runtime fuses."""

from collections import Counter

import keras
import numpy as np
import pytest
from conversion import require_parity, run_graph
from keras import Input, layers

from benchmarks.zoo import randomize
from export.inference import trace_inference
from export.onnx.convert import LEFT_OUT, convert_to_graph, convert_to_onnx

# Layers for images (4, 6, 8), with the operators that they become.
NORMALIZATIONS = {
    "layer": (layers.LayerNormalization(), {"LayerNormalization": 1}),
    "layer_without_center": (layers.LayerNormalization(center=False), {"LayerNormalization": 1}),
    "layer_without_scale": (layers.LayerNormalization(scale=False), {"LayerNormalization": 1}),
    "layer_over_all": (layers.LayerNormalization(axis=[1, 2, 3]), {"LayerNormalization": 1}),
    "layer_over_height": (layers.LayerNormalization(axis=1), {"LayerNormalization": 0}),
    "root_mean_square": (layers.RMSNormalization(), {"Pow": 1, "Div": 1, "Reciprocal": 0}),
    "group": (layers.GroupNormalization(4), {"LayerNormalization": 0}),
    "gelu": (layers.Activation("gelu"), {"Erf": 1, "Sub": 0, "Neg": 0}),
}


@pytest.fixture(scope="module")
def graph():
    """A graph with all of them, Keras' outputs and those of the graph."""
    start = Input((4, 6, 8), name="image")
    built = {name: layer(start) for name, (layer, _) in NORMALIZATIONS.items()}
    # An output that is not read by another layer has the name of the layer.
    outputs = {name: layers.Rescaling(2.0, name=f"{name}_out")(x) for name, x in built.items()}
    inference = trace_inference(randomize(keras.Model(start, outputs)))
    graph = convert_to_onnx(inference, {})
    images = np.random.default_rng(0).normal(3, 2, (5, 4, 6, 8)).astype("float32")
    return graph, inference.predict(images), run_graph(inference, graph, images)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_chain_becomes_the_operator_that_runtimes_know(name, graph):
    converted, expected, received = graph
    layer, operators = NORMALIZATIONS[name]
    found = Counter(
        node.op_type for node in converted.graph.node if node.name.startswith(f"{layer.name}/")
    )
    assert {operator: found[operator] for operator in operators} == operators
    require_parity({name: expected[name]}, {name: received[name]})


def test_a_transformer_block_runs_on_one_matrix_but_for_attention():
    start = Input((6, 8), name="steps")
    attended = start + layers.MultiHeadAttention(2, 4)(start, start)
    hidden = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(attended))
    x = layers.LayerNormalization()(attended + layers.Dense(8)(hidden))
    inference = trace_inference(randomize(keras.Model(start, layers.Softmax()(x))))
    graph = convert_to_onnx(inference, {})
    found = Counter(node.op_type for node in graph.graph.node)
    # To the rows and back; three to split heads, and one to join them.
    assert found["Reshape"] == 6
    # Each product is followed by its bias, so that ONNX Runtime adds it within the product.
    biased = [node.output[0] for node in graph.graph.node if node.op_type == "MatMul"]
    following = Counter(node.op_type for node in graph.graph.node if set(node.input) & set(biased))
    assert following == {"Add": 6, "Mul": 1, "Transpose": 1}
    steps = np.random.default_rng(0).normal(size=(5, 6, 8)).astype("float32")
    require_parity(inference.predict(steps), run_graph(inference, graph, steps))


def test_an_embedding_is_one_operator_and_reads_tokens_below_zero_from_the_end():
    start = Input((4,), dtype="int32", name="tokens")
    inference = trace_inference(randomize(keras.Model(start, layers.Embedding(7, 3)(start))))
    graph = convert_to_onnx(inference, {})
    assert [node.op_type for node in graph.graph.node] == ["Gather"]
    tokens = np.array([[-7, -1, 0, 6]], "int32")
    require_parity(inference.predict(tokens), run_graph(inference, graph, tokens))


def test_opsets_without_layer_normalization_keep_the_chain():
    start = Input((4, 6), name="steps")
    inference = trace_inference(keras.Model(start, layers.LayerNormalization()(start)))
    kinds = {
        opset: {node.op_type for node in convert_to_onnx(inference, {}, opset).graph.node}
        for opset in (16, 17)
    }
    assert "ReduceMean" in kinds[16]
    assert kinds[17] == {"LayerNormalization"}


def test_no_pass_stumbles_over_values_of_unknown_shape():
    """The mask of an embedding leaves the shapes of an attention unknown."""
    tokens = keras.Input((7,), name="tokens")
    embedded = keras.layers.Embedding(50, 8, mask_zero=True)(tokens)
    steps = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True))(embedded)
    summed = steps + keras.layers.MultiHeadAttention(2, 4)(steps, steps)
    model = keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(summed))
    assert LEFT_OUT not in convert_to_graph(trace_inference(model), {}).metadata_props
