"""Reading ONNX tensors without the onnx package, compared with the onnx package."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import numpy_helper

from serving.errors import ManifestError
from serving.tensor_proto import read_fields, read_tensor

DTYPES = [
    "float32",
    "float64",
    "float16",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "bool",
]


@given(st.data(), st.sampled_from(DTYPES), st.text(max_size=5))
def test_it_reads_what_onnx_writes(data, dtype, name):
    array = data.draw(arrays(dtype, array_shapes(min_dims=0, max_side=4)))
    read_name, read = read_tensor(numpy_helper.from_array(array, name).SerializeToString())
    assert read_name == name
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@given(st.binary())
def test_any_bytes_are_read_or_refused(content):
    with contextlib.suppress(ManifestError):
        assert isinstance(read_tensor(content)[1], np.ndarray)


@given(st.data())
def test_a_truncated_or_changed_tensor_is_read_or_refused(data):
    whole = numpy_helper.from_array(np.arange(6, dtype="float32").reshape(2, 3), "x")
    content = bytearray(whole.SerializeToString())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(ManifestError):
        assert isinstance(read_tensor(cut)[1], np.ndarray)


def test_a_key_that_other_readers_would_misread_is_refused():
    """The tag 0x2A, of a graph's initializers, with a bit beyond 32 bits."""
    with pytest.raises(ManifestError, match="a protobuf message. Received: field 536870917"):
        list(read_fields(b"\xaa\x80\x80\x80\x10\x00"))
    with pytest.raises(ManifestError, match="Received: field 0"):
        list(read_fields(b"\x02\x00"))


def test_unknown_fields_are_ignored():
    tensor = numpy_helper.from_array(np.float32([1, 2]), "x")
    tensor.doc_string = "text"
    assert read_tensor(tensor.SerializeToString())[1].tolist() == [1, 2]


def test_dims_can_be_packed():
    tensor = numpy_helper.from_array(np.zeros((2, 3), "float32"), "x")
    raw = b"\x0a\x02\x02\x03" + b"\x10\x01" + b"\x4a\x18" + tensor.raw_data
    assert read_tensor(raw)[1].shape == (2, 3)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"", "numbers or strings. Received: data_type=0"),
        (b"\x10\x01\x08\x02", r"float32 \(2,\) must have 8 bytes of raw_data. Received: 0"),
        (b"\x10\x01\x08\x00", r"must have elements .*Received: shape=\(0,\)"),
        (b"\x10\x02\x4a\x01a" + b"\x08\x01" * 65, "at most 8 axes"),
        (b"\x4a\x7f", "truncated"),
        (b"\x80", "truncated"),
        (b"\xff" * 11, "over 64 bits"),
        (b"\x0b", "wire type 3"),
    ],
)
def test_bytes_that_are_not_a_tensor_are_refused(message, error):
    with pytest.raises(ManifestError, match=error):
        read_tensor(message)


def test_strings_are_read():
    texts = np.array([["a", ""], ["ü", "long"]], object)
    name, array = read_tensor(numpy_helper.from_array(texts, "x").SerializeToString())
    assert (name, array.tolist()) == ("x", texts.tolist())


@pytest.mark.parametrize("shape", [[3], [0], [1] * 9])
def test_strings_that_do_not_fill_their_shape_are_refused(shape):
    tensor = onnx.helper.make_tensor("x", onnx.TensorProto.STRING, [1], [b"a"])
    del tensor.dims[:]
    tensor.dims.extend(shape)
    with pytest.raises(ManifestError, match="strings must have elements that fill its shape"):
        read_tensor(tensor.SerializeToString())
