"""The control groups whose limits bind this process: its own, and those around it.

In a container the process's own is usually the root of what it sees. A unit of systemd has one
below the root, whose limits no file at the root tells.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cgroup_folders(
    controller: str, root: Path = ROOT, membership: Path = MEMBERSHIP
) -> Iterator[Path]:
    """Yield the folders of the process's control groups and of all above them; some may not exist.

    Source: Linux, "Control Group v2" and "Control Groups version 1"; cgroups(7).

    Args:
        controller: name in version 1 of what is limited, such as `memory`. Version 2 has one
            folder for all.
        root: folder where control groups are mounted.
        membership: file with the process's groups.
    """
    paths = {"": "", controller: ""}  # the root, where the file does not say
    with suppress(OSError, ValueError):
        for line in os.fsdecode(membership.read_bytes()).splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= {name: path for name in controllers.split(",") if name in paths}
    for name, path in paths.items():
        own = Path(path.lstrip("/"))
        yield from (root / name / place for place in (own, *own.parents))
