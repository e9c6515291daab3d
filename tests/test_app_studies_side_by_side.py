"""Studies in processes side by side: what comes out, and how they end when one of them must."""

import multiprocessing
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from processes import children, is_alive
from waiting import PATIENCE_S, wait_until

from app.errors import StudyError
from app.studies import process_pool
from app.studies.cache import read_sealed
from app.studies.runner import Progress, run_study

TWO = ["vanishing", "worked-example"]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(process_pool, "available_cores", lambda: 2)


def numbers(folder, name):
    parts = read_sealed(folder / name / "result.json")["parts"]
    return {part: np.array(parts[part]["norms"]) for part in parts}


def test_studies_side_by_side_come_out_as_one_alone(tmp_path):
    told = []
    progress = Progress(
        begin=lambda *event: told.append(("begin", *event)),
        end_part=lambda name: told.append(("part", name)),
        end=lambda name: told.append(("end", name)),
    )
    results = process_pool.run_studies(TWO, tmp_path, 2, True, progress)
    assert [result.name for result in results] == TWO
    assert {event for event in told if event[0] != "part"} == {
        ("begin", "vanishing", 6), ("begin", "worked-example", 1),
        ("end", "vanishing"), ("end", "worked-example"),
    }  # fmt: skip
    assert told.count(("part", "vanishing")) == 6
    alone = run_study("vanishing", tmp_path / "alone", 2, True)
    assert alone.checks == results[0].checks
    together = numbers(tmp_path, "vanishing")
    for part, values in numbers(tmp_path / "alone", "vanishing").items():
        np.testing.assert_allclose(together[part], values, rtol=1e-4)


def test_one_that_cannot_be_run_ends_the_others_with_its_reason(tmp_path):
    (tmp_path / "vanishing").mkdir()
    with (
        FileLock(tmp_path / "vanishing" / ".lock"),
        pytest.raises(StudyError, match="by one process at a time. Received: .*vanishing"),
    ):
        process_pool.run_studies(["vanishing", "abstraction"], tmp_path, 2, True)
    # Two threads wait for each process: for a moment one may not know what the other does.
    wait_until(lambda: not multiprocessing.active_children())
    assert not (tmp_path / "abstraction" / "result.json").exists()


def test_a_process_that_is_killed_is_said(tmp_path):
    def kill():
        wait_until(multiprocessing.active_children)
        multiprocessing.active_children()[0].kill()

    threading.Thread(target=kill).start()
    with pytest.raises(StudyError, match="must live until they end. Received: one of 2 that was"):
        process_pool.run_studies(TWO, tmp_path, 2, True)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no list of child processes")
@pytest.mark.parametrize(
    ("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_processes_end_with_the_command(ending, status, tmp_path):
    command = "from app.commands.cli import main; raise SystemExit(main())"
    run = subprocess.Popen(
        [sys.executable, "-c", command, "study", "run", *TWO, "--output", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        # Two that train, and one that multiprocessing has for itself.
        wait_until(lambda: len(children(run)) >= 3 and list(tmp_path.rglob(".parts/*")))
        begun = children(run)
        run.send_signal(ending)
        _, said = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    assert run.returncode == status
    if status == 130:
        assert b"go on with the same command" in said
        assert said.count(b"\n") == 1
    wait_until(lambda: not any(map(is_alive, begun)))
