"""Runs the preprocessing layers of a model once, before training, instead of in each epoch.

A model consists of preprocessing (position of the ink, standardized columns) and layers that learn.
The preprocessed samples are kept in memory, or on disk if the data is on disk, and training starts
from them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from app.data.arrays import CHUNK, Array, DiskArray, chunks, samples_at_once
from app.data.datasets import Dataset
from app.data.reading_progress import tell, tell_progress
from app.data.splits import some
from app.errors import DataError
from models.backbones import whitening_kernel
from models.extractors import EXTRACTOR, has_scaling
from models.numeric_embeddings import PiecewiseLinearEmbedding

# Keras divides by no smaller standard deviation: such a column would become a constant. Quartiles
# need only a finite factor in float32.
_MIN_DEVIATION, _MIN_ROBUST_DEVIATION = 1e-7, 1e-30
# Bytes of images whose statistics are computed, and number of their patches.
_SAMPLED_BYTES, _SAMPLED_PATCHES = 20_000_000, 200_000
# Samples whose features are standardized, and the least variance as a fraction of the mean one.
_SAMPLED_FEATURES, _LEAST_VARIANCE = 4096, 0.01
# Rows whose quartiles and quantiles are computed.
_SAMPLED_ROWS = 100_000
# Images that a backbone sees at once, and their pixels.
_IMAGES_AT_ONCE, _PIXELS_AT_ONCE = 256, 2_000_000
# float32 has 24 bits; values this close to each other share all but the last few.
_MIN_RELATIVE_DEVIATION = 1e-6
# Relative deviation that rounding in float64 can give a constant column.
_ROUNDING = 1e-9


def adapt(model: keras.Model, dataset: Dataset, train: np.ndarray) -> None:
    """Set the statistics of the layers that scale to those of the training split.

    A column that is constant in the training split is only shifted to 0, as in scikit-learn.

    Raises:
        DataError: a column varies too little to be standardized in float32, or a target does not
            vary at all.
    """
    if dataset.kind == "images":
        _adapt_to_images(model, dataset.inputs, train)
        _tell_of_pixels(model)
    else:
        _standardize(model, "normalize", chunks(dataset.inputs, train), dataset.columns)
        _adapt_to_quantiles(model, dataset, train)
    _standardize(model, "values", chunks(dataset.targets, train), dataset.labels)
    clipping = _layer(model, "clipped_values")
    if clipping is not None:
        clipping.adapt(dataset.targets[train])


def _adapt_to_quantiles(model: keras.Model, dataset: Dataset, train: np.ndarray) -> None:
    """Set quartiles and bins of numbers to those of a large sample of the training split."""
    scale, embedding = _layer(model, "robust_scale"), _layer(model, "numeric_embedding")
    if not dataset.columns or (scale is None and embedding is None):
        return
    rows = dataset.inputs[train[some(len(train), _SAMPLED_ROWS)]]
    if scale is not None:
        mean, variance, _ = _statistics(chunks(dataset.inputs, train))
        is_constant = _is_constant(mean, variance)
        _check_spread(dataset.columns, mean, variance, is_constant, _MIN_ROBUST_DEVIATION)
        scale.adapt(rows)
    if isinstance(embedding, PiecewiseLinearEmbedding):
        embedding.adapt(_scaled(model, rows))


def _scaled(model: keras.Model, rows: np.ndarray) -> np.ndarray:
    """Return rows of numbers as the model scales them, with NaN for missing values."""
    is_missing = np.isnan(rows)
    scaled = np.where(is_missing, 0, rows)
    for name in ("normalize", "robust_scale", "smooth_clip"):
        layer = _layer(model, name)
        if layer is not None:
            scaled = keras.ops.convert_to_numpy(layer(scaled))
    return np.where(is_missing, np.nan, scaled)


def _standardize(
    model: keras.Model, name: str, parts: Iterable[np.ndarray], columns: Sequence[str]
) -> None:
    """Set the statistics of the layer `name`, if there is one, to those of `parts`."""
    layer = _layer(model, name)
    if not isinstance(layer, keras.layers.Normalization):
        return
    mean, variance, count = _statistics(parts)
    is_constant = _is_constant(mean, variance)
    _check_spread(columns, mean, variance, is_constant & (name != "values"))
    # A variance of 0 would multiply a later change of the column by ten million.
    _set_statistics(layer, mean, np.where(is_constant, 1.0, variance), count)


def _is_constant(mean: np.ndarray, variance: np.ndarray) -> Any:
    return np.sqrt(variance) <= _ROUNDING * np.abs(mean)


def _layer(model: keras.Model, name: str) -> keras.Layer | None:
    return next((layer for layer in model.layers if layer.name == name), None)


def _adapt_to_images(model: keras.Model, images: Array, train: np.ndarray) -> None:
    """Set the statistics of channels and patches, which a few thousand images tell as well."""
    # A backbone that was trained before keeps the statistics that it has learned with.
    normalization, whitening = _layer(model, "normalize"), _layer(model, "whiten")
    if normalization is None:
        return
    some_images = images[train[some(len(train), _SAMPLED_BYTES // math.prod(images.shape[1:]))]]
    pixels = some_images.reshape(-1, images.shape[-1])
    mean, variance = pixels.mean(axis=0), pixels.var(axis=0)
    variance = np.where(variance, variance, 1.0)
    _set_statistics(normalization, mean, variance, len(pixels))
    if whitening is not None:
        size, *_ = whitening.kernel_size
        patches = (_patches(some_images, size) - mean) / np.sqrt(variance)
        whitening.set_weights([whitening_kernel(patches)])


def _tell_of_pixels(model: keras.Model) -> None:
    """Tell that a backbone which was trained before gets pixels as they are."""
    backbone = _layer(model, EXTRACTOR)
    if backbone is not None and not has_scaling(backbone):
        tell(
            "The backbone does not scale its input, so it gets pixels from 0 to 255. If it was "
            "trained on others, such as x / 255, save it again with keras.layers.Rescaling in "
            "front."
        )


def adapt_to_features(
    model: keras.Model, name: str, dataset: Dataset, train: np.ndarray, prepared: Array
) -> None:
    """Set the statistics of the layer `name`, if there is one, which standardizes features.

    A few thousand samples of the training split tell them.

    Args:
        model: a functional model whose other statistics are adapted.
        name: name of the layer.
        dataset: the samples.
        train: indices of the training split.
        prepared: what `prepare` has returned: these features, or the samples themselves.
    """
    layer = _layer(model, name)
    if layer is None:
        return
    chosen = train[some(len(train), _SAMPLED_FEATURES)]
    if prepared is dataset.inputs:
        features = np.concatenate(list(computed(model, layer.input, dataset, chosen)))
    else:
        features = prepared[chosen]
    mean, variance = features.mean(axis=0), features.var(axis=0)
    if np.sqrt(variance.max()) < _MIN_DEVIATION:
        tell(
            f"The features of the backbone hardly vary, by a standard deviation of at most "
            f"{np.sqrt(variance.max()):.1g}, so that the head learns little. Give another backbone."
        )
    # Features that hardly ever vary would be noise at the scale of the others.
    least = _LEAST_VARIANCE * variance.mean() or 1.0
    _set_statistics(layer, mean, np.maximum(variance, least), len(features))


def _patches(images: np.ndarray, size: int) -> np.ndarray:
    """Return a sample of the patches of images, uint8 `(patches, size, size, channels)`."""
    # Images of a single line are as high as a patch once their border is repeated.
    sides = [(0, max(0, size - side)) for side in images.shape[1:3]]
    images = np.pad(images, [(0, 0), *sides, (0, 0)], mode="edge")
    count, height, width, channels = images.shape
    rows, columns = height // size, width // size
    grid = images[:, : rows * size, : columns * size]
    grid = grid.reshape(count, rows, size, columns, size, channels).swapaxes(2, 3)
    patches = grid.reshape(-1, size, size, channels)
    chosen: np.ndarray = patches[some(len(patches), _SAMPLED_PATCHES)]
    return chosen


def _check_spread(
    columns: Sequence[str],
    mean: np.ndarray,
    variance: np.ndarray,
    is_accepted: np.ndarray,
    smallest: float = _MIN_DEVIATION,
) -> None:
    deviation = np.sqrt(variance)
    least = np.maximum(smallest, _MIN_RELATIVE_DEVIATION * np.abs(mean))
    wrong = np.flatnonzero(~is_accepted & (deviation < least))
    if len(wrong):
        first = int(wrong[0])
        if not deviation[first]:
            raise DataError(
                f"Numbers must vary. Received: {columns[first]}, which is always {mean[first]:.6g} "
                "in the training split, as float32."
            )
        is_small = deviation[first] >= _MIN_RELATIVE_DEVIATION * abs(mean[first])
        than = f"{smallest:g}" if is_small else "the rounding of float32"
        fix = "Multiply them by a power of ten." if is_small else "Subtract their mean."
        raise DataError(
            f"Numbers must vary by more than {than}. "
            f"Received: {columns[first]}, with mean {mean[first]:.6g} and standard deviation "
            f"{deviation[first]:.2g}. {fix}"
        )


def prepare(model: keras.Model, prepared: Any, dataset: Dataset) -> Array:
    """Compute a tensor inside `model`, such as a layer's output, for every sample.

    An observer of `app.data.reading_progress` is told how far that is.

    Args:
        model: a functional model whose statistics are adapted.
        prepared: the symbolic tensor `(batch, …)`.
        dataset: the samples.

    Returns:
        float32 `(samples, …)`, in memory, or on disk if the samples are. If nothing is to be
        computed, the samples themselves.
    """
    if isinstance(prepared, dict) or any(prepared is tensor for tensor in model.inputs):
        return dataset.inputs
    batches = computed(model, prepared, dataset, np.arange(len(dataset.inputs)))
    if isinstance(dataset.inputs, np.ndarray):
        return np.concatenate(list(batches))
    outputs = DiskArray(prepared.shape[1:], np.float32)
    for batch in batches:
        outputs.append(batch)
    return outputs


def computed(
    model: keras.Model, prepared: Any, dataset: Dataset, indices: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield a tensor inside `model` for the samples at `indices`, a batch at a time."""
    preparation = keras.Model(model.inputs, prepared)
    for inputs in batches_of(model, dataset, indices):
        yield np.asarray(preparation.predict_on_batch(inputs))


def batches_of(model: keras.Model, dataset: Dataset, indices: np.ndarray) -> Iterator[Any]:
    """Yield the samples at `indices` a batch at a time: a tensor, or one for each of the inputs."""
    size, shape = CHUNK, dataset.inputs.shape
    if len(shape) == 4:
        size = samples_at_once(shape, _IMAGES_AT_ONCE, _PIXELS_AT_ONCE)
    activity = f"preparing {dataset.kind}"
    for start in range(0, len(indices), size):
        tell_progress(start, len(indices), activity)
        yield in_order(model, dataset.model_inputs(indices[start : start + size]))
    tell_progress(len(indices), len(indices), activity)


def in_order(model: keras.Model, inputs: Any) -> Any:
    """Return inputs, see `Dataset.model_inputs`, as tensors in the order of a model's inputs."""
    if not isinstance(inputs, dict):
        return keras.ops.convert_to_tensor(inputs)
    return [keras.ops.convert_to_tensor(inputs[tensor.name]) for tensor in model.inputs]


def _statistics(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mean, variance and count of each column, ignoring NaN.

    Parts are combined as in Chan et al. (1979), which loses no digits.
    """
    count: Any = 0.0
    mean: Any = 0.0
    squares: Any = 0.0
    for part in parts:
        rows = part.astype(np.float64)
        present = (~np.isnan(rows)).sum(axis=0)
        part_mean = np.nansum(rows, axis=0) / np.maximum(present, 1)
        part_squares = np.nansum((rows - part_mean) ** 2, axis=0)
        total = np.maximum(count + present, 1)
        delta = part_mean - mean
        squares = squares + part_squares + delta**2 * count * present / total
        mean = mean + delta * present / total
        count = count + present
    return mean, squares / np.maximum(count, 1), int(np.max(count))


def adapt_normalization(layer: keras.layers.Normalization, parts: Iterable[np.ndarray]) -> None:
    """Set the statistics of a layer to those of its inputs, a part at a time.

    An input that is constant is only shifted to 0: it may vary once layers in front have learned.
    `layer.adapt` adds up in float32, which stalls at a few million numbers.
    """

    def columns(part: np.ndarray) -> np.ndarray:
        """Return a part with the axes that the layer keeps as its last."""
        kept = sorted(axis % part.ndim for axis in layer.axis)
        rest = [axis for axis in range(part.ndim) if axis not in kept]
        return part.transpose(*rest, *kept).reshape(-1, *(part.shape[axis] for axis in kept))

    mean, variance, count = _statistics(map(columns, parts))
    _set_statistics(layer, mean, np.where(_is_constant(mean, variance), 1.0, variance), count)


def _set_statistics(
    layer: keras.layers.Normalization, mean: np.ndarray, variance: np.ndarray, count: int
) -> None:
    layer.set_weights([mean, variance, np.array(count)])
    layer.finalize_state()
