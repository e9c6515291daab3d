"""What a training says in a log, and the history that it writes as it goes."""

import csv
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from app.config import make_config
from app.config.reading_config import ReadingConfig
from app.data.reading_progress import observed_reading
from app.data.sources import load_dataset
from app.errors import RunError
from app.runs import resume, train
from app.training.history_file import HistoryFile
from app.training.progress_log import TrainingLog
from app.training.progress_texts import describe_duration, describe_scores
from export.steps import begin_step, observed_steps

ROOT = Path(__file__).parent.parent


class Clock:
    """A clock that only the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def log():
    """Return a function that logs epochs of two steps, and returns the lines."""

    def run(epochs, seconds, *, first=0, samples=64, steps=2, work=None, at_once=1, shape=(4,)):  # noqa: PLR0913
        clock, lines = Clock(), []
        with TrainingLog(lines.append, clock) as log:
            log.set_model(keras.Sequential([keras.Input(shape), keras.layers.Dense(1)]))
            params = {"steps": steps, "epochs": epochs, "samples": samples}
            log.set_params(params | ({"work": work} if work else {}))
            log.on_train_begin()
            for epoch in range(first, epochs):
                log.on_epoch_begin(epoch)
                for step in range(0, steps, at_once):
                    clock.now += seconds * (work[epoch] if work else 1) / -(-steps // at_once)
                    log.on_train_batch_end(step + at_once - 1, {"loss": 0.5})
                log.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25})
            log.on_train_end()
        return lines

    return run


def test_a_log_begins_with_what_is_trained_where_and_how_fast(log):
    place, speed, *_ = log(epochs=3, seconds=8)
    assert place.startswith("training: 64 rows an epoch in 2 steps, float32 on cpu:0")
    assert speed == "speed: 8 rows/s"


@pytest.mark.parametrize(
    ("shape", "kind"), [((4,), "rows"), ((60, 1), "samples"), ((8, 8, 3), "images")]
)
def test_a_log_calls_samples_what_they_are(log, shape, kind):
    place, speed, *_ = log(epochs=3, seconds=8, shape=shape)
    assert place.startswith(f"training: 64 {kind} an epoch")
    assert speed == f"speed: 8 {kind}/s"


def test_a_log_has_a_line_for_each_epoch_with_scores_seconds_and_the_time_left(log):
    assert log(epochs=3, seconds=8)[2:] == [
        "epoch 1/3  loss 0.5000  val_loss 0.2500  8.0 s  16 s left",
        "epoch 2/3  loss 0.5000  val_loss 0.2500  8.0 s  8 s left",
        "epoch 3/3  loss 0.5000  val_loss 0.2500  8.0 s",
    ]


def test_scores_that_are_tiny_or_huge_have_an_exponent():
    scores = {"loss": 0.25, "mae": 46622.125, "mse": 4.7e12, "r2": -0.5, "rmse": 0.00000312}
    text = "  loss 0.2500  mae 46622.1250  mse 4.7000e+12  r2 -0.5000  rmse 3.1200e-06"
    assert describe_scores({**scores, "none": 0}) == f"{text}  none 0.0000"
    assert describe_scores({"loss": float("nan"), "mse": float("inf")}) == "  loss nan  mse inf"


def test_the_time_left_is_that_of_epochs_that_take_longer(log):
    lines = log(epochs=3, seconds=8.0, work=[0.25, 0.5, 1])
    assert [line.partition("val_loss 0.2500  ")[2] for line in lines[-3:]] == [
        "2.0 s  12 s left", "4.0 s  8 s left", "8.0 s",
    ]  # fmt: skip


def test_very_short_epochs_share_lines(log):
    lines = log(epochs=1000, seconds=0.01)
    titles = [line.partition("  ")[0] for line in lines if line.startswith("epoch")]
    assert titles[0] == "epoch 1/1000"
    assert titles[-1] == "epoch 1000/1000"
    assert 5 <= len(titles) <= 7


def test_a_long_epoch_says_how_far_it_is(log):
    lines = log(epochs=1, seconds=100, steps=10)
    within = [line for line in lines if "step" in line.partition("  ")[2]]
    assert within == [
        "epoch 1/1  step 3/10  loss 0.5000  70 s left in this epoch",
        "epoch 1/1  step 6/10  loss 0.5000  40 s left in this epoch",
        "epoch 1/1  step 9/10  loss 0.5000  10 s left in this epoch",
    ]


def test_several_steps_that_are_executed_at_once_may_end_behind_the_epoch(log):
    lines = log(epochs=3, seconds=8, samples=64, steps=2, at_once=5)
    times = [line.partition("val_loss 0.2500  ")[2] for line in lines if line.startswith("epoch")]
    assert times == ["8.0 s  16 s left", "8.0 s  8 s left", "8.0 s"]
    assert "speed: 8 rows/s" in lines


def test_a_run_that_is_resumed_counts_on(log):
    assert log(epochs=9, seconds=8, first=8)[-1].startswith("epoch 9/9  ")


def test_the_times_left_are_written_as_people_do():

    times = [describe_duration(seconds) for seconds in (4.4, 99, 600, 12_000)]
    assert times == ["4 s", "99 s", "10 min", "3 h 20 min"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_python_code_sees_the_epochs_unless_it_is_quiet(tmp_path, capfd):
    config = make_config("softmax", {"epochs": 2, "figures": False})
    run = train(config, tmp_path)
    assert "epoch 2/2" in capfd.readouterr().err
    resume(run.folder, settings={"epochs": 3})
    assert "epoch 3/3" in capfd.readouterr().err
    run = train(config, tmp_path, quiet=True)
    resume(run.folder, settings={"epochs": 3}, quiet=True)
    assert "epoch" not in capfd.readouterr().err


def test_the_history_is_written_after_each_epoch(tmp_path):
    class Reader(keras.callbacks.Callback):
        """Reads the history at the beginning of each epoch but the first."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                (path,) = tmp_path.glob("softmax/*/history.csv")
                seen.append([row["epoch"] for row in read(path)])

    seen = []
    config = make_config("softmax", {"epochs": 3, "repeat": 1, "figures": False})
    run = train(config, tmp_path, [Reader()])
    assert seen == [["1"], ["1", "2"]]
    rows = read(run.folder / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert rows[0].keys() == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}


def test_a_history_goes_on_where_the_checkpoint_was_and_drops_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss\n1,0.5,0.6\n2,0.4,0.5\n3,0.3,0.4\n4,0.2")
    history = HistoryFile(path)
    for epoch in (2, 3):
        history.on_epoch_begin(epoch)
        history.on_epoch_end(epoch, {"loss": np.float32(0.25), "val_loss": 0.125})
    assert path.read_text() == (
        "epoch,loss,val_loss\n1,0.5,0.6\n2,0.4,0.5\n3,0.25,0.125\n4,0.25,0.125\n"
    )


def test_a_history_that_cannot_be_written_is_one_line(tmp_path):
    history = HistoryFile(tmp_path / "no" / "history.csv")
    history.on_epoch_begin(0)
    with pytest.raises(RunError, match=r"history.csv.* cannot be written: "):
        history.on_epoch_end(0, {"loss": 1.0})


def test_the_first_word_comes_before_tensorflow(tmp_path):
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Blocker())
from app.commands.cli import main
main(sys.argv[1:])
"""
    (tmp_path / "rows.csv").write_text("size,kind\n1,a\n2,b\n")
    arguments = ["train", "features", "--data", "rows.csv", "--target", "kind"]
    for more in ((), ("--quiet",), ("--json",)):
        finished = subprocess.run(
            [sys.executable, "-c", program, *arguments, *more],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
        )
        *first, error = finished.stderr.splitlines()
        assert first == ([] if more else ["training features on rows.csv, target kind …"])
        assert "needs the package tensorflow" in error
        assert finished.stdout == ""


def test_a_large_table_says_how_far_its_reading_is(tmp_path):

    class Observer:
        """Keeps what it is told."""

        def advance(self, done, total, activity):
            told.append((activity, done, total))

        def note(self, line):
            pass

    told = []
    rows = "\n".join(f"{number / 7:.4f},{'ab'[number % 2]}" for number in range(10_000))
    (tmp_path / "rows.csv").write_text(f"size,kind\n{rows}\n")
    with observed_reading(Observer()):
        load_dataset(str(tmp_path / "rows.csv"), ReadingConfig(target=("kind",)))
    activities = [activity for activity, _, _ in told]
    assert list(dict.fromkeys(activities)) == ["surveying rows", "reading rows"]
    first, *_, last = [total for activity, _, total in told if activity == "reading rows"]
    assert last == 10_000
    assert abs(first - 10_000) < 1500


def test_an_export_names_its_steps():

    steps = []
    begin_step("unseen")
    with observed_steps(steps.append):
        begin_step("converting to ONNX")
    begin_step("unseen")
    assert steps == ["converting to ONNX"]
