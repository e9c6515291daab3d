"""Own losses, metrics and callbacks that are unusual or go wrong: what works, and what is said."""

import functools
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_app_resume import Notes

from app.bundles.export_run import export_run
from app.config import make_config
from app.config.run_config import change_config
from app.config.weight_files import check_code_files
from app.config.without_effect import settings_without_effect
from app.data.reading_progress import observed_reading
from app.errors import ConfigError, OwnCodeError, RunError
from app.runs import resume, train
from app.system import user_code
from app.system.signals import Interrupted
from app.system.user_code import check_reference
from export.options import ExportOptions


def squared(targets, outputs, factor=1.0):
    return factor * keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)


def quick(output, passed=(), model=None, **settings):
    """Train two epochs on iris."""
    settings = {"epochs": 2, **settings}
    return train(settings, output, passed, figures=False, model=model or build, data="iris")


def build():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda t, p: 2 * squared(t, p), "lambda"),
        (functools.partial(squared, factor=2), "metric"),
    ],
)
def test_a_function_of_any_name_can_be_a_loss_and_a_metric(function, name, tmp_path):
    run = quick(tmp_path, loss=function, metrics=[function])
    header = (run.folder / "history.csv").read_text().partition("\n")[0].split(",")
    assert name in header


def test_metrics_with_the_same_name_have_columns_of_their_own(tmp_path):
    metrics = [lambda t, p: 1 + 0 * squared(t, p), lambda t, p: 2 + 0 * squared(t, p)]
    run = quick(tmp_path, metrics=metrics)
    header, row, *_ = (run.folder / "history.csv").read_text().splitlines()
    values = dict(zip(header.split(","), row.split(","), strict=True))
    assert (float(values["lambda"]), float(values["lambda_2"])) == (1, 2)


@pytest.mark.parametrize(
    "code",
    [
        "def found(): ...",
        "from math import pi as found",
        "for found in range(3): ...",
        "try:\n    found, other = 1, 2\nexcept OSError: ...",
        "class found:\n    inner = 1",
        "from math import *",
        "globals()['found'] = 1",
        "exec('found = 1')",
        "def __getattr__(name): ...",
        "no code",
    ],
)
def test_a_name_in_a_file_is_found_however_it_came_there(code, tmp_path):
    (tmp_path / "code.py").write_text(code)
    check_reference(f"{tmp_path}/code.py:found", "loss")
    (tmp_path / "code.py").write_text("def fuond(): ...")
    with pytest.raises(ConfigError, match="there is no 'found'. Did you mean 'fuond'"):
        check_reference(f"{tmp_path}/code.py:found", "loss")


class Ends(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        if self.error is not None:
            raise self.error


def ends(*_):
    sys.exit("no licence")


class EndsInFit(keras.layers.Layer):
    def call(self, inputs, training=False):
        if training:
            sys.exit(3)
        return inputs


def build_ending():
    return keras.Sequential([keras.Input((4,)), EndsInFit(), keras.layers.Dense(3)])


@pytest.mark.parametrize(
    ("callbacks", "received"),
    [
        (Ends(None), "Ends, which is not in a list"),
        ([Ends], r"the class Ends in the list\. Make an object of it: Ends\("),
        (["tensorboard"], "'tensorboard' in the list"),
        (None, "None"),
    ],
)
def test_callbacks_that_are_none_are_told_before_there_is_a_run_folder(
    callbacks, received, tmp_path
):
    message = "callbacks must be a list of objects of keras.callbacks.Callback. Received: "
    with pytest.raises(ConfigError, match=message + received):
        quick(tmp_path / "runs", callbacks)
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_takes_callbacks_only_as_well(tmp_path):
    with pytest.raises(ConfigError, match="Received: the class Ends in the list"):
        resume(tmp_path, [Ends])


def test_a_callback_that_ends_python_is_told_in_one_line(tmp_path):
    message = "A callback must not raise. Received: Ends in epoch 1, SystemExit in line .*: 3. "
    with pytest.raises(OwnCodeError, match=message):
        quick(tmp_path, [Ends(SystemExit(3))])
    (folder,) = tmp_path.glob("*/*")
    assert "SystemExit" in (folder / "error.txt").read_text()


def test_an_interrupt_in_a_callback_stays_one(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quick(tmp_path, [Ends(KeyboardInterrupt())])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"loss": ends}, ConfigError, "loss must take .* SystemExit in line .*: no licence"),
        ({"callbacks": f"{__name__}:ends"}, ConfigError, "SystemExit in line .*: no licence"),
        ({"model": ends}, ConfigError, "The function must build .* SystemExit in line .*licence"),
        ({"model": build_ending}, OwnCodeError, "build_ending. .* SystemExit in line .*: 3"),
    ],
)
def test_code_that_ends_python_is_told_in_one_line(settings, error, message, tmp_path):
    with pytest.raises(error, match=message):
        quick(tmp_path, **settings)


def build_unadapted():
    layers = [
        keras.layers.Discretization(num_bins=4, output_mode="one_hot"),
        keras.layers.Flatten(),
    ]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])


def without_gradient(targets, outputs):
    return squared(targets, keras.ops.stop_gradient(outputs))


@pytest.mark.parametrize(
    "settings", [{"model": build_unadapted}, {"loss": without_gradient}, {"model": build_ending}]
)
def test_a_fault_of_the_model_in_the_first_epoch_offers_no_resuming_which_would_fail_too(
    settings, tmp_path
):
    with pytest.raises(OwnCodeError, match="an error in epoch 1, ") as caught:
        quick(tmp_path, **settings)
    (folder,) = tmp_path.glob("*/*")
    ending = f". {folder / 'error.txt'} says more. No epoch was finished, so there is nothing to "
    assert str(caught.value).endswith(f"{ending}resume.")
    assert "Resume with" not in str(caught.value)
    assert "Traceback" in (folder / "error.txt").read_text()


def features_of(path):
    with Path(path.decode()).open() as file:
        return np.float32([float(cell) for cell in file.read().split()])


@tf.autograph.experimental.do_not_convert
def read_in_python(path, y):
    return tf.ensure_shape(tf.numpy_function(features_of, [path], tf.float32), (4,)), y


@tf.autograph.experimental.do_not_convert
def read_in_graph(path, y):
    cells = tf.strings.split(tf.io.read_file(path))
    return tf.ensure_shape(tf.strings.to_number(cells), (4,)), y


@pytest.mark.parametrize("read", [read_in_python, read_in_graph])
def test_a_run_whose_files_are_missing_in_the_first_epoch_is_resumed_when_they_are_back(
    read, tmp_path
):
    files = [str(tmp_path / f"{number}.txt") for number in range(30)]
    for number, file in enumerate(files):
        Path(file).write_text(f"{number} 1 2 {number % 3}")
    names = tf.data.Dataset.from_tensor_slices((files, [number % 3 for number in range(30)]))
    part = names.map(read).batch(10)
    data = dict.fromkeys(("train", "validation", "test"), part)
    lost = Path(files[0])

    def move(epoch, _logs):
        lost.rename(tmp_path / "moved")

    moving = keras.callbacks.LambdaCallback(on_epoch_begin=move)
    runs = tmp_path / "runs"
    with pytest.raises(
        OwnCodeError, match=r"in epoch 1, .* Resume in Python, with app.runs.resume.*data=…"
    ):
        train({"epochs": 1}, runs, [moving], figures=False, model=build, data=data)
    (tmp_path / "moved").rename(lost)
    (folder,) = runs.glob("*/*")
    assert resume(folder, data=data).is_finished


def test_a_fault_after_the_first_epoch_offers_resuming_from_there(tmp_path):
    epochs = []

    def fail(targets, outputs):
        if len(epochs) > 1:
            raise ValueError("odd")
        return np.float32(0)

    @tf.autograph.experimental.do_not_convert
    def loss(targets, outputs):
        nothing = tf.numpy_function(fail, [targets, outputs], tf.float32)
        return squared(targets, outputs) + tf.ensure_shape(nothing, ())

    counting = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: epochs.append(epoch))
    with pytest.raises(
        OwnCodeError, match=r"in epoch 2, ValueError .*: odd\. .* Resume in the script"
    ):
        quick(tmp_path, [counting], loss=loss)


def not_a_number(targets, outputs):
    return squared(targets, outputs) * float("nan")


def build_wild():
    wild = keras.initializers.Constant(float("nan"))
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer=wild, activation="softmax")]
    )


NO_STEP = "in step 1 of epoch 1, .* No step was taken yet: "


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        (
            {"loss": not_a_number},
            "mend the loss test_app_own_code:not_a_number or the initial weights of",
        ),
        ({"model": build_wild}, r"mend the initial weights of test_app_own_code:build_wild\.$"),
    ],
)
def test_a_loss_that_is_not_finite_from_the_start_is_blamed_on_own_code(settings, cause, tmp_path):
    with pytest.raises(RunError, match=NO_STEP + cause):
        quick(tmp_path, **settings)


def test_a_family_with_an_own_loss_may_have_either_cause(tmp_path):
    config = make_config("softmax", {"epochs": 1, "loss": not_a_number})
    cause = "mend the loss test_app_own_code:not_a_number, or lower initializer_stddev, l1, l2,"
    with pytest.raises(RunError, match=NO_STEP + cause):
        train(config, tmp_path, figures=False)


def test_an_error_of_tensorflow_ends_without_the_names_of_its_operators(tmp_path):
    with pytest.raises(ConfigError, match=r"circle, which raised .* \[2,3\] vs\. \[3,2\]$"):
        quick(tmp_path, loss="circle")


DECAY = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
TAKEN = r'Set optimizer.name=adam, .* give an optimizer, {"optimizer": keras.optimizers.Adam\('


def fails():
    return {}["rate"]


SCHEDULE = "chosen by name, optimizer.schedule=constant, step, exponential, cosine or plateau. "


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer": keras.losses.Huber()},
            "name must name what needs no arguments. Received: .*Huber, which raised TypeError: ",
        ),
        ({"optimizer": "adma"}, "'optimizer' is not a setting of Sequential. " + TAKEN),
        ({"optimizer": None}, TAKEN),
        ({"optimizer": ["adam"]}, TAKEN),
        ({"optimizer": fails}, "raises no error. Received: .*fails, which raised KeyError in line"),
        (
            {"optimizer.name": "adma"},
            "Received: optimizer.name='adma'. Did you mean 'adamax'.* It may also be another one of"
            " Keras such as keras.optimizers:Ftrl, or file.py:name.$",
        ),
        (
            {"optimizer.learning_rate": DECAY},
            SCHEDULE + "Received: optimizer.learning_rate=ExponentialDecay. Any other is the learni"
            r'ng rate of an optimizer, {"optimizer": keras.optimizers.Adam\(schedule\)}.$',
        ),
        (
            {"optimizer": {"schedule": DECAY}},
            SCHEDULE + "Received: optimizer.schedule=ExponentialDecay. ",
        ),
        (
            {"optimizer.learning_rate": ends},
            "rate must be a number. Received: optimizer.learning_rate=ends, of the type function.$",
        ),
        ({"epochs": object()}, "number. Received: epochs=object, of the type object.$"),
        (
            {"class_weight": {0: 1.0, 1: 2.0}},
            "'class_weight.0' is not a setting of Sequential. Set class_weight=balanced, or give",
        ),
        ({"epoch": 3}, "'epoch' is not a setting of Sequential. Did you mean 'epochs'"),
    ],
)
def test_objects_where_settings_are_names_and_numbers_are_refused_without_their_address(
    settings, message, tmp_path
):
    with pytest.raises(ConfigError, match=message) as caught:
        quick(tmp_path / "runs", model=build(), **settings)
    assert "0x" not in str(caught.value)
    assert "\n" not in str(caught.value)


def made():
    return keras.optimizers.RMSprop(DECAY, rho=0.8, epsilon=1e-5, use_ema=True, ema_momentum=0.5)


class Interrupts(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "optimizer",
    [keras.optimizers.Adam(0.01, beta_1=0.8, epsilon=1e-3), made, made()],
    ids=["an object", "a function", "an object with a schedule"],
)
def test_an_optimizer_of_ones_own_trains_and_goes_on_where_it_was(optimizer, tmp_path, monkeypatch):
    whole = quick(tmp_path / "whole", optimizer=optimizer, epochs=4)
    expected = (whole.folder / "history.csv").read_text()
    other = quick(tmp_path / "other", optimizer=keras.optimizers.Adam, epochs=4)
    assert (other.folder / "history.csv").read_text() != expected
    with pytest.raises(Interrupted):
        quick(tmp_path / "cut", [Interrupts()], optimizer=optimizer, epochs=4)
    (cut,) = (tmp_path / "cut").glob("*/*")
    monkeypatch.setattr(user_code, "_PASSED", {})  # as in another process
    assert (resume(cut).folder / "history.csv").read_text() == expected


def test_an_optimizer_in_a_file_is_named_as_a_loss_is(tmp_path):
    code = "import keras\ndef slow():\n    return keras.optimizers.SGD(0.0)\n"
    (tmp_path / "own_rates.py").write_text(code)
    settings = {"optimizer.name": f"{tmp_path}/own_rates.py:slow"}
    run = quick(tmp_path / "runs", **settings)
    first, last = (row.split(",") for row in (run.folder / "history.csv").read_text().split()[1:])
    assert first[-1] == last[-1]  # the loss of validation, since nothing was learned
    with pytest.raises(ConfigError, match="there is no 'slwo'. Did you mean 'slow'"):
        check_code_files(
            make_config("softmax", {"optimizer.name": f"{tmp_path}/own_rates.py:slwo"})
        )


def test_settings_of_named_optimizers_have_no_effect_on_ones_own():
    settings = {"optimizer": made, "optimizer.warmup": 0.1, "batch_size": 8}
    (line,) = settings_without_effect(make_config("softmax", settings))
    own = "has no effect with an optimizer of your own, test_app_own_code:made, which has its own"
    assert line == f"optimizer.warmup=0.1 {own} settings."
    config = make_config("softmax", {"optimizer": made})
    assert not settings_without_effect(config)
    assert not settings_without_effect(change_config(config, {}))


def test_a_callback_sets_the_rate_of_ones_own_optimizer_only_without_a_schedule(tmp_path):
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", min_delta=9.0, patience=1, factor=0.1)
    run = quick(tmp_path, [slower], optimizer=keras.optimizers.SGD(0.5), epochs=3)
    header, *rows = (run.folder / "history.csv").read_text().splitlines()
    rates = [float(row.split(",")[header.split(",").index("learning_rate")]) for row in rows]
    assert rates == pytest.approx([0.5, 0.5, 0.05])
    with pytest.raises(ConfigError, match="needs a learning rate without a schedule. .* has one"):
        quick(tmp_path, [slower], optimizer=made())


def test_an_optimizer_that_cannot_be_made_again_is_refused(tmp_path):
    class Odd(keras.optimizers.SGD):
        def __init__(self, power):
            super().__init__(0.1)

    message = "its get_config makes again. Received: .*Odd, which raised .* Name a function that"
    with pytest.raises(ConfigError, match=message) as caught:
        quick(tmp_path, optimizer=Odd(3))
    assert "\n" not in str(caught.value)
    assert quick(tmp_path, optimizer=lambda: Odd(3)).metrics["test"]
    with pytest.raises(ConfigError, match="a function that returns one. Received: .*of the type i"):
        quick(tmp_path, optimizer=lambda: 3)


class Boosted(keras.optimizers.Adam):
    """Has an argument that its get_config does not tell."""

    def __init__(self, boost=1.0, learning_rate=0.01, **others):
        super().__init__(learning_rate, **others)
        self.boost = boost


def test_an_optimizer_that_another_process_cannot_make_is_told_before_training(tmp_path):
    notes = Notes()
    message = "^Resume in the script, with app.runs.resume"
    with observed_reading(notes), pytest.raises(Interrupted, match=message):
        quick(tmp_path / "cut", [Interrupts()], optimizer=Boosted(2.0), epochs=4)
    told = "Boosted: an object that another process cannot make again, so it cannot resume the run"
    assert [line for line in notes.lines if line.startswith(told)]
    with observed_reading(notes), pytest.raises(Interrupted, match="^Resume with: hornbill train"):
        quick(tmp_path / "made", [Interrupts()], optimizer=keras.optimizers.Adam(0.1), epochs=4)
    assert len([line for line in notes.lines if "another process" in line]) == 1


def test_a_schedule_of_the_script_is_told_before_training(tmp_path, monkeypatch):
    class Stairs(keras.optimizers.schedules.LearningRateSchedule):
        __module__, __qualname__ = "__main__", "Stairs"

        def __call__(self, step):
            return 0.1

        def get_config(self):
            return {}

    monkeypatch.setattr(sys.modules["__main__"], "Stairs", Stairs, raising=False)
    notes = Notes()
    with observed_reading(notes):
        quick(tmp_path, optimizer=keras.optimizers.SGD(Stairs()))
    assert [line for line in notes.lines if line.startswith("SGD: an object that another process")]


def test_a_run_on_pipelines_that_python_passed_is_resumed_with_them(tmp_path):
    x, y = np.arange(32, dtype="float32").reshape(8, 4), np.arange(8) % 3
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    data = dict.fromkeys(("train", "validation", "test"), batches)
    message = "^Resume in Python, with app.runs.resume.'.*', data=…"
    with pytest.raises(Interrupted, match=message):
        train({"epochs": 4}, tmp_path, [Interrupts()], figures=False, model=build, data=data)
    (cut,) = tmp_path.glob("*/*")
    assert resume(cut, data=data).is_finished


def all_files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_is_refused_another_optimizer_stays_as_it_is(tmp_path):
    with pytest.raises(Interrupted):
        quick(tmp_path / "cut", [Interrupts()], optimizer=keras.optimizers.SGD(0.1), epochs=4)
    (cut,) = (tmp_path / "cut").glob("*/*")
    before = all_files(cut)
    with pytest.raises(ConfigError, match="^optimizer.name cannot change .*optimizer.name=Adam. "):
        resume(cut, settings={"optimizer": keras.optimizers.Adam(0.1)})
    assert all_files(cut) == before
    assert len((resume(cut).folder / "history.csv").read_text().splitlines()) == 5


def test_a_run_whose_file_makes_another_optimizer_now_stays_as_it_is(tmp_path):
    code = "import keras\ndef made():\n    return keras.optimizers.%s(0.1)\n"
    (tmp_path / "own_steps.py").write_text(code % "SGD")
    run = quick(tmp_path / "runs", **{"optimizer.name": f"{tmp_path}/own_steps.py:made"})
    before = all_files(run.folder)
    (tmp_path / "own_steps.py").write_text(code % "Adam")
    with pytest.raises(RunError, match="own_steps.py:made must make the one .* code changed"):
        resume(run.folder, settings={"epochs": 4})
    assert all_files(run.folder) == before


def resumed(folder, **settings):
    notes = Notes()
    with observed_reading(notes):
        return resume(folder, settings=settings), notes.lines


def test_a_run_goes_on_at_the_rate_of_ones_own_optimizer(tmp_path):
    run = quick(tmp_path / "plain", optimizer=keras.optimizers.SGD(0.05))
    longer, lines = resumed(run.folder, **{"epochs": 3, "optimizer.learning_rate": 0.5})
    assert any("learning_rate=0.5 has no effect with an optimizer of your own" in x for x in lines)
    assert any(line.endswith("epoch 3. The learning rate stays at 0.05.") for line in lines)
    whole = quick(tmp_path / "whole", optimizer=keras.optimizers.SGD(0.05), epochs=3)
    expected = (whole.folder / "history.csv").read_text()
    assert (longer.folder / "history.csv").read_text() == expected
    run = quick(tmp_path / "scheduled", optimizer=keras.optimizers.SGD(DECAY))
    _, lines = resumed(run.folder, epochs=3)
    assert any("The optimizer's own schedule goes on: the rate of the next" in x for x in lines)


def uniform(seed):
    return keras.initializers.GlorotUniform(seed)


def net(dtype=None):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, "tanh", kernel_initializer=uniform(1), dtype=dtype)(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=uniform(2))(hidden))


def batches():
    inputs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    targets = inputs @ np.array([[1.0], [2.0], [-1.0], [0.5]], np.float32)
    data = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(16)
    return {"train": data, "validation": data.take(2), "test": data.skip(2)}


def trained(output, optimizer, passed=(), **settings):
    """Return the weights that a run saves, and the losses of its validation."""
    settings = {"epochs": 3, **({"optimizer": optimizer} if optimizer else {}), **settings}
    run = train(settings, output, passed, figures=False, model=net(), data=batches())
    saved = keras.models.load_model(run.folder / "model.keras", compile=False).get_weights()
    header, *rows = (run.folder / "history.csv").read_text().splitlines()
    column = header.split(",").index("val_loss")
    return saved, [float(row.split(",")[column]) for row in rows]


def bare(optimizer, callbacks=(), dtype=None):
    """Return the same of compile and fit of Keras."""
    model, data = net(dtype), batches()
    model.compile(optimizer, "mse")
    told = model.fit(
        data["train"],
        validation_data=data["validation"],
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks],
    )
    return model.get_weights(), told.history["val_loss"]


def check_trains_as_in_keras(output, make, passed=list, tolerance=1e-5, dtype=None, **settings):
    weights, losses = trained(output, make(), passed(), **settings)
    expected, expected_losses = bare(make(), passed(), dtype)
    for found, weight in zip(weights, expected, strict=True):
        np.testing.assert_allclose(found, weight, atol=tolerance)
    np.testing.assert_allclose(losses, expected_losses, rtol=max(tolerance, 1e-4))


def test_the_loss_of_an_optimizer_that_scales_it_is_not_scaled_twice(tmp_path):
    def make():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))

    half = {"dtype": "mixed_float16", "precision": "mixed_float16"}
    check_trains_as_in_keras(tmp_path, make, tolerance=0.01, **half)


class Signed(keras.optimizers.SGD):
    """Its get_config does not tell of `power`."""

    def __init__(self, learning_rate=0.01, power=1.0, **others):
        super().__init__(learning_rate, **others)
        self.power = power

    def update_step(self, gradient, variable, learning_rate):
        step = keras.ops.cast(learning_rate, variable.dtype) * keras.ops.sign(gradient)
        self.assign_sub(variable, step * self.power)


def without_kernels():
    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.9)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    return optimizer


@pytest.mark.parametrize(
    "make",
    [
        without_kernels,
        lambda: Signed(0.01, power=5.0),
        lambda: keras.optimizers.LossScaleOptimizer(Signed(0.01, power=5.0)),
    ],
    ids=["exclusions", "an argument", "an inner optimizer"],
)
def test_settings_outside_the_configuration_of_an_optimizer_count_too(make, tmp_path):
    check_trains_as_in_keras(tmp_path, make)


def make_factor(number):
    return lambda gradient: number * gradient


class Helped(keras.optimizers.SGD):
    """Its constructor makes a function, which cannot be compared with another one."""

    def __init__(self, learning_rate=0.1, factor=1.0, **others):
        super().__init__(learning_rate, **others)
        self.helper = [make_factor(factor)]


def test_an_optimizer_whose_constructor_makes_a_function_is_taken_from_a_function(tmp_path):
    with pytest.raises(ConfigError, match="not give the attribute helper. Name a function that"):
        trained(tmp_path / "object", Helped(factor=2.0))
    trained(tmp_path / "function", lambda: Helped(factor=2.0))


def test_an_optimizer_whose_other_attributes_differ_is_refused(tmp_path):
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.helper = make_factor(2)
    with pytest.raises(ConfigError, match="not give the attribute helper. Name a function that"):
        trained(tmp_path, optimizer)
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_list=[keras.Variable(1.0)])
    with pytest.raises(ConfigError, match="AdamW with var_list. Give var_names, such as"):
        trained(tmp_path, optimizer)


def test_exclusions_from_weight_decay_are_not_lost_in_another_process(tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        quick(tmp_path, [Interrupts()], optimizer=without_kernels(), epochs=4)
    (cut,) = tmp_path.glob("*/*")
    monkeypatch.setattr(user_code, "_PASSED", {})  # as in another process
    with pytest.raises(ConfigError, match="in this process, or be named by file.py:name"):
        resume(cut)


def averaging():
    return keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)


def averaging_and_scaling():
    return keras.optimizers.LossScaleOptimizer(averaging())


def test_averaged_weights_of_an_optimizer_that_scales_its_loss_are_saved(tmp_path):
    weights, losses = trained(tmp_path, averaging_and_scaling())
    expected, expected_losses = bare(averaging(), [keras.callbacks.SwapEMAWeights(True)])
    np.testing.assert_allclose(weights[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)


@pytest.mark.parametrize("make", [averaging, averaging_and_scaling])
@pytest.mark.parametrize("on_epoch", [True, False])
def test_ones_own_swapping_of_averaged_weights_replaces_that_of_hornbill(make, on_epoch, tmp_path):
    def passed():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)]

    check_trains_as_in_keras(tmp_path, make, passed)


def test_ones_own_swapping_goes_with_the_average_of_a_named_optimizer(tmp_path):
    named = {"optimizer.name": "sgd", "optimizer.learning_rate": 0.05}
    named |= {"optimizer.schedule": "constant", "optimizer.ema_momentum": 0.9}
    expected, losses = bare(averaging(), [keras.callbacks.SwapEMAWeights(False)])
    swapping = [keras.callbacks.SwapEMAWeights(False)]
    weights, found = trained(tmp_path, None, swapping, **named)
    np.testing.assert_allclose(weights[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(found, losses, rtol=1e-4)


class Stair(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a class that Keras does not know."""

    def __call__(self, step):
        return 0.1 / (1 + keras.ops.cast(step, "float32"))

    def get_config(self):
        return {}


def test_an_inner_optimizer_may_have_a_schedule_of_any_class(tmp_path):
    def make():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(Stair()))

    check_trains_as_in_keras(tmp_path, make)


def test_the_advice_on_a_loss_that_is_not_finite_suits_an_optimizer_of_ones_own(tmp_path):
    advice = "Lower the learning rate of SGD, or clip its gradients, such as by its argument glob"
    with pytest.raises(RunError, match=advice):
        trained(tmp_path, keras.optimizers.SGD(1e30))


def test_the_report_shows_the_settings_of_an_optimizer_of_ones_own_in_place_of_others(tmp_path):
    schedule = keras.optimizers.schedules.CosineDecay(0.25, 40)
    run = quick(tmp_path, optimizer=keras.optimizers.Adam(schedule, clipnorm=1.5), epochs=1)
    page = (run.folder / "report.html").read_text()
    assert "optimizer.learning_rate" not in page
    assert "keras.src" not in page
    rows = {"optimizer.name": "Adam", "clipnorm": "1.5", "class": "Adam"}
    rows |= {"learning_rate": "CosineDecay", "learning_rate.initial_learning_rate": "0.25"}
    for key, value in rows.items():
        assert f"{key}</code></th><td><code>{value}<" in page
    bundle = export_run(run.folder, tmp_path / "dist", options=ExportOptions(int8="never"))
    config = json.loads((bundle / "manifest.json").read_text())["config"]
    assert {key for key in config if key.startswith("optimizer.")} == {"optimizer.name"}
    assert config["optimizer.name"] == "Adam"
    assert "Adam#" not in (bundle / "README.md").read_text()


def test_a_backbone_that_learns_in_two_phases_takes_no_optimizer_of_ones_own(tmp_path):
    backbone = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    )
    backbone.save(tmp_path / "net.keras")
    for number in range(40):
        (folder := tmp_path / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), number, np.uint8)
        keras.utils.save_img(folder / f"{number}.png", pixels, scale=False)
    settings = {"backbone": str(tmp_path / "net.keras"), "optimizer": made, "epochs": 1}
    config = make_config("features", settings, data=str(tmp_path / "photos"))
    with pytest.raises(ConfigError, match="two phases, .* Set freeze=all, or choose an optimizer"):
        train(config, tmp_path / "runs", figures=False)
    frozen = change_config(config, {"freeze": "all"})
    assert train(frozen, tmp_path / "runs", figures=False).metrics["test"]
