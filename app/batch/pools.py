"""Chooses where parts are predicted: on Ray if it is installed, otherwise in this process."""

import importlib.util
from collections.abc import Callable, Generator, Sequence

from .parts import Finished, Part
from .predicting import PartPredictor, Work

# Yields parts as they finish, in any order; between them, how many more rows were read.
Pool = Callable[[Work, Sequence[Part]], Generator[Finished | int]]


def choose_pool(ray_address: str | None) -> Pool:
    """Return the pool to run a job in.

    Args:
        ray_address: address of a Ray cluster, `HOST:PORT`; None uses this machine.

    Raises:
        BatchError: no cluster responds at the address.
        ModuleNotFoundError: an address was given, and Ray is not installed.
    """
    if ray_address is None and importlib.util.find_spec("ray") is None:
        return predict_here
    from .ray_pool import RayPool  # Ray is an optional dependency

    return RayPool(ray_address)


def predict_here(work: Work, parts: Sequence[Part]) -> Generator[Finished | int]:
    """Predict parts one after another in this process, on all cores."""
    predictor = PartPredictor(work, threads=None)
    for part in parts:
        finished = yield from predictor.steps(part)
        yield finished
