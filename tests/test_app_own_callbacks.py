"""Callbacks of users: the model that they see, what they may set, and what is said of mistakes."""

import csv
import importlib
import logging
import re
import time

import keras
import numpy as np
import pytest
from sklearn.datasets import load_iris
from test_app_resume import Notes

from app.config import make_config
from app.data import shown_progress
from app.data.reading_progress import observed_reading
from app.errors import ConfigError, OwnCodeError
from app.runs import resume, train
from app.system.signals import Interrupted
from app.training import checkpoint

X, Y = load_iris(return_X_y=True)


def build():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8, name="hidden")(inputs)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def run_with(output, *callbacks, **settings):
    return train(
        {"epochs": 4, **settings}, output, callbacks, figures=False, model=build, data="iris"
    )


class Looks(keras.callbacks.Callback):
    """Looks at its model after each epoch, and stops in the second."""

    def __init__(self):
        super().__init__()
        self.rates, self.outputs = [], []

    def on_epoch_end(self, epoch, logs=None):
        assert self.model.get_layer("hidden").units == 8
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.outputs.append(self.model.predict(X[:5], verbose=0))
        self.model.stop_training = epoch == 1


def test_a_callback_sees_the_users_model_with_its_weights_of_the_moment(tmp_path):
    looks, best = Looks(), tmp_path / "best.keras"
    weights = tmp_path / "best.weights.h5"
    saving = [
        keras.callbacks.ModelCheckpoint(best),
        keras.callbacks.ModelCheckpoint(weights, save_weights_only=True),
    ]
    run = run_with(tmp_path / "runs", looks, *saving)
    assert len((run.folder / "history.csv").read_text().splitlines()) == 3  # a header, two epochs
    assert looks.rates[0] > looks.rates[1] > 0
    assert (looks.outputs[0] != looks.outputs[1]).any()
    own = build()
    own.load_weights(weights)
    for model in (own, keras.saving.load_model(best)):
        np.testing.assert_allclose(model.predict(X[:5], verbose=0), looks.outputs[1], rtol=1e-5)
    whole = run.load_model().predict(X[:5].astype("float32"), verbose=0)["probabilities"]
    expected = keras.ops.softmax(looks.outputs[1])
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-6)


class Logs(keras.callbacks.Callback):
    """Adds a rate to the logs of each epoch, and a score to those of the third."""

    def on_epoch_end(self, epoch, logs=None):
        logs["lr"] = np.float32(0.5)
        if epoch == 2:
            logs["f1"] = keras.ops.convert_to_tensor([0.25])


def test_what_callbacks_add_to_the_logs_is_in_the_history_and_drawn(tmp_path):
    run = train({"epochs": 4}, tmp_path, [Logs()], model=build, data="iris")
    lines = (run.folder / "history.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    assert [row["lr"] for row in rows] == ["0.5"] * 4
    assert [row["f1"] for row in rows] == ["", "", "0.25", ""]
    assert (run.folder / "figures" / "learning_curves.png").is_file()


def test_a_run_that_goes_on_with_another_callback_keeps_its_history(tmp_path):
    run = run_with(tmp_path, epochs=2, **{"optimizer.schedule": "constant"})
    before = (run.folder / "history.csv").read_text().splitlines()
    more = resume(run.folder, [Logs()], settings={"epochs": 4})
    after = (more.folder / "history.csv").read_text().splitlines()
    assert [line.rstrip(",") for line in after[1:3]] == before[1:]
    assert len(after) == 5


def test_what_callbacks_add_to_the_logs_must_be_numbers(tmp_path):
    def add(epoch, logs):
        logs["phase"] = "warm"

    message = "may add numbers to the logs. Received: phase='warm' after epoch 1"
    with pytest.raises(OwnCodeError, match=message):
        run_with(tmp_path, keras.callbacks.LambdaCallback(on_epoch_end=add))


def test_callbacks_know_whether_more_of_a_metric_is_better(tmp_path):
    watching = [
        keras.callbacks.EarlyStopping("val_accuracy", patience=9),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_auc", save_best_only=True
        ),
    ]
    run_with(tmp_path / "runs", *watching, epochs=2, metrics=[keras.metrics.AUC(name="auc")])
    assert watching[0].monitor_op is keras.ops.greater
    assert (tmp_path / "best.keras").is_file()


def test_a_training_that_a_callback_stops_is_not_said_to_have_stopped_early(tmp_path):
    def stop(epoch, logs):
        looks.model.stop_training = True

    looks, notes = keras.callbacks.LambdaCallback(on_epoch_end=stop), Notes()
    with observed_reading(notes):
        run_with(tmp_path, looks, epochs=9, patience=5)
    assert not [line for line in notes.lines if line.startswith("Training stopped")]


def test_a_training_can_be_stopped_before_its_first_epoch(tmp_path):
    class Never(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.stop_training = True

    run = run_with(tmp_path, Never())
    assert len((run.folder / "history.csv").read_text().splitlines()) == 2


def test_python_code_is_told_notes_by_the_log(tmp_path, caplog):
    def compiled():
        model = build()
        model.compile("sgd", "mse")
        return model

    train({"epochs": 1}, tmp_path, figures=False, model=compiled, data="iris")
    assert any("returns a compiled model" in record.message for record in caplog.records)


@pytest.mark.parametrize("quiet", [False, True])
def test_without_a_handler_notes_and_steps_are_shown_unless_quiet(
    quiet, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("hornbill.notes"), "propagate", False)
    settings = {"epochs": 1, "optimizer.name": "sgd", "optimizer.momentum": 0.3}
    run = train(settings, tmp_path, figures=False, model=build, data="iris", quiet=quiet)
    shown = capfd.readouterr()
    assert not shown.out
    if quiet:
        assert not shown.err
    else:
        assert "note: optimizer.momentum=0.3 has no effect with optimizer.name=sgd: " in shown.err
        assert "checking that the model can be exported …\n" in shown.err
    resume(run.folder, settings={"epochs": 2}, quiet=quiet)
    assert bool(capfd.readouterr().err) != quiet


@pytest.mark.parametrize("quiet", [False, True])
def test_python_code_is_shown_how_far_reading_is_unless_quiet(quiet, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(shown_progress, "_PATIENCE_S", 0.0)
    rows = [f"{number % 7},{number % 5},{'ab'[number % 2]}" for number in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,y,kind", *rows]))
    settings = {"epochs": 1, "target": "kind"}
    config = make_config("features", settings, data=str(tmp_path / "rows.csv"))
    train(config, tmp_path, figures=False, quiet=quiet)
    shown = capfd.readouterr().err
    assert bool(re.search(r"^reading .* rows, .* rows/s", shown, re.MULTILINE)) != quiet
    assert bool(shown) != quiet


def test_a_handler_is_told_notes_of_quiet_code_too(tmp_path, caplog):
    settings = {"epochs": 1, "optimizer.name": "sgd", "optimizer.momentum": 0.3}
    train(settings, tmp_path, figures=False, model=build, data="iris", quiet=True)
    assert any("has no effect" in record.message for record in caplog.records)


def test_weights_that_a_callback_restores_at_the_end_are_kept(tmp_path):
    stop = keras.callbacks.EarlyStopping(
        "val_loss", patience=1, mode="max", restore_best_weights=True
    )
    run = run_with(tmp_path, stop, epochs=9)
    assert stop.best_epoch == 0  # the loss falls, and the largest counts as the best
    own = build()
    own.set_weights(stop.best_weights)
    expected = keras.ops.softmax(own.predict(X[:5], verbose=0))
    whole = run.load_model().predict(X[:5].astype("float32"), verbose=0)["probabilities"]
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-6)


CALLBACKS = """
import keras


def first():
    return keras.callbacks.EarlyStopping(
        "val_loss", patience=9, mode="max", restore_best_weights=True)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt
"""


def test_the_best_weights_of_a_callback_survive_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", 0)
    path = tmp_path / "hornbill_stop.py"
    path.write_text(CALLBACKS)
    own = {"callbacks": [f"{path}:first"]}
    whole = run_with(tmp_path / "whole", **own)
    with pytest.raises(Interrupted):
        run_with(tmp_path / "cut", callbacks=[f"{path}:first", f"{path}:Interrupt"])
    (folder,) = (tmp_path / "cut").glob("*/*")
    path.write_text(CALLBACKS.replace("raise KeyboardInterrupt", "pass"))
    run = resume(folder)
    assert run.metrics == whole.metrics


def test_weights_that_a_callback_has_set_at_the_end_are_written_at_once(tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    class Zero(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.set_weights([0 * array for array in self.model.get_weights()])

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("app.runs.train"), "finish_run", stopped)
        with pytest.raises(Interrupted):
            run_with(tmp_path, Zero())
    (folder,) = tmp_path.glob("*/*")
    model = resume(folder, [Zero()]).load_model()
    outputs = model.predict(X[:5].astype("float32"), verbose=0)["probabilities"]
    np.testing.assert_allclose(outputs, 1 / 3, rtol=1e-5)


def test_a_callback_of_a_family_sees_the_model_from_raw_inputs(tmp_path):
    best = tmp_path / "best.keras"
    config = make_config("softmax", {"epochs": 2})
    run = train(config, tmp_path, [keras.callbacks.ModelCheckpoint(best)], figures=False)
    outputs = [
        model.predict(X.astype("float32"), verbose=0)["probabilities"]
        for model in (keras.saving.load_model(best), run.load_model())
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_a_callback_may_set_the_learning_rate_only_without_a_schedule(tmp_path):
    looks = Looks()
    halved = keras.callbacks.LearningRateScheduler(lambda _, rate: rate / 2)
    with pytest.raises(ConfigError, match="LearningRateScheduler .* Set optimizer.schedule=const"):
        run_with(tmp_path, halved)
    assert not list(tmp_path.glob("*/*"))
    run_with(tmp_path, halved, looks, **{"optimizer.schedule": "constant"})
    assert looks.rates[0] == pytest.approx(2 * looks.rates[1])


def test_a_mistake_in_a_callback_of_keras_is_blamed_on_it(tmp_path):
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "{acuracy}.keras")
    with pytest.raises(OwnCodeError, match="Received: ModelCheckpoint in epoch 1, .*acuracy"):
        run_with(tmp_path, saving)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("EarlyStopping", {"mode": "min"}),
        ("ReduceLROnPlateau", {}),
        ("ModelCheckpoint", {"filepath": "best.keras", "save_best_only": True}),
    ],
)
def test_what_is_not_in_the_logs_cannot_be_monitored(kind, arguments, tmp_path):
    watching = getattr(keras.callbacks, kind)(monitor="val_acuracy", **arguments)
    message = (
        rf"Received: {kind}\(monitor='val_acuracy'\). "
        "The logs have loss, accuracy, auc, val_loss, val_accuracy, val_auc"
    )
    settings = {"metrics": ["auc"], "optimizer.schedule": "constant"}
    with pytest.raises(ConfigError, match=message):
        run_with(tmp_path, watching, **settings)
    path = tmp_path / "hornbill_watching.py"
    path.write_text(
        f"import keras\n\n\ndef watching():\n    return keras.callbacks.{kind}"
        f"(monitor='val_acuracy', **{arguments!r})\n"
    )
    with pytest.raises(ConfigError, match=message):
        run_with(tmp_path, callbacks=[f"{path}:watching"], **settings)
    assert not [path for path in tmp_path.glob("*/*") if path.is_dir()]  # a run


def test_what_callbacks_add_to_the_logs_can_be_monitored(tmp_path):
    stopping = keras.callbacks.EarlyStopping("lr", mode="min", patience=1)
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras", monitor="val_loss")
    run = run_with(tmp_path / "runs", Logs(), stopping, saving)
    assert len((run.folder / "history.csv").read_text().splitlines()) == 3  # its rate stays


class Outdated(keras.callbacks.Callback):
    """Lacks an argument that Keras passes."""

    def on_train_batch_end(self, batch):
        pass


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: 1 / 0),
            "Received: LambdaCallback in epoch 1, ZeroDivisionError in line .* of test_app_own_",
        ),
        (
            keras.callbacks.LambdaCallback(on_test_batch_end=lambda *_, **__: 1 / 0),
            "Received: LambdaCallback in epoch 1, ZeroDivisionError in line .* of test_app_own_",
        ),
        (Outdated(), "Received: Outdated in epoch 1, TypeError.*argument 'logs'"),
    ],
    ids=["lambda", "lambda in evaluation", "outdated"],
)
def test_what_is_called_without_a_method_of_the_callback_is_blamed_on_it(
    callback, message, tmp_path
):
    with pytest.raises(OwnCodeError, match=message):
        run_with(tmp_path, callback)
    assert keras.config.is_traceback_filtering_enabled()


class Ends(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        raise ValueError("late")


def test_what_a_callback_raises_at_the_end_is_after_the_last_epoch(tmp_path):
    with pytest.raises(OwnCodeError, match="Ends after the last epoch, ValueError .*: late"):
        run_with(tmp_path, Ends())


def test_a_resumed_run_says_which_callbacks_are_gone(tmp_path):
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1)
    run, notes = run_with(tmp_path, stopping, epochs=1), Notes()
    with observed_reading(notes):
        resume(run.folder, settings={"epochs": 2})
        assert [n for n in notes.lines if "began with EarlyStopping of Python code" in n]
        before = len(notes.lines)
        resume(run.folder, [stopping], settings={"epochs": 3})
    assert not [n for n in notes.lines[before:] if "EarlyStopping of Python" in n]


def test_a_callback_is_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="path of a folder. Received: list. Callbacks are the"):
        train({"epochs": 1}, [Looks()], model=build, data="iris")


class Interrupts(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def never_better(folder):
    """Return callbacks of Keras to which no epoch after the first is an improvement."""
    return [
        keras.callbacks.EarlyStopping("val_loss", min_delta=9.0, patience=7),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, min_delta=9.0, patience=2),
        keras.callbacks.ModelCheckpoint(
            folder / "best.keras", monitor="val_loss", save_best_only=True, mode="max"
        ),
    ]


def test_callbacks_that_python_passes_go_on_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", 0)
    settings = {"epochs": 9, "optimizer.schedule": "constant"}
    whole = run_with(tmp_path / "whole", *never_better(tmp_path), **settings)
    expected = (whole.folder / "history.csv").read_text()
    assert len(expected.splitlines()) == 9  # a header, and the 8 epochs of a patience of 7
    best = tmp_path / "best.keras"
    with pytest.raises(Interrupted):
        run_with(tmp_path / "cut", *never_better(tmp_path), Interrupts(), **settings)
    (cut,) = (tmp_path / "cut").glob("*/*")
    shorter = run_with(tmp_path / "short", *never_better(tmp_path), **settings | {"epochs": 3})
    written = best.stat().st_mtime_ns
    # The order of others does not matter, nor does one that is new.
    others = [keras.callbacks.EarlyStopping("val_accuracy", patience=9), *never_better(tmp_path)]
    assert (resume(cut, others).folder / "history.csv").read_text() == expected
    longer = resume(shorter.folder, never_better(tmp_path), settings={"epochs": 9})
    assert (longer.folder / "history.csv").read_text() == expected
    assert best.stat().st_mtime_ns == written


class Patience(keras.callbacks.EarlyStopping):
    """Has no epoch after the first that is an improvement, and keeps something of its own."""

    def __init__(self):
        super().__init__("val_loss", min_delta=9.0, patience=5)
        self.best_weights = "nowhere"
        self.stopped_epoch = {"its": "own"}


class Slower(keras.callbacks.ReduceLROnPlateau):
    def __init__(self):
        super().__init__("val_loss", factor=0.5, min_delta=9.0, patience=3)


@pytest.mark.parametrize("is_passed", [True, False], ids=["passed", "named by the setting"])
def test_classes_that_inherit_from_callbacks_of_keras_go_on_where_they_were(
    is_passed, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", 0)
    settings: dict = {"epochs": 9, "optimizer.schedule": "constant"}
    if not is_passed:
        settings["callbacks"] = [Patience, Slower]

    def own():
        return [Patience(), Slower()] if is_passed else []

    whole = run_with(tmp_path / "whole", *own(), **settings)
    expected = (whole.folder / "history.csv").read_text()
    assert len(expected.splitlines()) == 7  # a header, and the 6 epochs of a patience of 5
    with pytest.raises(Interrupted):
        run_with(tmp_path / "cut", *own(), Interrupts(), **settings)
    (cut,) = (tmp_path / "cut").glob("*/*")
    assert (resume(cut, own()).folder / "history.csv").read_text() == expected


class Lazy(keras.callbacks.EarlyStopping):
    """Stops after a number of epochs without an improvement, whether or not others lie between."""

    def __init__(self, most):
        super().__init__("val_loss", min_delta=9.0, patience=99)
        self.most, self.total = most, 0

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.total = 0
        self.began = time.time()

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.total += self.wait > 0
        if self.total >= self.most:
            self.stopped_epoch, self.model.stop_training = epoch, True


class Notebook(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses, self.last, self.weights = [], {}, None

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])
        self.last = {"epoch": epoch}
        self.weights = (1, 2)  # is not plain: JSON has no tuples


def test_what_a_callback_counts_for_itself_goes_on_and_its_arguments_are_those_given_anew(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", 0)
    whole, notes = Notebook(), Notes()
    with observed_reading(notes):
        run = run_with(tmp_path / "whole", Lazy(5), whole, epochs=9)
    expected = (run.folder / "history.csv").read_text()
    assert len(expected.splitlines()) == 7  # a header, the first epoch, and 5 that are not better
    end = "Training stopped after epoch 6 of 9: Lazy has ended it, which monitors val_loss."
    assert end in notes.lines
    for most, epochs in ((5, 6), (6, 7)):
        with pytest.raises(Interrupted):
            run_with(tmp_path / f"cut{most}", Lazy(5), Notebook(), Interrupts(), epochs=9)
        (cut,) = (tmp_path / f"cut{most}").glob("*/*")
        lazy, notebook = Lazy(most), Notebook()
        before = time.time()
        resumed = resume(cut, [lazy, notebook])
        assert len((resumed.folder / "history.csv").read_text().splitlines()) == 1 + epochs
        assert lazy.began >= before
        assert notebook.losses[:6] == whole.losses
        assert len(notebook.losses) == epochs


@pytest.mark.parametrize(("patience", "epochs"), [(0, "1 epoch"), (2, "2 epochs")])
def test_a_run_that_stops_early_tells_how_long_nothing_has_improved(patience, epochs, tmp_path):
    stopping, notes = keras.callbacks.EarlyStopping(min_delta=9.0, patience=patience), Notes()
    with observed_reading(notes):
        run_with(tmp_path, stopping, epochs=9)
    assert any(line.endswith(f"val_loss has not improved for {epochs}.") for line in notes.lines)


def test_a_metric_has_the_name_that_the_user_wrote(tmp_path):
    best = tmp_path / "best.keras"
    watching = [
        keras.callbacks.EarlyStopping("val_acc", min_delta=9.0, patience=2),
        keras.callbacks.ReduceLROnPlateau("val_mae", min_delta=9.0, patience=1),
        keras.callbacks.ModelCheckpoint(best, monitor="val_mse", save_best_only=True),
    ]
    settings = {"metrics": ["mae", "mse", "acc"], "optimizer.schedule": "constant"}
    run = run_with(tmp_path / "runs", *watching, **settings)
    header, *rows = (run.folder / "history.csv").read_text().splitlines()
    names = ["accuracy", "mae", "mse", "acc"]
    assert {*names, *(f"val_{name}" for name in names)} <= set(header.split(","))
    assert not {"mean_absolute_error", "mean_squared_error"} & set(header.split(","))
    assert len(rows) == 3
    rates = [float(row["learning_rate"]) for row in csv.DictReader([header, *rows])]
    assert rates[2] < rates[0]
    assert best.is_file()


def test_a_run_keeps_the_names_that_an_earlier_version_gave_to_metrics(tmp_path):
    name = "mean_absolute_error"
    run = run_with(tmp_path, epochs=2, metrics=[name])
    text = (run.folder / "config.toml").read_text()
    (run.folder / "config.toml").write_text(text.replace(f'"{name}"', '"mae"'))
    with np.load(run.folder / "checkpoint.npz") as file:
        arrays = dict(file)
    state = arrays["state"].tobytes().decode().replace(f'["{name}"]', '["mae"]')
    arrays["state"] = np.frombuffer(state.encode(), np.uint8)
    np.savez(run.folder / "checkpoint.npz", **arrays)
    more = resume(run.folder, settings={"epochs": 4})
    header, *rows = (more.folder / "history.csv").read_text().splitlines()
    assert name in header.split(",")
    assert "mae" not in header.split(",")
    assert all("" not in row.split(",") for row in rows)
