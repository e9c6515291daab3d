"""Several studies at once: their results, and how their processes end when one of them fails."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import study_runs
from filelock import FileLock
from processes import children, is_alive
from waiting import PATIENCE_S, wait_until

from app.errors import StudyError
from app.studies import process_pool
from app.studies.cache import read_sealed
from app.studies.runner import StudyObserver, read_result

TESTS = Path(__file__).parent
TWO = ["vanishing", "worked-example"]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(process_pool, "available_cores", lambda: 2)


def numbers(folder, name):
    parts = read_sealed(folder / name / "result.json")["parts"]
    return {part: np.array(parts[part]["norms"]) for part in parts}


@pytest.mark.slow
def test_studies_that_run_at_once_give_the_results_of_separate_runs(quick_study, tmp_path):
    results = process_pool.run_studies(["vanishing", "softmax"], tmp_path, 2, True)
    assert [result.name for result in results] == ["vanishing", "softmax"]
    alone = quick_study("vanishing")
    assert read_result("vanishing", alone).claims == results[0].claims
    together = numbers(tmp_path, "vanishing")
    for part, values in numbers(alone, "vanishing").items():
        np.testing.assert_allclose(together[part], values, rtol=1e-4)


def test_results_come_in_order_and_progress_is_reported(tmp_path):
    events = []
    observer = StudyObserver(
        study_started=lambda *event: events.append(("started", *event)),
        part_finished=lambda name: events.append(("part", name)),
        study_finished=lambda name: events.append(("finished", name)),
    )
    results = process_pool.run_studies(TWO, tmp_path, 2, True, observer, study_runs.finish)
    assert results == ["vanishing, 2 seeds", "worked-example, 2 seeds"]
    for name in TWO:
        assert [event for event in events if event[1] == name] == [
            ("started", name, 1), ("part", name), ("finished", name)
        ]  # fmt: skip


def test_a_study_that_fails_stops_the_others_with_its_reason(tmp_path):
    with pytest.raises(StudyError, match="This study must fail. Received: worked-example."):
        process_pool.run_studies(TWO, tmp_path, run=study_runs.fail_at_worked_example)
    # Two threads wait for each process, so one may notice its end a moment later than the other.
    wait_until(lambda: not multiprocessing.active_children())


def test_no_study_starts_if_the_folder_of_one_is_in_use(tmp_path):
    (tmp_path / TWO[1]).mkdir()
    with (
        FileLock(tmp_path / TWO[1] / ".lock"),
        pytest.raises(StudyError, match=f"{TWO[1]}, which another process is using"),
    ):
        process_pool.run_studies(TWO, tmp_path, run=study_runs.finish)
    assert [path.name for path in tmp_path.iterdir()] == [TWO[1]]


def test_no_studies_have_no_results(tmp_path):
    assert process_pool.run_studies([], tmp_path) == []


def test_a_process_that_is_killed_is_an_error(tmp_path):
    def kill():
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        multiprocessing.active_children()[0].kill()

    threading.Thread(target=kill).start()
    with pytest.raises(StudyError, match="run to completion. Received: one of 2 was killed"):
        process_pool.run_studies(TWO, tmp_path, run=study_runs.wait)


COMMAND = "from app.commands.cli import main; raise SystemExit(main())"
POOL = """
import sys
from pathlib import Path
import study_runs
from app.studies import process_pool
from app.system.signals import sigterm_as_sigint
process_pool.available_cores = lambda: 2
with sigterm_as_sigint():
    process_pool.run_studies(sys.argv[3:-2], Path(sys.argv[-1]), run=study_runs.wait)
"""


def end(program, send, folder, *path):
    """Run two studies until their processes have started, and send the program a signal."""
    run = subprocess.Popen(
        [sys.executable, "-c", program, "study", "run", *TWO, "--output", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, TESTS, *sys.path]))},
    )
    try:
        # Two processes that run studies, and one that multiprocessing itself needs.
        wait_until(lambda: len(children(run)) >= 3)
        begun = children(run)
        send(run)
        _, stderr = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    wait_until(lambda: not any(map(is_alive, begun)))
    return run.returncode, stderr


linux = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="no list of child processes"
)


@linux
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_program(ending, tmp_path):
    status, _ = end(POOL, lambda run: run.send_signal(ending), tmp_path)
    assert status == (-signal.SIGINT if ending == signal.SIGTERM else -ending)


def assert_says_how_to_resume(status, stderr):
    assert status == 130
    assert b"run the same command to resume" in stderr
    assert stderr.count(b"\n") == 1


@linux
def test_an_interrupted_command_ends_its_processes_and_prints_how_to_resume(tmp_path):
    assert_says_how_to_resume(*end(COMMAND, lambda run: run.send_signal(signal.SIGINT), tmp_path))


@linux
def test_ctrl_c_in_a_terminal_ends_processes_that_are_starting_without_a_traceback(tmp_path):
    """A terminal sends SIGINT to the command and to all of its processes."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path(__file__).with_name(str(os.getpid())).touch()\n"
        "time.sleep(0.5)\n"
    )

    def interrupt(run):
        wait_until(lambda: all((tmp_path / str(child)).exists() for child in children(run)))
        for process in (*children(run), run.pid):
            os.kill(process, signal.SIGINT)
            time.sleep(0.1)

    assert_says_how_to_resume(*end(COMMAND, interrupt, tmp_path / "studies", tmp_path))
