"""Converts hashes of values that are known at export, such as crosses of categories, to tables.

ONNX cannot hash. A cross of two vocabularies has few values though, and each has its bin.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto

from .counting import range_of, size_of
from .lookup_operators import ML_DOMAIN, Table
from .nodes import Steps, evaluated

# Entries of a table, at most.
_MOST = 2**20
_SAME_VALUES = (
    "ExpandDims", "Identity", "Reshape", "Squeeze", "StopGradient", "StridedSlice",
)  # fmt: skip


def values_before_hashes(
    graph: tf.Graph, tables: Mapping[str, Table]
) -> dict[str, list[np.ndarray]]:
    """Return the values that each hashed tensor can have, by the name of the operation that hashes.

    Operations with a tensor of unknown values are left out.

    Args:
        graph: The graph to convert.
        tables: Each lookup table, by the name of its handle.
    """
    found = {}
    for op in graph.get_operations():
        if op.type in ("SparseCross", "StringToHashBucketFast", "StringToHashBucketStrong"):
            known = [_values(tensor, tables) for tensor in op.inputs]
            values = [each for each in known if each is not None]
            if len(values) == len(known) and math.prod(map(len, values)) <= _MOST:
                found[op.name] = values
    return found


def _values(tensor: tf.Tensor, tables: Mapping[str, Table]) -> np.ndarray | None:
    """Return the values that a tensor can have, sorted; None if they are not known."""
    constant = tf.get_static_value(tensor)
    op = tensor.op
    if constant is not None:
        return np.unique(constant)
    if op.type == "LookupTableFindV2" and op.inputs[0].name in tables:
        table = tables[op.inputs[0].name]
        return np.unique([*table.values, table.default])
    if op.type == "Bucketize":
        return np.arange(len(op.get_attr("boundaries")) + 1)
    if op.type in _SAME_VALUES:
        return _values(op.inputs[0], tables)
    if op.type in ("SelectV2", "AddV2", "Cast", "AsString", "FloorMod"):
        first, *others = op.inputs[1:] if op.type == "SelectV2" else op.inputs
        known = [_values(side, tables) for side in (first, *others)]
        return _computed(op, known)
    return None


def _computed(op: tf.Operation, known: list[np.ndarray | None]) -> np.ndarray | None:
    if op.type == "FloorMod" and known[1] is not None and known[1].size == 1:
        return np.arange(int(known[1][0])) if known[1][0] > 0 else None
    if any(values is None for values in known):
        return None
    sides = [values for values in known if values is not None]
    if math.prod(map(len, sides)) > _MOST or op.outputs[0].dtype.is_floating:
        return None
    if op.type == "SelectV2":
        return np.unique(np.concatenate(sides))
    if op.type == "AddV2":
        return np.unique(np.add.outer(*sides))
    dtype = bytes if op.type == "AsString" else op.outputs[0].dtype.as_numpy_dtype
    return np.unique(sides[0].astype(dtype))


def convert_hash(
    known: Mapping[str, list[np.ndarray]], context: Any, node: Any, _name: str, _args: Any
) -> None:
    """Convert a StringToHashBucket of known texts to a lookup."""
    if node.name not in known:
        return
    (texts,) = known[node.name]
    buckets = node.get_attr_value("num_buckets")
    hash_with = {"key": node.get_attr_value("key")} if node.type.endswith("Strong") else {}
    operation = getattr(tf.raw_ops, node.type)
    hashed = evaluated(lambda: operation(input=texts, num_buckets=buckets, **hash_with))
    steps = Steps(context, node)
    found = steps.add(
        "LabelEncoder", node.input[0], domain=ML_DOMAIN,
        keys_strings=[text.decode() for text in texts],
        values_int64s=hashed.tolist(), default_int64=-1,
    )  # fmt: skip
    steps.replace(found)


def convert_cross(
    known: Mapping[str, list[np.ndarray]], context: Any, node: Any, _name: str, _args: Any
) -> None:
    """Convert a hashed SparseCross of dense columns `(batch, 1)` of known integers to a table."""
    if node.name not in known or not node.get_attr_value("hashed_output"):
        return
    values = known[node.name]
    if any(each.dtype.kind != "i" for each in values):
        return
    steps = Steps(context, node)
    place = None
    for column, each in zip(node.input, values, strict=True):
        whole = steps.add("Cast", column, to=TensorProto.INT64)
        flat = steps.add("Reshape", whole, [-1])
        number = steps.add(
            "LabelEncoder", flat,
            domain=ML_DOMAIN, keys_int64s=each.tolist(),
            values_int64s=list(range(len(each))), default_int64=0,
        )  # fmt: skip
        before = None if place is None else steps.add("Mul", place, np.int64(len(each)))
        place = number if before is None else steps.add("Add", before, number)
    crossed = steps.add("Gather", _bins(node, values), place)
    count = size_of(steps, crossed, 0)
    rows = steps.add("Unsqueeze", range_of(steps, count), [1])
    places = steps.add("Concat", rows, steps.add("Mul", rows, np.int64(0)), axis=1)
    steps.replace(places, crossed, steps.add("Concat", count, np.array([1]), axis=0))


def _bins(node: Any, values: list[np.ndarray]) -> np.ndarray:
    """Return the bin of each combination, int64; the last column changes fastest."""
    combinations = np.array(list(itertools.product(*values)), np.int64)
    empty: dict[str, list[Any]] = {"indices": [], "values": [], "shapes": []}
    bins: np.ndarray = evaluated(
        lambda: (
            tf.raw_ops.SparseCross(
                **empty,
                dense_inputs=[tf.constant(column[:, None]) for column in combinations.T],
                hashed_output=True,
                num_buckets=node.get_attr_value("num_buckets"),
                hash_key=node.get_attr_value("hash_key"),
                out_type=tf.int64,
                internal_type=tf.int64,
            ).output_values
        )
    )
    return bins


def convert_sparse_to_dense(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert SparseToDense of places `(n, rank)`."""
    places, shape, values, default = node.input
    steps = Steps(context, node)
    size = steps.add("Cast", shape, to=TensorProto.INT64)
    whole = steps.add("Cast", places, to=TensorProto.INT64)
    steps.replace(steps.add("ScatterND", steps.add("Expand", default, size), whole, values))
