"""Searches from definition to refit: what is written, shared, retried and refused."""

import contextlib
import csv
import inspect
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest
from processes import is_alive
from programs import write_program
from waiting import wait_until

from app.commands.cli import _extra_of, main
from app.config.run_config import change_config, combine_settings
from app.data.arrays import DiskArray
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.errors import ConfigError, DataError, TuningError
from app.runs.run_folder import read_run
from app.runs.train import load_run_data
from app.system.child_process import ChildProcess
from app.tuning import search, worker_process
from app.tuning.definition import make_definition
from app.tuning.local_workers import run_workers
from app.tuning.progress import terminal_observer
from app.tuning.results import read_search_result
from app.tuning.search import Observer, join, tune
from app.tuning.search_space import dimensions
from app.tuning.storage import (
    Journal,
    StudyLocation,
    absolute_address,
    create_study,
    load_study,
    open_storage,
)
from app.tuning.trial_loop import BEGUN, may_begin, open_study, requeue_stale_trials, work
from app.tuning.trials import Report, evaluate, make_trial_data

RATE = {"optimizer.learning_rate": "log:1e-2..1"}
FAST = {"epochs": 2, "batch_size": 64, "figures": False}


# The beginning of a program that stands in for a worker: it begins a trial.
TRIAL = """
import json, os, signal, sys, time
from pathlib import Path
from app.tuning.storage import StudyLocation, load_study
payload = json.loads(os.environ["HORNBILL_STUDY"])
study = load_study(StudyLocation(payload["address"], payload["study"]))
trial = study.ask()
trial.suggest_float("optimizer.learning_rate", 1e-2, 1, log=True)
trial.set_user_attr("worker", payload["name"])
"""


def definition_of(budget=None, declared=RATE, family="softmax", **settings):
    return make_definition(family, declared, budget or {"trials": 2}, settings={**FAST, **settings})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search that was interrupted in its second trial, and the output of joining it."""
    declared = {"optimizer.learning_rate": "log:1e-3..1", "hidden": "layers:1..2x2..8"}
    plain = {"normalization": "none", "dropout": 0.0, "epochs": 1, "members": 1}
    plain["figures"] = True
    definition = definition_of({"trials": 3}, declared, "features", **plain)
    # After the epoch of the first trial, after that trial, after the epoch of the second.
    calls = iter([None, None, KeyboardInterrupt])

    def interrupt():
        error = next(calls)
        if error:
            raise error

    observer = Observer(lambda *_: contextlib.nullcontext(interrupt))
    with pytest.raises(KeyboardInterrupt, match="Resume with: hornbill tune --join") as caught:
        tune(definition, tmp_path_factory.mktemp("tunes"), observer=observer)
    folder = Path(str(caught.value).rpartition(" ")[2])
    before = load_study(search.find_study(str(folder))[0]).trials
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main(["tune", "--join", str(folder), "--json"])
    return folder, before, json.loads(output.getvalue())


@pytest.fixture
def begun(tmp_path):
    """A folder and its study, in which no trial has started."""

    def begin(definition):
        with pytest.raises(_StopError):
            tune(definition, tmp_path, observer=Observer(_stop))
        (folder,) = (tmp_path / definition.base.family).iterdir()
        location, _ = search.find_study(str(folder))
        return folder, location

    return begin


class _StopError(Exception):
    pass


def _stop(*_):
    raise _StopError


def test_a_search_folder_contains_everything_about_the_search(tuned):
    folder, _, _ = tuned
    names = {path.name for path in folder.iterdir()}
    wanted = {"space.toml", "journal.log", "best.toml", "trials.csv", "report.html", "figures"}
    assert wanted | {"refit"} <= names
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures == {"history", "parallel_coordinates", "trial_curves"}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 4
    assert '<th scope="row">macro F1</th>' in page


def test_few_trials_carry_no_importance_and_no_advice(tuned):
    folder, _, output = tuned
    assert output["withheld"] == (
        "Importance and advice need 16 finished trials for 3 searched dimensions. Received: 3, "
        "without pruned ones"
    )
    assert (output["importance"], output["diagnosis"]) == ({}, [])
    assert output["withheld"] in (folder / "report.html").read_text()


def test_the_table_has_every_trial_and_the_best_comes_first(tuned):
    folder, _, output = tuned
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert int(rows[0]["trial"]) == output["best"]["trial"]
    losses = [float(row["cross_entropy"]) for row in rows if row["cross_entropy"]]
    assert losses == sorted(losses)


def test_best_toml_is_a_config_for_train_and_the_refit_used_it(tuned):
    folder, _, output = tuned
    config = combine_settings(None, folder / "best.toml")
    refit = read_run(Path(output["refit"]))
    assert list(config.model.hidden) == output["best"]["settings"]["hidden"]
    shares = refit.config.training.train_sizes
    assert replace(config, training=replace(config.training, train_sizes=shares)) == refit.config
    assert output["test"] == refit.metrics["test"]


def test_an_interrupted_search_requeues_its_trial_and_join_finishes_it(tuned):
    folder, before, output = tuned
    assert [trial.state.name for trial in before] == ["COMPLETE", "FAIL", "WAITING"]
    assert output["trials"] == {"finished": 3, "pruned": 0, "failed": 0, "lost": 1}
    lost, again = load_study(search.find_study(str(folder))[0]).trials[1:3]
    assert again.params == lost.params


def test_joining_a_finished_search_changes_nothing(tuned, run):
    folder, _, _ = tuned
    status, output, _ = run("tune", "--join", folder)
    assert status == 0
    assert output.startswith(f"The search is finished.\nreport:  {folder}/report.html\n")
    assert f"next: hornbill train --config {folder}/best.toml" in output


def test_the_epochs_of_the_head_follow_searched_epochs(tmp_path):
    net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    net.add(keras.layers.Dense(2))
    net.save(tmp_path / "net.keras")
    settings = {"data": "digits8x8", "backbone": str(tmp_path / "net.keras")}
    space = {"epochs": "int:2..8"}
    chosen = make_definition("features", space, settings=settings)
    of_run = change_config(chosen.base, {"epochs": 100, "head_epochs": 25})
    chosen = replace(chosen, base=of_run)
    for epochs, of_head in ((8, 2), (2, 1)):
        training = chosen.configure({"epochs": epochs}).training
        assert (training.epochs, training.head_epochs) == (epochs, of_head)
    given = make_definition("features", space, settings={**settings, "head_epochs": 5})
    assert given.configure({"epochs": 8}).training.head_epochs == 5
    with pytest.raises(
        ConfigError, match="at most 3, the epochs of the run. Received: head_epochs=5"
    ):
        given.configure({"epochs": 3})


def test_no_trial_sees_the_test_split():
    dataset = load_dataset("iris")
    config = definition_of().base
    of_refit = split_dataset(dataset, config.seed, config.training.validation_split)
    kept = np.sort(np.concatenate([of_refit.train, of_refit.validation]))
    for folds in (1, 3):
        data = make_trial_data(config, dataset, folds)
        np.testing.assert_array_equal(data.dataset.inputs, dataset.inputs[kept])
        np.testing.assert_array_equal(data.dataset.targets, dataset.targets[kept])
        assert all(len(part.test) == 0 for part in data.parts)


def test_data_streamed_from_disk_stays_on_disk_without_the_test_split(tmp_path):
    lines = [f"{n},{'abc'[n % 3]},{'xy'[n % 2]}" for n in range(5000)]
    (tmp_path / "rows.csv").write_text("\n".join(["number,text,kind", *lines]) + "\n")
    settings = {"data": str(tmp_path / "rows.csv"), "target": ["kind"], "keep": ["number"]}
    config = definition_of(family="features", **settings).base
    dataset = load_run_data(config)
    rest = make_trial_data(config, dataset, folds=1).dataset
    assert isinstance(rest.inputs, DiskArray)
    assert isinstance(rest.codes, DiskArray)
    kept = rest.inputs[:][:, 0].astype(int)
    assert len(set(kept)) == 4000
    np.testing.assert_array_equal(rest.codes[:], dataset.codes[kept])
    np.testing.assert_array_equal(rest.targets, kept % 2)


@pytest.fixture(scope="module")
def evaluated():
    """The data of a trial with a large penalty and two folds, its outcome, and its reports.

    The reports are by the setting that is searched.
    """
    config = definition_of(l2=10.0, epochs=1, precision="float32").base
    data = make_trial_data(config, load_dataset("iris"), folds=2)
    trials = {key: optuna.create_study().ask() for key in ("l2", "loss")}
    reports = [
        Report(trial, [key], "multiclass", False, 2, lambda: None) for key, trial in trials.items()
    ]
    outcome = evaluate(config, data, reports)
    reported = {}
    for key, trial in trials.items():
        (reported[key],) = trial.study.trials[0].intermediate_values.values()
    return data, outcome, reported


def test_each_sample_outside_the_test_split_is_validated_in_one_fold(evaluated):
    data, outcome, _ = evaluated
    measured = np.concatenate([part.validation for part in data.parts])
    np.testing.assert_array_equal(np.sort(measured), np.arange(120))
    assert outcome.loss > 0
    assert 0 <= outcome.score <= 1


def test_penalties_do_not_count_and_a_searched_loss_is_replaced_by_the_metric(evaluated):
    """Trials with different losses are compared by a metric that means the same for both."""
    _, _, reported = evaluated
    assert reported["l2"] < 3  # 50 with its penalty
    assert reported["loss"] * 60 == pytest.approx(round(reported["loss"] * 60), abs=1e-4)


def test_more_folds_than_samples_of_a_class_are_refused():
    message = "Each class must have a sample for each fold. Received: folds=50, and 40 samples"
    with pytest.raises(DataError, match=message):
        make_trial_data(definition_of().base, load_dataset("iris"), folds=50)


def test_more_folds_than_values_can_be_measured_in_are_refused():
    config = definition_of(None, {"l2": "log:1e-6..1e-2"}, "features", head="linear").base
    message = "Each fold must have 2 samples or more.*Received: folds=10, and 16 samples"
    with pytest.raises(DataError, match=message):
        make_trial_data(config, load_dataset("linnerud", task="regression"), folds=10)


def test_a_trial_is_pruned_in_the_last_epoch_of_a_fold_only_if_other_folds_follow():
    class Trial:
        def report(self, value, step):
            pass

        def should_prune(self):
            return True

    for folds, is_pruned in ((1, False), (3, True)):
        report = Report(Trial(), ["l2"], "multiclass", True, folds, lambda: None)
        report.set_model(keras.Sequential())
        report.set_params({"epochs": 1})
        with pytest.raises(optuna.TrialPruned) if is_pruned else contextlib.nullcontext():
            report.on_epoch_end(0, {"val_loss": 1.0})


def test_trials_use_float32_if_precision_is_auto(begun):
    folder, _ = begun(definition_of())
    assert 'precision = "float32"' in (folder / "space.toml").read_text()


def test_a_sqlite_file_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_address("sqlite:///study.db") == f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(TuningError, match="does not exist. Received: .*none/study.db"):
        absolute_address("sqlite:///none/study.db")
    with pytest.raises(
        TuningError, match="storage of the search does not exist. Received: .*no.db"
    ):
        search.find_study("sqlite:///no.db#name")
    assert not list(tmp_path.iterdir())
    for address in ("sqlite://", "sqlite:////tmp/study.db", "postgresql://user:secret@host/name"):
        assert absolute_address(address) == address


def test_the_same_seed_gives_the_same_search(begun, tmp_path):
    found = []
    for _ in range(2):
        _, location = begun(definition_of({"trials": 1}, epochs=1))
        work(location)
        found.append([(trial.params, trial.value) for trial in load_study(location).trials])
        (tmp_path / "softmax").rename(tmp_path / f"done-{len(found)}")
    assert found[0] == found[1]


def test_a_trial_worse_than_the_others_is_pruned(begun):
    _, location = begun(definition_of({"trials": 6}, epochs=4))
    study = load_study(location)
    for _ in range(5):
        trial = study.ask()
        for epoch in (1, 2, 3, 4):
            trial.report(1e-6, epoch)
        study.tell(trial, 1e-6)
    work(location)
    last = study.trials[-1]
    assert last.state.name == "PRUNED"
    assert list(last.intermediate_values) == [1, 2, 3]
    assert last.user_attrs["reason"] == "worse than the median of the others after epoch 3"


def test_a_trial_in_its_last_epoch_is_not_pruned(begun):
    _, location = begun(definition_of({"trials": 6}, epochs=3))
    study = load_study(location)
    for _ in range(5):
        study.add_trial(
            optuna.trial.create_trial(
                value=1e-6, intermediate_values=dict.fromkeys((1, 2, 3), 1e-6)
            )
        )
    work(location)
    last = study.trials[-1]
    assert last.state.name == "COMPLETE"
    assert list(last.intermediate_values) == [1, 2, 3]


def test_values_that_cannot_be_trained_are_pruned_with_the_reason(begun):
    declared = {"loss": "choice:mse|cross_entropy", "label_smoothing": "choice:0.0|0.1"}
    _, location = begun(definition_of({"trials": 1}, declared))
    load_study(location).enqueue_trial({"loss": "mse", "label_smoothing": "0.1"})
    work(location)
    (trial,) = load_study(location).trials
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"].startswith("label_smoothing applies to cross entropy only")


def test_a_model_too_large_for_the_machine_is_pruned_with_the_reason(begun):
    """The model is too deep; one that is too wide would take memory from tests that run at once."""
    declared = {"hidden": "layers:1..500x2..8"}
    _, location = begun(definition_of({"trials": 1}, declared, "features"))
    load_study(location).enqueue_trial({"hidden.layers": 110, "hidden.units": 2})
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)  # Keras takes two frames for each layer
    try:
        work(location)
    finally:
        sys.setrecursionlimit(limit)
    (trial,) = load_study(location).trials
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"].startswith(
        "The model is too large for this machine. Received: RecursionError. Reduce hidden"
    )


def failing(wrong):
    """Return an observer of a search in which an epoch raises what `wrong(call)` returns."""
    calls = itertools.count()

    def on_progress():
        if (error := wrong(next(calls))) is not None:
            raise error

    return Observer(lambda *_: contextlib.nullcontext(on_progress))


def test_trials_that_fail_unforeseen_are_named_and_the_search_goes_on_if_they_differ(tmp_path):
    # Each other call comes after a trial.
    errors = [KeyError("odd\n\x1bvalue"), ValueError("two"), IndexError("three")]
    observer = failing(lambda call: errors[call // 2] if call < 6 and call % 2 == 0 else None)
    tuned = tune(definition_of({"trials": 4}), tmp_path, observer=observer)
    first, *_, last = tuned.search.rows
    assert [row.state for row in tuned.search.rows] == [*["failed"] * 3, "finished"]
    assert [row.number for row in tuned.search.rows] == [1, 2, 3, 4]  # the best is found by it
    assert tuned.search.best.number == 4
    assert (first.loss, last.reason) == (None, "")
    assert first.reason == r"KeyError: 'odd\n\x1bvalue'"
    assert "3 failed" in tuned.search.describe_states()
    assert first.reason.replace("'", "&#39;") in (tuned.folder / "report.html").read_text()
    text = (tuned.folder / "tracebacks" / "trial-1.txt").read_text()
    assert text.startswith("Traceback")
    assert "on_epoch_end" in text


def test_a_search_whose_first_trials_all_fail_alike_ends_and_says_so(tmp_path):
    # Each other call comes after a trial.
    observer = failing(lambda call: None if call % 2 else IndexError(f"no {call}\nthere"))
    message = (
        r"Received: 3 trials that ended with IndexError: no \d+ there\. The traceback is in .*"
    )
    with pytest.raises(TuningError, match=message) as raised:
        tune(definition_of({"trials": 9}), tmp_path, observer=observer)
    path = Path(re.search(r"The traceback is in (.*\.txt)\.", str(raised.value))[1])
    assert path.read_text().rstrip().endswith("there")
    assert path.name == "trial-3.txt"


def test_a_failed_trial_is_told_in_one_line_while_the_search_runs(begun, capfd):
    _, location = begun(definition_of({"trials": 1}))
    study, definition = open_study(location)
    with terminal_observer().search(study, definition) as on_progress:
        work(location, on_progress=raising_once(KeyError("odd")))
        on_progress()
    assert "trial 1 failed: KeyError: 'odd'\n" in capfd.readouterr().err


def test_the_progress_of_a_search_in_a_pipe_is_plain_lines(begun, capfd):
    _, location = begun(definition_of({"trials": 2}))
    study, definition = open_study(location)
    with terminal_observer().search(study, definition) as on_progress:
        work(location, on_progress=on_progress)
    lines = capfd.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("search: ")]
    assert [re.sub(r"loss \d\.\d{4}$", "loss L", line) for line in lines] == [
        "trials: 1 of 2, best validation loss L",
        "trials: 2 of 2, best validation loss L",
    ]


def test_a_search_for_values_names_the_error_that_it_minimizes(tmp_path, run):
    settings = [f"--set={key}={str(value).lower()}" for key, value in FAST.items()]
    rate = "--search=optimizer.learning_rate=log:1e-3..1e-2"
    given = ["--data", "diabetes", "--set", "head=linear", "--trials", 1, rate, *settings]
    status, output, error = run("tune", "features", *given, "--output", tmp_path)
    assert status == 0, error
    named = r"validation root mean squared error (\d+\.\d+)\n"
    best = re.search(rf"^best:       trial 1, {named}", output, re.MULTILINE)[1]
    assert re.search(rf"^trials: 1 of 1, best {named}", error, re.MULTILINE)[1] == best
    report = Path(re.search(r"^report:     (.*)$", output, re.MULTILINE)[1]).read_text()
    assert "The root mean squared error of each finished trial" in report
    assert "the lower its root mean squared error" in report


def raising_once(error):
    errors = [error]

    def on_progress():
        if errors:
            raise errors.pop()

    return on_progress


def test_the_trial_of_a_killed_worker_is_lost_and_tried_again(begun, tmp_path):
    _, location = begun(definition_of({"trials": 2}))
    payload = {"address": location.address, "study": location.name, "name": "doomed"}
    program = write_program(tmp_path, TRIAL + "time.sleep(60)")
    worker = ChildProcess(program, {"HORNBILL_STUDY": json.dumps(payload)})
    study = load_study(location)
    wait_until(lambda: any("worker" in trial.user_attrs for trial in study.trials))
    worker.kill()
    requeue_stale_trials(study)  # its heartbeat is recent, so its trial is not requeued yet
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    requeue_stale_trials(study, lambda trial: trial.user_attrs["worker"] == "doomed")
    requeue_stale_trials(study, lambda trial: trial.number == 0)  # once only
    lost, again = study.trials
    assert (lost.state.name, again.state.name) == ("FAIL", "WAITING")
    assert again.system_attrs["fixed_params"] == lost.params
    assert again.user_attrs["retry_of"] == 0


def test_a_killed_worker_is_replaced_and_its_trial_is_repeated(begun, tmp_path):
    _, location = begun(definition_of({"trials": 4}))
    source = f"""{TRIAL}
try:
    Path(sys.argv[1]).touch(exist_ok=False)
    os.kill(os.getpid(), signal.SIGKILL)
except FileExistsError:
    study.tell(trial, 1.0)
while sum(trial.state.name == "COMPLETE" for trial in study.trials) < 4:
    study.tell(study.ask(), 1.0)
"""
    run_workers(location, 2, program=write_program(tmp_path, source, tmp_path / "killed"))
    trials = load_study(location).trials
    states = [trial.state.name for trial in trials]
    assert states.count("FAIL") == 1
    assert states.count("COMPLETE") >= 4
    (lost,) = [trial for trial in trials if trial.state.name == "FAIL"]
    (again,) = [trial for trial in trials if trial.user_attrs.get("retry_of") == lost.number]
    assert again.system_attrs["fixed_params"] == lost.params


def test_workers_that_are_killed_repeatedly_end_the_search(begun, tmp_path):
    _, location = begun(definition_of({"trials": 99}))
    program = write_program(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    message = "must not end in a trial. Received: 5 .* status -9: no message."
    with pytest.raises(TuningError, match=message):
        run_workers(location, 2, program=program)


def test_the_reason_of_a_worker_that_cannot_continue_is_reported(begun, tmp_path):
    _, location = begun(definition_of())
    source = "import sys; sys.stderr.write('noise\\nThe data changed.\\n'); sys.exit(2)"
    with pytest.raises(TuningError, match="^The data changed.$"):
        run_workers(location, 2, program=write_program(tmp_path, source))


def test_workers_of_an_interrupted_search_end_and_their_trials_are_queued_again(begun, tmp_path):
    _, location = begun(definition_of({"trials": 9}))
    source = TRIAL + "(Path(sys.argv[1]) / f'{os.getpid()}.pid').touch(); time.sleep(60)"

    def interrupt():
        if len(list(tmp_path.glob("*.pid"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_workers(location, 2, interrupt, program=write_program(tmp_path, source, tmp_path))
    assert not any(is_alive(path.stem) for path in tmp_path.glob("*.pid"))
    states = [trial.state.name for trial in load_study(location).trials]
    assert sorted(states) == ["FAIL", "FAIL", "WAITING", "WAITING"]


def test_the_worker_program_runs_trials_or_states_why_it_cannot(begun, monkeypatch, capsys):
    folder, location = begun(definition_of({"trials": 1}, epochs=1))
    payload = {"address": location.address, "study": location.name, "index": 1, "name": "mine"}
    monkeypatch.setenv("HORNBILL_STUDY", json.dumps(payload))
    assert worker_process.main() == 0
    (trial,) = load_study(location).trials
    assert (trial.state.name, trial.user_attrs["worker"]) == ("COMPLETE", "mine")
    (folder / "journal.log").unlink()
    assert worker_process.main() == 2
    assert capsys.readouterr().err.startswith("The journal of the search is missing.")


OLD_KEYS = {"validation_split": "validation", "class_weight": "class_weights"}


@pytest.mark.parametrize(("new", "old"), OLD_KEYS.items())
def test_a_study_of_another_version_is_refused_and_unchanged(new, old, begun, run):
    folder, _ = begun(definition_of())
    for name in ("space.toml", "journal.log"):
        path = folder / name
        path.write_text(path.read_text().replace(new, old))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, output, error = run("tune", "--join", folder)
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert error.startswith("hornbill: Another version of Hornbill made the search ")
    assert f"have changed: {old} is now {new}." in error
    assert "Finish it with that version, or start another search." in error
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_values_whose_workers_die_are_tried_three_times(begun):
    _, location = begun(definition_of({"trials": 9}))
    study, definition = open_study(location)
    study.ask(dimensions(definition.space))
    for _ in range(4):
        requeue_stale_trials(study, lambda _: True)
        if any(trial.state.name == "WAITING" for trial in study.trials):
            study.ask(dimensions(definition.space))
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 3
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 1


def test_no_trial_begins_once_the_minutes_are_over(begun):
    _, location = begun(definition_of({"minutes": 1.0}))
    study, definition = open_study(location)
    assert may_begin(study, definition)
    study.set_user_attr(BEGUN, time.time() - 61)
    study.enqueue_trial({"optimizer.learning_rate": 0.1})
    assert not may_begin(study, definition)
    work(location)
    assert [trial.state.name for trial in study.trials] == ["WAITING"]


def test_numbers_that_cannot_be_standardized_are_refused_before_the_search(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{1_700_000_000 + 128 * (i % 3)},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["x,kind", *rows]) + "\n")
    definition = definition_of(data=str(path), target=["kind"])
    with pytest.raises(DataError, match="more than the rounding of float32. Received: x, "):
        tune(definition, tmp_path / "tunes")
    assert not (tmp_path / "tunes").exists()


def test_a_fold_in_which_a_column_has_no_value_is_refused_before_the_search(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{i},{'1' if i == 8 else ''},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("x,rare,kind\n" + "\n".join(rows) + "\n")
    definition = definition_of({"trials": 1, "folds": 3}, data=str(path), target=["kind"])
    with pytest.raises(DataError, match="must have a value in the training split.*'rare'"):
        tune(definition, tmp_path / "tunes")
    assert not (tmp_path / "tunes").exists()


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A search in a database that was joined after two workers had died: its folder and address."""
    folder = tmp_path_factory.mktemp("joined")
    address = f"sqlite:///{folder / 'studies.db'}"
    definition = definition_of({"trials": 1}, {**RATE, "l2": "log:1e-5..1e-2"}, epochs=1)
    with pytest.raises(_StopError):
        tune(definition, folder, storage=address, observer=Observer(_stop))
    (folder,) = (folder / "softmax").iterdir()
    study, _ = open_study(search.find_study(str(folder))[0])
    partial = study.ask()  # its worker died while it sampled values
    partial.suggest_float("l2", 1e-5, 1e-2, log=True)
    study.tell(partial, state=optuna.trial.TrialState.FAIL)
    study.ask(dimensions(definition.space)).set_user_attr("heartbeat", 0.0)
    named = (folder / "search.txt").read_text().strip()
    assert join(named) is None  # the folder's owner writes the results
    return folder, address


def test_a_study_in_a_database_is_joined_by_its_address(joined):
    folder, address = joined
    named = (folder / "search.txt").read_text().strip()
    assert named == f"{address}#softmax-{folder.name}"
    assert search.find_study(named)[0] == search.find_study(str(folder))[0]
    assert load_study(search.find_study(named)[0]).trials[-1].state.name == "COMPLETE"


def test_join_repeats_the_trials_of_dead_workers(joined):
    folder, _ = joined
    found = read_search_result(*open_study(search.find_study(str(folder))[0]))
    assert [row.state for row in found.rows] == ["lost", "finished"]
    assert found.rows[1].settings == found.rows[0].settings


def test_a_study_is_joined_with_its_own_space_and_data(begun, tmp_path):
    path = tmp_path / "flowers.csv"
    rows = [f"{n % 7},{n % 5},{'ab'[n % 2]}" for n in range(60)]
    path.write_text("x,y,kind\n" + "\n".join(rows) + "\n")
    folder, _ = begun(definition_of(data=str(path), target=["kind"], epochs=1))
    message = "own space, optimizer.learning_rate=log:1e-2..1. Received: epochs=int:1..3. Leave"
    with pytest.raises(TuningError, match=message):
        join(str(folder), declared={"epochs": "int:1..3"})
    path.write_text("x,y,kind\n" + "\n".join(rows[::-1]) + "\n")
    with pytest.raises(TuningError, match="flowers.csv must hold the data that the search began"):
        join(str(folder), declared=RATE)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("none", "--join must be a folder that hornbill tune made, or URL#NAME. Received: none."),
        (
            "sqlite:///none.db",
            "A search in a database must be given as URL#NAME. Received: 'sqlite:///none",
        ),
        ("postgresql://maya:secret@h/x", "as URL#NAME. Received: 'postgresql://h/x'"),
    ],
)
def test_another_folder_or_address_is_refused(where, message):
    with pytest.raises(TuningError, match=message):
        join(where)


def test_a_search_in_a_database_is_named_without_its_password():
    location = StudyLocation("postgresql://maya:secret@h/x", "mine")
    assert str(location) == "postgresql://maya:secret@h/x#mine"
    assert str(location.without_password) == "postgresql://maya:***@h/x#mine"


def test_a_study_without_its_journal_is_refused(begun):
    folder, _ = begun(definition_of())
    (folder / "journal.log").unlink()
    with pytest.raises(
        TuningError, match="The journal of the search is missing. Received: .*journal.log"
    ):
        join(str(folder))


def test_a_storage_that_is_down_for_a_moment_is_waited_for(tmp_path):
    folder = tmp_path / "later"
    threading.Timer(0.1, folder.mkdir).start()
    location = StudyLocation(f"sqlite:///{folder}/studies.db", "mine")
    assert create_study(location, {"a": 1}, waits_s=(0.05,) * 80).user_attrs == {"a": 1}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "sqlite:////no/such/folder/x.db",
            "does not respond. Received: sqlite.*unable to open.*in 3",
        ),
        ("nonsense://u:secret@h/x", r"must be the URL of a database.*nonsense://u:\*\*\*@h/x"),
    ],
)
def test_a_storage_that_stays_down_is_an_error_without_its_password(address, message):
    with pytest.raises(TuningError, match=message) as caught:
        open_storage(StudyLocation(address, "mine"), waits_s=(0.0, 0.0))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_storage_that_goes_down_later_is_an_error_and_nothing_is_lost(tmp_path):
    folder = tmp_path / "journals"
    folder.mkdir()
    location = StudyLocation(str(folder / "journal.log"), "study")
    study = create_study(location, {}, waits_s=(0.0,))
    study.tell(study.ask(), 1.0)
    folder.rename(tmp_path / "away")
    with pytest.raises(TuningError, match="Finished trials are kept; resume with hornbill tune"):
        study.ask()
    again = StudyLocation(str(tmp_path / "away" / "journal.log"), "study")
    assert load_study(again).best_value == 1.0


def _journal(folder):
    location = StudyLocation(str(folder / "journal.log"), "study")
    study = create_study(location, {}, waits_s=(0.0,))
    study.tell(study.ask(), 1.0)
    return location, folder / "journal.log"


def test_an_incomplete_last_line_of_a_journal_is_ignored(tmp_path):
    """After a kill or with a full disk. The next entry must start on a new line."""
    location, path = _journal(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    study = load_study(location)
    study.tell(study.ask(), 2.0)
    assert [trial.value for trial in load_study(location).trials] == [None, 2.0]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(TuningError, match="The storage has no search of this name."):
        load_study(location)


def test_a_damaged_journal_is_a_one_line_error(tmp_path):
    location, path = _journal(tmp_path)
    for damage in (b'{"a\n', b"\xd2\n"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([lines[0], damage, *lines[1:]]))
        with pytest.raises(
            TuningError, match="journal.log cannot be read as the journal of a search: "
        ):
            load_study(location)


@pytest.mark.filterwarnings("ignore:The value of `grace_period` might be too small")
def test_a_lock_that_a_killed_worker_left_does_not_block_a_study(tmp_path, monkeypatch):
    """With a relative path, for which Optuna's default lock is a broken link."""
    monkeypatch.chdir(tmp_path)
    Path("tunes").mkdir()
    location, path = _journal(Path("tunes"))
    monkeypatch.setattr("app.tuning.storage._STALE_LOCK_S", 0.2)
    killed = Journal(str(path))
    killed._lock.acquire()
    study = load_study(location)
    study.tell(study.ask(), 2.0)
    assert len(load_study(location).trials) == 2


def test_the_error_of_an_unknown_study_lists_those_of_the_database(tmp_path):
    address = f"sqlite:///{tmp_path / 'x.db'}"
    create_study(StudyLocation(address, "mine"), {})
    with pytest.raises(TuningError, match="Received: 'yours'; sqlite:.* has mine."):
        load_study(StudyLocation(address, "yours"))
    with pytest.raises(TuningError, match="already has a search of this name. Received: mine in"):
        create_study(StudyLocation(address, "mine"), {})
    with pytest.raises(TuningError, match="The search was not made by hornbill tune."):
        join(f"{address}#mine")


def test_a_search_without_a_finished_trial_states_why(tmp_path):
    definition = definition_of({"trials": 1}, {"l2": "uniform:1e38..2e38"}, epochs=1)
    message = "No trial of the search finished. The last reason: The loss must stay finite"
    with pytest.raises(TuningError, match=message) as raised:
        tune(definition, tmp_path)
    (folder,) = (tmp_path / "softmax").iterdir()
    assert str(raised.value).endswith(f"The trials are in {folder / 'trials.csv'}.")
    (row,) = csv.DictReader((folder / "trials.csv").read_text().splitlines())
    assert row["state"] == "pruned"
    assert row["reason"].startswith("The loss must stay finite")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune"], "Missing argument 'FAMILY'"),
        (["tune", "softmax", "--search", "l3=log:1e-5..1"], "'l3' is not a setting of softmax."),
        (["tune", "softmax", "--join", "x"], "--join takes all settings from the search"),
        (["tune", "--join", "x", "--trials", "3"], "--join takes all settings from the search"),
        (["tune", "--join", "x"], "--join must be a folder that hornbill tune made"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--data", "digits8x8"], "takes rows"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--method", "cmaes"], "two or more"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--storage", "x://y"], "be the URL"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--storage", "x"], "Received: 'x'."),
        (
            ["tune", "--join", "x://y#z", "--storage", "x://y"],
            "--storage can only be used with the folder",
        ),
        (
            ["tune", "features", "--search", "hidden=layers:-2..2x8..16"],
            "number of layers must be 0 or more",
        ),
        (["tune", "--join", "x", "--storage", ""], "such as sqlite:///tuning.db. Received: ''"),
    ],
)
def test_invalid_input_prints_one_line_and_leaves_nothing(
    arguments, message, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, output, error = run(*arguments)
    assert (status, output) == (2, "")
    *first, line = error.splitlines()
    assert first in ([], ["tuning softmax on iris …"])
    assert line.startswith("hornbill: ")
    assert message in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_optuna_names_its_extra():
    assert _extra_of("optuna") == "tune"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_while_it_trains(tmp_path):
    """Real training: two workers, one of which is killed, still spend the budget."""
    killed = []

    def kill_one():
        children = subprocess.run(
            ["/usr/bin/pgrep", "-P", str(os.getpid()), "-f", "app.tuning.worker_process"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split()
        (journal,) = tmp_path.glob("softmax/*/journal.log")
        if not killed and journal.read_text().count('"worker"') >= 2:
            killed.append(children[0])
            os.kill(int(children[0]), signal.SIGKILL)

    observer = Observer(lambda *_: contextlib.nullcontext(kill_one))
    found = tune(
        definition_of({"trials": 4}, epochs=60, repeat=20), tmp_path, 2, observer=observer
    ).search
    assert killed
    assert found.count("lost") == 1
    assert found.count("finished") + found.count("pruned") == 4
