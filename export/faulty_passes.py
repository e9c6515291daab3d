"""Finds the pass over a graph that changes its answers, so that the export goes on without it."""

import contextlib
from collections.abc import Callable, Collection
from typing import TypeVar

from export.passes.pipeline import PASSES

from .errors import ExportError, ProofError
from .steps import begin_step

T = TypeVar("T")


def without_faulty_pass(
    convert: Callable[[Collection[str]], T], prove: Callable[[T], object]
) -> tuple[T, dict[str, str]]:
    """Convert and prove; if the proof fails because of a pass, do both without it.

    Args:
        convert: Function of the names of the passes to leave out.
        prove: Function of its result, which raises ExportError unless that can be published.

    Returns:
        The result of `convert`, and why passes were left out, by name.

    Raises:
        ExportError: The proof fails without any pass, too, or the model cannot be converted.
    """

    def attempt(without: Collection[str]) -> T:
        converted = convert(without)
        prove(converted)
        return converted

    try:
        converted = convert(())
    except ProofError as error:
        first: ExportError = error
    else:
        try:
            prove(converted)
        except ExportError as error:
            first = error
        else:
            return converted, {}
    begin_step("looking for a step of the cleaning that changes the answers")
    try:
        attempt(PASSES)
    except ExportError:
        raise first from None
    for name in PASSES:
        with contextlib.suppress(ExportError):
            return attempt((name,)), {name: "it changes the answers"}
    return attempt(PASSES), dict.fromkeys(PASSES, "together they change the answers")
