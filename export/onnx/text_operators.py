"""Converts TensorFlow operations on strings, with the string operators of opset 20.

ONNX can split a text at a literal and join two texts. Nothing else looks into a text, so a
replacement is a split at what is replaced, followed by a join. What cannot be had in this way stays
as it is, and is refused later as an operation that ONNX lacks: hashes, single characters, and
regular expressions of other than literals and sets of characters.

Each handler is for tf2onnx's `custom_op_handlers`: it takes tf2onnx's graph and the node to
replace.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from .counting import bounds_of, count_values, range_of, rows_of, size_of
from .lookup_operators import ML_DOMAIN
from .nodes import Steps, convert_by_default
from .text_patterns import Pattern, read_pattern

# What TensorFlow takes for white space; ONNX Runtime takes only the first.
_SPACES = " \t\n\v\f\r"


def text_handlers() -> dict[str, Any]:
    """Return the handler of each operation on strings."""
    return {
        "AsString": _convert_as_string,
        "RaggedTensorToTensor": _convert_ragged_to_tensor,
        "RegexReplace": _convert_regex_replace,
        "StaticRegexReplace": _convert_regex_replace,
        "StringJoin": _convert_join,
        "StringLower": _convert_case,
        "StringNGrams": _convert_ngrams,
        "StringSplitV2": _convert_split,
        "StringUpper": _convert_case,
    }


def _convert_case(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert StringLower or StringUpper of ASCII letters; other letters stay as they are."""
    if node.get_attr_value("encoding", b""):
        return  # also of letters that become two
    steps = Steps(context, node)
    flat = _flat(steps, node.input[0])
    action = node.type.removeprefix("String").upper()
    # Only the locale C exists everywhere, and in it only the letters of ASCII have a case.
    changed = steps.add(
        "StringNormalizer", flat, case_change_action=action, is_case_sensitive=1, locale="C"
    )
    steps.replace(_in_shape_of(steps, changed, node.input[0]))


def _convert_as_string(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert AsString of integers; ONNX writes floats in another way."""
    if context.get_dtype(node.input[0]) in (TensorProto.INT32, TensorProto.INT64):
        steps = Steps(context, node)
        steps.replace(steps.add("Cast", node.input[0], to=TensorProto.STRING))


def _convert_join(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert StringJoin of texts of one shape."""
    if len({tuple(context.get_shape(text) or ()) for text in node.input}) != 1:
        return
    steps = Steps(context, node)
    separator = node.get_attr_value("separator", b"").decode()
    flat = [_flat(steps, text) for text in node.input]
    steps.replace(_in_shape_of(steps, _joined(steps, flat, separator), node.input[0]))


def _convert_regex_replace(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert the replacement of a literal, or of the characters of a set, by a literal."""
    found = _replacement(context, node)
    if found is None:
        return
    pattern, rewrite = found
    steps = Steps(context, node)
    text = _flat(steps, node.input[0])
    first, *others = pattern.literals
    for literal in others:  # all become the same one, which is then replaced
        text = _replaced(steps, text, literal, first if rewrite else "")
    text = _replaced(steps, text, first, rewrite, pattern.is_repeated)
    steps.replace(_in_shape_of(steps, text, node.input[0]))


def _replacement(context: Any, node: Any) -> tuple[Pattern, str] | None:
    """Return what a node replaces and by what; None if it is no replacement of literals."""
    if not node.get_attr_value("replace_global", 1):
        return None
    if node.type == "StaticRegexReplace":
        texts = [node.get_attr_value(key).decode() for key in ("pattern", "rewrite")]
    else:
        constants = [context.get_node_by_output(name) for name in node.input[1:]]
        if not all(constant.is_const() for constant in constants):
            return None
        values = [
            np.asarray(constant.get_tensor_value(as_list=False)).item() for constant in constants
        ]
        texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    pattern, rewrite = read_pattern(texts[0]), texts[1]
    return None if pattern is None or "\\" in rewrite else (pattern, rewrite)


def _replaced(
    steps: Steps, text: str, literal: str, rewrite: str, is_repeated: bool = False
) -> str:
    """Return texts `(n,)` with a literal, or each run of it, replaced."""
    parts, counts = steps.add_all("StringSplit", 2, text, delimiter=literal)
    if not rewrite:
        return _joined_columns(steps, parts)
    columns = range_of(steps, size_of(steps, parts, 1))
    is_behind = steps.add(
        "And",
        steps.add("Less", columns, steps.add("Unsqueeze", counts, [1])),
        steps.add("Greater", columns, np.int64(0)),
    )
    if is_repeated:  # a literal behind an empty part continues a run, unless the text begins so
        before = steps.add(
            "Gather",
            parts,
            steps.add("Max", steps.add("Sub", columns, np.int64(1)), np.int64(0)),
            axis=1,
        )
        begins = steps.add(
            "Or",
            steps.add("Not", _is_empty(steps, before)),
            steps.add("Equal", columns, np.int64(1)),
        )
        is_behind = steps.add("And", is_behind, begins)
    between = steps.add("Where", is_behind, _text(rewrite), _text(""))
    pairs = steps.add(
        "Concat", steps.add("Unsqueeze", between, [2]), steps.add("Unsqueeze", parts, [2]), axis=2
    )
    width = steps.add("Mul", size_of(steps, parts, 1), np.array([2]))
    shape = steps.add("Concat", size_of(steps, text, 0), width, axis=0)
    return _joined_columns(steps, steps.add("Reshape", pairs, shape))


def _joined(steps: Steps, texts: list[str], separator: str) -> str:
    """Return texts `(n,)`, joined one by one, with a separator between them."""
    columns = [steps.add("Unsqueeze", text, [1]) for text in texts]
    if separator:
        between = steps.add("Expand", _text(separator), steps.add("Shape", columns[0]))
        columns = [part for column in columns for part in (between, column)][1:]
    return _joined_columns(steps, steps.add("Concat", *columns, axis=1))


def _joined_columns(steps: Steps, parts: str) -> str:
    """Return texts `(n,)`, each the join of a row of `parts`, `(n, columns)`.

    StringConcat of ONNX Runtime 1.31 appends to what its output held before, wherever memory is
    used again. The output of a loop's round is always new.
    """

    def join(within: Steps, number: str, states: Sequence[str]) -> list[str]:
        (text,) = states
        return [within.add("StringConcat", text, within.add("Gather", parts, number, axis=1))]

    start = steps.add("Expand", _text(""), size_of(steps, parts, 0))
    count = steps.add("Squeeze", size_of(steps, parts, 1))
    return steps.add_loop(count, [start], [(TensorProto.STRING, 1)], join)[0]


def _convert_split(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert StringSplitV2 of texts `(n,)` to tokens, their places, and the shape of these.

    The places are int64 `(tokens, 2)`: the text and the number of the token in it.
    """
    separator = context.get_node_by_output(node.input[1])
    if not separator.is_const() or node.get_attr_value("maxsplit", -1) != -1:
        return
    value = np.asarray(separator.get_tensor_value(as_list=False)).item()
    literal = value.decode() if isinstance(value, bytes) else str(value)
    steps = Steps(context, node)
    text = node.input[0]
    split = _split_at(steps, text, literal) if literal else _split_at_spaces(steps, text)
    tokens, rows = split
    num_rows = size_of(steps, text, 0)
    lengths = count_values(steps, rows, num_rows)
    starts = steps.add("CumSum", lengths, np.int64(0), exclusive=1)
    numbers = range_of(steps, size_of(steps, rows, 0))
    columns = steps.add("Sub", numbers, steps.add("Gather", starts, rows))
    places = steps.add(
        "Concat", steps.add("Unsqueeze", rows, [1]), steps.add("Unsqueeze", columns, [1]), axis=1
    )
    longest = steps.add("ReduceMax", lengths, np.array([0]), keepdims=1)
    steps.replace(places, tokens, steps.add("Concat", num_rows, longest, axis=0))


def _split_at_spaces(steps: Steps, text: str) -> tuple[str, str]:
    """Return the tokens between white space, and the row of each."""
    tokens, rows = text, range_of(steps, size_of(steps, text, 0))
    for space in _SPACES:
        delimiter = {} if space == " " else {"delimiter": space}
        parts, _ = steps.add_all("StringSplit", 2, tokens, **delimiter)
        is_token = steps.add("Not", _is_empty(steps, parts))
        tokens, rows = _kept(steps, parts, is_token, rows)
    return tokens, rows


def _split_at(steps: Steps, text: str, literal: str) -> tuple[str, str]:
    """Return the tokens between literals, which may be empty, and the row of each."""
    parts, counts = steps.add_all("StringSplit", 2, text, delimiter=literal)
    column = steps.add(
        "Expand", _text(""), steps.add("Concat", size_of(steps, text, 0), np.array([1]), axis=0)
    )
    parts = steps.add("Concat", parts, column, axis=1)
    counts = steps.add("Max", counts, np.int64(1))  # an empty text is one empty token
    columns = range_of(steps, size_of(steps, parts, 1))
    is_token = steps.add("Less", columns, steps.add("Unsqueeze", counts, [1]))
    return _kept(steps, parts, is_token, range_of(steps, size_of(steps, text, 0)))


def _kept(steps: Steps, parts: str, is_kept: str, rows: str) -> tuple[str, str]:
    """Return the elements of `parts`, `(n, columns)`, that are kept, and the row of each."""
    flags = steps.add("Reshape", is_kept, [-1])
    spread = steps.add("Expand", steps.add("Unsqueeze", rows, [1]), steps.add("Shape", parts))
    flat = steps.add("Reshape", parts, [-1]), steps.add("Reshape", spread, [-1])
    tokens, owners = (steps.add("Compress", values, flags, axis=0) for values in flat)
    return tokens, owners


def _convert_ngrams(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert StringNGrams without padding.

    A text of n tokens has n - width + 1 n-grams of each width, one width after the other.
    """
    if node.get_attr_value("pad_width") or node.get_attr_value("preserve_short_sequences"):
        return
    steps = Steps(context, node)
    tokens, splits = node.input
    separator, widths = (
        node.get_attr_value("separator").decode(),
        node.get_attr_value("ngram_widths"),
    )
    starts, ends = bounds_of(steps, splits)
    numbers = range_of(steps, size_of(steps, tokens, 0))
    rows = rows_of(steps, ends, numbers)
    end = steps.add("Gather", ends, rows)
    lengths = steps.add("Sub", ends, starts)
    counts = [
        steps.add("Max", steps.add("Sub", lengths, np.int64(width - 1)), np.int64(0))
        for width in widths
    ]
    last = steps.add(
        "CumSum", functools.reduce(lambda a, b: steps.add("Add", a, b), counts), np.int64(0)
    )
    new_splits = steps.add("Concat", np.array([0]), last, axis=0)
    # Where a row's n-grams of a width begin, for each token, less the place of the token's row.
    offset = steps.add(
        "Gather", steps.add("Sub", steps.add("Slice", new_splits, [0], [-1]), starts), rows
    )
    texts, places = [], []
    for width, number in zip(widths, counts, strict=True):
        fits = steps.add("LessOrEqual", steps.add("Add", numbers, np.int64(width)), end)
        first = steps.add("Compress", numbers, fits, axis=0)
        parts = [
            steps.add("Gather", tokens, steps.add("Add", first, np.int64(step)))
            for step in range(width)
        ]
        texts.append(parts[0] if width == 1 else _joined(steps, parts, separator))
        places.append(steps.add("Compress", steps.add("Add", offset, numbers), fits, axis=0))
        offset = steps.add("Add", offset, steps.add("Gather", number, rows))
    place = steps.add("Concat", *places, axis=0)
    order = steps.add("ScatterElements", place, place, range_of(steps, size_of(steps, place, 0)))
    steps.replace(
        steps.add("Gather", steps.add("Concat", *texts, axis=0), order),
        steps.add("Cast", new_splits, to=node.output_dtypes[1]),
    )


def _convert_ragged_to_tensor(context: Any, node: Any, _name: str, _args: Any) -> None:
    """Convert RaggedTensorToTensor of rows of numbers; tf2onnx fails without any number."""
    kinds = [kind.decode() for kind in node.get_attr_value("row_partition_types")]
    shape, values, default, *partition = node.input
    is_known = kinds in (["ROW_SPLITS"], ["FIRST_DIM_SIZE", "VALUE_ROWIDS"])
    if not is_known or (context.get_rank(values) or 0) > 1:
        convert_by_default(context, node)
        return
    steps = Steps(context, node)
    numbers = range_of(steps, size_of(steps, values, 0))
    if len(kinds) == 1:
        starts, ends = bounds_of(steps, partition[0])
        rows = rows_of(steps, ends, numbers)
        num_rows = size_of(steps, ends, 0)
        lengths = steps.add("Sub", ends, starts)
    else:
        first, rows = (steps.add("Cast", part, to=TensorProto.INT64) for part in partition)
        num_rows = steps.add("Reshape", first, [1])
        lengths = count_values(steps, rows, num_rows)
        starts = steps.add("CumSum", lengths, np.int64(0), exclusive=1)
    columns = steps.add("Sub", numbers, steps.add("Gather", starts, rows))
    longest = steps.add("ReduceMax", lengths, [0], keepdims=1)
    size = steps.add("Concat", num_rows, longest, axis=0)
    if context.get_rank(shape) == 1:  # below 0 where it is not given
        wanted = steps.add("Cast", shape, to=TensorProto.INT64)
        is_open = steps.add("Less", wanted, np.int64(0))
        size = steps.add("Where", is_open, size, wanted)
    fits = steps.add("Less", columns, steps.add("Slice", size, [1], [2]))
    kept = [steps.add("Compress", array, fits, axis=0) for array in (rows, columns, values)]
    indices = steps.add(
        "Concat", *(steps.add("Unsqueeze", array, [1]) for array in kept[:2]), axis=1
    )
    steps.replace(steps.add("ScatterND", steps.add("Expand", default, size), indices, kept[2]))


def _is_empty(steps: Steps, texts: str) -> str:
    """Return which texts are empty, bool."""
    found = steps.add(
        "LabelEncoder", texts, domain=ML_DOMAIN,
        keys_strings=[""], values_int64s=[1], default_int64=0,
    )  # fmt: skip
    return steps.add("Equal", found, np.int64(1))


def _flat(steps: Steps, texts: str) -> str:
    return texts if steps.context.get_rank(texts) == 1 else steps.add("Reshape", texts, [-1])


def _in_shape_of(steps: Steps, flat: str, texts: str) -> str:
    if steps.context.get_rank(texts) == 1:
        return flat
    return steps.add("Reshape", flat, steps.add("Shape", texts))


def _text(text: str) -> np.ndarray:
    return np.array([text], object)
