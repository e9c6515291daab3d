"""A search from definition to refit: what is written, shared, retried and refused."""

import contextlib
import csv
import io
import json
import os
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

from app.commands.cli import _extra_of, main
from app.config.run_config import combine_settings
from app.data.arrays import DiskArray
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.errors import DataError, TuningError
from app.runs.run_folder import read_run
from app.runs.train import load_run_data
from app.tuning import search
from app.tuning.definition import make_definition
from app.tuning.search import Show, join, tune
from app.tuning.search_space import dimensions
from app.tuning.storage import (
    Journal,
    StudyLocation,
    absolute_address,
    create_study,
    load_study,
    open_storage,
)
from app.tuning.trial_loop import BEGUN, Watch, may_begin, open_study, requeue_stale_trials, work
from app.tuning.trials import Report, evaluate, make_trial_data

RATE = {"optimizer.learning_rate": "log:1e-2..1"}
FAST = {"epochs": 2, "batch_size": 64}


def definition_of(budget=None, declared=RATE, family="softmax", **settings):
    return make_definition(family, declared, budget or {"trials": 2}, settings={**FAST, **settings})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search that was interrupted in its second trial, and what finished it answered."""
    declared = {"optimizer.learning_rate": "log:1e-3..1", "hidden": "layers:1..2x2..8"}
    definition = definition_of({"trials": 4}, declared, "features", epochs=1)
    epochs = iter([None, KeyboardInterrupt])

    def interrupt():
        error = next(epochs)
        if error:
            raise error

    show = Show(lambda *_: contextlib.nullcontext(Watch(after_epoch=interrupt)))
    with pytest.raises(KeyboardInterrupt, match="Go on with: hornbill tune --join") as caught:
        tune(definition, tmp_path_factory.mktemp("tunes"), show=show)
    folder = Path(str(caught.value).rpartition(" ")[2])
    before = load_study(search.find_study(str(folder))[0]).trials
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main(["tune", "--join", str(folder), "--json"])
    return folder, before, json.loads(output.getvalue())


@pytest.fixture
def begun(tmp_path):
    """A folder and its study, in which no trial has been begun."""

    def begin(definition):
        with pytest.raises(_StopError):
            tune(definition, tmp_path, show=Show(_stop))
        (folder,) = (tmp_path / definition.base.family).iterdir()
        place, _ = search.find_study(str(folder))
        return folder, place

    return begin


class _StopError(Exception):
    pass


def _stop(*_):
    raise _StopError


def test_a_search_leaves_everything_about_itself(tuned):
    folder, _, answer = tuned
    names = {path.name for path in folder.iterdir()}
    wanted = {"space.toml", "journal.log", "best.toml", "trials.csv", "report.html", "figures"}
    assert wanted | {"refit"} <= names
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert figures == {"history", "importance", "parallel_coordinates", "trial_curves"}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 6
    assert all(reading in page for reading in answer["readings"])


def test_the_table_has_every_trial_and_the_best_comes_first(tuned):
    folder, _, answer = tuned
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert int(rows[0]["trial"]) == answer["best"]["trial"]
    losses = [float(row["cross_entropy"]) for row in rows if row["cross_entropy"]]
    assert losses == sorted(losses)


def test_the_best_is_a_config_that_train_takes_and_the_refit_was_trained_on(tuned):
    folder, _, answer = tuned
    config = combine_settings(None, folder / "best.toml")
    refit = read_run(Path(answer["refit"]))
    assert list(config.model.hidden) == answer["best"]["settings"]["hidden"]
    shares = refit.config.training.train_sizes
    assert replace(config, training=replace(config.training, train_sizes=shares)) == refit.config
    assert answer["test"] == refit.metrics["test"]


def test_an_interrupted_search_gives_its_trial_back_and_join_finishes_it(tuned):
    folder, before, answer = tuned
    assert [trial.state.name for trial in before] == ["COMPLETE", "FAIL", "WAITING"]
    assert answer["trials"] == {"finished": 4, "pruned": 0, "lost": 1}
    lost, again = load_study(search.find_study(str(folder))[0]).trials[1:3]
    assert again.params == lost.params


def test_a_finished_search_is_joined_to_no_effect(tuned, run):
    folder, _, _ = tuned
    status, output, _ = run("tune", "--join", folder)
    assert status == 0
    assert f"next: hornbill train --config {folder}/best.toml" in output


def test_no_trial_sees_the_test_split():
    dataset = load_dataset("iris")
    config = definition_of().base
    of_refit = split_dataset(dataset, config.seed, config.training.validation_split)
    kept = np.sort(np.concatenate([of_refit.train, of_refit.validation]))
    for folds in (1, 3):
        material = make_trial_data(config, dataset, folds)
        np.testing.assert_array_equal(material.dataset.inputs, dataset.inputs[kept])
        np.testing.assert_array_equal(material.dataset.targets, dataset.targets[kept])
        assert all(len(part.test) == 0 for part in material.parts)


def test_what_is_streamed_from_disk_stays_there_without_the_test_split(tmp_path):
    lines = [f"{n},{'abc'[n % 3]},{'xy'[n % 2]}" for n in range(5000)]
    (tmp_path / "rows.csv").write_text("\n".join(["number,text,kind", *lines]) + "\n")
    config = definition_of(family="features", data=str(tmp_path / "rows.csv"), target=["kind"]).base
    dataset = load_run_data(config)
    rest = make_trial_data(config, dataset, folds=1).dataset
    assert isinstance(rest.inputs, DiskArray)
    assert isinstance(rest.codes, DiskArray)
    kept = rest.inputs[:][:, 0].astype(int)
    assert len(set(kept)) == 4000
    np.testing.assert_array_equal(rest.codes[:], dataset.codes[kept])
    np.testing.assert_array_equal(rest.targets, kept % 2)


def test_folds_measure_each_sample_outside_the_test_split_once():
    material = make_trial_data(definition_of().base, load_dataset("iris"), folds=2)
    measured = np.concatenate([part.validation for part in material.parts])
    np.testing.assert_array_equal(np.sort(measured), np.arange(120))
    outcome = evaluate(definition_of().base, material)
    assert outcome.loss > 0
    assert 0 <= outcome.score <= 1


def test_more_folds_than_samples_of_a_class_are_refused():
    message = "Each class must have a sample for each fold. Received: folds=50, and 40 samples"
    with pytest.raises(DataError, match=message):
        make_trial_data(definition_of().base, load_dataset("iris"), folds=50)


def test_more_folds_than_values_can_be_measured_in_are_refused():
    config = definition_of(None, {"l2": "log:1e-6..1e-2"}, "features", head="linear").base
    message = "Each fold must have 2 samples or more.*Received: folds=10, and 16 samples"
    with pytest.raises(DataError, match=message):
        make_trial_data(config, load_dataset("linnerud", task="regression"), folds=10)


def test_a_poor_trial_ends_after_the_last_epoch_of_its_first_fold_alone():
    class Trial:
        def report(self, value, step):
            pass

        def should_prune(self):
            return True

    for folds, is_pruned in ((1, False), (3, True)):
        report = Report(Trial(), ["l2"], "classes", True, folds, lambda: None)
        report.set_model(keras.Sequential())
        report.set_params({"epochs": 1})
        with pytest.raises(optuna.TrialPruned) if is_pruned else contextlib.nullcontext():
            report.on_epoch_end(0, {"val_loss": 1.0})


def test_trials_compute_alike_where_precision_is_left_open(begun):
    folder, _ = begun(definition_of())
    assert 'precision = "float32"' in (folder / "space.toml").read_text()


def test_a_file_of_sqlite_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_address("sqlite:///study.db") == f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(TuningError, match="must lie in a folder. Received: .*none/study.db, in no"):
        absolute_address("sqlite:///none/study.db")
    with pytest.raises(TuningError, match="must be in its storage. Received: .*no.db, no file"):
        search.find_study("sqlite:///no.db#name")
    assert not list(tmp_path.iterdir())
    for address in ("sqlite://", "sqlite:////tmp/study.db", "postgresql://user:secret@host/name"):
        assert absolute_address(address) == address


def test_the_same_seed_searches_alike(begun, tmp_path):
    found = []
    for _ in range(2):
        _, place = begun(definition_of({"trials": 1}, epochs=1))
        work(place)
        found.append([(trial.params, trial.value) for trial in load_study(place).trials])
        (tmp_path / "softmax").rename(tmp_path / f"done-{len(found)}")
    assert found[0] == found[1]


def test_a_trial_poorer_than_the_others_were_is_pruned(begun):
    _, place = begun(definition_of({"trials": 6}, epochs=4))
    study = load_study(place)
    for _ in range(5):
        trial = study.ask()
        for epoch in (1, 2, 3, 4):
            trial.report(1e-6, epoch)
        study.tell(trial, 1e-6)
    work(place)
    last = study.trials[-1]
    assert last.state.name == "PRUNED"
    assert list(last.intermediate_values) == [1, 2, 3]
    assert last.user_attrs["reason"] == "poorer than others after epoch 3"


def test_a_trial_that_has_come_to_its_end_is_not_pruned(begun):
    _, place = begun(definition_of({"trials": 6}, epochs=3))
    study = load_study(place)
    for _ in range(5):
        study.add_trial(
            optuna.trial.create_trial(
                value=1e-6, intermediate_values=dict.fromkeys((1, 2, 3), 1e-6)
            )
        )
    work(place)
    last = study.trials[-1]
    assert last.state.name == "COMPLETE"
    assert list(last.intermediate_values) == [1, 2, 3]


def test_values_that_cannot_be_trained_are_pruned_with_the_reason(begun):
    declared = {"loss": "choice:mse|cross_entropy", "label_smoothing": "choice:0.0|0.1"}
    _, place = begun(definition_of({"trials": 1}, declared))
    load_study(place).enqueue_trial({"loss": "mse", "label_smoothing": "0.1"})
    work(place)
    (trial,) = load_study(place).trials
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"].startswith("label_smoothing applies to cross entropy only")


def test_a_model_too_large_for_the_machine_is_pruned_with_the_reason(begun):
    """Here one that is too deep, for one too wide would take the memory of whoever else tests."""
    declared = {"hidden": "layers:1..500x2..8"}
    _, place = begun(definition_of({"trials": 1}, declared, "features"))
    load_study(place).enqueue_trial({"hidden.layers": 500, "hidden.units": 2})
    work(place)
    (trial,) = load_study(place).trials
    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"].startswith(
        "A model must be small enough for this machine. Received: RecursionError: maximum"
    )


def test_penalties_do_not_count_and_a_searched_loss_is_told_by_its_metric():
    """Two trials whose losses mean different things are compared by what means the same."""
    config = definition_of(l2=10.0, epochs=1).base
    material = make_trial_data(config, load_dataset("iris"), folds=1)
    told = {}
    for key in ("l2", "loss"):
        trial = optuna.create_study().ask()
        evaluate(config, material, [Report(trial, [key], "classes", False, 1, lambda: None)])
        (told[key],) = trial.study.trials[0].intermediate_values.values()
    assert told["l2"] < 3  # 50 with its penalty
    assert told["loss"] * 12 == pytest.approx(round(told["loss"] * 12), abs=1e-4)


def test_a_worker_killed_in_a_trial_loses_that_trial_and_it_is_tried_again(begun):
    _, place = begun(definition_of({"trials": 2}, epochs=40, repeat=40))
    told = {"address": place.address, "study": place.name, "name": "doomed"}
    environment = {**os.environ, "HORNBILL_STUDY": json.dumps(told)}
    command = [sys.executable, "-m", "app.tuning.worker_process"]
    with subprocess.Popen(command, env=environment) as process:
        study = load_study(place)
        while not any(trial.intermediate_values for trial in study.trials):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    requeue_stale_trials(study)  # its heart beat a moment ago, so that nobody takes its trial yet
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    requeue_stale_trials(study, lambda trial: trial.user_attrs["worker"] == "doomed")
    requeue_stale_trials(study, lambda trial: trial.number == 0)  # once only
    lost, again = study.trials
    assert (lost.state.name, again.state.name) == ("FAIL", "WAITING")
    assert again.system_attrs["fixed_params"] == lost.params
    assert again.user_attrs["retry_of"] == 0


def test_what_dead_workers_left_is_tried_again_by_who_joins(begun):
    declared = {**RATE, "l2": "log:1e-5..1e-2"}
    folder, place = begun(definition_of({"trials": 1}, declared, epochs=1))
    study, definition = open_study(place)
    partial = study.ask()  # its worker died while it drew
    partial.suggest_float("l2", 1e-5, 1e-2, log=True)
    study.tell(partial, state=optuna.trial.TrialState.FAIL)
    study.ask(dimensions(definition.space)).set_user_attr("heartbeat", 0.0)
    found = join(str(folder)).found
    assert [row.state for row in found.rows] == ["lost", "finished"]
    assert found.rows[1].settings == found.rows[0].settings


def test_values_whose_workers_die_are_tried_three_times(begun):
    _, place = begun(definition_of({"trials": 9}))
    study, definition = open_study(place)
    study.ask(dimensions(definition.space))
    for _ in range(4):
        requeue_stale_trials(study, lambda _: True)
        if any(trial.state.name == "WAITING" for trial in study.trials):
            study.ask(dimensions(definition.space))
    assert [trial.state.name for trial in study.trials] == ["FAIL"] * 3
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 1


def test_no_trial_begins_once_the_minutes_are_over(begun):
    _, place = begun(definition_of({"minutes": 1.0}))
    study, definition = open_study(place)
    assert may_begin(study, definition)
    study.set_user_attr(BEGUN, time.time() - 61)
    study.enqueue_trial({"optimizer.learning_rate": 0.1})
    assert not may_begin(study, definition)
    work(place)
    assert [trial.state.name for trial in study.trials] == ["WAITING"]


def test_sigterm_ends_a_search_that_can_go_on(tmp_path):
    command = ["tune", "softmax", "--search", "l2=log:1e-5..1", "--trials", "99", "--quiet"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from app.commands.cli import main; main()",
            *command,
            "-o",
            tmp_path,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any("heartbeat" in path.read_text() for path in tmp_path.rglob("journal.log")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    _, error = process.communicate(timeout=60)
    (folder,) = tmp_path.glob("softmax/*")
    assert error == f"hornbill: Interrupted. Go on with: hornbill tune --join {folder}\n"
    assert process.returncode == 130


def test_numbers_that_cannot_be_standardized_are_refused_before_the_search(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{1_700_000_000 + 128 * (i % 3)},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["x,kind", *rows]) + "\n")
    definition = definition_of(data=str(path), target=["kind"])
    with pytest.raises(DataError, match="more than the rounding of float32. Received: x, "):
        tune(definition, tmp_path / "tunes")
    assert not (tmp_path / "tunes").exists()


def test_a_fold_without_a_value_of_a_column_is_refused_before_the_search(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{i},{'1' if i == 8 else ''},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("x,rare,kind\n" + "\n".join(rows) + "\n")
    definition = definition_of({"trials": 1, "folds": 3}, data=str(path), target=["kind"])
    with pytest.raises(DataError, match="must have a value in the training split.*'rare'"):
        tune(definition, tmp_path / "tunes")
    assert not (tmp_path / "tunes").exists()


def test_a_study_in_a_database_is_joined_by_its_address(tmp_path):
    address = f"sqlite:///{tmp_path / 'studies.db'}"
    with pytest.raises(_StopError):
        tune(definition_of({"trials": 1}, epochs=1), tmp_path, storage=address, show=Show(_stop))
    (folder,) = (tmp_path / "softmax").iterdir()
    named = (folder / "study.txt").read_text().strip()
    assert named == f"{address}#softmax-{folder.name}"
    assert join(named) is None  # the folder's owner writes the results
    assert len(load_study(search.find_study(str(folder))[0]).trials) == 1


def test_a_study_is_joined_with_its_own_space_and_data(begun, tmp_path):
    path = tmp_path / "flowers.csv"
    rows = [f"{n % 7},{n % 5},{'ab'[n % 2]}" for n in range(60)]
    path.write_text("x,y,kind\n" + "\n".join(rows) + "\n")
    folder, _ = begun(definition_of(data=str(path), target=["kind"], epochs=1))
    message = "own space, optimizer.learning_rate=log:1e-2..1. Received: epochs=int:1..3. Leave"
    with pytest.raises(TuningError, match=message):
        join(str(folder), declared={"epochs": "int:1..3"})
    path.write_text("x,y,kind\n" + "\n".join(rows[::-1]) + "\n")
    with pytest.raises(TuningError, match="flowers.csv must hold the data that the study began"):
        join(str(folder), declared=RATE)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("none", "a folder that hornbill tune made, or ADDRESS#NAME. Received: none."),
        ("sqlite:///none.db", "A study in a database is ADDRESS#NAME. Received: 'sqlite:///none"),
    ],
)
def test_what_is_no_study_is_refused(where, message):
    with pytest.raises(TuningError, match=message):
        join(where)


def test_a_study_without_its_journal_is_refused(begun):
    folder, _ = begun(definition_of())
    (folder / "journal.log").unlink()
    with pytest.raises(TuningError, match="A study must have a journal. Received: .*not there."):
        join(str(folder))


def test_a_storage_that_comes_back_is_waited_for(tmp_path):
    folder = tmp_path / "later"
    threading.Timer(0.3, folder.mkdir).start()
    place = StudyLocation(f"sqlite:///{folder}/studies.db", "mine")
    assert create_study(place, {"a": 1}, waits_s=(0.2,) * 20).user_attrs == {"a": 1}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:////no/such/folder/x.db", "must answer. Received: sqlite.*unable to open.*in 3"),
        ("nonsense://u:secret@h/x", r"must be the address of a database.*nonsense://u:\*\*\*@h/x"),
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
    place = StudyLocation(str(folder / "journal.log"), "study")
    study = create_study(place, {}, waits_s=(0.0,))
    study.tell(study.ask(), 1.0)
    folder.rename(tmp_path / "away")
    with pytest.raises(TuningError, match="What was finished is kept: go on with hornbill tune"):
        study.ask()
    again = StudyLocation(str(tmp_path / "away" / "journal.log"), "study")
    assert load_study(again).best_value == 1.0


def _journal(folder):
    place = StudyLocation(str(folder / "journal.log"), "study")
    study = create_study(place, {}, waits_s=(0.0,))
    study.tell(study.ask(), 1.0)
    return place, folder / "journal.log"


def test_a_journal_whose_last_line_was_cut_off_goes_on_without_it(tmp_path):
    """By a kill or a full disk; what the next worker writes must not be glued to it."""
    place, path = _journal(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    study = load_study(place)
    study.tell(study.ask(), 2.0)
    assert [trial.value for trial in load_study(place).trials] == [None, 2.0]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(TuningError, match="A study must be in its storage."):
        load_study(place)


def test_a_journal_that_is_damaged_is_an_error_of_one_line(tmp_path):
    place, path = _journal(tmp_path)
    for damage in (b'{"a\n', b"\xd2\n"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([lines[0], damage, *lines[1:]]))
        with pytest.raises(TuningError, match="as it was written. Received: .*journal.log, dama"):
            load_study(place)


def test_a_lock_that_a_killed_worker_left_does_not_hold_a_study_up(tmp_path, monkeypatch):
    """Of a relative path, whose link by Optuna led nowhere."""
    monkeypatch.chdir(tmp_path)
    Path("tunes").mkdir()
    place, path = _journal(Path("tunes"))
    monkeypatch.setattr("app.tuning.storage._LOCKED_S", 3)
    killed = Journal(str(path))
    killed._lock.acquire()
    study = load_study(place)
    study.tell(study.ask(), 2.0)
    assert len(load_study(place).trials) == 2


def test_a_database_tells_which_studies_it_has(tmp_path):
    address = f"sqlite:///{tmp_path / 'x.db'}"
    create_study(StudyLocation(address, "mine"), {})
    with pytest.raises(TuningError, match="Received: 'yours'; sqlite:.* has mine."):
        load_study(StudyLocation(address, "yours"))
    with pytest.raises(TuningError, match="A study's name must be free. Received: mine in"):
        create_study(StudyLocation(address, "mine"), {})
    with pytest.raises(TuningError, match="A study must be one that hornbill tune made."):
        join(f"{address}#mine")


def test_a_search_in_which_no_trial_ends_says_why(tmp_path):
    definition = definition_of({"trials": 1}, {"l2": "uniform:1e38..2e38"}, epochs=1)
    message = "A search needs one trial that ends. Received: none; The loss must stay finite"
    with pytest.raises(TuningError, match=message):
        tune(definition, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune"], "A family must be given"),
        (["tune", "softmax"], "A search needs fields. Received: none."),
        (["tune", "softmax", "--search", "l3=log:1e-5..1"], "'l3' is no setting of softmax."),
        (["tune", "softmax", "--join", "x"], "--join takes its settings from the study"),
        (["tune", "--join", "x", "--trials", "3"], "--join takes its settings from the study"),
        (["tune", "--join", "x"], "A study must be a folder that hornbill tune made"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--data", "digits8x8"], "takes rows"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--method", "cmaes"], "two ranges"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--storage", "x://y"], "must be the ad"),
        (["tune", "softmax", "--search", "l2=log:1e-5..1", "--storage", "x"], "Received: 'x'."),
        (["tune", "--join", "x://y#z", "--storage", "x://y"], "--storage goes with the folder"),
        (["tune", "features", "--search", "hidden=layers:-2..2x8..16"], "0 layers or more"),
        (["tune", "--join", "x", "--storage", ""], "such as sqlite:///study.db. Received: ''"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(arguments, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output, error = run(*arguments)
    assert (status, output) == (2, "")
    assert error.startswith("hornbill: ")
    assert error.count("\n") == 1
    assert message in error
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_optuna_is_answered_with_its_extra():
    assert _extra_of("optuna") == "tune"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_by_its_crew(tmp_path):
    """Two workers, one of them killed: the budget is spent all the same."""
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

    show = Show(lambda *_: contextlib.nullcontext(Watch(after_epoch=kill_one)))
    found = tune(definition_of({"trials": 4}, epochs=60, repeat=20), tmp_path, 2, show=show).found
    assert killed
    assert found.count("lost") == 1
    assert found.count("finished") + found.count("pruned") == 4
