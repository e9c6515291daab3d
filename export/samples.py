"""The samples of a proof: evaluation data and edge cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serving.golden import REAL_SAMPLES
from serving.parity import Inputs, Outputs, count_samples, take_samples

from .errors import ExportError

EDGE_CASES = ("zeros", "maximum", "random")
_RANDOM_SAMPLES = 8


@dataclass(frozen=True)
class Samples:
    """Inputs of a model.

    Attributes:
        inputs: One array `(samples, …)`, or one for each input's name. The edge cases come last.
        source: Description of where the samples, without the edge cases, came from.
        edge_cases: Names of the kinds of edge cases.
        num_edge_cases: Number of edge cases.
        of_other_sizes: More inputs, with other sizes of the variable axes.
    """

    inputs: Inputs
    source: str
    edge_cases: tuple[str, ...]
    num_edge_cases: int
    of_other_sizes: tuple[Inputs, ...] = ()

    def __len__(self) -> int:
        """Return the number of samples without the edge cases."""
        return count_samples(self.inputs) - self.num_edge_cases


def with_edge_cases(
    inputs: Inputs, source: str, nullable_columns: Sequence[int] = (), has_unknown: bool = True
) -> Samples:
    """Append edge cases: all zeros, all at the maximum, random samples, and missing values.

    The maximum is 255 for uint8 and each element's largest value otherwise. Random samples lie
    between the extremes. The first edge case has an unknown string; the other strings are drawn
    from `inputs`. Missing values are added if there are nullable columns.

    Args:
        inputs: One array `(samples, …)` of numbers or strings, or one for each input's name.
        source: Description of where the samples came from.
        nullable_columns: Indices of the float32 columns that may have missing values.
        has_unknown: Whether the model accepts strings that it does not know.
    """
    random = np.random.default_rng(0)
    arrays = inputs if isinstance(inputs, dict) else {"": inputs}
    unknown = "\x00 unknown" if has_unknown else None
    added = {
        name: _edge_cases(array, random, nullable_columns, unknown)
        for name, array in arrays.items()
    }
    joined = {name: np.concatenate([array, added[name]]) for name, array in arrays.items()}
    count = count_samples(joined) - count_samples(inputs)
    names = EDGE_CASES if not nullable_columns else (*EDGE_CASES, "missing")
    return Samples(joined if isinstance(inputs, dict) else joined[""], source, names, count)


def _edge_cases(
    array: np.ndarray,
    random: np.random.Generator,
    nullable_columns: Sequence[int],
    unknown: str | None,
) -> np.ndarray:
    if array.dtype == object:
        return _edge_strings(array, random, len(nullable_columns) > 0, unknown)
    if array.dtype.kind == "f":
        return _edge_floats(array, random, nullable_columns)
    return _edge_integers(array, random)


def _edge_strings(
    array: np.ndarray, random: np.random.Generator, has_missing: bool, unknown: str | None
) -> np.ndarray:
    drawn = random.choice(array, _RANDOM_SAMPLES + 2 + has_missing)
    if unknown is not None:
        drawn[0] = unknown
    return drawn


def _edge_integers(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    shape = (_RANDOM_SAMPLES, *array.shape[1:])
    zeros = np.zeros_like(array[:1])
    if array.dtype == np.uint8:
        maximum = np.full_like(zeros, 255)
        return np.concatenate([zeros, maximum, random.integers(0, 256, shape, np.uint8)])
    lowest, highest = array.min(axis=0, keepdims=True), array.max(axis=0, keepdims=True)
    drawn = random.integers(lowest, highest, shape, endpoint=True)
    return np.concatenate([zeros, highest, drawn.astype(array.dtype)])


def _edge_floats(
    array: np.ndarray, random: np.random.Generator, nullable_columns: Sequence[int]
) -> np.ndarray:
    shape = (_RANDOM_SAMPLES, *array.shape[1:])
    present = np.where(np.isnan(array), 0, array)  # a column may have no value in any sample
    lowest, maximum = present.min(axis=0, keepdims=True), present.max(axis=0, keepdims=True)
    zeros = np.zeros_like(array[:1])
    cases = [zeros, maximum, random.uniform(lowest, maximum, shape).astype(array.dtype)]
    if len(nullable_columns):
        missing = np.array(maximum)
        missing[:, nullable_columns] = np.nan
        cases.append(missing)
    return np.concatenate(cases)


def finite_samples(samples: Samples, outputs: Outputs) -> tuple[Samples, Outputs]:
    """Leave out edge cases whose outputs are not finite, since nothing can be compared with them.

    Such a case, for example a mean over no tokens, is not a fault of the model.

    Raises:
        ExportError: The output for a sample that is no edge case is not finite.
    """
    for name, array in outputs.items():
        is_finite = are_finite({name: array})
        if not is_finite[: len(samples)].all():
            place = int(np.argmin(is_finite))
            raise ExportError(
                f"Keras' outputs must be finite. Received: {name} of sample {place} of "
                f"{samples.source}, with NaN or infinity."
            )
    inputs, left = finite_part(samples.inputs, outputs)
    kept = count_samples(inputs) - len(samples)
    return replace(samples, inputs=inputs, num_edge_cases=kept), left


def finite_part(inputs: Inputs, outputs: Outputs) -> tuple[Inputs, Outputs]:
    """Return the inputs whose outputs are finite, and these outputs."""
    is_finite = are_finite(outputs)
    if is_finite.all():
        return inputs, outputs
    return take_samples(inputs, is_finite), {name: a[is_finite] for name, a in outputs.items()}


def are_finite(outputs: Outputs) -> np.ndarray:
    """Return for each sample whether all its outputs are finite, bool `(samples,)`."""
    found = [
        np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if array.dtype.kind == "f"
        else np.ones(len(array), bool)
        for array in outputs.values()
    ]
    answer: np.ndarray = np.logical_and.reduce(found)
    return answer


def rows_of(inputs: Inputs, count: int) -> Inputs:
    """Return the first `count` samples, repeated from the first one on if there are fewer."""
    return take_samples(inputs, np.arange(count) % count_samples(inputs))


def choose_golden(samples: Samples, count: int = REAL_SAMPLES) -> np.ndarray:
    """Return the indices of `count` samples spread over the data, and of every edge case, int64."""
    edge_cases = np.arange(len(samples), len(samples) + samples.num_edge_cases)
    return np.concatenate([spread(len(samples), count), edge_cases])


def spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` of the indices below `count`, spread evenly, int64."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
