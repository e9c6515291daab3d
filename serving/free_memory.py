"""The memory that this process could still take: the container's, not the host's."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_HOST = Path("/proc/meminfo")
# Limit, usage, statistics and the name in them of what can be dropped; cgroup version 2, then 1.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory() -> float:
    """Return the bytes of memory that are free or can be freed; infinity if that is unknown.

    Source: Linux, "Control Group v2", memory.max; proc(5), MemAvailable.
    """
    return min(_found(), default=math.inf)


def _found() -> Iterator[float]:
    with suppress(OSError, ValueError, KeyError):  # another system
        yield 1024.0 * _numbers(_HOST)["MemAvailable:"]
    for limit, usage, droppable in _CGROUPS:
        with suppress(OSError, ValueError):  # no cgroup of this version, or the limit is `max`
            cached = _numbers(Path(usage).with_name("memory.stat")).get(droppable, 0)
            yield float(int(Path(limit).read_text()) - int(Path(usage).read_text()) + cached)


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines begin with a name and a number."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1}
