"""Starts the processes of a run on this machine, watches them, and ends them together.

The launcher imports neither TensorFlow nor JAX, so that it survives whatever ends a process.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from app.errors import RunError
from app.system.child_process import ChildProcess
from app.system.signals import (
    INTERRUPTED,
    NOTHING_TO_RESUME,
    Interrupted,
    resume_command,
    sigterm_as_sigint,
)

from .cluster import Cluster

# Exit status of a process that could no longer reach another one.
PEER_LOST = 3
_INVALID_INPUT = RunError.exit_status
_POLL_S = 0.1
# After the first process has ended, time for the others to end without being stopped. Their exit
# statuses then show which one failed first.
_SETTLE_S = 1.0


@dataclass(frozen=True)
class _Process:
    """A process of the run.

    Attributes:
        number: number of the process among all of the run.
        child: the running program.
        status_file: JSON file in which the process reports its progress.
    """

    number: int
    child: ChildProcess
    status_file: Path

    def status(self) -> dict[str, Any]:
        """Return `{}` until the process has joined, later with `run` once its folder is known."""
        if not self.status_file.exists():
            return {}
        status: dict[str, Any] = json.loads(self.status_file.read_text("utf-8"))
        return status

    def describe_end(self) -> str:
        """Return a short description of how the process ended."""
        status = self.child.exit_status or 0
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        if status == INTERRUPTED:
            return "stopped by a signal"
        return f"ended with status {status}: {self.child.last_line}"


def launch(cluster: Cluster, request: dict[str, Any], program: Sequence[str]) -> None:
    """Run the processes of `cluster` that belong to this machine until all have ended.

    The first of them writes to the standard output and error of this process. However this
    process ends, even by SIGKILL, they end too, provided that `program` calls
    `app.system.child_process.end_with_parent`.

    Args:
        cluster: the processes that train together.
        request: what to train; passed on to the program.
        program: command of one process. A JSON object follows as its last argument: `cluster`,
            `number`, `request`, `status_file`, `cores`, and the descriptors `output` and `error`.

    Raises:
        RunError: the processes did not find each other, one had invalid input, or one was lost.
            The run's checkpoint holds the epochs that have ended.
        Interrupted: SIGINT or SIGTERM stopped them.
    """
    with tempfile.TemporaryDirectory(prefix="hornbill-") as folder, sigterm_as_sigint():
        processes: list[_Process] = []
        try:
            for number in cluster.here:
                processes.append(_start(cluster, number, request, program, Path(folder)))
            failed = _wait(processes)
        except KeyboardInterrupt:
            _stop(processes)
            raise Interrupted(_resume_hint(processes)) from None
        finally:
            _stop(processes)
        if failed:
            raise RunError(_explain(cluster, processes, failed))


def _start(
    cluster: Cluster, number: int, request: dict[str, Any], program: Sequence[str], folder: Path
) -> _Process:
    status_file = folder / f"status-{number}.json"
    payload: dict[str, Any] = {
        "cluster": asdict(cluster),
        "number": number,
        "request": request,
        "status_file": str(status_file),
        "cores": _choose_cores(number, len(cluster.here)),
    }
    environment = {
        "KERAS_BACKEND": "jax",
        "no_grpc_proxy": cluster.host,  # a web proxy would be asked for the coordinator
    }
    with _console(is_shown=number == cluster.here[0]) as (output, error):
        payload |= {"output": output, "error": error}
        child = ChildProcess(
            [*program, json.dumps(payload)],
            environment,
            inherit=(output, error),
            new_session=True,  # Ctrl-C is for this process, which ends the others in order
        )
    return _Process(number, child, status_file)


@contextlib.contextmanager
def _console(is_shown: bool) -> Iterator[list[int]]:
    """Yield descriptors of this process' standard output and error, or of the null device."""
    streams = (sys.stdout, sys.stderr) if is_shown else (None, None)
    copies = [_copy(stream, number) for number, stream in enumerate(streams, 1)]
    try:
        yield copies
    finally:
        for copy in copies:
            os.close(copy)


def _copy(stream: TextIO | None, descriptor: int) -> int:
    if stream is None:  # not shown, or closed before this process began
        return os.open(os.devnull, os.O_WRONLY)
    stream.flush()
    return os.dup(descriptor)


def _choose_cores(number: int, processes: int) -> list[int]:
    """Return the cores for one of several processes; an empty list lets it use all cores."""
    if processes == 1 or not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < processes:
        return [cores[number % len(cores)]]
    return cores[number * len(cores) // processes : (number + 1) * len(cores) // processes]


def _wait(processes: Sequence[_Process]) -> list[_Process]:
    """Wait until all have succeeded, or until one has failed and the others had time to end too.

    Returns:
        The processes that failed without being stopped.
    """
    while None in (statuses := [process.child.exit_status for process in processes]):
        if any(statuses):
            break
        time.sleep(_POLL_S)
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and any(p.child.is_running for p in processes):
        time.sleep(_POLL_S)
    return [process for process in processes if process.child.exit_status]


def _stop(processes: Sequence[_Process]) -> None:
    """End all processes: first gently the one that writes, while the others still respond."""
    try:
        for process in processes[:1]:
            process.child.stop()
    finally:
        for process in processes:
            process.child.kill()


def _explain(cluster: Cluster, processes: Sequence[_Process], failed: Sequence[_Process]) -> str:
    """Return why the run ended, from the process that failed first."""
    for process in failed:
        if process.child.exit_status == _INVALID_INPUT:
            return process.child.last_line
    # JAX aborts or crashes a process that has lost another one.
    consequences = (PEER_LOST, -signal.SIGABRT, -signal.SIGSEGV)
    causes = [process for process in failed if process.child.exit_status not in consequences]
    if not causes and not any(process.status() for process in failed):
        return _explain_no_join(cluster)
    reason = "a process on another machine was lost, or has the --process-id of another"
    if causes or cluster.is_local:
        first = (causes or failed)[0]
        reason = f"process {first.number}, {first.describe_end()}"
    return (
        f"The {cluster.processes} processes of a run must all stay alive. "
        f"Received: {reason.removesuffix('.')}. {_resume_hint(processes)}"
    ).rstrip()


def _explain_no_join(cluster: Cluster) -> str:
    if cluster.process_id:
        return (
            f"The coordinator must respond within {cluster.join_s:.0f} s. Received: nothing from "
            f"{cluster.address}. Start process 0 there, open the port, and give each process a "
            "different --process-id."
        )
    others = "1" if cluster.processes == 2 else f"1 to {cluster.processes - 1}, one each"
    return (
        f"All {cluster.processes} processes must join within {cluster.join_s:.0f} s. "
        f"Received: fewer, at {cluster.address}. Start the others with the same --coordinator and "
        f"--process-id {others}."
    )


def _resume_hint(processes: Sequence[_Process]) -> str:
    runs = {str(status["run"]) for p in processes if "run" in (status := p.status())}
    kept = [run for run in runs if Path(run).is_dir()]
    if not kept:
        return NOTHING_TO_RESUME if runs else ""
    return f"Resume with: {resume_command(kept[0])}"
