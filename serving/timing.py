"""Times calls in turns, so that drift of the machine affects them equally."""

import statistics
import time
from collections.abc import Callable, Mapping


def median_ms(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3
) -> dict[str, float]:
    """Return the median wall time of each call in milliseconds; see `quartiles_ms`."""
    return {name: found[1] for name, found in quartiles_ms(calls, rounds, warm_up).items()}


def quartiles_ms(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3
) -> dict[str, tuple[float, float, float]]:
    """Return the quartiles of the wall time of each call in milliseconds.

    Args:
        calls: the functions to time, by name.
        rounds: number of measured rounds, at least 2; each round calls every function once.
        warm_up: number of rounds before them that are not measured.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warm_up:
                times[name].append(1000 * (time.perf_counter() - start))
    found = {}
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        found[name] = (low, middle, high)
    return found
