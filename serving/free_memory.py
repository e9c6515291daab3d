"""The memory that this process could still take: the container's, not the host's."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_HOST = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
# Limit, usage, and what of it can be dropped by the name in memory.stat; cgroup version 2, then 1.
_CGROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(host: Path = _HOST, cgroup: Path = _CGROUP) -> float:
    """Return the bytes of memory that are free or can be freed; infinity if that is unknown.

    Source: Linux, "Control Group v2", memory.max; proc(5), MemAvailable.

    Args:
        host: file with the memory of the machine.
        cgroup: folder of the files of the process's cgroup.
    """
    return min(_found(host, cgroup), default=math.inf)


def _found(host: Path, cgroup: Path) -> Iterator[float]:
    with suppress(OSError, ValueError, KeyError):  # another system
        yield 1024.0 * _numbers(host)["MemAvailable:"]
    for limit, usage, droppable in _CGROUPS:
        with suppress(OSError, ValueError):  # no cgroup of this version, or the limit is `max`
            cached = _numbers((cgroup / usage).with_name("memory.stat")).get(droppable, 0)
            free = int((cgroup / limit).read_text()) - int((cgroup / usage).read_text())
            yield float(max(0, free) + cached)


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines begin with a name and a number."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1}
