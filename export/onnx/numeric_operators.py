"""Converts operations on numbers and colors that tf2onnx lacks."""

import functools
from typing import Any

import numpy as np
from onnx import TensorProto

from .counting import range_of, size_of
from .nodes import Steps

# Giles, Approximating the erfinv function, in GPU Computing Gems, 2011: the coefficients for
# float32, of the highest power first, in the middle and at the ends.
_ERFINV_MIDDLE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_ENDS = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def numeric_handlers() -> dict[str, Any]:
    """Return the handler of each operation."""
    return {
        "BroadcastArgs": _convert_broadcast_args,
        "Cross": _convert_cross,
        "Erfinv": _convert_erfinv,
        "HSVToRGB": _convert_to_rgb,
        "InTopKV2": _convert_in_top_k,
        "LowerBound": _convert_search,
        "RGBToHSV": _convert_to_hsv,
        "UpperBound": _convert_search,
        "XlaDynamicUpdateSlice": _convert_slice_update,
    }


def _convert_erfinv(context: Any, node: Any, _name: str, _args: Any) -> None:
    steps = Steps(context, node)
    (x,) = node.input
    one = np.float32(1)
    w = steps.add(
        "Neg",
        steps.add("Log", steps.add("Mul", steps.add("Sub", one, x), steps.add("Add", one, x))),
    )
    middle = _polynomial(steps, _ERFINV_MIDDLE, steps.add("Sub", w, np.float32(2.5)))
    root = steps.add("Sub", steps.add("Sqrt", w), np.float32(3))
    ends = _polynomial(steps, _ERFINV_ENDS, root)
    factor = steps.add("Where", steps.add("Less", w, np.float32(5)), middle, ends)
    is_end = steps.add("Equal", steps.add("Abs", x), one)
    steps.replace(steps.add("Mul", x, steps.add("Where", is_end, np.float32(np.inf), factor)))


def _polynomial(steps: Steps, coefficients: tuple[float, ...], x: str) -> str:
    value: Any = np.float32(coefficients[0])
    for each in coefficients[1:]:
        value = steps.add("Add", steps.add("Mul", value, x), np.float32(each))
    return str(value)


def _convert_search(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert LowerBound or UpperBound: how many sorted values are below, or not above."""
    steps = Steps(context, node)
    ordered = steps.add("Unsqueeze", node.input[0], [1])
    values = steps.add("Unsqueeze", node.input[1], [2])
    is_before = steps.add("Less" if node.type == "LowerBound" else "LessOrEqual", ordered, values)
    number = steps.add("Cast", is_before, to=node.output_dtypes[0])
    steps.replace(steps.add("ReduceSum", number, [2], keepdims=0))


def _convert_in_top_k(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert InTopKV2: fewer than k classes are more probable than the right one.

    Ties count as within. It is false for a class that does not exist, and where a number is not
    finite.
    """
    steps = Steps(context, node)
    scores, targets, k = node.input
    target = steps.add("Unsqueeze", steps.add("Cast", targets, to=TensorProto.INT64), [1])
    limit = size_of(steps, scores, 1)
    last = steps.add("Sub", limit, np.array([1]))
    place = steps.add("Min", steps.add("Max", target, np.int64(0)), last)
    score = steps.add("GatherElements", scores, place, axis=1)
    is_better = steps.add("Cast", steps.add("Greater", scores, score), to=TensorProto.INT64)
    number = steps.add("ReduceSum", is_better, [1], keepdims=1)
    is_finite = steps.add("Less", steps.add("Abs", scores), np.float32(np.inf))
    count = steps.add("ReduceSum", steps.add("Cast", is_finite, to=TensorProto.INT64), [1])
    checks = [
        steps.add("Less", number, steps.add("Cast", k, to=TensorProto.INT64)),
        steps.add("Equal", target, place),
        steps.add("Equal", count, limit),
    ]
    found = functools.reduce(lambda a, b: steps.add("And", a, b), checks)
    steps.replace(steps.add("Squeeze", found, [1]))


def _convert_cross(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert the cross product along the last axis, of three."""
    steps = Steps(context, node)
    left, right = (
        [steps.add("Gather", side, np.array(order), axis=-1) for order in ([1, 2, 0], [2, 0, 1])]
        for side in node.input
    )
    products = steps.add("Mul", left[0], right[1]), steps.add("Mul", left[1], right[0])
    steps.replace(steps.add("Sub", *products))


def _convert_broadcast_args(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert the shape to which two shapes broadcast, as the shape of such a tensor."""
    steps = Steps(context, node)
    first, second = (steps.add("Cast", side, to=TensorProto.INT64) for side in node.input)
    zeros = steps.add("Expand", np.array([False]), first)
    shape = steps.add("Shape", steps.add("Expand", zeros, second))
    steps.replace(steps.add("Cast", shape, to=node.output_dtypes[0]))


def _convert_slice_update(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert the replacement of a box that begins at the given place, moved inside if need be."""
    steps = Steps(context, node)
    data, update, starts = node.input
    rank = context.get_rank(data)
    if rank is None:
        return
    sizes, lengths = steps.add("Shape", data), steps.add("Shape", update)
    first = steps.add("Cast", starts, to=TensorProto.INT64)
    latest = steps.add("Sub", sizes, lengths)
    first = steps.add("Min", steps.add("Max", first, np.int64(0)), latest)
    inside = []
    for axis in range(rank):
        offset = steps.add("Slice", first, [axis], [axis + 1])
        length = size_of(steps, update, axis)
        place = steps.add("Sub", range_of(steps, size_of(steps, data, axis)), offset)
        last = steps.add("Sub", length, np.array([1]))
        index = steps.add("Min", steps.add("Max", place, np.int64(0)), last)
        update = steps.add("Gather", update, index, axis=axis)
        is_inside = steps.add("Equal", place, index)
        behind = list(range(1, rank - axis))
        inside.append(steps.add("Unsqueeze", is_inside, behind) if behind else is_inside)
    steps.replace(
        steps.add(
            "Where", functools.reduce(lambda a, b: steps.add("And", a, b), inside), update, data
        )
    )


def _convert_to_hsv(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert colors to hue, saturation and value, all from 0 to 1."""
    steps = Steps(context, node)
    zero, one = np.float32(0), np.float32(1)
    red, green, blue = (_channel(steps, node.input[0], number) for number in range(3))
    value = steps.add("Max", red, green, blue)
    spread = steps.add("Sub", value, steps.add("Min", red, green, blue))
    has_color = steps.add("Greater", spread, zero)
    divisor = steps.add("Where", has_color, steps.add("Mul", spread, np.float32(6)), one)

    def sector(first: str, second: str, offset: float) -> str:
        part = steps.add("Div", steps.add("Sub", first, second), divisor)
        return steps.add("Add", part, np.float32(offset))

    rest = steps.add(
        "Where", steps.add("Equal", value, green),
        sector(blue, red, 2 / 6), sector(red, green, 4 / 6),
    )  # fmt: skip
    hue = steps.add("Where", steps.add("Equal", value, red), sector(green, blue, 0), rest)
    hue = steps.add("Where", has_color, hue, zero)
    is_below = steps.add("Less", hue, zero)
    hue = steps.add("Where", is_below, steps.add("Add", hue, one), hue)
    is_bright = steps.add("Greater", value, zero)
    share = steps.add("Div", spread, steps.add("Where", is_bright, value, one))
    saturation = steps.add("Where", is_bright, share, zero)
    steps.replace(steps.add("Concat", hue, saturation, value, axis=-1))


def _convert_to_rgb(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert hue, saturation and value to colors."""
    steps = Steps(context, node)
    hue, saturation, value = (_channel(steps, node.input[0], number) for number in range(3))
    sixths = steps.add("Mul", hue, np.float32(6))
    zero, one = np.float32(0), np.float32(1)
    gray = steps.add("Sub", one, saturation)
    channels = []
    for middle, sign in ((3, 1), (2, -1), (4, -1)):
        distance = steps.add("Abs", steps.add("Sub", sixths, np.float32(middle)))
        ramp = steps.add("Mul", distance, np.float32(sign))
        ramp = steps.add("Sub", ramp, np.float32(1 if sign > 0 else -2))
        full = steps.add("Clip", ramp, zero, one)
        mixed = steps.add("Add", gray, steps.add("Mul", saturation, full))
        channels.append(steps.add("Mul", mixed, value))
    steps.replace(steps.add("Concat", *channels, axis=-1))


def _channel(steps: Steps, images: str, number: int) -> str:
    return steps.add("Gather", images, np.array([number]), axis=-1)
