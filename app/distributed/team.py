"""Communication between the processes that train together, and which of them writes.

JAX is imported only when processes join, so that a single process runs on any backend.
"""

import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from app.config.training_config import TrainingConfig
from app.data.shards import Shard
from app.errors import ConfigError, RunError

from .cluster import Cluster

# A process that is silent for this long counts as lost, for example after a power cut. If only the
# process ends, its closed connections show it at once.
_HEARTBEAT_S = 30
_POLL_S = 0.05
# Time for all to read what was gathered, on a busy machine.
_LEAVE_S = 2.0


@dataclass
class Team:
    """The processes that train one model, as seen by one of them; by default a single process.

    Attributes:
        shard: which rows of each batch this process feeds.
        announce: called with the run's folder as soon as it is known.
    """

    shard: Shard = field(default_factory=Shard)
    announce: Callable[[Path], None] = lambda _: None
    _gathered: int = 0

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.shard.index == 0

    def scope(self) -> AbstractContextManager[None]:
        """Return a context that replicates variables and divides batches over all devices."""
        if self.shard.is_whole:
            return contextlib.nullcontext()
        # Each process reads its own rows; Keras must not divide them again.
        scope: AbstractContextManager[None] = keras.distribution.DataParallel(
            auto_shard_dataset=False
        ).scope()
        return scope

    def check_batch_size(self, config: TrainingConfig) -> None:
        """Require a batch size that the devices can share equally.

        Raises:
            ConfigError: the batch size is not a multiple of the number of devices.
        """
        devices = self.shard.devices
        if config.optimizer.name != "gradient_descent" and config.batch_size % devices:
            sharers = "processes" if devices == self.shard.processes else "devices"
            raise ConfigError(
                f"batch_size must be a multiple of {devices}, the number of {sharers} that share "
                "each batch. "
                f"Received: batch_size={config.batch_size}."
            )

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in order; wait until all have called this.

        Args:
            value: value of this process; it must be serializable as JSON.
        """
        if self.shard.processes == 1:
            return [value]
        self._gathered += 1  # all processes gather in the same order
        client, key = _client(), f"hornbill/{self._gathered}/"
        client.key_value_set(f"{key}{self.shard.index}", json.dumps(value))
        while len(values := client.key_value_dir_get(key)) < self.shard.processes:
            time.sleep(_POLL_S)
        by_index = {int(name.rpartition("/")[2]): json.loads(text) for name, text in values}
        return [by_index[index] for index in range(self.shard.processes)]

    def from_writer(self, value: Any) -> Any:
        """Return the writer's value; those of the other processes are ignored."""
        return self.gather(value if self.is_writer else None)[0]

    def agree(self, facts: dict[str, str]) -> None:
        """Require that all processes train with the same facts.

        Args:
            facts: values of this process, by the name that an error message shows.

        Raises:
            RunError: a fact of another process differs, or is missing.
        """
        first, *others = self.gather(facts)
        for index, other in enumerate(others, 1):
            for name in {**first, **other}:
                expected, actual = first.get(name, "none"), other.get(name, "none")
                if actual != expected:
                    if self.is_writer:  # the others are still reading from this process
                        time.sleep(_LEAVE_S)
                    raise RunError(
                        f"All processes must train with the same {name}. Received: "
                        f"{actual:.60} in process {index}, {expected:.60} in process 0."
                    )

    def leave(self) -> None:
        """Disconnect, together with the other processes."""
        if self.shard.processes > 1:
            import jax

            jax.distributed.shutdown()


def join(cluster: Cluster, process_id: int) -> Team:
    """Connect to the other processes, once, before anything is computed.

    If that fails or takes longer than `cluster.join_s`, JAX ends this process by SIGABRT.

    Args:
        cluster: the processes that train together.
        process_id: number of this process.

    Raises:
        RunError: machines have different numbers of devices or different values of `--processes`.
    """
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM itself
    jax.config.update("jax_check_proxy_envs", False)  # it would warn; the launcher handles proxies
    jax.distributed.initialize(
        cluster.address,
        cluster.processes,
        process_id,
        # Each process of a machine uses one of its GPUs.
        local_device_ids=process_id if cluster.is_local else None,
        cluster_detection_method="deactivate",
        initialization_timeout=round(cluster.join_s),
        heartbeat_timeout_seconds=_HEARTBEAT_S,
        coordinator_bind_address=cluster.address if cluster.is_local else None,
    )
    team = alone()
    team.agree(
        {
            "number of devices": str(jax.local_device_count()),
            "--processes": str(cluster.processes),
        }
    )
    return team


def alone() -> Team:
    """Return the team of a single process, with all devices that JAX sees; TensorFlow uses one."""
    if keras.backend.backend() != "jax":
        return Team()
    import jax

    return Team(Shard(jax.process_index(), jax.process_count(), jax.device_count()))


def _client() -> Any:
    from jax._src import distributed  # the store of jax.distributed has no public name

    return distributed.global_state.client
