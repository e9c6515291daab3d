"""Training in several processes: it gives the results of one, and ends clearly if one is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest
from processes import children, is_alive
from programs import write_program
from waiting import wait_until

from app.commands.train import Request
from app.commands.train_process import PROGRAM
from app.config import make_config
from app.config.run_files import CHECKPOINT
from app.data.shards import Shard
from app.distributed.cluster import Cluster, free_port
from app.distributed.launching import launch
from app.distributed.team import Team
from app.errors import ConfigError, RunError
from app.runs import resume, train
from app.runs.run_folder import read_begun_run, read_run
from app.system.signals import Interrupted
from app.training.checkpoint import Checkpoint

ROOT = Path(__file__).parent.parent
LOCAL = Cluster(2, "127.0.0.1", 7000)
CLI = "import sys; from app.commands.cli import main; main(sys.argv[1:])"
# The beginning of a program that stands in for training: it reports its id to the test.
PROCESS = """
import json, os, signal, sys, time
from pathlib import Path
from app.system.child_process import end_with_parent
payload = json.loads(sys.argv[1])
number, folder = payload["number"], Path(payload["request"]["folder"])
end_with_parent(130)
def report(**status):
    Path(payload["status_file"]).write_text(json.dumps(status))
def write_pid():
    (folder / "new").mkdir(exist_ok=True)
    (folder / "new" / str(number)).write_text(str(os.getpid()))
    (folder / "new" / str(number)).replace(folder / f"{number}.pid")
"""
RUNNING = PROCESS + "report(run=str(folder)); write_pid(); time.sleep(60)"
LAUNCHER = """
import json, sys
from app.distributed.cluster import Cluster
from app.distributed.launching import launch
launch(Cluster(*json.loads(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3:])
"""
# A process that trains as one of two. Once it has imported what takes seconds, it forks another,
# which trains alone.
ALSO_ALONE = """
import json, os, sys
from app.system.tensorflow_import import import_tensorflow_quietly
import_tensorflow_quietly()
import app.runs.train
from app.commands import cli, train_process
arguments = json.loads(sys.argv.pop(1))
alone = os.fork()
if not alone:
    cli.main(arguments)
status = train_process.main()
os._exit(status or os.waitpid(alone, 0)[1])
"""
# With 127 training samples, the last batch of 31 is padded to 32 and divided among two processes.
# Dropout and batch statistics show whether the two compute the same as one.
SETTINGS = {
    "hidden": "16",
    "normalization": "batch",
    "dropout": "0.2",
    "epochs": "4",
    "batch_size": "32",
    "restore_best_weights": True,
    "class_weight": "balanced",
}
WINE = [
    "features",
    "--data",
    "wine",
    "--no-figures",
    *(f"--set={k}={v}" for k, v in SETTINGS.items()),
]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo and pass_fds are POSIX'")


def start(*arguments, **environment):
    return start_program(CLI, "train", *map(str, arguments), **environment)


def start_program(source, *arguments, **environment):
    fast = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # compiling takes longer than training here
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        cwd=ROOT,
        env={**os.environ, **fast, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert error == ""
    assert output.startswith("{"), repr(output)
    return json.loads(output)


def weights(trained):
    return keras.saving.load_model(
        Path(trained["run"]) / "model.keras", compile=False
    ).get_weights()


def metrics(trained):
    return [value for split in trained["metrics"].values() for value in split.values()]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The results of two processes that connect as if on two machines, and their folder of runs.

    One is a command. The other also starts what `one` returns.
    """
    folder = tmp_path_factory.mktemp("two")
    port = free_port()
    address = ["--coordinator", f"127.0.0.1:{port}", "--processes", 2, "--process-id", 0]
    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    output = str(folder / "1")
    request = Request(
        "features", settings=settings, data="wine", output=output, figures=False, as_json=True
    )
    alone = ["train", *WINE, "--output", str(folder.with_name("one")), "--quiet"]
    processes = [
        start(*WINE, *address, "--output", folder / "0", "--json"),
        start_program(
            *[LAUNCHER, json.dumps([2, "127.0.0.1", port, 1]), json.dumps(asdict(request))],
            *[sys.executable, "-c", ALSO_ALONE, json.dumps(alone)],
        ),
    ]
    return [result(process) for process in processes], folder


@pytest.fixture(scope="module")
def one(two):
    """The result of a single process, also under JAX."""
    _, folder = two
    (path,) = folder.with_name("one").glob("features/*")
    run = read_run(path)
    return {"run": str(run.folder), "metrics": run.metrics}


# In short: test_two_processes_train_one_run.
@pytest.mark.slow
def test_two_processes_train_like_one(one, two):
    (first, _), _ = two
    for ours, theirs in zip(weights(first), weights(one), strict=True):
        # float32 sums in a different order.
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(metrics(first), metrics(one), atol=1e-5)
    histories = [
        np.genfromtxt(Path(trained["run"]) / "history.csv", delimiter=",", skip_header=1)
        for trained in (first, one)
    ]
    np.testing.assert_allclose(*histories, atol=1e-5)


# In short: test_two_processes_train_one_run.
@pytest.mark.slow
def test_both_processes_have_equal_metrics_and_one_writes(two):
    (first, second), folder = two
    assert second == {key: first[key] for key in ("run", "metrics")}
    assert read_run(Path(first["run"])).is_finished
    assert [path.name for path in folder.iterdir()] == ["0"]
    environment = json.loads((Path(first["run"]) / "environment.json").read_text())
    assert (environment["backend"], environment["processes"]) == ("jax", 2)


# In short: test_two_processes_train_one_run.
@pytest.mark.slow
def test_a_model_of_two_processes_is_exported_under_tensorflow(two, tmp_path):
    from app.bundles.export_run import export_run
    from export import ExportOptions
    from serving.verify import verify_bundle

    (first, _), _ = two
    bundle = export_run(first["run"], tmp_path, options=ExportOptions(int8="never"))
    assert all(check.passed for check in verify_bundle(bundle))


def test_two_processes_train_one_run(softmax_run, tmp_path):
    """The smallest model, with weights to begin with: it becomes that of one process.

    It has the same metrics in both, or the run would not end.
    """
    settings = {"epochs": 1, "start_from": str(softmax_run.folder)}
    options = ["--data", "iris", *(f"--set={key}={value}" for key, value in settings.items())]
    options += ["--no-figures", "--processes", 2, "--json", "--output", tmp_path]
    trained = result(start("softmax", *options))
    (folder,) = (tmp_path / "softmax").iterdir()
    assert (str(folder), read_run(folder).metrics) == (trained["run"], trained["metrics"])
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["backend"], environment["processes"]) == ("jax", 2)
    alone = train(make_config("softmax", settings, data="iris"), tmp_path / "alone", figures=False)
    np.testing.assert_allclose(metrics(trained), metrics(vars(alone)), atol=1e-5)
    ours, theirs = (each.load_model().get_weights() for each in (read_run(folder), alone))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def begin_run(*arguments, folder):
    """Start two processes, and wait until they have written a checkpoint."""
    before = time.time()
    process = start(*arguments, "--processes", 2, "--quiet")
    for _ in range(1200):
        checkpoints = list(folder.rglob(CHECKPOINT))
        if checkpoints and checkpoints[0].stat().st_mtime > before:
            return process, checkpoints[0].parent
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no checkpoint was written")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
def test_a_run_that_is_interrupted_or_loses_a_process_can_be_resumed(tmp_path):
    """Real training, which one process under TensorFlow finishes."""
    settings = [*WINE, "--set", "epochs=100000"]
    process, folder = begin_run(*settings, "--output", tmp_path, folder=tmp_path)
    started = children(process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == f"hornbill: Interrupted. Resume with: hornbill train --resume {folder}\n"
    assert not any(map(is_alive, started))
    process, _ = begin_run("--resume", folder, folder=tmp_path)
    started = children(process)
    os.kill(started[1], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error == (
        "hornbill: The 2 processes of a run must all stay alive. Received: process 1, ended by "
        f"SIGKILL. Resume with: hornbill train --resume {folder}\n"
    )
    assert not any(map(is_alive, started))
    epochs = len(Checkpoint(folder / CHECKPOINT, read_begun_run(folder).config).history) + 2
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("epochs = 100000", f"epochs = {epochs}"))
    run = resume(folder)
    assert len((run.folder / "history.csv").read_text().splitlines()) == epochs + 1


def launch_program(folder, source, cluster=LOCAL):
    """Launch two programs of a few lines instead of two that train."""
    launch(cluster, {"folder": str(folder)}, write_program(folder, source))


def pids(folder):
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


@pytest.fixture
def brief(monkeypatch):
    """Wait briefly for the other processes, which do not end by themselves."""
    monkeypatch.setattr("app.distributed.launching._SETTLE_S", 0.1)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_lost_before_it_joins_ends_the_run(lost, tmp_path):
    source = (
        PROCESS
        + f"""
write_pid()
while len(list(folder.glob("*.pid"))) < 2: time.sleep(0.01)
if number == {lost}: os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""
    )
    with pytest.raises(RunError) as caught:
        launch_program(tmp_path, source)
    assert str(caught.value) == (
        f"The 2 processes of a run must all stay alive. Received: process {lost}, ended by SIGKILL."
    )
    assert not any(map(is_alive, pids(tmp_path)))


@pytest.mark.usefixtures("brief")
def test_a_run_that_loses_a_process_names_the_command_to_resume_it(tmp_path):
    source = (
        PROCESS
        + """
write_pid()
report(run=str(folder))
while len(list(folder.glob("*.pid"))) < 2: time.sleep(0.01)
if number == 1: os.kill(os.getpid(), signal.SIGKILL)
time.sleep(60)
"""
    )
    with pytest.raises(RunError) as caught:
        launch_program(tmp_path, source)
    assert str(caught.value) == (
        "The 2 processes of a run must all stay alive. Received: process 1, ended by SIGKILL. "
        f"Resume with: hornbill train --resume {tmp_path}"
    )
    assert not any(map(is_alive, pids(tmp_path)))


def test_a_process_that_fails_states_its_reason(tmp_path):
    source = PROCESS + "sys.stderr.write('Traceback\\nOSError: full\\n'); sys.exit(number)"
    with pytest.raises(RunError, match="Received: process 1, ended with status 1: OSError: full."):
        launch_program(tmp_path, source)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_and_names_the_command_to_resume(number, tmp_path):
    def interrupt():
        wait_until(lambda: len(pids(tmp_path)) == 2)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted) as caught:
        launch_program(tmp_path, RUNNING)
    assert str(caught.value) == f"Resume with: hornbill train --resume {tmp_path}"
    assert not any(map(is_alive, pids(tmp_path)))


def test_processes_end_with_the_command_that_started_them(tmp_path):
    program = write_program(tmp_path, RUNNING)
    request = json.dumps({"folder": str(tmp_path)})
    with start_program(LAUNCHER, json.dumps([2, "127.0.0.1", 1]), request, *program) as process:
        wait_until(lambda: len(pids(tmp_path)) == 2)
        assert all(map(is_alive, pids(tmp_path)))
        process.kill()
    wait_until(lambda: not any(map(is_alive, pids(tmp_path))))


def test_a_refused_process_states_its_reason(tmp_path):
    """The other process, which has lost its peer, ends later, as under JAX."""
    source = (
        PROCESS
        + """
if number == 0: time.sleep(0.3); os.abort()
sys.stderr.write("batch_size must be even. Received: 3.\\n"); sys.exit(2)
"""
    )
    with pytest.raises(RunError) as caught:
        launch_program(tmp_path, source)
    assert str(caught.value) == "batch_size must be even. Received: 3."


def test_the_first_process_alone_writes_to_the_console(tmp_path, capfd):
    source = PROCESS + "os.write(payload['output'], b'out'); os.write(payload['error'], b'error')"
    launch_program(tmp_path, source)
    assert capfd.readouterr() == ("out", "error")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "counts", "message"),
    [
        ((0, 1), (2, 2), "the same seed. Received: 1 in process 1, 0 in process 0."),
        ((0, 0), (2, 4), "the same --processes. Received: 4 in process 1, 2 in process 0."),
    ],
)
def test_processes_with_different_settings_are_refused(seeds, counts, message, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    processes = [
        start(
            *["softmax", "--seed", seeds[index], "--processes", counts[index]],
            *["--coordinator", address, "--process-id", index, "--output", tmp_path],
        )
        for index in (0, 1)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2
        assert error == f"hornbill: All processes must train with {message}\n"
    assert not list(tmp_path.rglob("config.toml"))


@pytest.mark.slow
def test_one_process_uses_all_its_devices(one, tmp_path):
    devices = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    trained = result(start(*WINE, "--output", tmp_path, "--json", **devices))
    np.testing.assert_allclose(metrics(trained), metrics(one), atol=1e-5)


@pytest.mark.slow
def test_images_are_mixed_in_the_same_way_on_all_devices(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (75, 8, 8, 3), np.uint8)
    targets = np.arange(75) % 3
    parts = {"x_train": images[:65], "y_train": targets[:65]}
    np.savez(tmp_path / "own.npz", **parts, x_test=images[65:], y_test=targets[65:])
    settings = {"backbone": "mlp", "hidden": "[8]", "epochs": 2, "batch_size": 16}
    settings |= {"class_weight": "balanced", "augmentation.randaugment": 0.3}
    settings |= {"augmentation.mixup": 0.5, "augmentation.cutmix": 1}
    options = [f"--set={key}={value}" for key, value in settings.items()]
    options += ["--data", tmp_path / "own.npz", "--no-figures", "--json", "--output", tmp_path]
    one, two = (
        result(
            start(
                *["features", *options],
                KERAS_BACKEND="jax",
                XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
            )
        )
        for devices in (1, 2)
    )
    for weight, other in zip(weights(one), weights(two), strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)


@pytest.mark.parametrize(
    ("process_id", "message"),
    [
        (1, "The coordinator must respond within 3 s. Received: nothing from {address}."),
        (0, "All 2 processes must join within 3 s. Received: fewer, at {address}."),
    ],
)
def test_processes_that_cannot_connect_name_the_address(process_id, message, tmp_path):
    """JAX ends a process by SIGABRT if it cannot join."""
    cluster = Cluster(2, "127.0.0.1", 7000, process_id, join_s=3)
    with pytest.raises(RunError, match=message.format(address=cluster.address)):
        launch_program(tmp_path, PROCESS + "os.abort()", cluster)


@pytest.mark.slow
def test_jax_ends_a_process_that_cannot_join():
    cluster = Cluster(2, "127.0.0.1", free_port(), 1, join_s=3)
    with pytest.raises(RunError, match="must respond within 3 s. Received: nothing from"):
        launch(cluster, {"family": "softmax"}, PROGRAM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--process-id 1", "--process-id needs --coordinator. Received: --process-id 1."),
        ("--process-id 1 --processes 2", "--process-id needs --coordinator."),
        (
            "--coordinator h:1",
            "--coordinator needs --processes and --process-id, which counts from 0.",
        ),
        ("--coordinator h:1 --processes 2", "--coordinator needs --processes and --process-id"),
        (
            "--coordinator localhost:7000 --processes 2 --process-id 2",
            "--process-id must be from 0 to 1 with --processes 2. Received: --process-id 2.",
        ),
        (
            "--coordinator localhost:7000 --processes 2 --process-id -1",
            "--process-id must be from 0 to 1 with --processes 2. Received: --process-id -1.",
        ),
        ("--coordinator localhost --processes 2 --process-id 1", "must be HOST:PORT"),
        ("--coordinator localhost:0 --processes 2 --process-id 1", "a port from 1 to 65535"),
        (
            "--coordinator no.such.host.invalid:7000 --processes 2 --process-id 1",
            "The host of --coordinator is unknown. Received: --coordinator no.such",
        ),
        ("--processes 0", "'--processes': Input should be greater than or equal to 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message, run):
    status, output, error = run("train", "softmax", *options.split())
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert message in error


def test_a_port_in_use_is_refused(run):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        address = f"127.0.0.1:{port}"
        options = ["--coordinator", address, "--processes", 2, "--process-id", 0]
        status, _, error = run("train", "softmax", *options)
    assert status == 2
    assert f"must be free on the machine of process 0. Received: port {port}: Address" in error


def test_processes_need_the_backend_jax(run, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    status, _, error = run("train", "softmax", "--processes", 2)
    assert status == 2
    assert "needs Keras' backend jax. Received: KERAS_BACKEND=tensorflow." in error


def test_without_jax_the_extra_is_named():
    missing = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "jax" else find(name, *rest)
"""
    process = subprocess.run(
        [sys.executable, "-c", missing + CLI, "train", "softmax", "--processes", "2"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.endswith(
        "Install it in the clone of Hornbill with: pip install '.[jax]'.\n"
    )
    assert process.stderr.count("\n") == 1


def test_columns_of_text_are_refused_under_jax(run, monkeypatch, tmp_path):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    (tmp_path / "a.csv").write_text("word,kind\n" + "x,p\nx,n\ny,n\n" * 20)
    status, _, text = run(
        *["train", "softmax", "--data", tmp_path / "a.csv", "--target", "kind"],
        *["--output", tmp_path / "r"],
    )
    assert status == 2
    _, error = text.splitlines()
    assert error.startswith(
        "hornbill: Columns of text need the Keras backend tensorflow, in a single process. "
        f"Received: jax, and word of {tmp_path / 'a.csv'}."
    )
    assert not (tmp_path / "r").exists()


def test_the_batch_size_must_be_divisible_by_the_number_of_devices(tmp_path):
    team = Team(Shard(index=0, processes=2, devices=2))
    with pytest.raises(
        ConfigError,
        match="must be a multiple of 2, the number of processes .* Received: batch_size=33.",
    ):
        train(make_config("softmax", {"batch_size": 33}), tmp_path, team=team)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize(("count", "batch_size"), [(127, 32), (13, 64), (128, 32), (125, 8)])
def test_the_shards_of_a_batch_are_its_rows_in_order(devices, count, batch_size):
    shards = [Shard(index, 2, devices) for index in range(2)]
    filled = shards[0].filled_sizes(count, batch_size)
    for size in {min(batch_size, count), count % batch_size} - {0}:
        parts = [shard.positions(size, batch_size) for shard in shards]
        rows = np.concatenate(parts)
        assert len(rows) % devices == 0
        assert len({len(part) for part in parts}) == 1
        assert filled.get(len(rows), len(rows)) == size
        np.testing.assert_array_equal(rows[:size], np.arange(size))
