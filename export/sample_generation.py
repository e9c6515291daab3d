"""Draws samples for a model that comes without any, in the dtype and range of each input."""

import math
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import keras
import numpy as np

from serving.golden import DRAWN
from serving.manifest import TensorSpec, describe_spec
from serving.parity import Inputs

from .errors import ExportError
from .inference import InferenceFunction
from .noise import RANGES
from .readers import readers_of
from .samples import Samples, rows_of

# Number of samples to draw. Fewer, down to the minimum, if they would hold more numbers than this.
_MAX_SAMPLES, _MIN_SAMPLES, _MAX_NUMBERS = 62, 14, 2_000_000
# Each sample of a model of a hundred million weights takes seconds, and is run a dozen times.
_MAX_WEIGHTS, _FEWEST_SAMPLES = 1_000_000_000, 6
_EDGE_CASES = ("lowest", "highest")
# Sizes to try for variable axes. The first that the model takes is used, and twice that size. Small
# ones come last: a model of images may take them, but none of its layers would have much to do.
_SIZES = (8, 16, 32, 64, 128, 256, 4, 2, 1)
# Words that few vocabularies have, and how many words a drawn text has at most.
_UNUSUAL = ("", "\x00", "unseen,", "Ünseen!")
_WORDS_OF_TEXT = 12
# Ranges for integers of unknown meaning. Tokens and categories have at least two values; below 0
# division and remainders differ between runtimes.
_MIN_VALUES = 2
_WIDE_RANGE = (-9, 9)
_TRIED_SAMPLES = 3  # of those drawn, to find out whether the model takes them


def draw_samples(inference: InferenceFunction) -> Samples:
    """Draw samples, and two edge cases at the ends of each input's range.

    Integers stay below the size of the embedding or encoding that reads them, or below the length
    of the axes if they may be places. Floats are normally distributed around 0 or around the mean
    of a `Normalization`, or lie between 0 and 255 before a `Rescaling` that expects pixels. uint8
    goes from 0 to 255. Strings are words of the vocabulary that reads them, or texts of such words;
    integers and floats that a table reads reach each of its entries. What reads an input is told by
    the traced graph, see `export.readers`.

    Variable axes get two sizes; axes that need not have one size get different ones.

    Raises:
        ExportError: The model takes strings and has no vocabulary, or takes none of the sizes tried
            for its variable axes.
    """
    ranges = [_range_of(inference, number) for number in range(len(inference.inputs))]
    axes = _variable_axes(inference)
    if not axes:
        lengths = [size for spec in inference.inputs for size in spec.shape[1:]]
        shortest = min((size for size in lengths if isinstance(size, int)), default=_MIN_VALUES)
        drawn, _ = _first_accepted(inference, ranges, {}, shortest)
        return _samples(drawn, ())
    lowest = [
        known if spec.dtype == "string" or _are_values(known) else (0, 0)
        for spec, known in zip(inference.inputs, ranges, strict=True)
    ]
    for size in _SIZES:
        sizes = dict.fromkeys(axes, size)
        last_error = _refusal(inference, _draw(inference, lowest, sizes))
        if last_error is None:
            drawn, ranges = _first_accepted(inference, ranges, sizes, size)
            return _samples(drawn, _of_other_sizes(inference, ranges, size))
    shapes = ", ".join(map(describe_spec, inference.inputs))
    raise ExportError(
        "The model must take some size of its variable axes "
        f"from {min(_SIZES)} to {max(_SIZES)}. Received: {shapes}, which failed for each. "
        f"{last_error} Give samples with --samples."
    )


def _variable_axes(inference: InferenceFunction) -> list[str]:
    """Return the names of the variable axes after the batch."""
    names = [size for spec in inference.inputs for size in spec.shape[1:] if isinstance(size, str)]
    return list(dict.fromkeys(names))


def _of_other_sizes(inference: InferenceFunction, ranges: list[Any], size: int) -> tuple[Any, ...]:
    """Draw inputs with other sizes: each axis with another one if the model takes that."""
    axes = _variable_axes(inference)
    different = {axis: (place + 2) * size for place, axis in enumerate(axes)}
    same = (dict.fromkeys(axes, other) for other in (2 * size, size + 1, size - 1, size // 2))
    for sizes in (different, *same):
        if min(sizes.values()) > 0:
            drawn = _draw(inference, ranges, sizes, _MIN_SAMPLES)
            if _refusal(inference, drawn) is None:
                return (drawn,)
    return ()


def _first_accepted(
    inference: InferenceFunction, ranges: list[Any], sizes: dict[str, int], shortest: int
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Draw from the widest ranges that the model takes; return what was drawn, and the ranges.

    The most that is known of integers is what reads them, which need not be the limit: a place in
    a text must be below its length.

    Args:
        inference: The traced model.
        ranges: Range of each input, as far as it is known.
        sizes: Size of each variable axis.
        shortest: Length that places must be below.
    """
    whole = [
        spec.dtype in ("int8", "int32", "int64") and not _are_values(known)
        for spec, known in zip(inference.inputs, ranges, strict=True)
    ]
    unknown = [
        is_whole and bounds == (0, _MIN_VALUES - 1)
        for is_whole, bounds in zip(whole, ranges, strict=True)
    ]
    places = (0, max(shortest - 1, 0))
    changes = [
        (_WIDE_RANGE, unknown),
        (places, [False] * len(whole)),
        *((places, [n == own for n in range(len(whole))]) for own, is_ in enumerate(whole) if is_),
        (places, whole),
    ]
    for changed, where in changes if any(whole) else ():
        candidate = [
            changed if is_changed else own for own, is_changed in zip(ranges, where, strict=True)
        ]
        accepted = _draw(inference, candidate, sizes)
        if _refusal(inference, accepted) is None:
            return accepted, candidate
    return _draw(inference, ranges, sizes), ranges


def _refusal(inference: InferenceFunction, inputs: dict[str, np.ndarray]) -> ExportError | None:
    """Return the error with which Keras refuses inputs; None if it takes them."""
    count = inference.batch_size or _TRIED_SAMPLES
    try:  # the last samples are at the ends of the ranges
        inference.predict({name: array[-count:] for name, array in inputs.items()})
    except ExportError as error:
        return error
    return None


def _samples(inputs: Inputs, others: tuple[Inputs, ...]) -> Samples:
    return Samples(inputs, DRAWN, _EDGE_CASES, len(_EDGE_CASES), others)


def _draw(
    inference: InferenceFunction,
    ranges: list[Any],
    sizes: dict[str, int],
    most: int = _MAX_SAMPLES,
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [
        [n if isinstance(n, int) else sizes[n] for n in spec.shape[1:]] for spec in inference.inputs
    ]
    numbers = sum(map(math.prod, shapes))
    count = min(max(_MAX_NUMBERS // numbers, _MIN_SAMPLES), most)
    count = min(count, max(_MAX_WEIGHTS // max(1, inference.model.count_params()), _FEWEST_SAMPLES))
    drawn = {
        spec.name: _draw_input(spec, known, (count, *shape), random)
        for spec, shape, known in zip(inference.inputs, shapes, ranges, strict=True)
    }
    fixed = inference.batch_size
    return drawn if fixed is None else dict(rows_of(drawn, fixed))


def _draw_input(
    spec: TensorSpec, known: Any, shape: Sequence[int], random: np.random.Generator
) -> np.ndarray:
    """Draw from what `_range_of` returns; two edge cases follow."""
    count, *rest = shape
    if spec.dtype == "string":
        words, most = known
        return _draw_strings(words, most, random, (count + 2, *rest))
    if _are_values(known):
        low, high = known[0], known[-1]
        body: Any = _each_of(known, shape, random)
    else:
        low, high = known
        if spec.dtype.startswith("float"):
            # Normally distributed, cut off at the ends of the range.
            middle, spread = (low + high) / 2, (high - low) / 6
            body = np.clip(random.normal(middle, spread, shape), low, high)
        else:
            body = random.integers(low, high, shape, endpoint=True)
    ends = [np.broadcast_to(end, (1, *rest)) for end in (low, high)]
    return np.concatenate([body, *ends]).astype(spec.dtype)


def _are_values(known: Any) -> bool:
    """Return whether what is known of an input is an array of values, see `_range_of`."""
    return isinstance(known, np.ndarray)


def _each_of(values: np.ndarray, shape: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Draw each value as often as the others, in a random order."""
    rounds = math.ceil(math.prod(shape) / len(values))
    drawn = np.concatenate([random.permutation(values) for _ in range(rounds)])
    return drawn[: math.prod(shape)].reshape(shape)


def _range_of(inference: InferenceFunction, number: int) -> Any:
    """Return the lowest and the highest value to draw; arrays where elements differ.

    Where only some values matter, return an array of these. For strings, return the words to draw,
    and the most of them in a text.
    """
    spec = inference.inputs[number]
    if spec.name in inference.noise:
        return RANGES[inference.noise[spec.name]]
    if spec.dtype == "bool":
        return 0, 1
    readers = readers_of(inference, number)
    if spec.dtype == "string":
        return _words_of(readers or list(inference.model._flatten_layers()), spec)
    values = _values_of(readers, spec)
    return _limits_of(readers, spec) if values is None else values


def _limits_of(readers: list[Any], spec: TensorSpec) -> tuple[Any, Any]:
    """Return the lowest and the highest number that layers expect."""
    if spec.dtype == "uint8" or any(map(_expects_pixels, readers)):
        return 0, 255
    if not spec.dtype.startswith("float"):
        sizes = [size for layer in readers if (size := _number_of_values(layer)) is not None]
        return 0, min(sizes, default=_MIN_VALUES) - 1
    for layer in readers:
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None:
            mean = np.asarray(keras.ops.convert_to_numpy(layer.mean))[0]
            deviation = np.sqrt(np.asarray(keras.ops.convert_to_numpy(layer.variance))[0])
            low, high = mean - 3 * deviation, mean + 3 * deviation
            return (low, high) if _fits(low.shape, spec.shape[1:]) else (low.min(), high.max())
    return -3.0, 3.0


def _values_of(readers: list[Any], spec: TensorSpec) -> np.ndarray | None:
    """Return numbers that reach each entry of the tables that read an input; None without any."""
    found: list[float] = []
    for layer in readers:
        if isinstance(layer, keras.layers.IntegerLookup) and not layer.invert:
            found += _known_and_unknown(layer)
        elif isinstance(layer, keras.layers.Discretization) and layer.bin_boundaries is not None:
            found += _around(sorted(map(float, layer.bin_boundaries)))
    values = np.array(found)
    if not spec.dtype.startswith("float"):
        limits = np.iinfo(spec.dtype)
        values = values[(values >= limits.min) & (values <= limits.max)]
    return np.unique(values.astype(spec.dtype)) if len(values) else None


def _known_and_unknown(layer: Any) -> list[int]:
    """Return the numbers that a layer looks up, and two that it lacks if it takes those."""
    known = list(map(int, layer.get_vocabulary(include_special_tokens=False)))
    mask = [] if layer.mask_token is None else [int(layer.mask_token)]
    unknown = [min(known) - 1, max(known) + 1] if known and layer.num_oov_indices else []
    return [*known, *mask, *unknown]


def _around(bounds: list[float]) -> list[float]:
    """Return the boundaries of bins, the numbers just below and above, and one inside each bin."""
    if not bounds:
        return []
    gap = (bounds[-1] - bounds[0]) / len(bounds) or max(abs(bounds[0]), 1.0)
    inside = [(low + high) / 2 for low, high in pairwise(bounds)]
    exact = np.array(bounds, np.float32)
    tiny = np.finfo(np.float32).tiny  # processors may take smaller numbers for 0
    near = [
        np.where(exact == 0, sign * tiny, np.nextafter(exact, np.float32(sign * np.inf)))
        for sign in (-1, 1)
    ]
    return [bounds[0] - gap, *bounds, *inside, *chain(*near), bounds[-1] + gap]


def _words_of(readers: list[Any], spec: TensorSpec) -> tuple[list[str], int]:
    """Return the words that layers look up, and the most of them in a text.

    Words that a vocabulary lacks come last.
    """
    texts = [one for one in readers if isinstance(one, keras.layers.TextVectorization)]
    tables = texts or [one for one in readers if isinstance(one, keras.layers.StringLookup)]
    if not tables:
        raise ExportError(
            "Strings without a vocabulary cannot be drawn as samples. "
            f"Received: {spec.name}, of strings. Give samples with --samples."
        )
    known = [one.get_vocabulary(include_special_tokens=False) for one in tables]
    words = list(dict.fromkeys(chain.from_iterable(known)))
    if texts:
        return [*words, *map(str.upper, words), *_UNUSUAL], _WORDS_OF_TEXT
    return ([*words, *_UNUSUAL] if all(one.num_oov_indices for one in tables) else words), 1


def _draw_strings(
    words: list[str], most: int, random: np.random.Generator, shape: Sequence[int]
) -> np.ndarray:
    """Draw words, or texts of at most that many, of which the first is known.

    The last two are the edge cases: no word, and as many as possible.
    """
    if most == 1:
        return _each_of(np.array(words, object), shape, random)
    counts = random.integers(0, most, shape)
    counts[-1] = most - 1
    texts = [[words[0], *random.choice(words, count)] for count in counts.ravel()]
    drawn = np.array([" ".join(text) for text in texts], object).reshape(shape)
    drawn[-2] = ""
    return drawn


def _fits(shape: Sequence[int], wanted: Sequence[int | str]) -> bool:
    """Return whether an array broadcasts to a shape; after a layer that joins inputs it may not."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(own in (1, other) for own, other in pairs)


def _expects_pixels(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Rescaling):
        return False
    largest = float(np.max(np.abs(np.asarray(layer.scale))))
    return 1 / 300 < largest < 1 / 100  # 1/255 and 2/255


def _number_of_values(layer: Any) -> int | None:
    if isinstance(layer, keras.layers.Embedding):
        return int(layer.input_dim)
    if isinstance(layer, keras.layers.CategoryEncoding):
        return int(layer.num_tokens)
    is_table = isinstance(layer, keras.layers.IntegerLookup | keras.layers.StringLookup)
    if is_table and layer.invert:
        return int(layer.vocabulary_size())
    return None
