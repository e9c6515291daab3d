"""Describes which processes train together and at which address they connect."""

import importlib.util
import os
import socket
from dataclasses import dataclass

from app.errors import ConfigError

# Seconds to join: processes on other machines may be started by hand.
_JOIN_S = 60.0


@dataclass(frozen=True)
class Cluster:
    """Processes that train one model together.

    Attributes:
        processes: number of processes.
        host: host of the coordinator, process 0, which every other process connects to.
        port: port that the coordinator listens on.
        process_id: number of this machine's only process; None if all run on this machine.
        join_s: seconds within which all must have joined.
    """

    processes: int
    host: str
    port: int
    process_id: int | None = None
    join_s: float = _JOIN_S

    @property
    def is_local(self) -> bool:
        """Whether all processes run on this machine."""
        return self.process_id is None

    @property
    def address(self) -> str:
        """Address of the coordinator, `HOST:PORT`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def here(self) -> range:
        """The numbers of the processes on this machine."""
        if self.process_id is None:
            return range(self.processes)
        return range(self.process_id, self.process_id + 1)


def make_cluster(
    processes: int | None, coordinator: str | None, process_id: int | None
) -> Cluster | None:
    """Return the cluster that the options describe; None for training in a single process.

    Args:
        processes: value of `--processes`.
        coordinator: value of `--coordinator`; None runs all processes on this machine.
        process_id: value of `--process-id`, required with a coordinator.

    Raises:
        ConfigError: the options contradict each other, the address cannot be used, or the backend
            is not JAX.
        ModuleNotFoundError: JAX is not installed.
    """
    if coordinator is None and process_id is not None:
        raise ConfigError(
            f"--process-id needs --coordinator. Received: --process-id {process_id}. Without both, "
            "--processes starts all processes on this machine."
        )
    if coordinator is None and processes in (None, 1):
        return None
    if processes is None or (coordinator is not None and process_id is None):
        raise ConfigError(
            "--coordinator needs --processes and --process-id, which counts from 0. "
            f"Received: --coordinator {coordinator}."
        )
    _check_backend()
    if coordinator is None:
        return Cluster(processes, "127.0.0.1", free_port())
    if process_id is not None and not 0 <= process_id < processes:
        raise ConfigError(
            f"--process-id must be from 0 to {processes - 1} with --processes {processes}. "
            f"Received: --process-id {process_id}."
        )
    host, port = _parse_address(coordinator)
    if process_id == 0:
        _check_port(port)
    return Cluster(processes, host, port, process_id)


def _check_backend() -> None:
    backend = os.environ.get("KERAS_BACKEND", "jax")
    if backend != "jax":
        raise ConfigError(
            "Training in several processes needs Keras' backend jax. "
            f"Received: KERAS_BACKEND={backend}. Unset it: --processes chooses the backend."
        )
    if importlib.util.find_spec("jax") is None:
        raise ModuleNotFoundError("No module named 'jax'", name="jax")


def _parse_address(coordinator: str) -> tuple[str, int]:
    host, _, digits = coordinator.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 65536:
        raise ConfigError(
            "--coordinator must be HOST:PORT, with a port from 1 to 65535. "
            f"Received: --coordinator {coordinator}."
        )
    try:
        socket.getaddrinfo(host, int(digits))
    except (OSError, UnicodeError):
        raise ConfigError(
            f"The host of --coordinator is unknown. Received: --coordinator {coordinator}."
        ) from None
    return host, int(digits)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _check_port(port: int) -> None:
    """Bind on all addresses, as the coordinator will; it would crash if it could not."""
    has_ipv6 = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if has_ipv6 else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=has_ipv6).close()
    except OSError as error:
        raise ConfigError(
            "The port of --coordinator must be free on the machine of process 0. "
            f"Received: port {port}: {error.strerror}."
        ) from None
