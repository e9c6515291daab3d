"""Starts the processes of a run on this machine, watches them, and ends them together.

Who launches imports neither TensorFlow nor JAX, so that it outlives whatever ends a process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from app.errors import RunError
from app.system.signals import Interrupted, resume_command, sigterm_as_sigint

from .cluster import Cluster

# How a process ends: its input was wrong, as its last line says; another was lost; a signal.
WRONG_INPUT, LOST, STOPPED = 2, 3, 130
_POLL_S = 0.1
# In which the others of one that ended end by themselves, which tells who was first.
_SETTLE_S = 1.0
# For the writer to tidy up.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class _Member:
    """A process of the run.

    Attributes:
        number: of all processes of the run.
        process: that runs it.
        said: what it and its libraries wrote, errors last.
        note: file in which it says how far it is.
    """

    number: int
    process: subprocess.Popen[bytes]
    said: Path
    note: Path

    def last_words(self) -> str:
        """Return the last line that it wrote."""
        lines = self.said.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def noted(self) -> dict[str, Any]:
        """Return `{}` until it has joined, then with `run`, once that is known."""
        if not self.note.exists():
            return {}
        noted: dict[str, Any] = json.loads(self.note.read_text("utf-8"))
        return noted

    def how_it_ended(self) -> str:
        """Return a few words on its exit status."""
        status = self.process.returncode
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        if status == STOPPED:
            return "stopped by a signal"
        return f"ended with status {status}: {self.last_words()}"


def launch(cluster: Cluster, request: dict[str, Any]) -> None:
    """Run the processes of `cluster` that belong on this machine, until all have ended.

    The writer, or the only one here, writes to this process' standard output and error. However
    this ends, and were it by SIGKILL, none of them goes on.

    Args:
        cluster: which processes train together.
        request: arguments of `app.commands.train.Request`.

    Raises:
        RunError: the processes did not find each other, one had wrong input, or one was lost. What
            epochs have ended is in the run's checkpoint.
        Interrupted: SIGINT or SIGTERM stopped them.
    """
    with tempfile.TemporaryDirectory(prefix="hornbill-") as folder, sigterm_as_sigint():
        members: list[_Member] = []
        try:
            for number in cluster.here:
                members.append(_start(cluster, number, request, Path(folder)))
            failed = _wait(members)
        except KeyboardInterrupt:
            _stop(members)
            raise Interrupted(_how_to_go_on(members)) from None
        finally:
            _stop(members)
        if failed:
            raise RunError(_explain(cluster, members, failed))


def _start(cluster: Cluster, number: int, request: dict[str, Any], folder: Path) -> _Member:
    said, note = folder / f"said-{number}", folder / f"note-{number}"
    speaks = number == cluster.here[0]
    told: dict[str, Any] = {
        "cluster": asdict(cluster),
        "number": number,
        "request": request,
        "note": str(note),
        "cores": _share_of_cores(number, len(cluster.here)),
    }
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "no_grpc_proxy": cluster.host,  # a proxy for the web would be asked for the coordinator
    }
    with said.open("wb") as file, _console(speaks) as (output, error):
        told |= {"output": output, "error": error}
        process = subprocess.Popen(
            [sys.executable, "-m", "app.commands.train_process", json.dumps(told)],
            env=environment,
            stdin=subprocess.PIPE,  # it ends when this process does
            stdout=file,
            stderr=file,
            pass_fds=(output, error),
            start_new_session=True,  # Ctrl-C is for this process, which ends them in order
        )
    return _Member(number, process, said, note)


@contextlib.contextmanager
def _console(speaks: bool) -> Iterator[list[int]]:
    """Give copies of this process' standard output and error, or of nowhere.

    What libraries write by themselves goes elsewhere, to be looked at if the process fails.
    """
    streams = (sys.stdout, sys.stderr) if speaks else (None, None)
    copies = [_copy(stream, number) for number, stream in enumerate(streams, 1)]
    try:
        yield copies
    finally:
        for copy in copies:
            os.close(copy)


def _copy(stream: TextIO | None, descriptor: int) -> int:
    if stream is None:  # not wanted, or closed before this process began
        return os.open(os.devnull, os.O_WRONLY)
    stream.flush()
    return os.dup(descriptor)


def _share_of_cores(number: int, processes: int) -> list[int]:
    """Return the cores of one of several processes here; none where it may use all of them."""
    if processes == 1 or not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < processes:
        return [cores[number % len(cores)]]
    return cores[number * len(cores) // processes : (number + 1) * len(cores) // processes]


def _wait(members: Sequence[_Member]) -> list[_Member]:
    """Wait until all have ended well, or one has not and the others had time to end too.

    Returns:
        Those that ended badly, by themselves.
    """
    while None in (statuses := [member.process.poll() for member in members]):
        if any(statuses):
            break
        time.sleep(_POLL_S)
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and any(m.process.poll() is None for m in members):
        time.sleep(_POLL_S)
    return [member for member in members if member.process.returncode]


def _stop(members: Sequence[_Member]) -> None:
    """End those that still run: the writer in order, as long as the others answer it."""
    try:
        for member in members[:1]:
            if member.process.poll() is None:
                member.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    member.process.wait(_PATIENCE_S)
    finally:
        for member in members:
            if member.process.poll() is None:
                member.process.kill()
                member.process.wait()
            if member.process.stdin is not None:
                member.process.stdin.close()


def _explain(cluster: Cluster, members: Sequence[_Member], ended: Sequence[_Member]) -> str:
    """Return why the run ended, by whoever of its processes was first to end badly."""
    for member in ended:
        if member.process.returncode == WRONG_INPUT:
            return member.last_words()
    # JAX ends a process by SIGABRT, or crashes, when it misses another.
    misses = (LOST, -signal.SIGABRT, -signal.SIGSEGV)
    first = [member for member in ended if member.process.returncode not in misses]
    if not first and not any(member.noted() for member in ended):
        return _explain_no_join(cluster)
    what = "one that was started elsewhere and was lost, or whose --process-id is another's"
    if first:
        what = f"process {first[0].number}, {first[0].how_it_ended()}"
    elif cluster.is_local:
        what = f"process {ended[0].number}, {ended[0].how_it_ended()}"
    return (
        f"The {cluster.processes} processes of a run must all live. "
        f"Received: {what.removesuffix('.')}. {_how_to_go_on(members)}"
    ).rstrip()


def _explain_no_join(cluster: Cluster) -> str:
    if cluster.process_id:
        return (
            f"The coordinator must answer within {cluster.join_s:.0f} s. Received: nothing from "
            f"{cluster.address}. Start process 0 there, let the port through, and give each "
            "process another --process-id."
        )
    others = "1" if cluster.processes == 2 else f"1 to {cluster.processes - 1}, one each"
    return (
        f"All {cluster.processes} processes must join within {cluster.join_s:.0f} s. "
        f"Received: fewer, at {cluster.address}. Start the others with the same --coordinator and "
        f"--process-id {others}."
    )


def _how_to_go_on(members: Sequence[_Member]) -> str:
    runs = {str(noted["run"]) for member in members if "run" in (noted := member.noted())}
    kept = [run for run in runs if Path(run).is_dir()]
    if not kept:
        return "No epoch had ended, so that nothing was kept." if runs else ""
    return f"Go on with: {resume_command(kept[0])}"
