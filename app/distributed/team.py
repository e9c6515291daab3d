"""A process among those that train together: what they tell one another, and who writes.

Nothing of JAX is imported before processes join, so that one alone runs on any backend.
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

# Without a sign of life for so long, as after a power cut, a process counts as lost. The end of
# one whose machine lives is noticed at once, by its connections.
_HEARTBEAT_S = 30
_POLL_S = 0.05
# In which all read what was gathered, on a machine that is busy.
_LEAVE_S = 2.0


@dataclass
class Team:
    """The processes that train one model, as one of them sees it; alone unless joined.

    Attributes:
        shard: which rows of each batch this process feeds.
        announce: told the run's folder as soon as it is known.
    """

    shard: Shard = field(default_factory=Shard)
    announce: Callable[[Path], None] = lambda _: None
    _asked: int = 0

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.shard.index == 0

    def scope(self) -> AbstractContextManager[None]:
        """Return a context in which variables are on all devices, and batches spread over them."""
        if self.shard.is_whole:
            return contextlib.nullcontext()
        # Each process reads its own rows; Keras must not divide them once more.
        scope: AbstractContextManager[None] = keras.distribution.DataParallel(
            auto_shard_dataset=False
        ).scope()
        return scope

    def check_batch_size(self, config: TrainingConfig) -> None:
        """Require batches of which every device takes as many rows.

        Raises:
            ConfigError: the batch size cannot be divided.
        """
        devices = self.shard.devices
        if config.optimizer.name != "gradient_descent" and config.batch_size % devices:
            among = "processes" if devices == self.shard.processes else "devices"
            raise ConfigError(
                f"batch_size must be a multiple of the {devices} {among} that share each batch. "
                f"Received: batch_size={config.batch_size}."
            )

    def gather(self, value: Any) -> list[Any]:
        """Return what each process gives here, by number; it waits until all have.

        Args:
            value: what JSON can hold.
        """
        if self.shard.processes == 1:
            return [value]
        self._asked += 1  # all ask in the same order
        client, key = _client(), f"hornbill/{self._asked}/"
        client.key_value_set(f"{key}{self.shard.index}", json.dumps(value))
        while len(answers := client.key_value_dir_get(key)) < self.shard.processes:
            time.sleep(_POLL_S)
        by_index = {int(name.rpartition("/")[2]): json.loads(text) for name, text in answers}
        return [by_index[index] for index in range(self.shard.processes)]

    def from_writer(self, value: Any) -> Any:
        """Return what the writer gives here; others' values are not looked at."""
        return self.gather(value if self.is_writer else None)[0]

    def agree(self, facts: dict[str, str]) -> None:
        """Require that all processes hold the same facts.

        Args:
            facts: by what they are called.

        Raises:
            RunError: one holds another fact, or one that others do not.
        """
        everyone = self.gather(facts)
        for index, others in enumerate(everyone):
            for name in {**everyone[0], **others}:
                own, theirs = everyone[0].get(name, "none"), others.get(name, "none")
                if own != theirs:
                    if self.is_writer:  # its process holds what the others are still reading
                        time.sleep(_LEAVE_S)
                    raise RunError(
                        f"Processes must train with the same {name}. "
                        f"Received: {theirs:.60} of process {index}, {own:.60} of process 0."
                    )

    def leave(self) -> None:
        """End together with the others."""
        if self.shard.processes > 1:
            import jax

            jax.distributed.shutdown()


def join(cluster: Cluster, process_id: int) -> Team:
    """Join the other processes, once, before anything is computed.

    Where that fails or takes longer than `cluster.join_s`, JAX ends this process by SIGABRT.

    Args:
        cluster: all of them.
        process_id: the number of this one.

    Raises:
        RunError: machines have different numbers of devices, or were told different numbers of
            processes.
    """
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    jax.config.update("jax_check_proxy_envs", False)  # it would warn; whoever launches sees to them
    jax.distributed.initialize(
        cluster.address,
        cluster.processes,
        process_id,
        # Of a machine's GPUs each of its processes takes one.
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
    """Return the team of this process, with every device that JAX sees; TensorFlow uses one."""
    if keras.backend.backend() != "jax":
        return Team()
    import jax

    return Team(Shard(jax.process_index(), jax.process_count(), jax.device_count()))


def _client() -> Any:
    from jax._src import distributed  # the store of jax.distributed has no public name

    return distributed.global_state.client
