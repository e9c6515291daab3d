"""How processes side by side share the threads of one machine."""

from serving.cores import available_cores

_NAMES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def share_of_threads(processes: int) -> dict[str, str]:
    """Return the environment by which each of so many processes takes its share of the cores.

    Libraries read it when they are imported. At least one thread is left to each.
    """
    return dict.fromkeys(_NAMES, str(max(1, available_cores() // processes)))
