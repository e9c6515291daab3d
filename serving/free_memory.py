"""The memory that this process could still take: what its control groups allow, not the host's."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .cgroups import MEMBERSHIP, ROOT, cgroup_folders

_HOST = Path("/proc/meminfo")
# Limit, usage, and what of it can be dropped by the name in memory.stat; cgroup version 2, then 1.
_CGROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(host: Path = _HOST, root: Path = ROOT, membership: Path = MEMBERSHIP) -> float:
    """Return the bytes of memory that are free or can be freed; infinity if that is unknown.

    Source: Linux, "Control Group v2", memory.max; proc(5), MemAvailable.

    Args:
        host: file with the memory of the machine.
        root: folder where control groups are mounted.
        membership: file with the process's control groups.
    """
    return min(_found(host, cgroup_folders("memory", root, membership)), default=math.inf)


def _found(host: Path, cgroups: Iterator[Path]) -> Iterator[float]:
    with suppress(OSError, ValueError, KeyError):  # another system
        yield 1024.0 * _numbers(host)["MemAvailable:"]
    for folder in cgroups:
        for limit, usage, droppable in _CGROUPS:
            with suppress(OSError, ValueError):  # no cgroup of this version, or the limit is `max`
                free = int((folder / limit).read_text()) - int((folder / usage).read_text())
                cached = _numbers(folder / "memory.stat").get(droppable, 0)
                yield float(max(0, free) + cached)


def _numbers(path: Path) -> dict[str, int]:
    """Return the numbers of a file whose lines begin with a name and a number."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) > 1}
