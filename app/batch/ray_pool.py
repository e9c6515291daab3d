"""Predicts parts with Ray Data, in a pool of actors that each hold a Predictor. Needs Ray."""

import json
import logging
import os
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path

from serving.cores import available_cores

# Ray reads these when it is imported. Usage reports are off, since the user was not asked; log
# lines are off, since those that matter reach the user as errors.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray
from ray.data import ActorPoolStrategy, DataContext

from app.errors import BatchError
from app.system.signals import sigterm_as_sigint
from app.system.stderr import suppress_stderr

from .parts import Finished, Part
from .predicting import PartPredictor, Work
from .ray_address import check_address

# Only names and counts pass between processes: the smallest store that Ray allows is enough.
_OBJECT_STORE_BYTES = 100_000_000
# More blocks would cost more scheduling time than they save.
_MAX_BLOCKS = 4096


class RayPool:
    """A pool with one actor for each processor of this machine or of a cluster."""

    def __init__(self, address: str | None = None, actors: int | None = None) -> None:
        """Start Ray here, or join a cluster.

        Args:
            address: address of a cluster; None starts Ray on this machine for this job.
            actors: number of actors; None starts one for each processor.

        Raises:
            BatchError: no cluster responds at the address.
        """
        if address is not None:
            check_address(address)
        self._address = address
        self._actors = actors

    def __call__(self, work: Work, parts: Sequence[Part]) -> Generator[Finished | int]:
        """Yield parts as the actors finish them.

        Raises:
            BatchError: Ray gives up, such as after an actor has died several times.
            OSError: an actor cannot write.
        """
        try:
            self._connect()
            actors = self._actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
            with sigterm_as_sigint():  # Ray's own handler would dump the stack
                yield from _predict(work, parts, min(actors, len(parts)))
        except ray.exceptions.RayError as error:
            raise _reason(error) from None
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        common = {"log_to_driver": False, "logging_level": "error"}
        with suppress_stderr():
            if self._address is not None:
                ray.init(self._address, **common)
                return
            ray.init(
                "local",
                num_cpus=max(available_cores(), self._actors or 1),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                **common,
            )


class _Actor:
    """Adapts PartPredictor to Ray Data: takes a row and returns a row, with JSON values."""

    def __init__(self, work: Work, folder: str | None) -> None:
        if folder is not None:
            os.chdir(folder)
        self._predict = PartPredictor(work, threads=1)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        try:
            finished = self._predict(Part(tuple(json.loads(row["files"]))))
        except OSError as error:  # Ray would retry it and wrap it in other errors
            return {"failed": json.dumps([error.errno, error.strerror]), "finished": ""}
        return {"failed": "", "finished": json.dumps(asdict(finished))}


def _predict(work: Work, parts: Sequence[Part], actors: int) -> Generator[Finished]:
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised, and told once
    # Actors on a cluster start where `ray start` ran, which may have files of the same names.
    is_relative = any(not Path(name).is_absolute() for part in parts for name in part.files)
    folder = str(Path.cwd()) if is_relative else None
    rows = [{"files": json.dumps(part.files)} for part in parts]
    data = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS))
    results = data.map(
        _Actor,
        fn_constructor_args=(work, folder),
        num_cpus=1,
        compute=ActorPoolStrategy(size=actors),
    )
    for row in results.iter_rows():
        if row["failed"]:
            raise OSError(*json.loads(row["failed"]))
        value = json.loads(row["finished"])
        yield Finished(**{**value, "files": tuple(value["files"])})


def _reason(error: BaseException) -> BatchError:
    """Return an error with the last line of Ray's message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return BatchError(
        f"Ray stopped before the job was finished: {type(error).__name__}: "
        f"{lines[-1]:.200}. Finished parts are kept; run the same command to resume."
    )
