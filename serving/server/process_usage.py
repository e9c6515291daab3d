"""The memory and the processor time of this process, as Prometheus' client libraries name them."""

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

_STATM = Path("/proc/self/statm")  # Linux, proc(5): the second number is the resident pages


class ProcessUsage:
    """Metrics of this process; those of several processes are added up.

    prometheus_client has such metrics too, but not for several processes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._used_s = 0.0
        self._cpu = Counter(
            "process_cpu_seconds", "Processor time of all processes, user and system, in seconds.",
            registry=registry,
        )  # fmt: skip
        self._memory = Gauge(
            "process_resident_memory_bytes", "Resident memory of all processes.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip

    def update(self) -> None:
        """Set the metrics to the present usage."""
        used_s = time.process_time()
        self._cpu.inc(used_s - self._used_s)
        self._used_s = used_s
        self._memory.set(_resident_bytes())


def _resident_bytes() -> int:
    """Return the resident memory; 0 where the system does not tell it."""
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except (OSError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
