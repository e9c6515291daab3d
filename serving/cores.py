"""How many processors this process may use: what the container was given, not what the host has."""

import math
import os
from pathlib import Path

_QUOTA_V2 = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_PERIOD_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cores(v2: Path = _QUOTA_V2, v1: tuple[Path, Path] = (_QUOTA_V1, _PERIOD_V1)) -> int:
    """Return the number of processors of the process' affinity, or of its cgroup's quota if less.

    A quota of one and a half counts as two: threads that wait are better than a processor that
    does. Source: Linux, "Control Group v2", cpu.max.

    Args:
        v2: file of the quota and its period.
        v1: files of both in version 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(v2, v1)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(v2: Path, v1: tuple[Path, Path]) -> float | None:
    try:
        texts = v2.read_text("ascii").split() if v2.exists() else [p.read_text("ascii") for p in v1]
        quota, period = map(float, texts)
    except (OSError, ValueError):  # no cgroup, or `max`: no quota
        return None
    return quota / period if quota > 0 and period > 0 else None
