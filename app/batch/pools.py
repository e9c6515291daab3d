"""Where parts are predicted: on Ray where it is installed, else one after the other, here."""

import importlib.util
from collections.abc import Callable, Generator, Sequence

from .parts import Finished, Part
from .predicting import PartPredictor, Work

# Yields parts as they are finished, in any order.
Pool = Callable[[Work, Sequence[Part]], Generator[Finished]]


def choose_pool(ray_address: str | None) -> Pool:
    """Return the pool to run a job in.

    Args:
        ray_address: of a cluster, `HOST:PORT`; None for this machine.

    Raises:
        BatchError: no cluster answers there.
        ModuleNotFoundError: an address was given, and Ray is not installed.
    """
    if ray_address is None and importlib.util.find_spec("ray") is None:
        return predict_here
    from .ray_pool import RayPool  # Ray is an extra

    return RayPool(ray_address)


def predict_here(work: Work, parts: Sequence[Part]) -> Generator[Finished]:
    """Predict parts in this process, each on all cores."""
    yield from map(PartPredictor(work, threads=None), parts)
