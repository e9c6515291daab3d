"""Runs a program in a child process: starts it, waits for it, stops it, reads its last line.

The parent uses `ChildProcess`; a program that must not outlive its parent calls `end_with_parent`.
"""

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence

# Grace period of `stop`, in seconds.
_STOP_S = 10.0


class ChildProcess:
    """A running program whose standard error is captured.

    Its standard output is discarded. Its standard input is a pipe on which nothing is written and
    which closes when this process ends.

    Args:
        command: program and arguments.
        environment: environment variables to set in addition to those of this process.
        inherit: file descriptors that the program inherits under the same numbers.
        new_session: whether to start a session, so that Ctrl-C in the terminal does not reach the
            program.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        inherit: Sequence[int] = (),
        new_session: bool = False,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the program runs
        self._stderr = b""
        try:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=inherit,
                start_new_session=new_session,
            )
        except BaseException:
            self._log.close()
            raise

    @property
    def is_running(self) -> bool:
        """Whether the program has not ended yet."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the program: None while it runs, minus the signal that ended it."""
        return self._process.poll()

    @property
    def stderr(self) -> str:
        """What the program wrote to standard error; empty while it runs."""
        if not self._log.closed and not self.is_running:
            self._close_log()
        return self._stderr.decode("utf-8", "replace")

    @property
    def last_line(self) -> str:
        """The last line of standard error, which states the reason of a failure."""
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else "no message"

    def stop(self, patience_s: float = _STOP_S) -> None:
        """End the program with SIGTERM, or with SIGKILL if it still runs after `patience_s`."""
        try:
            if self.is_running:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the program with SIGKILL if it still runs, and close its pipe and its log."""
        if self.is_running:
            self._process.kill()
            self._process.wait()
        if not self._log.closed:
            self._close_log()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _close_log(self) -> None:
        # The program shares the file offset that seeking moves, so it must have ended.
        self._log.seek(0)
        self._stderr = self._log.read()
        self._log.close()


def end_with_parent(exit_status: int) -> None:
    """End this program with `exit_status` as soon as the parent that started it has ended."""

    def wait_for_end_of_input() -> None:
        os.read(0, 1)  # nothing is ever written: this returns when the parent's end is closed
        os._exit(exit_status)

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()
