"""Times calls side by side: each by itself, in blocks that take turns.

Drift of the machine affects all calls equally, and none the others: if single calls took turns, a
prediction of ONNX Runtime after one of TensorFlow would find its caches emptied and its cores taken
by threads that still spin, and seem to take several times as long as it does.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np

# Blocks of each call.
_BLOCKS = 3


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
        rounds: number of measured calls of each function, at least 2.
        warm_up: number of calls before each block that are not measured.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for block in range(_BLOCKS):
        share = len(range(block, rounds, _BLOCKS))
        for name, call in calls.items() if share else ():
            times[name] += _time_block(call, share, warm_up)
    found = {}
    for name, values in times.items():
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        found[name] = (low, middle, high)
    return found


def _time_block(call: Callable[[], object], rounds: int, warm_up: int) -> list[float]:
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return times
