"""Searches in which own code raises, no trial finishes or the refit fails: what is kept."""

import contextlib
import csv

import optuna
import pytest

from app.commands.cli import main
from app.errors import RunError, TuningError
from app.tuning.definition import make_definition
from app.tuning.search import Observer, join, tune

RATE = {"optimizer.learning_rate": "log:1e-2..1"}
CODE = """
import sys
from pathlib import Path

import keras

calls = Path(__file__).with_suffix(".calls")


def count():
    calls.touch()
    calls.write_text(calls.read_text() + "x")
    return len(calls.read_text())


class Even(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if count() % 2 == 0:
            raise RuntimeError("even")


class Always(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        sys.exit(f"always {count()}")


class Third(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        if count() == 3:
            raise RuntimeError("third")


def later(targets, outputs):
    if count() > 3:
        raise RuntimeError("later")
    return keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)


def squared(targets, outputs):
    return keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)
"""


@pytest.fixture
def code(tmp_path):
    """A module of a name of its own, whose functions count their calls in a file."""
    path = tmp_path / f"hornbill_{tmp_path.name}.py"
    path.write_text(CODE)
    return path


def definition_of(trials, declared=RATE, **settings):
    settings = {"epochs": 1, "batch_size": 64, "figures": False, **settings}
    return make_definition("softmax", declared, {"trials": trials}, settings=settings)


def table_of(folder):
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def folder_in(output):
    (folder,) = (output / "softmax").iterdir()
    return folder


def test_a_trial_whose_callback_raises_has_failed(code, tmp_path, capsys):
    output = tmp_path / "tunes"
    options = ["--trials", "2", "--search", "optimizer.learning_rate=log:1e-2..1"]
    settings = ["--set=epochs=1", "--set=figures=false", f"--set=callbacks={code}:Even"]
    # The refit is the third training.
    with contextlib.suppress(SystemExit):
        main(["tune", "softmax", *options, *settings, "--output", str(output)])
    printed = capsys.readouterr()
    line = "A callback must not raise. Received: Even in epoch 1, RuntimeError in line"
    assert "2 (1 finished, 0 pruned, 0 lost, 1 failed)" in printed.out
    assert f"failed:     trial 2, {line}" in printed.out
    assert f"trial 2 failed: {line}" in printed.err
    folder = folder_in(output)
    states = {row["trial"]: (row["state"], row["reason"][: len(line)]) for row in table_of(folder)}
    assert states["2"] == ("failed", line)
    assert line in (folder / "report.html").read_text()
    text = (folder / "tracebacks" / "trial-2.txt").read_text()
    assert 'raise RuntimeError("even")' in text


def test_a_search_whose_trials_all_end_by_own_code_ends_after_three(code, tmp_path):
    message = r"Received: 3 trials that ended with A callback must not raise.*: always 3\. "
    with pytest.raises(TuningError, match=message) as raised:
        tune(definition_of(9, callbacks=f"{code}:Always"), tmp_path / "tunes")
    folder = folder_in(tmp_path / "tunes")
    assert str(raised.value).endswith(f"The trials are in {folder / 'trials.csv'}.")
    assert [row["state"] for row in table_of(folder)] == ["failed"] * 3


def test_a_trial_whose_loss_raises_before_its_first_epoch_has_failed(code, tmp_path):
    with pytest.raises(TuningError, match="3 trials that ended with loss must take targets"):
        tune(definition_of(9, loss=f"{code}:later"), tmp_path / "tunes")


def test_pruning_and_values_that_cannot_be_trained_are_no_failures_of_an_own_loss(code, tmp_path):
    ends = iter([optuna.TrialPruned("poor"), None, None, None])

    def on_progress():
        if (error := next(ends, None)) is not None:
            raise error

    observer = Observer(lambda *_: contextlib.nullcontext(on_progress))
    tuned = tune(definition_of(2, loss=f"{code}:squared"), tmp_path / "tunes", observer=observer)
    assert [(row.state, row.reason) for row in tuned.search.rows] == [
        ("pruned", "poor"),
        ("finished", ""),
    ]


def test_a_refit_that_fails_keeps_the_trials_and_is_repeated_by_join(code, tmp_path):
    message = "The refit of the best trial failed: A callback must not raise. Received: Third in"
    with pytest.raises(RunError, match=message) as raised:
        tune(definition_of(2, callbacks=f"{code}:Third"), tmp_path / "tunes")
    folder = folder_in(tmp_path / "tunes")
    assert "train --resume" not in str(raised.value)
    assert str(raised.value).endswith(
        f"trials.csv, trials.html and best.toml are in {folder}. "
        f"Resume with: hornbill tune --join {folder}"
    )
    assert [row["state"] for row in table_of(folder)] == ["finished"] * 2
    assert (folder / "figures" / "history.png").exists()
    page = (folder / "trials.html").read_text()
    assert "The refit with the best settings failed" in page
    assert f"hornbill tune --join {folder}" in page
    assert not (folder / "report.html").exists()
    joined = join(str(folder))  # the fourth training is the refit
    assert joined.refit.is_finished
    assert "hornbill export" in (folder / "report.html").read_text()
    assert not (folder / "trials.html").exists()


def test_a_search_over_the_rate_of_ones_own_optimizer_is_refused_before_it_begins(tmp_path):
    (tmp_path / "own_opts.py").write_text("from keras.optimizers import SGD\n")
    settings = {"optimizer.name": f"{tmp_path}/own_opts.py:SGD", "epochs": 1}
    rates = {"optimizer.learning_rate": "log:1e-4..1e-1"}
    definition = make_definition("softmax", rates, {"trials": 2}, settings=settings)
    message = "Received: optimizer.learning_rate=log:1e-4..1e-1. .* has no effect with an optimizer"
    with pytest.raises(TuningError, match=message):
        tune(definition, tmp_path / "tunes")
    assert not list((tmp_path / "tunes").glob("*/*"))
