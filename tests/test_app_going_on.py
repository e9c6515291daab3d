"""Finished and interrupted runs that are trained further: what goes on, and what is refused."""

import json
import shutil
import subprocess
import sys

import pytest
from test_app_resume import Notes, StopAt, history, interrupt

from app.config import make_config
from app.config.run_facts import read_environment
from app.config.run_files import CHECKPOINT, METRICS, NEW_RESULTS, NEXT_CONFIG
from app.data.reading_progress import observed_reading
from app.errors import ConfigError, RunError
from app.runs import read_run, resume, train
from app.runs.going_on import read_run_to_train
from app.runs.run_folder import publish_results
from app.system.signals import Interrupted
from app.training import checkpoint
from serving.bundle import KERAS_MODEL
from serving.errors import HornbillError

FAST = {"figures": False, "repeat": 1}


def _train(folder, settings):
    return train(make_config("softmax", FAST | settings), folder)


@pytest.fixture(scope="module")
def short(once):
    """A finished run of two epochs at a constant learning rate. Copy its folder to change it."""
    return once("short", _train, {"epochs": 2, "optimizer.schedule": "constant"})


@pytest.fixture(scope="module")
def cosine(once):
    """A finished run of two epochs, whose learning rate has fallen to 0."""
    return once("cosine", _train, {"epochs": 2})


@pytest.fixture
def copy(tmp_path):
    def copied(run):
        return shutil.copytree(run.folder, tmp_path / "run")

    return copied


def files_of(folder):
    names = ("config.toml", "data.json", "history.csv", "metrics.json", "report.html", KERAS_MODEL)
    return {name: (folder / name).read_bytes() for name in names}


def goes_on(folder, settings):
    """Return the run that went on, and what was told."""
    notes = Notes()
    with observed_reading(notes):
        return resume(folder, settings=settings), notes.lines


def test_a_finished_run_goes_on_like_one_that_was_planned_longer(short, copy, tmp_path):
    whole = _train(tmp_path, {"epochs": 4, "optimizer.schedule": "constant"})
    run, told = goes_on(copy(short), {"epochs": 4})
    assert told == [
        "Training goes on after epoch 2, up to epoch 4. The learning rate stays at 0.03."
    ]
    assert history(run) == history(whole)
    assert run.metrics == whole.metrics
    assert read_run(run.folder).config.training.epochs == 4
    assert read_environment(run.folder)["epochs"] == 4
    assert str(run.folder) in (run.folder / "report.html").read_text()
    assert not (run.folder / NEXT_CONFIG).exists()
    assert not (run.folder / NEW_RESULTS).exists()


def test_a_setting_that_was_chosen_from_the_data_is_changed_when_a_run_goes_on(short, copy):
    folder = copy(short)
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps(data | {"chosen": ["epochs", "width"]}))
    found = read_run_to_train(folder, {"epochs": 4}).data
    assert (found["chosen"], found["overridden"]) == (["width"], {"epochs": 2})


# In short: test_a_finished_run_goes_on_like_one_that_was_planned_longer, with a constant rate.
@pytest.mark.slow
def test_a_cosine_spans_the_new_total_and_the_jump_is_told(cosine, copy):
    run, told = goes_on(copy(cosine), {"epochs": 4})
    assert told == [
        "Training goes on after epoch 2, up to epoch 4. "
        "The cosine spans all epochs, so the learning rate goes from 0 to 0.015."
    ]
    assert history(run).startswith(history(cosine))
    assert [line.split(",")[0] for line in history(run).splitlines()[1:]] == list("1234")


def test_the_former_result_stays_until_the_new_one_is_written(short, copy):
    folder = copy(short)
    before = files_of(folder)
    with pytest.raises(Interrupted, match="Resume with: hornbill train --resume"):
        resume(folder, [StopAt(3, interrupt)], settings={"epochs": 4})
    after = files_of(folder)
    assert after.pop("history.csv").startswith(before.pop("history.csv"))  # it grows with epochs
    assert after == before
    assert read_run(folder).metrics == short.metrics
    assert len(history(resume(folder)).splitlines()) == 5
    assert len(read_run(folder).metrics) == 3


def test_results_that_were_moved_in_part_are_moved_by_the_next_resume(short, copy):
    folder = copy(short)
    (folder / "figures").mkdir()
    new = folder / NEW_RESULTS
    new.mkdir()
    (new / "figures").mkdir()
    (new / "figures" / "roc.png").touch()
    (new / "history.csv").write_text("new")
    (new / METRICS).write_text(json.dumps({"test": {"accuracy": 1.0}}))
    (folder / METRICS).unlink()  # as after the model was moved
    assert resume(folder).metrics == {"test": {"accuracy": 1.0}}
    assert (folder / "figures" / "roc.png").exists()
    assert (folder / "history.csv").read_text() == "new"
    assert not new.exists()


def test_new_results_without_figures_leave_no_former_figures(short, copy):
    folder = copy(short)
    new = folder / NEW_RESULTS
    new.mkdir()
    (folder / "figures").mkdir()
    shutil.copy(folder / KERAS_MODEL, new)
    publish_results(folder)
    assert (folder / "figures").exists()  # the new results are not complete
    shutil.copy(folder / METRICS, new)
    publish_results(folder)
    assert not (folder / "figures").exists()


def test_an_interrupted_run_can_be_given_more_epochs_and_another_rate(tmp_path):
    config = make_config("softmax", FAST | {"epochs": 3, "optimizer.schedule": "constant"})
    with pytest.raises(Interrupted):
        train(config, tmp_path, [StopAt(1, interrupt)])
    (folder,) = (tmp_path / "softmax").iterdir()
    run, told = goes_on(folder, {"epochs": 4, "optimizer.learning_rate": "0.001"})
    assert told == [
        "The run began with StopAt of Python code, and goes on without. To keep to it: "
        "app.runs.resume(folder, callbacks=[…]).",
        "Training goes on after epoch 1, up to epoch 4. The learning rate goes from 0.03 to 0.001.",
    ]
    assert len(history(run).splitlines()) == 5
    assert read_run(folder).config.training.optimizer.learning_rate == 0.001


@pytest.mark.parametrize("is_finished", [True, False])
def test_fewer_epochs_than_were_trained_are_refused_and_nothing_changes(
    is_finished, short, copy, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", 0)
    if is_finished:
        folder = copy(short)
        with pytest.raises(Interrupted):
            resume(folder, [StopAt(3, interrupt)], settings={"epochs": 5})
    else:
        with pytest.raises(Interrupted):
            train(make_config("softmax", FAST | {"epochs": 5}), tmp_path, [StopAt(3, interrupt)])
        (folder,) = tmp_path.glob("softmax/*")
    before = {path.name: path.read_bytes() for path in folder.glob("*.toml")}
    with pytest.raises(HornbillError, match="epochs=2 for 3 trained epochs"):
        resume(folder, settings={"epochs": 2})
    assert {path.name: path.read_bytes() for path in folder.glob("*.toml")} == before
    assert len(history(resume(folder)).splitlines()) == 1 + 5


def test_a_run_that_stopped_early_goes_on_with_more_patience(tmp_path):
    run = _train(tmp_path, {"patience": 1, "epochs": 10, "optimizer.learning_rate": 1e-30})
    stopped = len(history(run).splitlines()) - 1
    assert stopped < 7
    with pytest.raises(ConfigError, match=f"stopped early, after epoch {stopped} of 10. Received"):
        resume(run.folder, settings={"patience": 1})
    again, told = goes_on(run.folder, {"patience": 3})
    end = stopped + 3
    assert told[1:] == [
        f"Training stopped after epoch {end} of 10: val_loss has not improved for 3 epochs."
    ]
    assert len(history(again).splitlines()) - 1 == end
    _, told = goes_on(run.folder, {"patience": 100})
    assert [line for line in told if line.startswith("Training stopped")] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2}, "only for more epochs than it has .*Received: epochs=2 for 2 trained"),
        ({"seed": 1}, "^seed cannot change while a run is trained; only epochs, .*: seed=1. To be"),
        ({"data": "wine"}, "^data cannot change while .*Received: data=wine. To begin a new run "),
        ({"l2": 0.1}, "^l2 cannot change while .*--start-from .*run"),
        ({"optimizer": {"name": "sgd"}}, "^optimizer.name cannot change"),
        ({"epoch": 4}, "'epoch' is not a setting of softmax. Did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs must be a whole number. Received: epochs='many'"),
        ({"figures": True}, "only for more epochs"),
    ],
)
def test_what_must_not_change_is_refused_and_nothing_changes(short, copy, settings, message):
    folder = copy(short)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(ConfigError, match=message) as caught:
        resume(folder, settings=settings)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_finished_run_without_its_checkpoint_says_how_to_go_on(short, copy):
    folder = copy(short)
    (folder / CHECKPOINT).unlink()
    with pytest.raises(RunError, match="needs its checkpoint.npz to go on.*--start-from"):
        resume(folder, settings={"epochs": 4})
    assert resume(folder).metrics == short.metrics


def test_the_command_takes_settings_for_a_run_that_goes_on(short, copy, run):
    folder = copy(short)
    status, output, errors = run("train", "--resume", folder, "--set", "epochs=3")
    assert status == 0
    assert "Training goes on after epoch 2, up to epoch 3." in output + errors
    status, _, errors = run("train", "--resume", folder, "--seed", 3)
    assert (status, errors.count("\n")) == (2, 1)
    assert "--resume takes all settings from the run. Received: --seed 3." in errors


def test_of_a_finished_run_the_command_tells_without_tensorflow(short, copy):
    folder = copy(short)
    program = "import sys; from app.entry import main; sys.modules['keras'] = None; main()"
    command = [sys.executable, "-c", program, "train", "--resume", str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    line = f"note: {folder} is finished: nothing is left to train. --set epochs=N trains on.\n"
    assert told.stderr == line
    names = [each.partition(":")[0] for each in told.stdout.splitlines()]
    assert {"data", "speed", "test", "linear", "report", "run"} <= set(names)
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(told.stdout)
    assert (found["run"], found["metrics"]) == (str(folder), short.metrics)
    assert not told.stderr
