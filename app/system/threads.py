"""Divides the cores of one machine among processes that run at the same time."""

from serving.cores import available_cores

_NAMES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def share_of_threads(processes: int) -> dict[str, str]:
    """Return the environment variables that give each of `processes` processes its equal share.

    Libraries read them when they are imported. Each process gets at least one thread.
    """
    return dict.fromkeys(_NAMES, str(max(1, available_cores() // processes)))
