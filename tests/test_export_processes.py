"""Exports in separate processes: interrupted, simultaneous, and of the same model."""

import gc
import hashlib
import os
import resource
import signal
import sys
from pathlib import Path

import keras
import pytest
from forks import result_of, start, start_command

from benchmarks.zoo import build_zoo_model
from export import ExportError, ExportOptions, export_bundle
from export.inference import trace_inference
from export.onnx.convert import convert_to_onnx
from serving import verify_bundle

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


def export(output):
    gc.freeze()  # as the command does
    keras.utils.set_random_seed(0)
    keras.backend.clear_session()  # names, and so files, have the same length each time
    layers = [keras.Input((40,)), keras.layers.Dense(300), keras.layers.Dense(3, "softmax")]
    options = ExportOptions(int8="never")
    return export_bundle(keras.Sequential(layers), output, "own", options=options)


def export_on_a_full_disk(output, step, sender):
    """Export with increasing limits of the file size, which act like a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sizes = {path.stat().st_size for path in export(output).rglob("*") if path.is_file()}
    found = []
    for limit in [*sorted({0, *(size - 1 for size in sizes)})[::step], max(sizes) - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            outcome = str(export(output))
        except ExportError as error:
            outcome = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        found.append((outcome, sorted(path.name for path in output.iterdir())))
    sender.send(found)


# A few files in short; every file in the slow test.
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_is_an_error_and_leaves_earlier_files_unchanged(step, tmp_path):
    output = tmp_path / "dist"
    found = result_of(export_on_a_full_disk, output, step)
    assert len(found) > 2
    for outcome, left in found:
        assert "The bundle is incomplete, so nothing was published." in outcome
        assert "file too large" in outcome.lower()
        assert left == ["own"]
    assert sorted(path.name for path in (output / "own").iterdir() if path.is_dir()) == ["1"]
    assert all(check.passed for check in verify_bundle(output / "own"))


def export_until(output, last, count_file):
    """Export. Kill this process at file change number `last`, or write the number of changes."""
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
    export(output)
    count_file.write_text(str(done))


# Two moments in short: amid the work and just before the end.
@pytest.mark.parametrize(
    "moments", [(0.5, -1), pytest.param((0.0, 0.25, 0.75, -6, -2), marks=pytest.mark.slow)]
)
def test_an_export_that_is_killed_publishes_whole_versions_or_none(moments, tmp_path):
    output, count_file = tmp_path / "dist", tmp_path / "changes"
    start(export_until, output, None, count_file).join()
    total = int(count_file.read_text())
    for moment in moments:
        last = total + moment if moment < 0 else max(2, int(total * moment))
        process = start(export_until, output, last, count_file)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        names = {path.name for path in (output / "own").iterdir()}
        assert {"1", "config.pbtxt", "labels.txt"} <= names
    start(export, output).join()
    assert [path.name for path in output.iterdir()] == ["own"]  # the last has cleaned up
    versions = [path for path in (output / "own").iterdir() if path.is_dir()]
    for version in versions:
        assert all(check.passed for check in verify_bundle(version))


def test_two_simultaneous_exports_of_one_name_both_succeed(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "own.keras")
    output = tmp_path / "dist"
    command = ["export", tmp_path / "own.keras", "--output", output]
    both = [start_command(*command) for _ in range(2)]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert sorted(path.name for path in (output / "own").iterdir()) == [
        "1", "2", "config.pbtxt", "labels.txt",
    ]  # fmt: skip
    for number in "12":
        assert all(check.passed for check in verify_bundle(output / "own" / number))


def graph_sha256(path):
    graph = convert_to_onnx(trace_inference(keras.saving.load_model(path)), {})
    return hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()


def send_graph_sha256(path, sender):
    sender.send(graph_sha256(path))


def test_a_model_gives_the_same_bytes_in_another_process(tmp_path):
    path = Path(tmp_path / "model.keras")
    build_zoo_model("transformer").save(path)
    assert result_of(send_graph_sha256, path) == graph_sha256(path)
