"""Small models, one for each layer, activation and normalization that an export must manage.

Weights are random, statistics of normalization too, so that nothing folds away by being 0 or 1.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import Input, layers

Build = Callable[[], keras.Model]

ACTIVATIONS = """
    celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus
    softsign sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink
""".split()  # noqa: SIM905


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Draw every weight anew, variances and scales above 0; return the model."""
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


def _through(shape: tuple[int | None, ...], *stack: Any, dtype: str = "float32") -> Build:
    """Return a builder of a sequential model of fresh copies of the layers of `stack`."""

    def build() -> keras.Model:
        x = start = Input(shape, dtype=dtype, name="x")
        for layer in stack:
            x = type(layer).from_config(layer.get_config())(x)
        return keras.Model(start, x)

    return build


def _function(call: Callable[[Any], Any]) -> Build:
    def build() -> keras.Model:
        start = Input((5, 6), name="x")
        return keras.Model(start, call(start))

    return build


def _whole(x: Any) -> Any:
    return keras.ops.cast(9 * x, "int32")


def _lookup(output_mode: str) -> Build:
    def build() -> keras.Model:
        start = Input((4,), dtype="int64", name="x")
        layer = layers.IntegerLookup(vocabulary=[1, 4, 2], output_mode=output_mode)
        return keras.Model(start, layer(start))

    return build


def _states() -> keras.Model:
    x, h, c = Input((6, 3), name="x"), Input((4,), name="h"), Input((4,), name="c")
    _, last_h, last_c = layers.LSTM(4, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"h": last_h, "c": last_c})


def _row(layer: Any) -> Build:
    return _through((12,), layers.Dense(16), layer, layers.Dense(3))


def _steps(*stack: Any) -> Build:
    return _through((10, 6), *stack)


def _map(*stack: Any) -> Build:
    return _through((12, 10, 6), *stack)


def _cube(*stack: Any) -> Build:
    return _through((6, 7, 8, 4), *stack)


def _tokens(*stack: Any) -> Build:
    return _through((9,), layers.Embedding(50, 8), *stack, dtype="int32")


def _attention(make: Callable[[], Any], call: Callable[..., Any]) -> Build:
    def build() -> keras.Model:
        query, value = Input((7, 8), name="query"), Input((9, 8), name="value")
        return keras.Model([query, value], call(make(), query, value))

    return build


def _merge(name: str) -> Build:
    def build() -> keras.Model:
        first, second = Input((8,), name="first"), Input((8,), name="second")
        made = getattr(layers, name)()([layers.Dense(8)(first), second])
        return keras.Model([first, second], layers.Dense(3)(made))

    return build


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


def _mixed(policy: str) -> Build:
    def build() -> keras.Model:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            x = start = Input((12, 10, 3), name="x")
            x = layers.BatchNormalization()(layers.Conv2D(8, 3)(x))
            x = layers.GlobalAveragePooling2D()(layers.Activation("gelu")(x))
            return keras.Model(start, layers.Dense(3, activation="softmax", dtype="float32")(x))
        finally:
            keras.config.set_dtype_policy(before)

    return build


@keras.saving.register_keras_serializable(package="zoo")
class Squeeze(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A layer of one's own: squeeze and excitation (Hu et al., 2018), written with `ops`."""

    def build(self, shape: tuple[int, ...]) -> None:
        """Make the weights."""
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")
        super().build(shape)

    def call(self, x: Any) -> Any:
        """Weigh the channels of `x`."""
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


def zoo() -> dict[str, Build]:
    """Return a builder for each model, by name."""
    found: dict[str, Build] = {
        f"activation_{name}": _row(layers.Activation(name)) for name in ACTIVATIONS
    }
    rows = {
        "prelu": layers.PReLU(alpha_initializer="glorot_uniform"),
        "relu_layer": layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2),
        "leaky_relu_layer": layers.LeakyReLU(0.2),
        "elu_layer": layers.ELU(0.5),
        "softmax_layer": layers.Softmax(),
        "identity": layers.Identity(),
        "dropout": layers.Dropout(0.5),
        "gaussian_noise": layers.GaussianNoise(0.5),
        "gaussian_dropout": layers.GaussianDropout(0.5),
        "alpha_dropout": layers.AlphaDropout(0.5),
        "activity_regularization": layers.ActivityRegularization(0.1),
        "batch_norm_of_rows": layers.BatchNormalization(),
        "layer_norm_of_rows": layers.LayerNormalization(),
        "rms_norm": layers.RMSNormalization(),
        "unit_norm": layers.UnitNormalization(),
    }
    found |= {name: _row(layer) for name, layer in rows.items()}
    steps = {
        "conv1d": [layers.Conv1D(5, 3, activation="relu")],
        "conv1d_causal": [layers.Conv1D(5, 3, padding="causal", dilation_rate=2)],
        "conv1d_strided": [layers.Conv1D(5, 3, strides=2, padding="same")],
        "conv1d_transpose": [layers.Conv1DTranspose(5, 3, strides=2)],
        "depthwise_conv1d": [layers.DepthwiseConv1D(3, depth_multiplier=2)],
        "separable_conv1d": [layers.SeparableConv1D(5, 3)],
        "max_pool1d": [layers.MaxPooling1D()],
        "average_pool1d": [layers.AveragePooling1D(2, padding="same")],
        "global_max_pool1d": [layers.GlobalMaxPooling1D()],
        "global_average_pool1d": [layers.GlobalAveragePooling1D()],
        "adaptive_average_pool1d": [layers.AdaptiveAveragePooling1D(4)],
        "adaptive_max_pool1d": [layers.AdaptiveMaxPooling1D(4)],
        "up_sampling1d": [layers.UpSampling1D(2)],
        "zero_padding1d": [layers.ZeroPadding1D(2)],
        "cropping1d": [layers.Cropping1D(2)],
        "simple_rnn": [layers.SimpleRNN(5)],
        "lstm": [layers.LSTM(5)],
        "lstm_sequences": [layers.LSTM(5, return_sequences=True), layers.LSTM(4)],
        "lstm_backwards": [layers.LSTM(5, go_backwards=True)],
        "lstm_unrolled": [layers.LSTM(5, unroll=True)],
        "lstm_dropout": [layers.LSTM(5, dropout=0.2, recurrent_dropout=0.2)],
        "gru": [layers.GRU(5)],
        "gru_reset_before": [layers.GRU(5, reset_after=False)],
        "gru_sequences": [layers.GRU(5, return_sequences=True)],
        "bidirectional_lstm": [layers.Bidirectional(layers.LSTM(5, return_sequences=True))],
        "bidirectional_gru": [layers.Bidirectional(layers.GRU(5), merge_mode="sum")],
        "stacked_rnn": [layers.RNN([layers.GRUCell(4), layers.LSTMCell(3)])],
        "time_distributed": [layers.TimeDistributed(layers.Dense(4, activation="relu"))],
        "masking": [layers.Masking(), layers.LSTM(4)],
        "masked_sequences": [
            layers.Masking(),
            layers.LSTM(4, return_sequences=True),
            layers.GRU(3, return_sequences=True),
        ],
        "batch_norm_of_steps": [layers.Conv1D(5, 3), layers.BatchNormalization()],
        "einsum_dense": [layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")],
        "permute": [layers.Permute((2, 1)), layers.Dense(3)],
        "reshape": [layers.Reshape((5, 12)), layers.Dense(3)],
        "flatten": [layers.Flatten(), layers.Dense(3)],
        "spatial_dropout": [layers.SpatialDropout1D(0.5), layers.Dense(3)],
    }
    found |= {name: _steps(*stack) for name, stack in steps.items()}
    maps = {
        "conv2d": [layers.Conv2D(5, 3, activation="relu"), layers.Flatten(), layers.Dense(3)],
        "conv2d_dilated": [layers.Conv2D(5, 3, dilation_rate=2, padding="same")],
        "conv2d_strided": [layers.Conv2D(5, 3, strides=2, padding="same")],
        "conv2d_groups": [layers.Conv2D(6, 3, groups=3)],
        "conv2d_transpose": [layers.Conv2DTranspose(5, 3, strides=2, padding="same")],
        "depthwise_conv2d": [layers.DepthwiseConv2D(3, strides=2, padding="same")],
        "depthwise_dilated": [layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")],
        "separable_conv2d": [layers.SeparableConv2D(5, 3, depth_multiplier=2)],
        "max_pool2d": [layers.MaxPooling2D(3, 2, "same")],
        "average_pool2d": [layers.AveragePooling2D(3, 2, "same")],
        "global_max_pool2d": [layers.GlobalMaxPooling2D(keepdims=True)],
        "global_average_pool2d": [layers.GlobalAveragePooling2D()],
        "adaptive_average_pool2d": [layers.AdaptiveAveragePooling2D((3, 5))],
        "adaptive_max_pool2d": [layers.AdaptiveMaxPooling2D((3, 5))],
        "up_sampling2d": [layers.UpSampling2D(2)],
        "up_sampling2d_bilinear": [layers.UpSampling2D(2, interpolation="bilinear")],
        "resizing": [layers.Resizing(7, 9)],
        "resizing_nearest": [layers.Resizing(24, 30, interpolation="nearest")],
        "resizing_bicubic": [layers.Resizing(7, 19, interpolation="bicubic")],
        "resizing_area": [layers.Resizing(7, 5, interpolation="area")],
        "resizing_lanczos": [layers.Resizing(7, 19, interpolation="lanczos3")],
        "resizing_antialias": [layers.Resizing(7, 5, antialias=True)],
        "center_crop": [layers.CenterCrop(6, 6)],
        "zero_padding2d": [layers.ZeroPadding2D(((1, 2), (3, 0))), layers.Conv2D(4, 3)],
        "zero_padding_max_pool": [layers.ZeroPadding2D(1), layers.MaxPooling2D(3, 2)],
        "zero_padding_average_pool": [layers.ZeroPadding2D(1), layers.AveragePooling2D(3, 2)],
        "cropping2d": [layers.Cropping2D(((1, 2), (0, 3)))],
        "batch_norm": [layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU()],
        "batch_norm_first": [layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(5, 3)],
        "layer_norm": [layers.Conv2D(5, 3), layers.LayerNormalization()],
        "group_norm": [layers.Conv2D(6, 3), layers.GroupNormalization(3)],
        "instance_norm": [layers.Conv2D(6, 3), layers.GroupNormalization(-1)],
        "prelu_of_maps": [layers.PReLU("glorot_uniform", shared_axes=[1, 2])],
        "rescaling": [layers.Rescaling(1 / 255, -0.5), layers.Conv2D(4, 3)],
        "augmentation": [
            layers.RandomFlip(),
            layers.RandomRotation(0.2),
            layers.RandomZoom(0.2),
            layers.RandomContrast(0.2),
            layers.Conv2D(4, 3),
        ],
        "own_layer": [layers.Conv2D(6, 3), Squeeze()],
    }
    found |= {name: _map(*stack) for name, stack in maps.items()}
    cubes = {
        "conv3d": [layers.Conv3D(5, 3, activation="relu"), layers.BatchNormalization()],
        "conv3d_transpose": [layers.Conv3DTranspose(3, 3, strides=2)],
        "max_pool3d": [layers.MaxPooling3D()],
        "average_pool3d": [layers.AveragePooling3D(2)],
        "global_max_pool3d": [layers.GlobalMaxPooling3D()],
        "global_average_pool3d": [layers.GlobalAveragePooling3D()],
        "adaptive_average_pool3d": [layers.AdaptiveAveragePooling3D((2, 3, 4))],
        "adaptive_max_pool3d": [layers.AdaptiveMaxPooling3D((2, 3, 4))],
        "up_sampling3d": [layers.UpSampling3D(2)],
        "zero_padding3d": [layers.ZeroPadding3D(1)],
        "cropping3d": [layers.Cropping3D(1)],
        "conv_lstm1d": [layers.Reshape((6, 7, 32)), layers.ConvLSTM1D(3, 3)],
        "conv_lstm2d": [layers.ConvLSTM2D(3, 3)],
        "conv_lstm2d_sequences": [
            layers.ConvLSTM2D(3, 3, return_sequences=True, padding="same"),
            layers.ConvLSTM2D(2, 3),
        ],
    }
    found |= {name: _cube(*stack) for name, stack in cubes.items()}
    functions: dict[str, Callable[[Any], Any]] = {
        "argmax": lambda x: keras.ops.argmax(x, axis=-1),
        "one_hot_out_of_range": lambda x: keras.ops.one_hot(keras.ops.cast(x, "int32"), 2),
        "floor_division": lambda x: keras.ops.floor_divide(_whole(x), 4),
        "modulo": lambda x: keras.ops.mod(_whole(x), 4),
        "glu": keras.activations.glu,
        "threshold": lambda x: keras.activations.threshold(x, 0.2, 0.1),
        "log1p": lambda x: keras.ops.log1p(keras.ops.abs(x)),
        "equal_clips": lambda x: [keras.ops.exp(keras.ops.clip(x, -2, 2)) for _ in range(2)],
    }
    found |= {name: _function(call) for name, call in functions.items()}
    found |= {
        "embedding": _tokens(layers.Flatten(), layers.Dense(3)),
        "embedding_masked": _masked_tokens,
        "repeat_vector": _through((6,), layers.RepeatVector(4), layers.LSTM(3)),
        "multi_head_attention": _attention(
            lambda: layers.MultiHeadAttention(2, 4), lambda a, q, v: a(q, v)
        ),
        "grouped_query_attention": _attention(
            lambda: layers.GroupQueryAttention(4, 4, 2), lambda a, q, v: a(q, v)
        ),
        "attention": _attention(layers.Attention, lambda a, q, v: a([q, v])),
        "additive_attention": _attention(layers.AdditiveAttention, lambda a, q, v: a([q, v])),
        "dot": _attention(lambda: layers.Dot(axes=2, normalize=True), lambda a, q, v: a([q, v])),
        "transformer": _transformer,
        "integer_lookup": _lookup("int"),
        "integer_lookup_multi_hot": _lookup("multi_hot"),
        "conv_lstm3d": _through((3, 4, 5, 6, 2), layers.ConvLSTM3D(3, 3)),
        "stft": _through((64, 1), layers.STFTSpectrogram(frame_length=16)),
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
        "mixed_float16": _mixed("mixed_float16"),
        "mixed_bfloat16": _mixed("mixed_bfloat16"),
        "discretization": _through(
            (4,), layers.Discretization([-1.0, 0.0, 1.0]), layers.Rescaling(0.5)
        ),
        "normalization": _through((4,), layers.Normalization(mean=[1.0] * 4, variance=[2.0] * 4)),
        "category_encoding": _through((5,), layers.CategoryEncoding(6, "multi_hot"), dtype="int64"),
    }
    merges = ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"]
    found |= {f"merge_{name.lower()}": _merge(name) for name in merges}
    return found
