"""The number of processors that this process may use: the container's quota, not the host's."""

import math
import os
from pathlib import Path

_QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_PERIOD_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cores(v2: Path = _QUOTA_V2, v1: tuple[Path, Path] = (_QUOTA_V1, _PERIOD_V1)) -> int:
    """Return the smaller of the process's CPU affinity and its cgroup's CPU quota.

    A quota of 1.5 processors counts as 2: a waiting thread is better than an idle processor.
    Source: Linux, "Control Group v2", cpu.max.

    Args:
        v2: file with the quota and its period, cgroup version 2.
        v1: files with the quota and with its period, cgroup version 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # exists on Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(v2, v1)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(v2: Path, v1: tuple[Path, Path]) -> float | None:
    try:
        texts = v2.read_text("ascii").split() if v2.exists() else [p.read_text("ascii") for p in v1]
        quota, period = map(float, texts)
    except (OSError, ValueError):  # no cgroup, or the quota is `max`
        return None
    return quota / period if quota > 0 and period > 0 else None
