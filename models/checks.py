"""Checks of configuration values. Each error names the value and what would be right."""

import difflib
from collections.abc import Collection, Iterable, Sequence


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the choice closest to `name`, or an empty string."""
    close = closest(name, choices)
    return f" Did you mean {close!r}?" if close else ""


def closest(name: str, choices: Iterable[str]) -> str:
    """Return the choice closest to `name`, or an empty string if none is close."""
    # At difflib's own 0.6, "bayes" would be taken for "cmaes".
    return next(iter(difflib.get_close_matches(name, list(choices), n=1, cutoff=0.65)), "")


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Return whether an array has the sizes that are wanted; None stands for any size."""
    return len(shape) == len(wanted) and all(
        size in (None, own) for own, size in zip(shape, wanted, strict=True)
    )


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise `ValueError` with a suggestion unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}. "
            f"Received: {name}={value!r}.{suggest(str(value), choices)}"
        )


def check_at_least(name: str, value: float, minimum: float) -> None:
    """Raise `ValueError` unless `value` is finite and at least `minimum`."""
    if not minimum <= value < float("inf"):
        wanted = "finite" if value == float("inf") else f"at least {minimum:g}"
        raise ValueError(f"{name} must be {wanted}. Received: {name}={value!r}.")


def check_above(name: str, value: float, bound: float) -> None:
    """Raise `ValueError` unless `value` is finite and above `bound`."""
    if not bound < value < float("inf"):
        raise ValueError(f"{name} must be above {bound:g} and finite. Received: {name}={value!r}.")


def check_fraction(name: str, value: float) -> None:
    """Raise `ValueError` unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1. Received: {name}={value!r}.")


def check_open_fraction(name: str, value: float) -> None:
    """Raise `ValueError` unless `value` lies in (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be above 0 and below 1. Received: {name}={value!r}.")


def check_range(name: str, value: float, minimum: float, maximum: float) -> None:
    """Raise `ValueError` unless `value` lies in [`minimum`, `maximum`]."""
    if not minimum <= value <= maximum:
        raise ValueError(
            f"{name} must be from {minimum:,.9g} to {maximum:,.9g}. Received: {name}={value!r}."
        )


def check_sizes(name: str, sizes: Collection[int]) -> None:
    """Raise `ValueError` unless `sizes` holds one or more whole numbers above 0."""
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            f"{name} must be one or more whole numbers above 0. Received: {name}={tuple(sizes)!r}."
        )
