"""Small models, one for each layer, activation and normalization that an export must convert.

Weights and normalization statistics are random, so that nothing folds away by being 0 or 1.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import Input, layers

Build = Callable[[], keras.Model]
Layers = Callable[[], list[Any]]

ACTIVATIONS = """
    celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus
    softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink
""".split()  # noqa: SIM905

_MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Set all weights to random values, variances and scales to ones above 0; return the model."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if not str(weight.dtype).startswith(("float", "bfloat")):
            continue
        if "variance" in weight.path or "gamma" in weight.path or "scale" in weight.path:
            values = random.uniform(0.5, 1.5, weight.shape)
        elif len(weight.shape) > 1:
            fan_in = np.prod(weight.shape[:-1])
            values = random.normal(0, 1 / np.sqrt(fan_in), weight.shape)
        else:
            values = random.normal(0, 0.2, weight.shape)
        weight.assign(values)
    return model


def _stack(shape: tuple[int, ...], make: Layers, dtype: str = "float32") -> keras.Model:
    """Return a sequential model of the layers that `make` returns."""
    x = start = Input(shape, dtype=dtype, name="x")
    for layer in make():
        x = layer(x)
    return keras.Model(start, x)


def _row(make: Layers) -> keras.Model:
    return _stack((12,), lambda: [layers.Dense(16), *make(), layers.Dense(3)])


def _activation(name: str) -> list[Any]:
    return [layers.Activation(name)]


def _function(call: Callable[[Any], Any]) -> keras.Model:
    start = Input((5, 6), name="x")
    return keras.Model(start, call(start))


def _whole(x: Any) -> Any:
    return keras.ops.cast(9 * x, "int32")


def _lookup(output_mode: str) -> keras.Model:
    start = Input((4,), dtype="int64", name="x")
    layer = layers.IntegerLookup(vocabulary=[1, 4, 2], output_mode=output_mode)
    return keras.Model(start, layer(start))


def _states() -> keras.Model:
    x, h, c = Input((6, 3), name="x"), Input((4,), name="h"), Input((4,), name="c")
    _, last_h, last_c = layers.LSTM(4, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"h": last_h, "c": last_c})


def _attention(make: Callable[[], Any], call: Callable[..., Any]) -> keras.Model:
    query, value = Input((7, 8), name="query"), Input((9, 8), name="value")
    return keras.Model([query, value], call(make(), query, value))


def _merge(name: str) -> keras.Model:
    first, second = Input((8,), name="first"), Input((8,), name="second")
    merged = getattr(layers, name)()([layers.Dense(8)(first), second])
    return keras.Model([first, second], layers.Dense(3)(merged))


def _masked_tokens() -> keras.Model:
    x = start = Input((9,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 8, mask_zero=True)(x)
    return keras.Model(start, layers.LSTM(5)(x))


def _variable_tokens() -> keras.Model:
    x = start = Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 8)(x)
    x = x + layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(start, layers.GlobalAveragePooling1D()(x))


def _variable_image() -> keras.Model:
    x = start = Input((None, None, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(x)
    return keras.Model(start, layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(x)))


def _variable_recurrent() -> keras.Model:
    start = Input((None, 6), name="x")
    return keras.Model(start, layers.Bidirectional(layers.LSTM(5))(start))


def _dict_in_and_out() -> keras.Model:
    age, kind = Input((1,), name="years"), Input((1,), dtype="int64", name="sort")
    x = layers.Concatenate()([age, layers.Flatten()(layers.Embedding(7, 3)(kind))])
    x = layers.Dense(8, activation="relu")(x)
    outputs = {"score": layers.Dense(1)(x), "class": layers.Dense(4, activation="softmax")(x)}
    return keras.Model({"years": age, "sort": kind}, outputs)


def _list_in_and_out() -> keras.Model:
    first, second = Input((4,), name="first"), Input((5,), name="second")
    x = layers.Concatenate()([first, second])
    return keras.Model([first, second], [layers.Dense(2)(x), layers.Dense(3)(x)])


def _nested() -> keras.Model:
    inner = keras.Sequential([Input((8,)), layers.Dense(6, activation="gelu")], name="inner")
    start = Input((8,), name="x")
    return keras.Model(start, layers.Dense(2)(inner(start) + inner(2 * start)))


def _shared_output() -> keras.Model:
    start = Input((8,), name="x")
    x = layers.Dense(4)(start)
    return keras.Model(start, {"features": x, "answer": x, "given": start})


def _mixed(policy: str) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        x = start = Input((12, 10, 3), name="x")
        x = layers.BatchNormalization()(layers.Conv2D(8, 3)(x))
        x = layers.GlobalAveragePooling2D()(layers.Activation("gelu")(x))
        return keras.Model(start, layers.Dense(3, activation="softmax", dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable(package="zoo")
class Squeeze(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A custom layer: squeeze and excitation (Hu et al., 2018), written with `keras.ops`."""

    def build(self, shape: tuple[int, ...]) -> None:
        """Create the weights."""
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")
        super().build(shape)

    def call(self, x: Any) -> Any:
        """Scale the channels of `x`."""
        mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
        return x * keras.ops.sigmoid(keras.ops.matmul(mean, self.kernel))


def _residual() -> keras.Model:
    x = start = Input((12, 10, 6), name="x")
    for _ in range(2):
        y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x))
        x = layers.Add()([x, layers.ReLU()(y)])
    return keras.Model(start, layers.GlobalAveragePooling2D()(x))


def _transformer() -> keras.Model:
    x = start = Input((9,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 8)(x)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 4)(y, y, use_causal_mask=True)
        y = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(8)(y)
    return keras.Model(start, layers.Dense(5, activation="softmax")(x[:, -1]))


def _ops() -> keras.Model:
    start = Input((8, 6), name="x")
    x = keras.ops.einsum("bij,bkj->bik", start, start)
    x = keras.ops.concatenate([x, keras.ops.flip(x, axis=1)], axis=2)
    x = keras.ops.where(x > 0, keras.ops.sqrt(keras.ops.abs(x)), keras.ops.sin(x))
    top, _ = keras.ops.top_k(keras.ops.max(x, axis=1), 3)
    return keras.Model(start, {"top": top, "sum": keras.ops.cumsum(keras.ops.mean(x, 1), 1)})


def _spectral() -> keras.Model:
    start = Input((12,), name="x")
    return keras.Model(start, layers.SpectralNormalization(layers.Dense(4))(start))


# Layers between two Dense layers, for inputs (12,).
_ROWS: dict[str, Layers] = {
    "prelu": lambda: [layers.PReLU(alpha_initializer="glorot_uniform")],
    "relu_layer": lambda: [layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2)],
    "leaky_relu_layer": lambda: [layers.LeakyReLU(0.2)],
    "elu_layer": lambda: [layers.ELU(0.5)],
    "softmax_layer": lambda: [layers.Softmax()],
    "identity": lambda: [layers.Identity()],
    "dropout": lambda: [layers.Dropout(0.5)],
    "gaussian_noise": lambda: [layers.GaussianNoise(0.5)],
    "gaussian_dropout": lambda: [layers.GaussianDropout(0.5)],
    "alpha_dropout": lambda: [layers.AlphaDropout(0.5)],
    "activity_regularization": lambda: [layers.ActivityRegularization(0.1)],
    "batch_norm_of_rows": lambda: [layers.BatchNormalization()],
    "layer_norm_of_rows": lambda: [layers.LayerNormalization()],
    "rms_norm": lambda: [layers.RMSNormalization()],
    "unit_norm": lambda: [layers.UnitNormalization()],
}
# Layers for sequences (10, 6).
_STEPS: dict[str, Layers] = {
    "conv1d": lambda: [layers.Conv1D(5, 3, activation="relu")],
    "conv1d_causal": lambda: [layers.Conv1D(5, 3, padding="causal", dilation_rate=2)],
    "conv1d_strided": lambda: [layers.Conv1D(5, 3, strides=2, padding="same")],
    "conv1d_transpose": lambda: [layers.Conv1DTranspose(5, 3, strides=2)],
    "depthwise_conv1d": lambda: [layers.DepthwiseConv1D(3, depth_multiplier=2)],
    "separable_conv1d": lambda: [layers.SeparableConv1D(5, 3)],
    "max_pool1d": lambda: [layers.MaxPooling1D()],
    "average_pool1d": lambda: [layers.AveragePooling1D(2, padding="same")],
    "global_max_pool1d": lambda: [layers.GlobalMaxPooling1D()],
    "global_average_pool1d": lambda: [layers.GlobalAveragePooling1D()],
    "adaptive_average_pool1d": lambda: [layers.AdaptiveAveragePooling1D(4)],
    "adaptive_max_pool1d": lambda: [layers.AdaptiveMaxPooling1D(4)],
    "up_sampling1d": lambda: [layers.UpSampling1D(2)],
    "zero_padding1d": lambda: [layers.ZeroPadding1D(2)],
    "cropping1d": lambda: [layers.Cropping1D(2)],
    "simple_rnn": lambda: [layers.SimpleRNN(5)],
    "lstm": lambda: [layers.LSTM(5)],
    "lstm_sequences": lambda: [layers.LSTM(5, return_sequences=True), layers.LSTM(4)],
    "lstm_backwards": lambda: [layers.LSTM(5, go_backwards=True)],
    "lstm_unrolled": lambda: [layers.LSTM(5, unroll=True)],
    "lstm_dropout": lambda: [layers.LSTM(5, dropout=0.2, recurrent_dropout=0.2)],
    "gru": lambda: [layers.GRU(5)],
    "gru_reset_before": lambda: [layers.GRU(5, reset_after=False)],
    "gru_sequences": lambda: [layers.GRU(5, return_sequences=True)],
    "bidirectional_lstm": lambda: [layers.Bidirectional(layers.LSTM(5, return_sequences=True))],
    "bidirectional_gru": lambda: [layers.Bidirectional(layers.GRU(5), merge_mode="sum")],
    "stacked_rnn": lambda: [layers.RNN([layers.GRUCell(4), layers.LSTMCell(3)])],
    "time_distributed": lambda: [layers.TimeDistributed(layers.Dense(4, activation="relu"))],
    "masking": lambda: [layers.Masking(), layers.LSTM(4)],
    "masked_sequences": lambda: [
        layers.Masking(),
        layers.LSTM(4, return_sequences=True),
        layers.GRU(3, return_sequences=True),
    ],
    "batch_norm_of_steps": lambda: [layers.Conv1D(5, 3), layers.BatchNormalization()],
    "einsum_dense": lambda: [layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")],
    "permute": lambda: [layers.Permute((2, 1)), layers.Dense(3)],
    "reshape": lambda: [layers.Reshape((5, 12)), layers.Dense(3)],
    "flatten": lambda: [layers.Flatten(), layers.Dense(3)],
    "spatial_dropout": lambda: [layers.SpatialDropout1D(0.5), layers.Dense(3)],
}
# Layers for feature maps (12, 10, 6).
_MAPS: dict[str, Layers] = {
    "conv2d": lambda: [layers.Conv2D(5, 3, activation="relu"), layers.Flatten(), layers.Dense(3)],
    "conv2d_dilated": lambda: [layers.Conv2D(5, 3, dilation_rate=2, padding="same")],
    "conv2d_strided": lambda: [layers.Conv2D(5, 3, strides=2, padding="same")],
    "conv2d_groups": lambda: [layers.Conv2D(6, 3, groups=3)],
    "conv2d_transpose": lambda: [layers.Conv2DTranspose(5, 3, strides=2, padding="same")],
    "depthwise_conv2d": lambda: [layers.DepthwiseConv2D(3, strides=2, padding="same")],
    "depthwise_dilated": lambda: [layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")],
    "separable_conv2d": lambda: [layers.SeparableConv2D(5, 3, depth_multiplier=2)],
    "max_pool2d": lambda: [layers.MaxPooling2D(3, 2, "same")],
    "average_pool2d": lambda: [layers.AveragePooling2D(3, 2, "same")],
    "global_max_pool2d": lambda: [layers.GlobalMaxPooling2D(keepdims=True)],
    "global_average_pool2d": lambda: [layers.GlobalAveragePooling2D()],
    "adaptive_average_pool2d": lambda: [layers.AdaptiveAveragePooling2D((3, 5))],
    "adaptive_max_pool2d": lambda: [layers.AdaptiveMaxPooling2D((3, 5))],
    "up_sampling2d": lambda: [layers.UpSampling2D(2)],
    "up_sampling2d_bilinear": lambda: [layers.UpSampling2D(2, interpolation="bilinear")],
    "resizing": lambda: [layers.Resizing(7, 9)],
    "resizing_nearest": lambda: [layers.Resizing(24, 30, interpolation="nearest")],
    "resizing_bicubic": lambda: [layers.Resizing(7, 19, interpolation="bicubic")],
    "resizing_area": lambda: [layers.Resizing(7, 5, interpolation="area")],
    "resizing_lanczos": lambda: [layers.Resizing(7, 19, interpolation="lanczos3")],
    "resizing_antialias": lambda: [layers.Resizing(7, 5, antialias=True)],
    "center_crop": lambda: [layers.CenterCrop(6, 6)],
    "zero_padding2d": lambda: [layers.ZeroPadding2D(((1, 2), (3, 0))), layers.Conv2D(4, 3)],
    "zero_padding_max_pool": lambda: [layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)],
    "zero_padding_average_pool": lambda: [layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 2)],
    "cropping2d": lambda: [layers.Cropping2D(((1, 2), (0, 3)))],
    "batch_norm": lambda: [layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU()],
    "batch_norm_first": lambda: [layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(5, 3)],
    "layer_norm": lambda: [layers.Conv2D(5, 3), layers.LayerNormalization()],
    "group_norm": lambda: [layers.Conv2D(6, 3), layers.GroupNormalization(3)],
    "instance_norm": lambda: [layers.Conv2D(6, 3), layers.GroupNormalization(-1)],
    "prelu_of_maps": lambda: [layers.PReLU("glorot_uniform", shared_axes=[1, 2])],
    "rescaling": lambda: [layers.Rescaling(1 / 255, -0.5), layers.Conv2D(4, 3)],
    "augmentation": lambda: [
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.RandomZoom(0.2),
        layers.RandomContrast(0.2),
        layers.Conv2D(4, 3),
    ],
    "own_layer": lambda: [layers.Conv2D(6, 3), Squeeze()],
}
# Layers for volumes or for sequences of feature maps (6, 7, 8, 4).
_CUBES: dict[str, Layers] = {
    "conv3d": lambda: [layers.Conv3D(5, 3, activation="relu"), layers.BatchNormalization()],
    "conv3d_transpose": lambda: [layers.Conv3DTranspose(3, 3, strides=2)],
    "max_pool3d": lambda: [layers.MaxPooling3D()],
    "average_pool3d": lambda: [layers.AveragePooling3D(2)],
    "global_max_pool3d": lambda: [layers.GlobalMaxPooling3D()],
    "global_average_pool3d": lambda: [layers.GlobalAveragePooling3D()],
    "adaptive_average_pool3d": lambda: [layers.AdaptiveAveragePooling3D((2, 3, 4))],
    "adaptive_max_pool3d": lambda: [layers.AdaptiveMaxPooling3D((2, 3, 4))],
    "up_sampling3d": lambda: [layers.UpSampling3D(2)],
    "zero_padding3d": lambda: [layers.ZeroPadding3D(1)],
    "cropping3d": lambda: [layers.Cropping3D(1)],
    "conv_lstm1d": lambda: [layers.Reshape((6, 7, 32)), layers.ConvLSTM1D(3, 3)],
    "conv_lstm2d": lambda: [layers.ConvLSTM2D(3, 3)],
    "conv_lstm2d_sequences": lambda: [
        layers.ConvLSTM2D(3, 3, return_sequences=True, padding="same"),
        layers.ConvLSTM2D(2, 3),
    ],
}
# Functions of a tensor (5, 6).
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "argmax": lambda x: keras.ops.argmax(x, axis=-1),
    "one_hot_out_of_range": lambda x: keras.ops.one_hot(keras.ops.cast(x, "int32"), 2),
    "floor_division": lambda x: keras.ops.floor_divide(_whole(x), 4),
    "modulo": lambda x: keras.ops.mod(_whole(x), 4),
    "glu": keras.activations.glu,
    "threshold": lambda x: keras.activations.threshold(x, 0.2, 0.1),
    "log1p": lambda x: keras.ops.log1p(keras.ops.abs(x)),
    "equal_clips": lambda x: [keras.ops.exp(keras.ops.clip(x, -2, 2)) for _ in range(2)],
}

# A builder for each model, by name.
ZOO: dict[str, Build] = {
    **{f"activation_{name}": partial(_row, partial(_activation, name)) for name in ACTIVATIONS},
    **{name: partial(_row, make) for name, make in _ROWS.items()},
    **{name: partial(_stack, (10, 6), make) for name, make in _STEPS.items()},
    **{name: partial(_stack, (12, 10, 6), make) for name, make in _MAPS.items()},
    **{name: partial(_stack, (6, 7, 8, 4), make) for name, make in _CUBES.items()},
    **{name: partial(_function, call) for name, call in _FUNCTIONS.items()},
    **{f"merge_{name.lower()}": partial(_merge, name) for name in _MERGES},
    "embedding": partial(
        _stack, (9,), lambda: [layers.Embedding(50, 8), layers.Flatten(), layers.Dense(3)], "int32"
    ),
    "embedding_masked": _masked_tokens,
    "repeat_vector": partial(_stack, (6,), lambda: [layers.RepeatVector(4), layers.LSTM(3)]),
    "multi_head_attention": partial(
        _attention, lambda: layers.MultiHeadAttention(2, 4), lambda a, q, v: a(q, v)
    ),
    "grouped_query_attention": partial(
        _attention, lambda: layers.GroupQueryAttention(4, 4, 2), lambda a, q, v: a(q, v)
    ),
    "attention": partial(_attention, layers.Attention, lambda a, q, v: a([q, v])),
    "additive_attention": partial(_attention, layers.AdditiveAttention, lambda a, q, v: a([q, v])),
    "dot": partial(
        _attention, lambda: layers.Dot(axes=2, normalize=True), lambda a, q, v: a([q, v])
    ),
    "transformer": _transformer,
    "integer_lookup": partial(_lookup, "int"),
    "integer_lookup_multi_hot": partial(_lookup, "multi_hot"),
    "conv_lstm3d": partial(_stack, (3, 4, 5, 6, 2), lambda: [layers.ConvLSTM3D(3, 3)]),
    "stft": partial(_stack, (64, 1), lambda: [layers.STFTSpectrogram(frame_length=16)]),
    "same_names_in_and_out": _states,
    "spectral_norm": _spectral,
    "residual": _residual,
    "nested": _nested,
    "ops": _ops,
    "dict_in_and_out": _dict_in_and_out,
    "list_in_and_out": _list_in_and_out,
    "shared_output": _shared_output,
    "variable_tokens": _variable_tokens,
    "variable_image": _variable_image,
    "variable_recurrent": _variable_recurrent,
    "mixed_float16": partial(_mixed, "mixed_float16"),
    "mixed_bfloat16": partial(_mixed, "mixed_bfloat16"),
    "discretization": partial(
        _stack, (4,), lambda: [layers.Discretization([-1.0, 0.0, 1.0]), layers.Rescaling(0.5)]
    ),
    "normalization": partial(
        _stack, (4,), lambda: [layers.Normalization(mean=[1.0] * 4, variance=[2.0] * 4)]
    ),
    "category_encoding": partial(
        _stack, (5,), lambda: [layers.CategoryEncoding(6, "multi_hot")], "int64"
    ),
}


def build_zoo_model(name: str) -> keras.Model:
    """Build the model of `ZOO` that is called `name`, with random weights."""
    return randomize(ZOO[name]())
