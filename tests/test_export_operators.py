"""Operators that tf2onnx lacks or converts wrongly answer as Keras does."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversion import require_parity, run_graph
from keras import Input, layers, ops

from export import ExportError, ExportOptions, export_bundle
from export.inference import trace_inference
from export.onnx.convert import convert_to_onnx
from serving import Predictor, verify_bundle

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def colors(count):
    gray = np.repeat(RANDOM.uniform(size=(1, 4, 4, 1)), 3, axis=-1)
    ends = [np.zeros((1, 4, 4, 3)), np.ones((1, 4, 4, 3)), gray]
    return np.concatenate([RANDOM.uniform(size=(count - 3, 4, 4, 3)), *ends]).astype("float32")


def scanned(x, **more):
    """Scan over the columns with a carry for each row."""
    steps = ops.transpose(x)
    carry, answers = ops.scan(lambda s, v: (s + v, s * v), ops.zeros_like(x[:, 0]), steps, **more)
    return ops.concatenate([carry[:, None], ops.transpose(answers)], axis=1)


def written(x):
    """Write the columns into an array of tensors, the second one twice and in another order."""
    array = tf.TensorArray("float32", size=4)
    for place in (1, 3, 0, 2, 1):
        array = array.write(place, ops.cumsum(x, axis=1)[:, place])
    return ops.transpose(array.stack())


def appended(x):
    """Append the columns to an array of dynamic size, and read one of them."""
    array = tf.TensorArray("float32", size=0, dynamic_size=True, clear_after_read=False)
    for place in range(4):
        array = array.write(place, x[:, place] * place)
    return ops.transpose(array.stack()) + array.read(2)[:, None]


def both(parts):
    return ops.concatenate(parts, axis=-1)


# For each operator what a model computes, and its samples; five of each.
CASES = {
    "scan": (scanned, normal(5, 4)),
    "scan_reverse": (lambda x: scanned(x, reverse=True), normal(5, 4)),
    "tensor_array": (written, normal(5, 4)),
    "tensor_array_dynamic": (appended, normal(5, 4)),
    "slice_update": (lambda x: ops.slice_update(x, (0, 1), x[:, 3:] * 2), normal(5, 6)),
    "searchsorted": (
        lambda x: ops.reshape(
            ops.searchsorted(np.array([-1, 0, 0, 1], "float32"), ops.reshape(x, (-1,))), (-1, 5)
        ),
        np.stack([np.array([-1, 0, 1, 2, -3], "float32")] * 5),
    ),
    "searchsorted_right": (
        lambda x: ops.reshape(
            ops.searchsorted(
                np.array([-1, 0, 0, 1], "float32"), ops.reshape(x, (-1,)), side="right"
            ),
            (-1, 5),
        ),
        np.stack([np.array([-1, 0, 1, 2, -3], "float32")] * 5),
    ),
    "erfinv": (ops.erfinv, np.tanh(3 * normal(5, 50)) * np.float32(0.999)),
    "in_top_k": (
        lambda x: ops.cast(ops.in_top_k(ops.cast(x[:, 0], "int32"), x[:, 1:], 2), "int32"),
        np.concatenate([[[0], [1], [2], [3], [-1]], normal(5, 3)], axis=1).astype("float32"),
    ),
    "rgb_to_hsv": (ops.image.rgb_to_hsv, colors(5)),
    "hsv_to_rgb": (ops.image.hsv_to_rgb, colors(5)),
    "inv": (ops.inv, normal(5, 4, 4)),
    "solve": (lambda x: ops.solve(x, x[:, :, :2] + 1), normal(5, 3, 3)),
    "solve_triangular": (
        lambda x: ops.solve_triangular(x + 3 * ops.eye(4), x, lower=True), normal(5, 4, 4)
    ),
    "slogdet": (lambda x: ops.stack(ops.slogdet(x), axis=1), normal(5, 3, 3)),
    "cross": (lambda x: ops.cross(x, x[:, ::-1]), normal(5, 2, 3)),
    "cumprod": (  # beyond the largest float32
        lambda x: ops.clip(ops.cumprod(x, axis=1), -1e38, 1e38),
        np.stack([np.array([1e20, 1e20, -1, 2, 3], "float32"), *normal(4, 5)]),
    ),
    "fft": (lambda x: both(ops.fft((x, 2 * x))), normal(5, 6)),
    "fft2": (lambda x: both(ops.fft2((x, 2 * x))), normal(5, 4, 6)),
    "ifft2": (lambda x: both(ops.ifft2((x, 2 * x))), normal(5, 4, 6)),
    "rfft": (lambda x: both(ops.rfft(x)), normal(5, 9)),
    "rfft_filled": (lambda x: both(ops.rfft(x, fft_length=16)), normal(5, 9)),
    "irfft": (lambda x: ops.irfft((x, x / 2)), normal(5, 9)),
    "irfft_odd": (lambda x: ops.irfft((x, x / 2), fft_length=13), normal(5, 9)),
    "istft": (lambda x: ops.istft(ops.stft(x, 16, 8, 16), 16, 8, 16), normal(5, 64)),
    "mel_spectrogram": (
        layers.MelSpectrogram(
            num_mel_bins=8, sampling_rate=8000, sequence_stride=32, fft_length=64
        ),
        normal(5, 256),
    ),
    "stft_spectrogram": (
        layers.STFTSpectrogram(mode="magnitude", frame_length=32, frame_step=16, fft_length=64),
        normal(5, 256, 1),
    ),
    "resizing_crop": (layers.Resizing(6, 6, crop_to_aspect_ratio=True), normal(5, 10, 16, 3)),
    "resizing_pad": (
        layers.Resizing(7, 5, pad_to_aspect_ratio=True, fill_value=2.0), normal(5, 16, 10, 3)
    ),
    "resizing_crop_bicubic": (
        layers.Resizing(7, 5, "bicubic", crop_to_aspect_ratio=True), normal(5, 16, 10, 3)
    ),
    "bincount": (
        lambda x: ops.bincount(ops.cast(ops.abs(x) * 2, "int32"), minlength=20), normal(5, 6)
    ),
    "category_multi_hot": (
        layers.CategoryEncoding(4, "multi_hot"), RANDOM.integers(0, 4, (5, 2)).astype("int32")
    ),
    "category_count": (
        layers.CategoryEncoding(4, "count"), RANDOM.integers(0, 4, (5, 3)).astype("int32")
    ),
}  # fmt: skip


@functools.cache
def answers():
    """Return what Keras answers eagerly, and what the graph answers, for every case."""
    inputs, outputs, samples = [], {}, {}
    for name, (compute, array) in CASES.items():
        tensor = Input(array.shape[1:], dtype=array.dtype.name, name=f"{name}_in")
        layer = compute if isinstance(compute, layers.Layer) else layers.Lambda(compute)
        inputs.append(tensor)
        outputs[name] = layer(tensor)
        samples[tensor.name] = array
    model = keras.Model(inputs, outputs)
    inference = trace_inference(model)
    graph = convert_to_onnx(inference, {})
    expected = model([tf.constant(samples[x.name]) for x in inputs])
    received = run_graph(inference, graph, samples)
    return {name: np.asarray(array) for name, array in expected.items()}, received


@pytest.mark.parametrize("name", CASES)
def test_an_operator_answers_as_keras(name):
    expected, received = ({name: each[name]} for each in answers())
    require_parity(expected, received)


def test_fourier_transforms_convert_to_every_form_of_the_operator():
    start = Input((8,), name="x")
    transform = layers.Lambda(lambda x: both(ops.rfft(x, fft_length=12)))
    inference = trace_inference(keras.Model(start, transform(start)))
    samples = normal(3, 8)
    for opset in (18, 20):
        graph = convert_to_onnx(inference, {}, opset)
        assert next(each.version for each in graph.opset_import if not each.domain) == opset
        require_parity(inference.predict(samples), run_graph(inference, graph, {"x": samples}))
    with pytest.raises(ExportError, match="opset must be at least 17 for DFT of layer 'lambda"):
        convert_to_onnx(inference, {}, 16)


def test_complex_numbers_may_not_be_computed_with():
    start = Input((8,), name="x")

    def square(x):
        spectrum = tf.signal.rfft(x)
        return tf.math.real(spectrum * spectrum)

    inference = trace_inference(keras.Model(start, layers.Lambda(square, name="power")(start)))
    with pytest.raises(ExportError, match="Complex numbers may only .* Mul of layer 'power'"):
        convert_to_onnx(inference, {})


def test_time_distributed_answers_every_step_of_a_variable_number(tmp_path):
    start = Input((None, 4), name="x")
    hidden = layers.TimeDistributed(layers.Dense(3, activation="tanh"), name="steps")(start)
    model = keras.Model(start, layers.TimeDistributed(layers.BatchNormalization())(hidden))
    options = ExportOptions(int8="never")
    bundle = export_bundle(model, tmp_path, "own", options=options)
    assert all(check.passed for check in verify_bundle(bundle.parent))
    clip = normal(2, 5, 4)
    received = Predictor.load(bundle).predict(clip).arrays[0]
    np.testing.assert_allclose(received, np.asarray(model(clip)), atol=1e-5)
