"""Copies of a bundle whose graph harms the process that runs it; their answers are right."""

import json
import shutil

import numpy as np
import onnx
from checksums import write_checksums
from onnx import TensorProto, helper, numpy_helper


def write_hostile(row_bundle, folder, add):
    """Copy the version of `softmax` under the name of `folder`, with nodes added; return it.

    `add` takes the graph and returns the name of a scalar, of which nothing is added to the
    outputs.
    """
    version = shutil.copytree(row_bundle, folder / "1")
    shutil.copy(row_bundle.parent / "config.pbtxt", folder)
    rename(version, folder.name)
    model = onnx.load(version / "model.onnx")
    graph = model.graph
    scalar = add(graph)
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    (last,) = [node for node in graph.node if "probabilities" in node.output]
    last.output[0] = "unharmed"
    graph.node.append(helper.make_node("Mul", [scalar, "nothing"], ["added"]))
    graph.node.append(helper.make_node("Add", ["unharmed", "added"], ["probabilities"]))
    onnx.save(model, version / "model.onnx")
    write_checksums(version)
    return version


def rename(version, name):
    """Give the model of a version another name, in its manifest and in its graph."""
    manifest = json.loads((version / "manifest.json").read_text())
    (version / "manifest.json").write_text(json.dumps(manifest | {"name": name}))
    model = onnx.load(version / "model.onnx")
    next(p for p in model.metadata_props if p.key == "name").value = json.dumps(name)
    onnx.save(model, version / "model.onnx")
    write_checksums(version)


def add_endless_loop(graph):
    """A loop of 2^62 rounds, far more than a processor ever does."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["goes_on_then"]),
            helper.make_node("Add", ["sum", "one"], ["sum_then"]),
        ],
        "body",
        [
            info("round", TensorProto.INT64, []),
            info("goes_on", TensorProto.BOOL, []),
            info("sum", TensorProto.FLOAT, []),
        ],
        [info("goes_on_then", TensorProto.BOOL, []), info("sum_then", TensorProto.FLOAT, [])],
    )
    constants = {"rounds": np.array(2**62), "yes": np.array(True), "one": np.array(1, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in constants.items())
    graph.node.append(helper.make_node("Loop", ["rounds", "yes", "one"], ["loop"], body=body))
    return "loop"


def add_large_tensor(graph):
    """A tensor of 64 GB."""
    graph.initializer.append(numpy_helper.from_array(np.array([2**34]), "size"))
    graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["large"]))
    graph.node.append(helper.make_node("ReduceMax", ["large"], ["largest"], keepdims=0))
    return "largest"
