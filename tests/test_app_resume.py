"""Interrupted runs: what is kept, and that resuming gives the result of an uninterrupted run."""

import json
import os
import shutil
import signal
import threading

import keras
import numpy as np
import pytest

from app.config import make_config
from app.config.run_facts import read_environment
from app.config.run_files import CHECKPOINT, CONFIG, DATA, NEW_RESULTS
from app.data.reading_progress import observed_reading
from app.data.sources import load_dataset
from app.errors import RunError
from app.runs import resume, train
from app.runs.run_folder import check_room
from app.system.signals import Interrupted, defer_signals, sigterm_as_sigint

# Settings that keep state from one epoch to the next.
MEMORY = {
    "variant": "mlp",
    "hidden": [16],
    "epochs": 4,
    "restore_best_weights": True,
    "patience": 3,
    "augmentation.rotation": 10,
    "optimizer.schedule": "plateau",
    "optimizer.decay_epochs": 1,
    "optimizer.ema_momentum": 0.9,
    "optimizer.learning_rate": 0.02,
    "class_weight": "balanced",
    "activation": "rrelu",
}


class StopAt(keras.callbacks.Callback):
    """Calls a function at the beginning of a batch."""

    def __init__(self, epoch, action):
        super().__init__()
        self.epoch, self.action, self.now = epoch, action, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 3):
            self.action()


def interrupt():
    raise KeyboardInterrupt


def history(run):
    return (run.folder / "history.csv").read_text()


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory):
    """The path of a file of 400 digits."""
    digits = load_dataset("digits8x8")
    arrays = {
        "x_train": digits.inputs[:320],
        "y_train": digits.targets[:320],
        "x_test": digits.inputs[320:400],
        "y_test": digits.targets[320:400],
    }
    path = tmp_path_factory.mktemp("data") / "few.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def uninterrupted(few_digits, tmp_path_factory):
    config = make_config("digits", MEMORY, data=few_digits)
    return train(config, tmp_path_factory.mktemp("whole"), figures=False)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The folder of a run that SIGTERM stopped after its second epoch. Copy it to change it."""

    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)

    output = tmp_path_factory.mktemp("cut")
    before = signal.getsignal(signal.SIGTERM)
    config = make_config("softmax", {"epochs": 3, "repeat": 1})
    with pytest.raises(Interrupted):
        train(config, output, [StopAt(2, terminate)], figures=False)
    assert signal.getsignal(signal.SIGTERM) is before
    (folder,) = (output / "softmax").iterdir()
    return folder


def test_a_run_that_is_interrupted_twice_ends_like_an_uninterrupted_run(
    uninterrupted, few_digits, tmp_path
):
    config = make_config("digits", MEMORY, data=few_digits)
    with pytest.raises(Interrupted, match="Resume with: hornbill train --resume .*"):
        train(config, tmp_path, [StopAt(1, interrupt)], figures=False)
    (folder,) = (tmp_path / "digits").iterdir()
    with pytest.raises(Interrupted):
        resume(folder, [StopAt(3, interrupt)])
    run = resume(folder)
    assert history(run) == history(uninterrupted)
    assert run.metrics == uninterrupted.metrics
    assert not (folder / "figures").exists()  # the choice of the first call is kept


def test_no_complete_epoch_is_repeated(uninterrupted, few_digits, tmp_path, monkeypatch):
    class Begun(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            begun.append(epoch)
            if len(begun) == 4:
                interrupt()

    begun = []
    config = make_config("digits", MEMORY, data=few_digits)
    monkeypatch.setattr("app.training.checkpoint._SECONDS_BETWEEN", 1000.0)
    with pytest.raises(Interrupted):
        train(config, tmp_path, [Begun()], figures=False)
    (folder,) = (tmp_path / "digits").iterdir()
    run = resume(folder, [Begun()])
    assert begun == [0, 1, 2, 3, 3]
    assert run.metrics == uninterrupted.metrics


@pytest.fixture(scope="module")
def contended(tmp_path_factory):
    """A run that another thread trained, and the folders that could not be resumed meanwhile."""

    def resume_elsewhere():
        (folder,) = (output / "softmax").iterdir()
        with pytest.raises(RunError, match="Only one process can train a run at a time"):
            resume(folder)  # its lock also excludes other processes
        refused.append(folder)

    output = tmp_path_factory.mktemp("contended")
    runs, refused = [], []
    config = make_config("softmax", {"epochs": 3, "repeat": 1, "figures": False})
    callbacks = [StopAt(1, resume_elsewhere)]
    thread = threading.Thread(target=lambda: runs.append(train(config, output, callbacks)))
    thread.start()
    thread.join()
    (run,) = runs
    return run, refused


def test_only_one_process_at_a_time_can_train_a_run(contended):
    run, refused = contended
    assert refused == [run.folder]
    assert len(history(run).splitlines()) == 4
    assert not list(run.folder.glob("*lock*"))


def test_a_run_can_be_trained_in_another_thread(contended):
    run, _ = contended
    assert run.is_finished


def test_resuming_a_finished_run_returns_it_unchanged(uninterrupted):
    assert resume(uninterrupted.folder).metrics == uninterrupted.metrics


# In short: test_a_run_that_stopped_early_goes_on_with_more_patience.
@pytest.mark.slow
def test_a_run_that_stopped_early_is_not_trained_further(tmp_path):
    settings = {"patience": 1, "optimizer.learning_rate": 1e-30, "figures": False}
    whole = train(make_config("softmax", settings), tmp_path / "whole")
    assert history(whole).count("\n") < 20  # out of a hundred epochs

    class AtTheEnd(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            interrupt()

    with pytest.raises(Interrupted):
        train(make_config("softmax", settings), tmp_path / "cut", [AtTheEnd()])
    (folder,) = (tmp_path / "cut" / "softmax").iterdir()
    run = resume(folder)
    assert history(run) == history(whole)
    assert run.metrics == whole.metrics
    environment = read_environment(run.folder)  # includes the epochs before the interruption
    assert environment["seconds"] > 0
    assert environment["examples_per_s"] > 0


def test_a_full_disk_at_the_first_checkpoint_leaves_nothing_to_resume(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("app.training.checkpoint.np.savez", full)
    message = (
        r"npz cannot be written: no space left on device\. There is no earlier checkpoint, so "
    )
    with pytest.raises(RunError, match=message) as caught:
        train(make_config("softmax", {"epochs": 2}), tmp_path, figures=False)
    assert str(caught.value).endswith("so there is nothing to resume.")
    assert not list((tmp_path / "softmax").iterdir())


def test_a_run_whose_results_could_not_be_written_can_be_resumed(tmp_path):
    class InTheWay(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            (folder,) = (tmp_path / "softmax").iterdir()
            (folder / NEW_RESULTS).touch()

    message = "cannot be written: not a directory. Resume it with hornbill train --resume "
    with pytest.raises(RunError, match=message):
        train(make_config("softmax", {"epochs": 2}), tmp_path, [InTheWay()], figures=False)
    (folder,) = (tmp_path / "softmax").iterdir()
    (folder / NEW_RESULTS).unlink()
    assert resume(folder).is_finished


def test_a_run_without_a_finished_epoch_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted, match="No epoch was finished, so there is nothing to resume."):
        train(make_config("softmax"), tmp_path, [StopAt(0, interrupt)])
    assert not list((tmp_path / "softmax").iterdir())


def test_sigterm_stops_a_run_like_sigint(interrupted):
    assert (interrupted / CHECKPOINT).exists()
    assert not (interrupted / "metrics.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_deferred_signals_arrive_after_the_block(number):
    done = []

    def work():
        with sigterm_as_sigint(), defer_signals():
            signal.raise_signal(number)
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done


class Notes:
    """Observes the reading of data."""

    def __init__(self):
        self.lines = []

    def advance(self, done, total, activity=""):
        pass

    def begin(self, step):
        pass

    def note(self, line):
        self.lines.append(line)


def test_a_run_that_goes_on_under_another_backend_says_so(interrupted, tmp_path):
    folder = shutil.copytree(interrupted, tmp_path / "run")
    data = json.loads((folder / DATA).read_text())
    assert data["backend"] == keras.backend.backend()
    (folder / DATA).write_text(json.dumps(data | {"backend": "other"}))
    notes = Notes()
    with observed_reading(notes):
        assert resume(folder).is_finished
    backend, callbacks = notes.lines
    assert backend.startswith("The run began with the Keras backend other and goes on with tensor")
    assert callbacks.startswith("The run began with StopAt of Python code, and goes on without.")


def test_a_damaged_checkpoint_is_refused(interrupted, tmp_path):
    folder = shutil.copytree(interrupted, tmp_path / "run")
    whole = (folder / CHECKPOINT).read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2]):
        (folder / CHECKPOINT).write_bytes(content)
        with pytest.raises(RunError, match="checkpoint.npz cannot be read as a checkpoint"):
            resume(folder)


def test_a_run_whose_data_changed_is_refused(tmp_path):
    random = np.random.default_rng(0)
    rows = "\n".join(f"{x:.3f},{int(x > 0)}" for x in random.normal(size=60))
    table = tmp_path / "table.csv"
    table.write_text(f"x,kind\n{rows}\n")
    config = make_config(
        "softmax", {"target": "kind", "epochs": 5, "batch_size": 8}, data=str(table)
    )
    with pytest.raises(Interrupted):
        train(config, tmp_path, [StopAt(2, interrupt)])
    (folder,) = (tmp_path / "softmax").iterdir()
    table.write_text(f"x,kind\n{rows}\n1,1\n")
    with pytest.raises(RunError, match="no longer holds the data that .* was trained on"):
        resume(folder)
    table.write_text(f"y,kind\n{rows}\n")
    with pytest.raises(RunError, match="no longer holds the data"):
        resume(folder)


def test_a_run_whose_settings_changed_is_refused(interrupted, tmp_path):
    folder = shutil.copytree(interrupted, tmp_path / "run")
    settings = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(settings.replace("l2 = 0.0", "l2 = 0.5"))
    with pytest.raises(RunError, match="Received: l2=0.5 instead of 0.0. Restore the run's config"):
        resume(folder)
    (folder / CONFIG).write_text(
        settings.replace("epochs = 3", "epochs = 5").replace("patience = 0", "patience = 4")
    )
    assert len(history(resume(folder)).splitlines()) == 6


def test_a_disk_without_room_is_an_error_before_training(tmp_path):
    with pytest.raises(RunError, match=r"needs .* MB of disk space. Received: .* on a disk with"):
        check_room(tmp_path, parameters=10**15)
