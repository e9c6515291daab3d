"""The number of processors that this process may use: its control groups' quota, not the host's."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .cgroups import MEMBERSHIP, ROOT, cgroup_folders

# Files with the quota and its period, cgroup version 2, then 1.
_QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))


def available_cores(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """Return the smallest of the process's CPU affinity and its control groups' CPU quotas.

    A quota of 1.5 processors counts as 2: a waiting thread is better than an idle processor.
    Source: Linux, "Control Group v2", cpu.max.

    Args:
        root: folder where control groups are mounted.
        membership: file with the process's control groups.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # exists on Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quotas = _quotas(cgroup_folders("cpu", root, membership))
    return max(1, min(cores, math.ceil(min(quotas, default=cores))))


def _quotas(cgroups: Iterator[Path]) -> Iterator[float]:
    for folder in cgroups:
        for names in _QUOTAS:
            # There is no cgroup of this version, or the quota is `max`.
            with suppress(OSError, ValueError):
                text = " ".join((folder / name).read_text("ascii") for name in names)
                quota, period = map(float, text.split())
                if quota > 0 and period > 0:
                    yield quota / period
