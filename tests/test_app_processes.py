"""Training by processes of their own: killed, stopped by a signal, without standard error."""

import os
import signal

import pytest
from forks import start_command
from waiting import PATIENCE_S, wait_until

from app.config.run_files import CHECKPOINT
from app.errors import RunError
from app.runs import resume
from app.runs.run_folder import read_run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_stopped_can_be_resumed(number, tmp_path):
    options = ["--quiet", "--output", tmp_path, "--set", "epochs=3000", "--no-figures"]
    process = start_command("train", "softmax", *options, error=tmp_path / "error")
    wait_until(lambda: list(tmp_path.rglob(CHECKPOINT)))
    os.kill(process.pid, number)
    process.join()
    (checkpoint,) = tmp_path.rglob(CHECKPOINT)
    if number == signal.SIGTERM:
        assert process.exitcode == 130
        message = f"Resume with: hornbill train --resume {checkpoint.parent}\n"
        assert (tmp_path / "error").read_text().endswith(message)
    config = checkpoint.parent / "config.toml"
    with pytest.raises(RunError, match="is not finished.*Resume it with hornbill train --resume"):
        read_run(checkpoint.parent)
    config.write_text(config.read_text().replace("epochs = 3000", "epochs = 1"))
    assert resume(checkpoint.parent).is_finished


def test_standard_error_may_be_closed(tmp_path):
    arguments = ["train", "softmax", "--set", "epochs=1", "--quiet", "--no-figures"]
    process = start_command(*arguments, "--output", tmp_path, error=None)
    process.join()
    assert process.exitcode == 0
    (metrics,) = tmp_path.rglob("metrics.json")
    assert not (metrics.parent / "figures").exists()


def test_a_search_ended_by_sigterm_can_be_resumed(tmp_path):
    output, error = tmp_path / "tunes", tmp_path / "error"
    arguments = ["tune", "softmax", "--search", "l2=log:1e-5..1", "--trials", 99, "--quiet"]
    process = start_command(*arguments, "-o", output, error=error)
    wait_until(lambda: any("heartbeat" in p.read_text() for p in output.rglob("journal.log")))
    process.terminate()
    process.join(PATIENCE_S)
    (folder,) = output.glob("softmax/*")
    assert error.read_text() == (
        f"hornbill: Interrupted. Resume with: hornbill tune --join {folder}\n"
    )
    assert process.exitcode == 130
