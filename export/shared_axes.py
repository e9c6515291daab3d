"""Finds the variable axes of several inputs that must have one size, such as those of a text."""

import itertools
import re
from collections.abc import Callable, Sequence

from .tensor_names import axis_kind, unique_names

Axis = tuple[int, int]  # index of the input, and of its axis
Shape = tuple[int | None, ...]
# What TensorFlow says of two sizes that differ, and how it and Keras write shapes.
_MISMATCH = re.compile(r"must be equal, but are (\d+) and (\d+)")
_SHAPE = re.compile(r"[\[(]((?:None|\?|\d+)(?:,\s*(?:None|\?|\d+))+)[\])]")
# The lowest of the sizes that are tried. Convolutions may need large ones, positions small ones.
_LOWEST = (16, 2, 64)


def tied_axes(trace: Callable[[list[Shape]], object], shapes: Sequence[Shape]) -> list[set[Axis]]:
    """Return the sets of axes that must have one size.

    The model is traced with a different size for each axis; where TensorFlow finds that two must be
    equal, they are given one size, and it is traced again.

    Args:
        trace: Function that traces the model with inputs of these shapes; it raises if it cannot.
        shapes: Shape of each input, with None for an axis of any size; the batch is first.
    """
    axes = [(n, a) for n, shape in enumerate(shapes) for a in range(1, len(shape))]
    axes = [(number, axis) for number, axis in axes if shapes[number][axis] is None]
    if len({number for number, _ in axes}) < 2:
        return []
    for lowest in _LOWEST:
        sets = [{axis} for axis in axes]
        while True:
            sizes = {axis: lowest + place for place, found in enumerate(sets) for axis in found}
            message = _failure(trace, [_filled(n, shape, sizes) for n, shape in enumerate(shapes)])
            if message is None:
                return [found for found in sets if len(found) > 1]
            pair = _unequal(message, range(lowest, lowest + len(sets)))
            if pair is None:  # it fails for another reason, such as an image that is too small
                break
            sets[pair[0]] |= sets.pop(pair[1])
    return []


def _filled(number: int, shape: Shape, sizes: dict[Axis, int]) -> Shape:
    return tuple(sizes.get((number, axis), size) for axis, size in enumerate(shape))


def _failure(trace: Callable[[list[Shape]], object], shapes: list[Shape]) -> str | None:
    try:
        trace(shapes)
    except Exception as error:  # Keras and TensorFlow raise anything
        return str(error)
    return None


def _unequal(message: str, sizes: range) -> tuple[int, int] | None:
    """Return the places of the two sizes that must be equal, the lower one first."""
    told = [tuple(pair) for pair in _MISMATCH.findall(message)]
    shapes = [re.split(r",\s*", shape) for shape in _SHAPE.findall(message)]
    for before, after in itertools.pairwise(shapes):
        if len(before) == len(after):
            told += [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    for pair in told:
        if all(size.isdigit() and int(size) in sizes for size in pair):
            first, second = sorted(sizes.index(int(size)) for size in pair)
            return first, second
    return None


def axis_names(
    sets: Sequence[set[Axis]], inputs: Sequence[str], ranks: Sequence[int]
) -> dict[Axis, str]:
    """Return a name for each axis in one of the sets: `sequence`, `height`, `encoder_sequence`.

    Args:
        sets: Sets of axes that have one size.
        inputs: Names of the inputs.
        ranks: Number of the axes of each.
    """
    kinds = [_kind(found, ranks) for found in sets]
    names = [
        f"{_common_beginning([inputs[number] for number, _ in found])}{kind}"
        if kinds.count(kind) > 1
        else kind
        for found, kind in zip(sets, kinds, strict=True)
    ]
    named = zip(sets, unique_names(names), strict=True)
    return {axis: name for found, name in named for axis in found}


def _kind(found: set[Axis], ranks: Sequence[int]) -> str:
    kinds = {axis_kind(ranks[number], axis) for number, axis in found} - {"steps", ""}
    return kinds.pop() if len(kinds) == 1 else "sequence"


def _common_beginning(names: Sequence[str]) -> str:
    parts = [name.split("_") for name in names]
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False))
    return "".join(f"{column[0]}_" for column in same)
