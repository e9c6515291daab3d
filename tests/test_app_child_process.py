"""Child processes: their last line and exit status, and how they are stopped."""

import signal
import subprocess

from processes import is_alive
from programs import write_program
from waiting import wait_until

from app.system.child_process import ChildProcess

TIDY = """
import signal, sys, time
from pathlib import Path
def tidy(*_):
    sys.stderr.write("one\\ntidied up\\n")
    sys.exit(7)
signal.signal(signal.SIGTERM, tidy)
Path(sys.argv[1]).touch()
time.sleep(60)
"""
DEAF = TIDY.replace("tidy)\n", "signal.SIG_IGN)\n")
NESTED = """
import sys, time
from pathlib import Path
from app.system.child_process import ChildProcess, end_with_parent
if len(sys.argv) == 2:
    child = ChildProcess([sys.executable, __file__, sys.argv[1], "child"], {})
    time.sleep(60)
end_with_parent(130)
import os
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(60)
"""


def start(folder, source):
    """Run a program until it has made the file that its argument names."""
    ready = folder / "ready"
    child = ChildProcess(write_program(folder, source, ready), {})
    wait_until(ready.exists)
    return child


def test_the_last_line_of_standard_error_and_the_exit_status_are_kept(tmp_path):
    source = "import sys; print('no'); sys.stderr.write('first\\nlast\\n\\n'); sys.exit(3)"
    child = ChildProcess(write_program(tmp_path, source), {})
    wait_until(lambda: not child.is_running)
    assert (child.exit_status, child.last_line) == (3, "last")
    child.kill()
    assert child.stderr == "first\nlast\n\n"


def test_the_last_line_of_a_silent_program_is_no_message(tmp_path):
    child = ChildProcess(write_program(tmp_path, ""), {})
    wait_until(lambda: not child.is_running)
    child.kill()
    assert (child.exit_status, child.last_line) == (0, "no message")


def test_a_program_is_stopped_gently_and_can_tidy_up(tmp_path):
    child = start(tmp_path, TIDY)
    child.stop()
    assert (child.exit_status, child.last_line) == (7, "tidied up")


def test_a_program_that_ignores_sigterm_is_killed(tmp_path):
    child = start(tmp_path, DEAF)
    child.stop(patience_s=0.2)
    assert child.exit_status == -signal.SIGKILL


def test_environment_variables_are_added_to_those_of_this_process(tmp_path, monkeypatch):
    monkeypatch.setenv("OWN", "a")
    source = "import os, sys; sys.stderr.write(os.environ['OWN'] + os.environ['ADDED'])"
    child = ChildProcess(write_program(tmp_path, source), {"ADDED": "b"})
    wait_until(lambda: not child.is_running)
    assert child.last_line == "ab"
    child.kill()


def test_a_program_ends_with_its_parent_even_if_the_parent_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    with subprocess.Popen(write_program(tmp_path, NESTED, pid_file)) as parent:
        wait_until(lambda: pid_file.exists() and pid_file.read_text())
        number = int(pid_file.read_text())
        assert is_alive(number)
        parent.kill()
    wait_until(lambda: not is_alive(number))
