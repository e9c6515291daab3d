"""Exports that are cut off: what was published stays, and nothing half-made is."""

import json
import subprocess
import sys

import pytest

from serving import verify_bundle

PRELUDE = """
import gc, json, os, resource, signal, sys
from pathlib import Path
import keras
from export import ExportError, ExportOptions, export_bundle

output = Path(sys.argv[1])
gc.freeze()  # as the command does

def export():
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()  # names of the same length each time, so files too
    layers = [keras.Input((40,)), keras.layers.Dense(300), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    return export_bundle(model, output, "own", options=ExportOptions(int8="never"))
"""
# What a disk without room does to each file that is longer than the limit, for limits up to the
# longest file.
FULL = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sizes = {path.stat().st_size for path in export().rglob("*") if path.is_file()}
for limit in sorted({0, *(size - 1 for size in sizes)})[::3] + [max(sizes) - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        answer = str(export())
    except ExportError as error:
        answer = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps([answer, sorted(path.name for path in output.iterdir())]))
"""
# Children that die at some of the moments at which they change files; TensorFlow has no threads yet
# when they are made.
KILLED = """
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")

def run(last):
    done = 0
    def count(event, arguments):
        nonlocal done
        if event not in CHANGES or not str(arguments[0]).startswith(str(output)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    export()
    (output.parent / "changes").write_text(str(done))

def fork(last):
    child = os.fork()
    if child == 0:
        run(last)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])

fork(None)
total = int((output.parent / "changes").read_text())
for last in sorted({2, total // 2, total - 6, total - 1}):
    print(json.dumps([last, total, fork(last), sorted(p.name for p in (output / "own").iterdir())]))
export()
"""


@pytest.fixture
def program(tmp_path):
    """Run a program on an empty folder in a process of its own; the JSON lines it prints."""

    def run(text):
        output = tmp_path / "dist"
        output.mkdir()
        command = [sys.executable, "-c", PRELUDE + text, str(output)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert finished.returncode == 0, finished.stderr
        return output, [json.loads(line) for line in finished.stdout.splitlines()]

    return run


def test_a_disk_that_fills_is_an_error_and_leaves_what_was_there(program):
    output, answers = program(FULL)
    assert len(answers) > 3
    for answer, left in answers:
        assert (
            "The bundle could not be written completely, so nothing was published. Received: "
            in answer
        )
        assert "File too large" in answer
        assert left == ["own"]
    assert sorted(path.name for path in (output / "own").iterdir() if path.is_dir()) == ["1"]
    assert all(check.passed for check in verify_bundle(output / "own"))


def test_an_export_that_is_killed_publishes_whole_versions_or_none(program):
    output, kills = program(KILLED)
    assert len(kills) == 4
    for _, _, signal, names in kills:
        assert signal == 9
        assert {"1", "config.pbtxt", "labels.txt"} <= set(names)
    assert [path.name for path in output.iterdir()] == ["own"]  # the last has cleaned up
    versions = [path for path in (output / "own").iterdir() if path.is_dir()]
    for version in versions:
        assert all(check.passed for check in verify_bundle(version))
