"""Which processes train together and where they meet, as the command line says it."""

import importlib.util
import os
import socket
from dataclasses import dataclass

from app.errors import ConfigError

# The others may be started by hand, on other machines.
_JOIN_S = 60.0


@dataclass(frozen=True)
class Cluster:
    """Processes that train one model together.

    Attributes:
        processes: how many.
        host: where process 0 lets the others join.
        port: where it listens.
        process_id: of the only one on this machine; None if all of them are on it.
        join_s: seconds within which all must have joined.
    """

    processes: int
    host: str
    port: int
    process_id: int | None = None
    join_s: float = _JOIN_S

    @property
    def is_local(self) -> bool:
        """Whether all processes are on this machine."""
        return self.process_id is None

    @property
    def address(self) -> str:
        """`HOST:PORT`."""
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
    """Return what the options ask for; None is one process alone.

    Args:
        processes: `--processes`.
        coordinator: `--coordinator`; without it all processes are on this machine.
        process_id: `--process-id`, with a coordinator.

    Raises:
        ConfigError: the options contradict each other, the address cannot be used, or the backend
            is another than JAX.
        ModuleNotFoundError: JAX is not installed.
    """
    if coordinator is None and process_id is not None:
        raise ConfigError(
            f"--process-id needs --coordinator. Received: --process-id {process_id}. Without them "
            "--processes starts all processes on this machine."
        )
    if coordinator is None and processes in (None, 1):
        return None
    if processes is None or (coordinator is not None and process_id is None):
        raise ConfigError(
            "--coordinator needs --processes and --process-id, from 0. "
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
            "Several processes train on Keras' backend jax. "
            f"Received: KERAS_BACKEND={backend}. Leave it out: --processes sets it."
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
            "--coordinator must name a host that is known here. "
            f"Received: --coordinator {coordinator}."
        ) from None
    return host, int(digits)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _check_port(port: int) -> None:
    """Bind as the coordinator will: on all addresses. It would crash where it cannot."""
    has_ipv6 = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if has_ipv6 else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=has_ipv6).close()
    except OSError as error:
        raise ConfigError(
            "The port of --coordinator must be free where process 0 runs. "
            f"Received: port {port}: {error.strerror}."
        ) from None
