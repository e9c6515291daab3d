"""Models, data, losses, metrics and callbacks of users go the whole way that families go."""

import csv
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_iris
from test_app_resume import Notes

from app.bundles.export_run import export_run
from app.config.families import family_named
from app.config.keras_names import KERAS_LOSSES, KERAS_METRICS
from app.config.run_config import flat_config, make_config
from app.config.run_facts import read_evaluation
from app.data.frames import data_on_disk
from app.data.reading_progress import observed_reading
from app.data.shards import Shard
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.distributed.team import Team
from app.errors import ConfigError, DataError, OwnCodeError, TuningError
from app.evaluation.predictions import predict_samples
from app.runs import read_run, resume, train
from app.system.signals import Interrupted
from app.training.compilation import Compilation
from app.training.job import Job
from app.training.losses import make_loss, make_metric, numeric_targets, trained_output
from app.training.own_losses import own_loss, own_metric
from app.training.own_models import (
    Builder,
    build_with_head,
    builder_of,
    decide_head,
    own_net,
    save_untrained,
)
from app.tuning.definition import make_definition
from app.tuning.search import tune
from export import ExportOptions
from models.graph import activation_of
from serving import Predictor

X, Y = load_iris(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(150)
NET = """
import keras
from keras import layers


class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = layers.Dense(8, activation="relu")(Twice()(inputs))
    return keras.Model(inputs, layers.Dense(num_classes)(layers.Dropout(0.1)(x)))


def softmax(loss=None):
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])


def squared(targets, outputs):
    return keras.ops.mean(keras.ops.square(targets - keras.ops.softmax(outputs)), axis=-1)


def broken(targets, outputs):
    return targets @ nothing


class Stop(keras.callbacks.Callback):
    epoch = 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise ValueError("enough")


class StopAtOnce(Stop):
    epoch = 0


def none():
    return None


def fails():
    raise ValueError("no such layer")


def needs_width(width):
    return None


def seven():
    return keras.Sequential([keras.Input((4,)), layers.Dense(7, activation="softmax")])


def sigmoids():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="sigmoid")])


def sigmoid():
    return keras.Sequential([keras.Input((4,)), layers.Dense(1, activation="sigmoid")])


def relus():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu")])


def sequence():
    net = [keras.Input((4,)), layers.Reshape((2, 2)), layers.Dense(3)]
    return keras.Sequential(net)


def tokens():
    inputs = keras.Input((None,))
    return keras.Model(inputs, layers.Dense(3)(layers.Embedding(50, 4)(inputs)))


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(2)(inputs)])


def five_columns():
    return keras.Sequential([keras.Input((5,)), layers.Dense(3)])


class Odd(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def unsaved():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(Odd(lambda x: x)(inputs)))


class Steps(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


class Losses(keras.Model):
    def compute_loss(self, *args, **kwargs):
        return 0 * super().compute_loss(*args, **kwargs)


def steps():
    inputs = keras.Input((4,))
    return Steps(inputs, layers.Dense(3)(inputs))


def losses():
    inputs = keras.Input((4,))
    return Losses(inputs, layers.Dense(3)(inputs))


def with_own(method):
    def own(self, *args, **kwargs):
        return getattr(super(kind, self), method)(*args, **kwargs)

    def build():
        inputs = keras.Input((4,))
        return kind(inputs, layers.Dense(3)(inputs))

    kind = type("Own", (keras.Model,), {method: own})
    return build


tested = with_own("test_step")
measured = with_own("compute_metrics")
predicted = with_own("predict_step")
fitted = with_own("fit")
evaluated = with_own("evaluate")


number = 3
"""
DATA = """
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_iris

x, y = load_iris(return_X_y=True)
order = np.random.default_rng(0).permutation(150)


def pipelines():
    data = tf.data.Dataset.from_tensor_slices((x[order].astype("float32"), y[order]))
    train = data.take(90).shuffle(90, seed=1).filter(lambda x, y: True)
    others = data.skip(90).batch(16)
    return {"train": train.batch(16), "validation": others.take(2), "test": others.skip(2)}


def arrays():
    return x, y


def broken():
    return 1 / 0
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """A folder with `net.py` and `data.py`, as a user has them."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "hornbill_net.py").write_text(NET)
    (folder / "hornbill_data.py").write_text(DATA)
    return folder


def net(code, name):
    return f"{code}/hornbill_net.py:{name}"


def layers_from(inputs, *layers):
    x = inputs
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def quick(model, data, output, **settings):
    return train({"epochs": 2, **settings}, output, figures=False, model=model, data=data)


def with_head(model, data="iris", **settings):
    """Return the untrained model of a run, its configuration, data and splits."""
    config = make_config(model, settings, data=data)
    builder = builder_of(config.family)
    config = decide_head(config, builder)
    from app.runs.train import load_run_data

    dataset = load_run_data(config)
    splits = split_dataset(dataset, 0)
    return build_with_head(builder, config, dataset, splits), config, dataset, splits


@pytest.fixture(scope="module")
def own_run(code, tmp_path_factory):
    """A run of a function with logits, a custom layer, and code of its own throughout."""
    folder = tmp_path_factory.mktemp("own")
    settings = {
        "loss": f"{code}/hornbill_net.py:squared",
        "metrics": ["auc", keras.metrics.F1Score(average="macro")],
        "optimizer.learning_rate": 0.05,
        "repeat": 10,
    }
    return quick(net(code, "build"), (X, np.array(["se", "ve", "vi"])[Y]), folder, **settings)


def test_a_function_and_arrays_go_the_whole_way(own_run, tmp_path):
    assert own_run.folder.parent.name == "hornbill_net"
    assert own_run.metrics["test"]["accuracy"] > 0.6
    header = (own_run.folder / "history.csv").read_text().partition("\n")[0]
    assert {"auc", "f1_score", "val_auc"} <= set(header.split(","))
    bundle = export_run(own_run.folder, tmp_path, options=ExportOptions(int8="never"))
    predictor = Predictor.load(bundle)
    manifest = predictor.manifest
    assert bundle.parent.name == "hornbill_net"
    assert manifest.labels == ("se", "ve", "vi")
    assert manifest.calibration.temperature > 0
    assert manifest.family == manifest.config["family"] == "hornbill_net.py:build"
    assert manifest.config["loss"] == "hornbill_net.py:squared"
    probabilities = predictor.predict(X.astype(np.float32)).probabilities
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_folder_needs_neither_the_function_nor_the_arrays(own_run):
    read = read_run(own_run.folder)
    assert read.config.family.endswith("hornbill_net.py:build")
    assert read.config.model.head == "softmax"
    assert "head" in read.data["chosen"]
    dataset = load_dataset(read.config.data)
    np.testing.assert_allclose(dataset.inputs, X.astype(np.float32))
    assert (own_run.folder / "untrained.keras").is_file()


MODULES = {
    "hornbill_blocks": """
        import keras

        class Halved(keras.layers.Layer):
            def call(self, x):
                return x / 2

        def steep(x):
            return keras.ops.relu(3 * x)
    """,
    "hornbill_backbone": """
        import keras
        import hornbill_blocks

        def features(inputs):
            return keras.layers.Dense(8, hornbill_blocks.steep)(hornbill_blocks.Halved()(inputs))
    """,
    "hornbill_late": """
        import keras

        class Late(keras.layers.Layer):
            def call(self, x):
                return x + 1
    """,
    "hornbill_whole": """
        import keras
        from hornbill_backbone import features

        def build():
            from hornbill_late import Late

            inputs = keras.Input((4,))
            return keras.Model(inputs, keras.layers.Dense(3)(Late()(features(inputs))))

        def inside():
            class Hidden(keras.layers.Layer):
                def call(self, x):
                    return x

            inputs = keras.Input((4,))
            return keras.Model(inputs, keras.layers.Dense(3)(Hidden()(inputs)))
    """,
}


@pytest.fixture
def whole(tmp_path):
    """Path of a file whose model has layers and functions of other files."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    yield tmp_path / "hornbill_whole.py"
    for name in MODULES:
        sys.modules.pop(name, None)


def test_layers_and_functions_of_other_files_are_found_again(whole, tmp_path):
    run = quick(f"{whole}:build", "iris", tmp_path / "runs")
    del sys.modules["hornbill_late"]  # another process has not called the function
    again = run.load_model()
    names = [type(layer).__name__ for layer in own_net(again).layers]
    assert names == ["InputLayer", "Halved", "Dense", "Late", "Dense"]
    assert own_net(again).layers[2].activation.__name__ == "steep"


def test_a_layer_without_a_place_in_a_module_is_told(whole, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="Could not locate class 'Hidden'. Its layers need"):
        quick(f"{whole}:inside", "iris", tmp_path / "runs")
    # The script that trains now cannot be told to export instead.
    spec = importlib.util.spec_from_file_location("__main__", whole)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setitem(sys.modules, "__main__", script)
    with pytest.raises(ConfigError, match="Could not locate class 'Hidden'") as caught:
        quick(script.inside, "iris", tmp_path / "runs")
    assert "export_run" not in str(caught.value)


SCRIPT = """
    import keras

    class Halved(keras.layers.Layer):
        def call(self, x):
            return x / 2

    def steep(x):
        return keras.ops.relu(3 * x)

    def squared(targets, outputs):
        return keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)

    class Tops(keras.metrics.CategoricalAccuracy):
        pass

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def plain():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

    def custom():
        dense = keras.layers.Dense
        return keras.Sequential([keras.Input((4,)), Halved(), dense(4, steep), dense(3)])
"""


@pytest.mark.parametrize(
    ("model", "loss", "metric", "told"),
    [
        ("custom", "squared", "Tops", "Halved, steep, squared, Tops: of .* neither resume nor exp"),
        ("plain", "squared", None, "squared: of the script itself, so .* cannot resume the run"),
        ("plain", None, None, None),
    ],
)
def test_what_only_the_script_itself_has_is_told_before_training(
    model, loss, metric, told, tmp_path, monkeypatch
):
    (tmp_path / "script.py").write_text(dedent(SCRIPT))
    spec = importlib.util.spec_from_file_location("__main__", tmp_path / "script.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setitem(sys.modules, "__main__", script)
    settings = {"loss": getattr(script, loss)} if loss else {}
    settings |= {"metrics": [getattr(script, metric)()]} if metric else {}
    notes, runs, build = Notes(), tmp_path / "runs", getattr(script, model)
    then = "Resume in the script, with app.runs.resume" if told else "Resume with: hornbill train"
    with observed_reading(notes), pytest.raises(Interrupted, match=then):
        train(settings, runs, [script.Stop()], figures=False, model=build, data="iris")
    found = [line for line in notes.lines if "of the script itself" in line]
    assert [bool(re.match(told or "", line)) for line in found] == [True] * bool(told)


def test_outputs_beside_the_one_that_learns_are_told():
    inputs = keras.Input((4,))
    hidden, dense = keras.layers.Dense(5)(inputs), keras.layers.Dense
    outputs = {"logits": dense(3)(hidden), "features": hidden, "aux": dense(1)(hidden)}
    for unused in (False, True):
        notes = Notes()
        with observed_reading(notes):
            model, *_ = with_head(keras.Model(inputs, outputs))
        assert set(model.output) == {"probabilities", "features"}
        found = [line for line in notes.lines if "neither trained nor exported" in line]
        assert [line.startswith("aux of the outputs of ") for line in found] == [True] * (
            not unused
        )
        outputs = {name: each for name, each in outputs.items() if name != "aux"}


# In short: test_pipelines_are_streamed_and_resumed_by_their_function.
@pytest.mark.slow
def test_training_repeats_and_resumes_like_that_of_a_family(code, tmp_path):
    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    settings = {"epochs": 4}
    whole = quick(net(code, "build"), "iris", tmp_path / "whole", **settings)
    with pytest.raises(Interrupted, match="Resume with"):
        train(
            settings,
            tmp_path / "cut",
            [keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)],
            figures=False,
            model=net(code, "build"),
            data="iris",
        )
    (folder,) = (tmp_path / "cut").glob("*/*")
    moved = shutil.move(folder, tmp_path / "moved")
    run = resume(moved)
    assert run.metrics == whole.metrics
    assert json.loads((moved / "data.json").read_text())["source"] == "iris"


def test_a_callback_that_raises_ends_the_run_with_one_line_and_can_be_mended(code, tmp_path):
    copy = tmp_path / "hornbill_mended.py"
    copy.write_text(NET)
    settings = {"callbacks": f"{copy}:StopAtOnce"}
    message = "A callback must not raise. Received: StopAtOnce in epoch 1, ValueError in line .* of"
    with pytest.raises(OwnCodeError, match=f"{message} hornbill_mended.py: enough. .*Resume with"):
        quick(f"{copy}:softmax", "iris", tmp_path, **settings)
    (folder,) = (tmp_path / "hornbill_mended").iterdir()
    text = (folder / "error.txt").read_text()
    assert "enough" in text
    assert "Traceback" in text
    copy.write_text(NET.replace("raise ValueError", "print"))
    assert resume(folder).is_finished
    assert not (folder / "error.txt").exists()


def test_pipelines_are_streamed_and_resumed_by_their_function(code, tmp_path):
    reference = f"{code}/hornbill_data.py:pipelines"
    settings = {"callbacks": net(code, "Stop"), "epochs": 3, "metrics": "mae"}
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        quick(net(code, "build"), reference, tmp_path, **settings)
    (folder,) = (tmp_path / "hornbill_net").iterdir()
    config = (folder / "config.toml").read_text()
    source = (code / "hornbill_net.py").read_text()
    try:
        (code / "hornbill_net.py").write_text(source.replace("raise ValueError", "print"))
        run = resume(folder)
    finally:
        (code / "hornbill_net.py").write_text(source)
    assert config.count("hornbill_net.py:build") == 1
    assert run.data["samples"] == {"train": 90, "validation": 32, "test": 28}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["epochs"] == 3
    assert environment["wait_fraction"] is None
    assert 0 < run.metrics["test"]["accuracy"] <= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "must return a keras.Model. Received: .*:none, which returned NoneType"),
        ("fails", "Received: .*:fails\\(\\), which raised ValueError in line .*: no such layer"),
        ("needs_width", "may need input_shape, .* which needs 'width'. Give it a default"),
        ("number", "must be a function that returns a keras.Model. Received: .*of the type int"),
        ("seven", "an output for each of the 3 classes. Received: 7"),
        ("sigmoids", "must end with softmax or logits. Received: 3 outputs of sigmoid"),
        ("relus", "must end with softmax or logits. Received: 3 outputs of relu"),
        ("sequence", r"must be \(batch, units\). Received: \(None, 2, 3\). A model with images"),
        ("tokens", r"must be \(batch, units\). Received: \(None, None, 3\)"),
        ("two_outputs", r"must have one output.* Received: \(None, 3\), \(None, 2\)"),
        ("five_columns", r"inputs float32 \(None, 4\). Received: .* input float32 \(None, 5\)"),
        ("unsaved", "Keras must be able to save the model. Received: .*get_config"),
        (
            "steps",
            "must not override train_step, .* Received: .*:steps, of the class Steps. Set loss",
        ),
        ("losses", "must not override compute_loss, .* Received: .*:losses, of the class Losses"),
        ("tested", "must not override test_step, .* Set loss to .* Set metrics to"),
        ("measured", "must not override compute_metrics, .* Set metrics to functions"),
        ("predicted", "must not override predict_step, .* Compute what it returns in call"),
        ("fitted", "must not override fit, .* Leave it out: settings and callbacks"),
        ("evaluated", "must not override evaluate, .* Leave it out"),
        ("bild", "there is no 'bild'. Did you mean 'build'"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_before_training(code, name, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        quick(net(code, name), "iris", tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_such_file.py:build", "must be in a file that exists. Received: .*no_such_file.py"),
        ("no_such.keras", "must be in a file that exists"),
        ("no_such_module.x:build", "can be imported. Received: no_such_module.x, which is neither"),
        ("net.py", "family must be one of .*A model of your own is file.py:function"),
    ],
)
def test_a_reference_must_lead_somewhere(model, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        quick(model, "iris", tmp_path)


def test_a_file_with_a_mistake_is_named_with_its_line(tmp_path):
    (tmp_path / "hornbill_mistaken.py").write_text("import keras\nkers.Model()\ndef build(): ...\n")
    message = "hornbill_mistaken.py: NameError in line 2 of hornbill_mistaken.py"
    with pytest.raises(ConfigError, match=message):
        quick(f"{tmp_path}/hornbill_mistaken.py:build", "iris", tmp_path)


def image_net(*shape):
    layers = [keras.layers.Flatten(), keras.layers.Dense(2)]
    return lambda: keras.Sequential([keras.Input(shape), *layers])


def test_a_task_of_keras_hub_is_a_model_of_ones_own(tmp_path, monkeypatch):
    package = tmp_path / "keras_hub"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text(
        "import keras\n\n\nclass Classifier(keras.Sequential):\n"
        "    def fit(self, x, *args, **kwargs):\n"
        "        return super().fit(self.prepared(x), *args, **kwargs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tasks = importlib.import_module("keras_hub.tasks")

    def build():
        parts = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
        return tasks.Classifier(parts)

    assert quick(build, (X, Y), tmp_path / "runs").metrics["test"]


class Shaken(keras.layers.Layer):
    """Adds noise at inference, too."""

    def build(self, _):
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + 0.01 * keras.random.normal(keras.ops.shape(x), seed=self.seed_generator)


def shaken(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(Shaken(name="shaken")(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax")(x))


def in_doubles(input_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Dense(8, dtype="float64"),
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )


def decomposed(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = keras.ops.qr(keras.layers.Reshape((2, 2))(inputs))[1]
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax")(x))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (in_doubles, "Layers must compute in float32, .* Received: float64 in layer"),
        (shaken, "A model of columns must not draw .* Received: shaken_noise. Draw in training"),
        (decomposed, "Every operation must have a counterpart in ONNX. Received: Qr "),
    ],
)
def test_a_model_that_onnx_cannot_express_is_told_before_training(model, reason, tmp_path):
    notes = Notes()
    settings = {"epochs": 1, "figures": False}
    with observed_reading(notes):
        run = train(settings, tmp_path, model=model, data=(X, Y))
    start = "This model can be trained, but not be exported. "
    (told,) = [line for line in notes.lines if line.startswith(start)]
    assert re.match(start + reason, told)
    assert run.metrics["test"]
    warning = f"the model cannot be exported. {told.removeprefix(start).rstrip('.')}"
    assert warning in read_evaluation(run.folder)["warnings"]
    assert json.loads((run.folder / "data.json").read_text())["not_exportable"]
    page = (run.folder / "report.html").read_text()
    assert "the model cannot be exported" in page
    assert "hornbill export" not in page
    assert "tensorboard --logdir" in page


def test_noise_at_inference_is_an_input_of_what_a_run_exports(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    data = (images, np.arange(60) % 3)
    settings = {"epochs": 1, "figures": False}
    run = train(settings, tmp_path, model=shaken, data=data)
    bundle = export_run(run.folder, tmp_path / "dist", "shaken", ExportOptions(int8="always"))
    predictor = Predictor.load(bundle)
    image, noise = predictor.manifest.inputs
    assert (image.name, noise.name) == ("image", "shaken_noise")
    few = images[:5].astype(image.dtype)
    still, moved = (
        predictor.predict({"image": few, "shaken_noise": np.full((5, 8, 8, 1), level, "float32")})
        for level in (0, 1)
    )
    assert (still.probabilities != moved.probabilities).any(axis=1).all()


def test_a_model_of_colors_learns_from_gray_images(tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (40, 6, 6), np.uint8)
    run = quick(image_net(6, 6, 3), (gray, np.arange(40) % 2), tmp_path / "runs", epochs=1)
    full = run.load_model()
    assert full.inputs[0].shape == (None, 6, 6, 1)
    one = gray[..., np.newaxis]
    expected = keras.ops.softmax(own_net(full)([np.repeat(one, 3, axis=-1).astype("float32")]))
    assert np.allclose(full(one)["probabilities"], expected, atol=1e-5)
    bundle = export_run(run.folder, tmp_path / "dist", "gray", ExportOptions(int8="never"))
    assert Predictor.load(bundle).manifest.inputs[0].shape[1:] == (6, 6, 1)


def test_a_model_of_gray_images_says_what_to_do_about_colors(tmp_path):
    colors = np.zeros((40, 6, 6, 3), np.uint8)
    with pytest.raises(ConfigError, match="Turn the images to gray, or give it three channels."):
        quick(image_net(6, 6), (colors, np.arange(40) % 2), tmp_path)


def test_a_model_of_ones_own_needs_data(code, tmp_path):
    with pytest.raises(ConfigError, match="needs data"):
        quick(net(code, "build"), None, tmp_path)
    with pytest.raises(TuningError, match="A search needs a family"):
        make_definition(net(code, "build"), {"epochs": "int:1..3"}, settings={"data": "iris"})
    with pytest.raises(ConfigError, match="Training needs a configuration or a model"):
        train()


def batches(x=X, y=Y, size=16):
    data = tf.data.Dataset.from_tensor_slices((x.astype(np.float32), y))
    return data.batch(size) if size else data


def parts(**changes):
    x, y = X[ORDER], Y[ORDER]
    found = {
        "train": batches(x[:90], y[:90]),
        "validation": batches(x[90:120], y[90:120]),
        "test": batches(x[120:], y[120:]),
    }
    return {**found, **changes}


def weighted(weight):
    weights = np.broadcast_to(np.float32(weight), (150, *np.shape(weight)))
    return tf.data.Dataset.from_tensor_slices((X.astype(np.float32), Y, weights)).batch(10)


def endless():
    while True:
        yield np.zeros(4, np.float32), 0


def growing():
    for size in (4, 5):
        yield np.zeros((1, size), np.float32), np.zeros(1, np.int64)


def with_nan(y):
    return np.where(np.arange(150) == 5, np.nan, y)


def failing():
    yield np.zeros((1, 4), np.float32), np.zeros(1, np.int64)
    raise OSError("disk gone")


# AutoGraph would parse the whole file for each lambda.
@tf.autograph.experimental.do_not_convert
def x_alone(x, _):
    return x


@tf.autograph.experimental.do_not_convert
def y_twice(x, y):
    return x, y, y, y


@tf.autograph.experimental.do_not_convert
def not_finite(x, y):
    return tf.debugging.check_numerics(x / 0, "bad"), y


SMALL = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int64))
GROWING = (tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None,), tf.int64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: batches().repeat(), "must end. Received: data, which is endless"),
        (lambda: batches(X[:0], Y[:0]), "must hold samples. Received: data, which is empty"),
        (lambda: batches().map(x_alone), r"must be \(x, y\).* Received: data with float32"),
        (lambda: batches().map(y_twice), r"or \(x, y, weights\), of dense tensors"),
        (
            lambda: tf.data.Dataset.from_generator(growing, output_signature=GROWING),
            r"must have one shape. Received: x of data with \(5,\) after \(4,\)",
        ),
        (
            lambda: batches().map(not_finite),
            "must yield samples. Received: data, which failed after 0: InvalidArgumentError",
        ),
        (
            lambda: tf.data.Dataset.from_generator(failing, output_signature=SMALL),
            "which failed after 1: OSError in line [0-9]+ of test_app_own_models.py: disk gone$",
        ),
        (lambda: (batches(), batches()), "for train, validation and test. Received: train, valid"),
        (lambda: {"train": batches(), "val": batches()}, "Received: train, val. Split one with"),
        (lambda: parts(train=batches(size=0)), r"must have batches. Received: train .*\.batch"),
        (lambda: parts(train=batches().repeat()), "Received: train, which is endless"),
        (lambda: parts(test=5), "must be of the type tf.data.Dataset. Received: int for test"),
        (
            lambda: parts(test=batches(X[:, :3])),
            r"must have one shape. Received: x of test with \(3,\) after \(4,\)",
        ),
        (lambda: parts(train=weighted(-1)), "at least 0. Received: NaN, infinity or negative ones"),
        (
            lambda: parts(train=weighted(np.nan)),
            "Received: NaN, infinity or negative ones in train",
        ),
        (lambda: parts(train=weighted([1, 1])), r"Received: \(10, 2\) in train, with 10 samples"),
        (
            lambda: parts(validation=batches(np.where(X > 7, np.nan, X))),
            "Pipelines must yield no NaN. Received: validation, with NaN in x. Fill",
        ),
        (lambda: ([X, X], Y), "must be a dict of arrays .* Received: a list of 2 arrays"),
        (lambda: (X, {"u": Y, "v": Y}), "y must be one array. Received: a dict of u, v."),
        (lambda: (X, Y[:9]), "as many samples. Received: 150 in x and 9 in y"),
        (lambda: (X, [None] * 150), "or a text for each sample. Received: object .* None"),
        (lambda: (X.astype(str), Y), "Inputs must be numbers. Received: x of <U"),
        (lambda: ([[1, 2], [3]], [0, 1]), "x must be an array of one shape"),
        (lambda: [X], "data must be a source, arrays .* Received: a list of 1 parts"),
        (
            lambda: parts(train=batches(x=X, y=np.array(["a", "b", "c"])[Y])),
            "must yield numbers. Received: train with .*string.* Turn texts into numbers first",
        ),
        (lambda: (X / 0, Y), "must be finite. Received: x with NaN or infinity in sample 0"),
        (
            lambda: ({"a": np.where(np.arange(4) == 2, np.nan, X), "b": X}, Y),
            "must be finite. Received: a with NaN or infinity in sample 0. Fill what is missing",
        ),
        (lambda: (X, Y - 1), "whole numbers from 0 on, or texts. Received: -1"),
        (lambda: (X[:0], Y[:0]), "must hold samples. Received: none"),
        (lambda: (X, 0 * Y), "none of '1'. Number the classes from 0 without gaps, at least two"),
        (lambda: (X, 7 * (Y > 1)), "none of '1'. Number the classes from 0 without gaps"),
        (lambda: (X, with_nan(Y)), "Targets must be finite numbers. Received: NaN .* in sample 5"),
        (lambda: (X, with_nan(Y > 1)), "Targets must be finite .* in sample 5"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_data_that_cannot_be_used_is_told_before_training(code, data, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        quick(net(code, "build"), data(), tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("runs/*/*"))


def test_data_that_a_function_names_stays_where_it_is(code, tmp_path):
    table = tmp_path / "table.csv"
    lines = ["a,b,kind", *(f"{x[0]},{x[1]},{'abc'[y]}" for x, y in zip(X, Y, strict=True))]
    table.write_text("\n".join(lines) + "\n")
    (tmp_path / "hornbill_path.py").write_text(f"def path():\n    return {str(table)!r}\n")
    data = f"{tmp_path}/hornbill_path.py:path"

    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    config = make_config("softmax", {"epochs": 1, "target": "kind"}, data=data)
    stop = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "runs", [stop])
    assert table.read_text().splitlines() == lines
    run = train(replace(config, data=table), tmp_path, figures=False)
    assert run.config.data == str(table)
    assert table.exists()


def test_a_search_takes_what_a_function_returns(code, tmp_path):
    settings = {"data": f"{code}/hornbill_data.py:arrays", "epochs": 1, "figures": False}
    declared = {"optimizer.learning_rate": "log:1e-3..1"}
    found = tune(make_definition("softmax", declared, {"trials": 1}, settings=settings), tmp_path)
    assert len(found.search.rows) == 1
    (folder,) = tmp_path.glob("softmax/*")
    assert found.refit.config.data == str(folder / "arrays")
    settings["data"] = f"{code}/hornbill_data.py:pipelines"
    with pytest.raises(DataError, match="splits its data itself. Received: pipelines for train"):
        tune(make_definition("softmax", declared, {"trials": 1}, settings=settings), tmp_path)


def test_images_are_read_again_at_the_size_of_the_model(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8)
    targets = np.arange(40) % 2
    arrays = {"x_train": images[:30], "y_train": targets[:30]}
    np.savez(tmp_path / "i.npz", **arrays, x_test=images[30:], y_test=targets[30:])
    inputs = keras.Input((20, 16, 1))
    x = keras.layers.Flatten()(inputs)
    own = keras.Model(inputs, keras.layers.Dense(2)(x))
    run = quick(own, str(tmp_path / "i.npz"), tmp_path, epochs=1)
    assert read_run(run.folder).config.reading.image_size == (20, 16)
    assert resume(run.folder, settings={"epochs": 2}).is_finished
    bundle = export_run(run.folder, tmp_path / "dist", options=ExportOptions(int8="never"))
    assert Predictor.load(bundle).manifest.inputs[0].shape[1:] == (20, 16, 1)


def test_vectors_of_one_length_are_samples_rather_than_batches(tmp_path):
    from app.data.own_data import write_own_data

    x = X.astype(np.float32)
    write_own_data(tf.data.Dataset.from_tensor_slices((x, x)), tmp_path)
    dataset = load_dataset(str(tmp_path), task="regression")
    assert dataset.inputs.shape == dataset.targets.shape == (150, 4)


def test_a_pipeline_of_unknown_sizes_goes_on(code, tmp_path):
    def unknown(data):
        return tf.data.Dataset.from_generator(lambda: iter(data), output_signature=GROWING)

    pipelines = {name: unknown(part) for name, part in parts().items()}
    settings = {"callbacks": net(code, "Stop"), "epochs": 3}
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        quick(net(code, "build"), pipelines, tmp_path, **settings)
    (folder,) = (tmp_path / "hornbill_net").iterdir()
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        resume(folder, data=pipelines)


def test_statistics_of_a_normalization_are_those_of_many_pixels(tmp_path):
    random = np.random.default_rng(0)
    images = np.repeat(random.integers(0, 256, (1200, 1, 1, 3), np.uint8), 96, axis=1)
    images = np.repeat(images, 96, axis=2)  # 3e7 numbers, at which a sum in float32 stalls

    def build():
        inputs = keras.Input((96, 96, 3))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Normalization()(inputs))
        return keras.Model(inputs, keras.layers.Dense(2)(x))

    with data_on_disk((images, np.arange(1200) % 2)) as found:
        model, config, dataset, splits = with_head(build, found.source)
        job = Job(save_untrained(model, config, tmp_path), dataset, splits)
        (inner,) = (layer for layer in job.model.layers if isinstance(layer, keras.Model))
        expected = images[splits.train, 0, 0].astype(float)
    np.testing.assert_allclose(np.ravel(inner.layers[1].mean), expected.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(np.ravel(inner.layers[1].variance), expected.var(axis=0), rtol=1e-4)


def test_long_sequences_and_arrays_of_many_channels_train(tmp_path):
    random = np.random.default_rng(0)
    long = keras.Sequential([keras.Input((1600, 1)), keras.layers.GlobalAveragePooling1D()])
    long.add(keras.layers.Dense(2))
    data = random.normal(size=(40, 1600, 1)), np.arange(40) % 2
    assert quick(long, data, tmp_path, epochs=1).is_finished
    deep = keras.Sequential([keras.Input((8, 8, 6)), keras.layers.Flatten(), keras.layers.Dense(2)])
    data = random.integers(0, 256, (40, 8, 8, 6), np.uint8), np.arange(40) % 2
    assert train({"epochs": 1}, tmp_path, model=deep, data=data).is_finished


def test_training_and_test_arrays_of_keras_are_splits(code, tmp_path):
    order = ORDER[:120], ORDER[120:]
    data = tuple((X[rows], Y[rows]) for rows in order)
    run = quick(net(code, "build"), data, tmp_path, epochs=1)
    assert run.data["samples"]["test"] == 30
    np.testing.assert_array_equal(
        load_dataset(run.config.data).targets[run.splits.test], Y[order[1]]
    )


def test_numbers_in_several_columns_are_values(tmp_path):
    targets = np.random.default_rng(0).integers(0, 200, (150, 2))

    def build(input_shape, outputs):
        return layers_from(keras.Input(input_shape), keras.layers.Dense(outputs))

    assert quick(build, (X, targets), tmp_path, epochs=1).data["task"] == "regression"


def test_columns_of_zeros_and_ones_of_a_table_are_labels(tmp_path):
    table = tmp_path / "table.csv"
    lines = [f"{x[0]},{int(x[1] > 3)},{int(x[2] > 3)}" for x in X]
    table.write_text("\n".join(["x,a,b", *lines]) + "\n")

    def build(input_shape, num_outputs):
        head = keras.layers.Dense(num_outputs, activation="sigmoid")
        return layers_from(keras.Input(input_shape), head)

    run = quick(build, str(table), tmp_path, epochs=1, target=["a", "b"])
    assert run.data["task"] == "multilabel"


def test_a_users_kind_of_batch_normalization_stays_as_it_is(tmp_path):
    class Frozen(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=False, mask=mask)

    keras.saving.register_keras_serializable("hornbill_tests")(Frozen)
    own = layers_from(keras.Input((4,)), Frozen(), keras.layers.Dense(3))
    run = quick(own, (X, Y), tmp_path, epochs=1)
    inner = next(layer for layer in run.load_model().layers if isinstance(layer, keras.Model))
    assert not np.asarray(inner.layers[1].moving_mean).any()


def test_losses_and_metrics_of_python_are_made_again_as_by_another_process(
    code, tmp_path, monkeypatch
):
    from app.system import user_code

    settings = {
        "loss": keras.losses.CategoricalCrossentropy(from_logits=True),
        "metrics": [keras.metrics.F1Score(average="macro")],
        "callbacks": net(code, "Stop"),
    }
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        quick(net(code, "build"), "iris", tmp_path, epochs=3, **settings)
    (folder,) = (tmp_path / "hornbill_net").iterdir()
    source = (code / "hornbill_net.py").read_text()
    try:
        (code / "hornbill_net.py").write_text(source.replace("raise ValueError", "print"))
        monkeypatch.setattr(user_code, "_PASSED", {})
        assert resume(folder).is_finished
    finally:
        (code / "hornbill_net.py").write_text(source)
    assert "f1_score" in (folder / "history.csv").read_text()


class Scaled(keras.losses.Loss):
    """A loss whose configuration lacks its factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, targets, outputs):
        return self.factor * keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)


class Focal(keras.losses.Loss):
    """A loss that Keras cannot make again, since its constructor takes no name."""

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def get_config(self):
        return {**super().get_config(), "gamma": {self.gamma}}

    def call(self, targets, outputs):
        return keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)


def test_an_object_that_cannot_be_kept_trains_and_goes_on_in_its_process(code, tmp_path):
    run = quick(net(code, "build"), "iris", tmp_path, epochs=1, loss=Focal())
    assert not (run.folder / "objects.json").exists()
    assert resume(run.folder, settings={"epochs": 2}).is_finished


def test_an_object_of_another_process_is_refused_rather_than_made_anew(code, tmp_path):
    from app.system import user_code

    settings = {"loss": Scaled(5), "callbacks": net(code, "Stop")}
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        quick(net(code, "build"), "iris", tmp_path, epochs=3, **settings)
    (folder,) = (tmp_path / "hornbill_net").iterdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_code, "_PASSED", {})
        message = "loss must be in this process, or be named by file.py:name. Received: Scaled"
        with pytest.raises(ConfigError, match=message):
            resume(folder)


def test_a_function_of_data_is_found_from_any_folder(code, tmp_path, monkeypatch):
    monkeypatch.chdir(code)
    settings = {"callbacks": net(code, "Stop"), "epochs": 3}
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        quick(net(code, "build"), "hornbill_data.py:pipelines", tmp_path, **settings)
    monkeypatch.chdir(tmp_path)
    (folder,) = (tmp_path / "hornbill_net").iterdir()
    with pytest.raises(OwnCodeError, match="Stop in epoch 2"):
        resume(folder)


def test_a_loss_of_ones_own_gets_outputs_without_the_axis_of_members(tmp_path):
    shapes = set()

    def error_of_the_first(targets, outputs):
        shapes.add((len(targets.shape), len(outputs.shape)))
        return keras.ops.square(targets[:, 0] - outputs[:, 0])

    settings = {"loss": error_of_the_first, "head": "linear", "epochs": 2, "members": 4}
    assert train(make_config("features", settings, data="diabetes"), tmp_path, figures=False)
    assert shapes == {(2, 2)}


def test_metrics_of_keras_see_probabilities_as_objects_too(code, tmp_path):
    settings = {"metrics": ["auc", keras.metrics.AUC(name="own"), "precision"], "epochs": 2}
    run = quick(net(code, "build"), "iris", tmp_path, **settings)
    with (run.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["val_own"]) == pytest.approx(float(row["val_auc"]), abs=1e-6)


def test_a_pipeline_of_other_lengths_is_told(code, tmp_path):
    lengths = iter([90, 90, 40, 40, 40, 40])

    def some():
        for place in ORDER[: next(lengths)]:
            yield X[place].astype("float32"), Y[place]

    spec = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.int64))
    train_part = tf.data.Dataset.from_generator(some, output_signature=spec).batch(10)
    message = r"as many batches in each epoch, 9 as counted before the first. Received: 4 in epoch"
    with pytest.raises(OwnCodeError, match=message):
        quick(net(code, "build"), parts(train=train_part), tmp_path, epochs=4)


def test_a_function_may_return_a_table_whose_target_is_named(tmp_path, monkeypatch):
    from app.commands.terminal import check_data

    (tmp_path / "hornbill_frames.py").write_text(
        "import pandas as pd\n\n\ndef frame():\n"
        "    return pd.DataFrame({'a': range(40), 't': ['x', 'y'] * 20})\n"
    )
    config = make_config(
        "softmax", {"target": "t", "epochs": 1}, data=f"{tmp_path}/hornbill_frames.py:frame"
    )
    check_data(config)
    assert train(config, tmp_path, figures=False).data["samples"]["train"] > 0


def test_a_generator_without_end_is_stopped(tmp_path):
    from app.data.own_data import write_own_data

    spec = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(endless, output_signature=spec)
    with pytest.raises(DataError, match="must end. Received: data, with more than 1,000 samples"):
        write_own_data(data, tmp_path, most=1000)


def test_other_data_is_refused_with_its_value(code):
    with pytest.raises(ConfigError, match=r"arrays \(x, y\) or a tf.data.Dataset. .* data=5"):
        make_config(net(code, "build"), data=5)
    with pytest.raises(ConfigError, match=r"Received: data=ndarray float64 \(150, 4\)\.$"):
        make_config(net(code, "build"), data=X)
    with pytest.raises(DataError, match="raised ZeroDivisionError in line"):
        train(model=net(code, "build"), data=f"{code}/hornbill_data.py:broken")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hubber"}, "Received: loss='hubber'. Did you mean 'huber'"),
        ({"metrics": ["acuracy"]}, "Received: metrics='acuracy'. Did you mean 'accuracy'"),
        ({"callbacks": ["Stop"]}, "must be file.py:name or module:name. Received: callbacks="),
        ({"variant": "mlp"}, "'variant' is not a setting of .* It is a setting of digits"),
    ],
)
def test_an_unknown_loss_metric_or_callback_is_told_with_its_value(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_config("net.py:build", settings, data="iris")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "broken"}, "loss must take targets .*:broken, which raised NameError in line"),
        ({"metrics": "broken"}, "metrics must take targets and outputs"),
        ({"loss": keras.losses.CategoricalCrossentropy()}, "logits. Received: .*from_logits=False"),
        ({"metrics": keras.metrics.F1Score()}, r"one number. Received: F1Score, which gives \(3,"),
        ({"callbacks": "none"}, "must name a keras.callbacks.Callback.* Received: .*NoneType"),
    ],
)
def test_code_is_tried_before_the_first_epoch(code, settings, message, tmp_path):
    given = {
        key: net(code, value) if isinstance(value, str) else value
        for key, value in settings.items()
    }
    with pytest.raises(ConfigError, match=message):
        quick(net(code, "build"), "iris", tmp_path / "runs", **given)
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize(
    ("settings", "better"),
    [
        ({"loss": "categorical_crossentropy"}, "loss=binary_crossentropy"),
        ({"loss": "SparseCategoricalCrossentropy"}, "loss=binary_crossentropy"),
        ({"metrics": ["categorical_accuracy"]}, "metrics=binary_accuracy"),
        ({"metrics": ["sparse_categorical_accuracy"]}, "metrics=binary_accuracy"),
    ],
)
def test_what_compares_several_classes_is_refused_for_a_single_output(
    code, settings, better, tmp_path
):
    data = (X[:100], Y[:100])
    with pytest.raises(ConfigError, match=f"two outputs, and the model has one. .* Use {better}"):
        quick(net(code, "sigmoid"), data, tmp_path / "runs", **settings)
    assert not list(tmp_path.glob("runs/*/*"))


def test_the_names_of_losses_and_metrics_are_those_of_keras():
    for name in KERAS_LOSSES:
        own_loss(name)
    for name in KERAS_METRICS:
        own_metric(name)


def dense(units, activation=None):
    inputs = keras.Input((4,))
    return layers_from(inputs, keras.layers.Dense(units, activation=activation))


HEADS = [
    ("softmax", 3, "softmax", "multiclass", ""),
    (None, 3, "softmax", "multiclass", "softmax"),
    ("sigmoid", 1, "two", "multiclass", ""),
    (None, 1, "two", "multiclass", "sigmoid"),
    ("sigmoid", 3, "labels", "multilabel", ""),
    (None, 3, "labels", "multilabel", "sigmoid"),
    (None, 1, "values", "regression", ""),
    ("softplus", 1, "values", "regression", ""),
]
TARGETS = {
    "softmax": Y,
    "two": (Y > 0).astype(int),
    "labels": np.stack([Y > 0, Y > 1, X[:, 0] > 6], axis=1).astype(int),
    "values": X[:, 0] + 100,
}


@pytest.mark.parametrize(("activation", "units", "targets", "task", "logits"), HEADS)
def test_the_last_activation_and_the_targets_decide_the_head(
    activation, units, targets, task, logits, tmp_path
):
    def build():
        return dense(units, activation)

    with data_on_disk((X, TARGETS[targets])) as found:
        model, config, dataset, _ = with_head(build, found.source)
        assert dataset.task == task
        output = trained_output(model, "raw_outputs", task)
        assert (output.units, output.activation) == (units, logits)
        outputs = model.predict(X.astype(np.float32), verbose=0)
        name = "values" if task == "regression" else "probabilities"
        assert outputs[name].shape == (150, len(dataset.labels))
        if task == "multiclass":
            np.testing.assert_allclose(outputs[name].sum(axis=1), 1, atol=1e-5)
        # The loss of what the model returns is that of its probabilities.
        goal = np.asarray(numeric_targets(dataset, model, units)[np.arange(150)], np.float32)
        raw = keras.Model(model.input, model.get_layer("raw_outputs").output)
        returned = raw(X.astype(np.float32))
        if task != "regression":
            loss = float(make_loss(config.training, task, output)(goal, returned))
            chosen = outputs[name].astype(np.float64)
            exact = -np.log(chosen[np.arange(150), dataset.targets]) if task == "multiclass" else 0
            if task == "multilabel":
                is_set = dataset.targets > 0
                exact = -np.log(np.where(is_set, chosen, 1 - chosen))
            assert loss == pytest.approx(float(np.mean(exact)), rel=1e-3)
        metric = make_metric(task, units, output.activation)
        metric.update_state(goal, returned)
        if task == "multiclass":
            accuracy = float((outputs[name].argmax(axis=1) == dataset.targets).mean())
            assert float(metric.result()) == pytest.approx(accuracy, abs=0.01)


def test_values_of_a_fresh_linear_model_are_learned_in_standard_units(tmp_path):
    run = quick(
        lambda input_shape, outputs: layers_from(
            keras.Input(input_shape), keras.layers.Dense(8, "relu"), keras.layers.Dense(outputs)
        ),
        (X[:, :3], 1000 + 100 * X[:, 3]),
        tmp_path,
        repeat=15,
        **{"optimizer.learning_rate": 0.05},
    )
    assert run.metrics["test"]["r2"] > 0.8


def distance(targets, outputs):
    return keras.ops.mean(keras.ops.abs(targets - outputs), axis=-1)


# What a run predicts is what its last epoch was measured with.
AS_TRAINED = {"head": "linear", "clip_values": False, "restore_best_weights": False}


def linear_net(input_shape=(3,), outputs=2):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(outputs)])


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (linear_net, {}),
        (linear_net(), {}),  # learns in the units of the targets
        ("features", {"members": 1, **AS_TRAINED}),
        ("features", {"members": 3, "loss": distance, **AS_TRAINED}),
    ],
)
def test_metrics_of_values_are_in_the_units_of_the_targets(model, settings, tmp_path):
    targets = np.stack([1000 + 100 * X[:, 3], 0.01 * X[:, 2]], axis=1)
    settings = {"metrics": ["mae", distance], **settings}
    run = quick(model, (X[:, :3], targets), tmp_path, **settings)
    last = read_history(run.folder)[-1]
    mae = pytest.approx(run.metrics["validation"]["mae"], rel=1e-3)
    assert float(last["val_mae"]) == mae
    assert float(last["val_distance"]) == mae
    assert float(last["val_r2"]) == pytest.approx(run.metrics["validation"]["r2"], rel=1e-3)
    if not isinstance(model, keras.Model):
        assert float(last["loss"]) < 100  # in standard units


def test_metrics_of_values_of_pipelines_are_in_the_units_of_the_targets(tmp_path):
    targets = (1000 + 100 * X[:, 3]).astype(np.float32)
    batches = tf.data.Dataset.from_tensor_slices((X[:, :3], targets)).batch(32)
    data = dict.fromkeys(("train", "validation", "test"), batches)
    settings = {"metrics": ["mae", distance], "optimizer.learning_rate": 1e-6}  # learns nothing
    run = quick(linear_net, data, tmp_path, **settings)
    last = read_history(run.folder)[-1]
    for name in ("mae", "val_mae", "distance", "val_distance"):
        assert float(last[name]) == pytest.approx(run.metrics["validation"]["mae"], rel=1e-3)


def test_r2_of_keras_is_exact_for_values_far_from_0(tmp_path):
    run = quick(linear_net, (X[:, :3], 1e5 + X[:, 3]), tmp_path, metrics=["r2_score"])
    for row in read_history(run.folder):
        assert float(row["val_r2_score"]) == pytest.approx(float(row["val_r2"]))


def read_history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("cells", "head"),
    [("1.5 2.25 3", "linear"), ("1,5 2 3", "linear"), ("1 2 3", "softmax"), ("a 1.5", "softmax")],
)
def test_a_column_with_decimals_is_predicted_as_values(code, cells, head, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("x;y\n" + "\n".join(f"{n};{cell}" for n, cell in enumerate(cells.split())))
    config = make_config(net(code, "build"), {"target": "y"}, data=str(table))
    assert decide_head(config, builder_of(config.family)).model.head == head


def test_texts_and_missing_values_are_encoded_in_front_of_the_model(code, tmp_path):
    random = np.random.default_rng(0)
    lines = [
        f"{'' if n % 7 == 0 else random.normal()},{random.choice(['x', 'y', 'z'])},{'ab'[n % 2]}"
        for n in range(60)
    ]
    table = tmp_path / "table.csv"
    table.write_text("number,text,kind\n" + "\n".join(lines))
    model, _, dataset, _ = with_head(net(code, "build"), str(table), target="kind")
    assert [tensor.name for tensor in model.inputs] == ["inputs", "texts"]
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    assert inner.input_shape == (None, 5)  # the number, whether it is missing, and three texts
    assert predict_samples(model, dataset, np.arange(5)).shape == (5, 2)


def test_images_reach_a_model_in_its_shape_and_the_bundle_takes_them_as_they_are():
    net_of_gray = layers_from(
        keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")
    )
    model, *_ = with_head(lambda: net_of_gray, "digits8x8")
    (tensor,) = model.inputs
    assert (tensor.name, tensor.dtype, tensor.shape) == ("image", "uint8", (None, 8, 8, 1))


def test_several_inputs_of_several_types_train(tmp_path):
    def build(num_classes):
        words = keras.Input((6,), dtype="int32", name="words")
        rows = keras.Input((4,), name="rows")
        seen = keras.layers.Flatten()(keras.layers.Embedding(9, 2)(words))
        x = keras.layers.Concatenate()([seen, rows])
        return keras.Model([words, rows], keras.layers.Dense(num_classes)(x))

    words = np.random.default_rng(0).integers(0, 9, (150, 6))
    run = quick(build, ({"rows": X, "words": words}, Y), tmp_path, precision="mixed_bfloat16")
    assert run.data["kind"] == "arrays"
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["precision"] == "mixed_bfloat16"
    bundle = export_run(run.folder, tmp_path / "dist", options=ExportOptions(int8="never"))
    specs = {spec.name: spec.dtype for spec in Predictor.load(bundle).manifest.inputs}
    assert specs == {"words": "int64", "rows": "float32"}


def test_a_file_goes_on_with_its_weights(tmp_path):
    path = tmp_path / "old.keras"
    old = dense(3, "softmax")
    old.save(path)
    model, config, *_ = with_head(path)
    expected = old.predict(X, verbose=0)
    found = model.predict(X.astype(np.float32), verbose=0)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert family_named(config.family).short_name == "old"
    assert flat_config(config)["family"] == str(path)


@pytest.mark.parametrize("name", ["a", "other", None])
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_a_dict_with_a_single_array_trains_a_model_with_a_dict_of_one_input(name, tmp_path):
    inputs = keras.Input((4,), name=name)
    net = keras.Model({"a": inputs}, keras.layers.Dense(3)(inputs))
    run = quick(net, ({"a": X}, Y), tmp_path, epochs=1)
    bundle = export_run(run.folder, tmp_path / "dist", options=ExportOptions(int8="never"))
    (spec,) = Predictor.load(bundle).manifest.inputs
    assert spec.name == "a"


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_arrays_go_to_inputs_by_the_keys_of_a_dict_not_by_the_names_of_tensors(tmp_path):
    wide, narrow = keras.Input((4,), name="b"), keras.Input((3,), name="a")
    joined = keras.layers.Concatenate()([wide, narrow])
    net = keras.Model({"a": wide, "b": narrow}, keras.layers.Dense(3)(joined))
    run = quick(net, ({"b": X[:, :3], "a": X}, Y), tmp_path, epochs=1)
    bundle = export_run(run.folder, tmp_path / "dist", options=ExportOptions(int8="never"))
    shapes = {spec.name: spec.shape[-1] for spec in Predictor.load(bundle).manifest.inputs}
    assert shapes == {"a": 4, "b": 3}


def test_a_subclassed_model_and_an_unbuilt_one_get_the_inputs_of_the_data():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, activation="softmax")

        def call(self, x):
            return self.dense(x)

    for build in (Net, lambda: keras.Sequential([keras.layers.Dense(3, activation="softmax")])):
        model, *_ = with_head(build)
        output = trained_output(model, "raw_outputs", "multiclass")
        assert (output.units, output.activation) == (3, "")


def test_a_class_of_sequential_with_a_call_of_its_own_is_trained_by_that_call():
    class Residual(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return inputs + super().call(inputs, training=training, mask=mask)

    residual = Residual([keras.Input((4,)), keras.layers.Dense(4)])
    model = Builder("own:residual", lambda: residual).build(0, {"input_shape": (4,)})
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(model(x), residual(x))


class Tokens(keras.Model):
    """Takes the ids of four tokens, and returns probabilities."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(5, 4)
        self.flat = keras.layers.Flatten()
        self.dense = keras.layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.dense(self.flat(self.embedding(x)))


def test_the_head_of_a_subclassed_model_of_tokens_or_texts_is_measured(tmp_path):
    ids = np.random.default_rng(0).integers(0, 5, (150, 4))
    with data_on_disk((ids, Y)) as found:
        model, *_ = with_head(Tokens, found.source)
    assert trained_output(model, "raw_outputs", "multiclass").activation == ""  # probabilities
    table = tmp_path / "table.csv"
    rows = [f"{x[0]},{'uv'[n % 2]},{'abc'[y]}" for n, (x, y) in enumerate(zip(X, Y, strict=True))]
    table.write_text("\n".join(["a,text,kind", *rows]) + "\n")

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model, *_ = with_head(Net, str(table), target="kind")
    assert trained_output(model, "raw_outputs", "multiclass").activation == "softmax"  # logits


@pytest.mark.parametrize("name", ["probabilities", "raw_outputs"])
def test_an_input_with_the_name_of_an_output_is_told(name, tmp_path):
    inputs = {key: keras.Input((4,), name=key) for key in (name, "b")}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    own = keras.Model(inputs, keras.layers.Dense(3)(joined))
    with pytest.raises(ConfigError, match=f"the name of an output.* Received: {name}. Rename"):
        quick(own, ({name: X, "b": X}, Y), tmp_path)


def test_a_normalization_that_reads_the_inputs_is_adapted_to_the_training_split(tmp_path):
    def build():
        return layers_from(
            keras.Input((4,)), keras.layers.Normalization(), keras.layers.Dense(3, "softmax")
        )

    model, config, dataset, splits = with_head(build)
    job = Job(save_untrained(model, config, tmp_path), dataset, splits)
    (inner,) = (layer for layer in job.model.layers if isinstance(layer, keras.Model))
    layer = next(each for each in inner.layers if isinstance(each, keras.layers.Normalization))
    mean = np.asarray(layer.mean).ravel()
    np.testing.assert_allclose(mean, dataset.inputs[splits.train].mean(axis=0), rtol=1e-4)


class Standardizing(keras.Model):
    """A subclassed model that standardizes its inputs."""

    def __init__(self, samples=None, mean=None, **settings):
        super().__init__(**settings)
        variance = None if mean is None else 4.0
        self.normalization = keras.layers.Normalization(mean=mean, variance=variance)
        if samples is not None:
            self.normalization.adapt(samples)
        self.given = mean
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(self.normalization(x))

    def get_config(self):
        return {**super().get_config(), "mean": self.given}


def standardizing(*layers):
    """Return a model that standardizes what some layers return."""
    return keras.Sequential([*layers, keras.layers.Normalization(), keras.layers.Dense(3)])


def normalizations_of(build, tmp_path):
    """Return the layers `Normalization` of a model before training, and the training split."""
    model, config, dataset, splits = with_head(build)
    job = Job(save_untrained(model, config, tmp_path), dataset, splits)
    (inner,) = (layer for layer in job.model.layers if isinstance(layer, keras.Model))
    layers = inner._flatten_layers()
    found = [each for each in layers if isinstance(each, keras.layers.Normalization)]
    return found, dataset.inputs[splits.train]


@pytest.mark.parametrize(
    "build",
    [
        standardizing,
        lambda: layers_from(keras.Input((4,)), standardizing()),
        lambda: standardizing(
            keras.Input((4,)), keras.layers.Reshape((2, 2)), keras.layers.Flatten()
        ),
        Standardizing,
        lambda: layers_from(keras.Input((4,)), Standardizing()),
    ],
    ids=["unbuilt", "nested", "behind", "subclassed", "nested subclassed"],
)
def test_a_normalization_is_adapted_wherever_it_is(build, tmp_path):
    notes = Notes()
    with observed_reading(notes):
        (layer,), train = normalizations_of(build, tmp_path)
    np.testing.assert_allclose(np.ravel(layer.mean), train.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(np.ravel(layer.variance), train.var(axis=0), rtol=1e-4)
    assert not [line for line in notes.lines if "keeps mean 0" in line]


def test_a_normalization_behind_another_is_adapted_to_what_that_returns(tmp_path):
    layers = [keras.layers.Normalization(name="first"), keras.layers.Rescaling(3, 5)]
    found, _ = normalizations_of(lambda: standardizing(*layers), tmp_path)
    (second,) = (layer for layer in found if layer.name != "first")
    np.testing.assert_allclose(np.ravel(second.mean), 5, rtol=1e-4)
    np.testing.assert_allclose(np.ravel(second.variance), 9, rtol=1e-4)


def test_what_is_constant_in_front_of_a_normalization_is_only_shifted(tmp_path):
    unused = keras.layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant(-1e4))
    (layer,), _ = normalizations_of(lambda: standardizing(unused), tmp_path)
    np.testing.assert_allclose(np.ravel(layer.variance), 1)


@pytest.mark.parametrize("is_subclassed", [False, True])
def test_a_normalization_that_was_adapted_keeps_its_statistics(is_subclassed, tmp_path):
    samples = np.array([[0.0] * 4, [200.0] * 4])

    def build():
        if is_subclassed:
            return Standardizing(samples)
        layer = keras.layers.Normalization()
        layer.adapt(samples)
        return layers_from(keras.Input((4,)), layer, keras.layers.Dense(3))

    (layer,), _ = normalizations_of(build, tmp_path)
    np.testing.assert_allclose(np.ravel(layer.mean), 100)


def test_statistics_given_to_a_subclassed_model_are_used(tmp_path):
    run = quick(lambda: Standardizing(mean=7.0), "iris", tmp_path)
    inner = own_net(run.load_model())
    x = np.float32(X[:2])
    (net,) = (layer for layer in inner._flatten_layers() if isinstance(layer, Standardizing))
    np.testing.assert_allclose(net(x), net.dense((x - 7) / 2), rtol=1e-5)


class Each(keras.layers.Layer):
    """Calls a layer inside a mapped function, where it sees no values."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.layer = keras.layers.Normalization()

    def build(self, shape):
        self.layer.build(shape)

    def call(self, x):
        return tf.function(self.layer)(x)


def test_a_normalization_that_sees_no_values_before_training_is_noted(tmp_path):
    notes = Notes()

    def build():
        return layers_from(keras.Input((4,)), Each(), keras.layers.Dense(3))

    with observed_reading(notes):
        (layer,), _ = normalizations_of(build, tmp_path)
    assert not np.any(layer.mean)
    (line,) = (line for line in notes.lines if "keeps mean 0 and variance 1" in line)
    assert layer.name in line
    assert "Call its adapt" in line


def test_a_normalization_behind_encoded_columns_is_adapted_to_them(tmp_path):
    def build(input_shape):
        normalization = keras.layers.Normalization()
        return layers_from(keras.Input(input_shape), normalization, keras.layers.Dense(2))

    table = tmp_path / "table.csv"
    lines = [f"{'' if n % 7 == 0 else n},{'xyz'[n % 3]},{'ab'[n % 2]}" for n in range(60)]
    table.write_text("number,text,kind\n" + "\n".join(lines))
    model, config, dataset, splits = with_head(build, str(table), target="kind")
    job = Job(save_untrained(model, config, tmp_path), dataset, splits)
    (inner,) = (layer for layer in job.model.layers if isinstance(layer, keras.Model))
    mean = np.asarray(inner.layers[1].mean).ravel()
    numbers = dataset.inputs[splits.train][:, 0]
    assert mean[1] == pytest.approx(np.isnan(numbers).mean())
    assert mean[2:].sum() == pytest.approx(1)  # each row has one text


def test_whole_numbers_can_be_values(code, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("x,rings\n" + "\n".join(f"{n},{n % 25 + n // 70}" for n in range(71)))
    with pytest.raises(DataError, match="leave rare classes out. To predict numbers instead of"):
        quick(net(code, "build"), str(table), tmp_path / "runs", target="rings")


@pytest.mark.parametrize(
    ("kinds", "task", "name"),
    [
        (("no", "yes"), "multiclass", "probabilities"),
        (("0", "1"), "multiclass", "probabilities"),
        (("3", "5", "8"), "regression", "values"),
    ],
)
def test_a_single_unit_is_for_two_classes_or_for_numbers(kinds, task, name, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("x,y\n" + "\n".join(f"{n},{kinds[n % len(kinds)]}" for n in range(60)))
    own = layers_from(keras.Input((1,)), keras.layers.Dense(1))
    model, _, dataset, _ = with_head(lambda: own, str(table), target="y")
    assert dataset.task == task
    assert list(model.output) == [name]


def test_a_function_of_the_inputs_that_ends_in_one_unit_is_told_how_to_predict_numbers(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("x,y\n" + "\n".join(f"{n},{n % 5}" for n in range(60)))

    def build(input_shape):
        return layers_from(keras.Input(input_shape), keras.layers.Dense(1))

    with pytest.raises(ConfigError, match="each of the 5 classes. Received: 1. .*--set head=linea"):
        quick(build, str(table), tmp_path, target="y")


def test_a_table_is_looked_for_in_the_folders_of_data(code, tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "some.csv").write_text("x;y\n1;1.5\n2;2\n3;3\n")
    monkeypatch.setenv("HORNBILL_DATA", str(tmp_path))
    config = make_config(net(code, "build"), {"target": "y"}, data="tables/some.csv")
    assert decide_head(config, builder_of(config.family)).model.head == "linear"


def test_a_compiled_model_trains_by_the_settings_and_that_is_noted(tmp_path):
    from app.data.reading_progress import observed_reading

    def build():
        net = layers_from(keras.Input((4,)), keras.layers.Dense(3))
        net.compile(keras.optimizers.SGD(1e-9), "mse")
        return net

    notes = Notes()
    with observed_reading(notes):
        run = quick(build, "iris", tmp_path, repeat=20, **{"optimizer.learning_rate": 0.05})
    assert len([line for line in notes.lines if "returns a compiled model" in line]) == 1
    assert run.metrics["test"]["accuracy"] > 0.8


def test_an_error_inside_a_graph_is_told_by_its_cause(tmp_path):
    def build():
        embedding = keras.layers.Embedding(20, 4)
        inputs = keras.Input((4,), dtype="int32")
        return layers_from(inputs, embedding, keras.layers.Flatten(), keras.layers.Dense(3))

    tokens = np.full((150, 4), 38, np.int32)
    tokens[::2] = 3
    with pytest.raises(OwnCodeError, match=r"Error: indices.* = 38 is not in \[0, 20\)\. .*error"):
        quick(build, (tokens, Y), tmp_path)


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"head": "sigmoid"}, "iris", "for labels, or two classes. Received: iris, with 3 classes"),
        ({"metrics": "auc"}, "diabetes", "Values need metrics of values.* metrics=auc, of classes"),
        ({"metrics": "accuracy"}, "diabetes", "Received: metrics=accuracy, of classes"),
        (
            {"metrics": [keras.metrics.AUC(name="loss")]},
            "iris",
            "Received: 'loss', which another one has",
        ),
        ({"class_weight": {0: 1.0, 1: 2.0}}, "iris", "Set class_weight=balanced, or give weights"),
        ({"optimizer.lr": 0.1}, "iris", "Did you mean 'optimizer.learning_rate'"),
    ],
)
def test_settings_that_do_not_suit_the_model_are_told(settings, data, message, code, tmp_path):
    with pytest.raises(ConfigError, match=message):
        quick(net(code, "build"), data, tmp_path / "runs", **settings)
    assert not list(tmp_path.glob("runs/*/*"))


def test_accuracy_is_shown_once(code, tmp_path):
    run = quick(net(code, "build"), "iris", tmp_path, metrics=["accuracy", "auc"])
    header = (run.folder / "history.csv").read_text().partition("\n")[0].split(",")
    assert [name for name in header if "acc" in name] == ["accuracy", "val_accuracy"]


def test_the_file_of_a_run_is_exported_by_itself(code, tmp_path, run, capfd):
    trained = quick(one_sigmoid, (X, Y > 0), tmp_path / "runs")
    capfd.readouterr()  # the progress of the training
    status, _, error = run(
        "export", trained.folder / "model.keras", "--name", "one", "--output", tmp_path, "--quiet"
    )
    assert (status, error) == (0, "")


def one_sigmoid():
    return layers_from(keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid"))


def test_several_processes_train_families_only(code, tmp_path):
    team = Team(shard=Shard(0, 2))
    with pytest.raises(ConfigError, match="softmax, features and digits only. Received: .*:build"):
        train({"epochs": 1}, tmp_path, team=team, model=net(code, "build"), data="iris")


def test_a_model_starts_from_one_of_another_function(code, tmp_path):
    first = quick(net(code, "softmax"), "iris", tmp_path)
    second = quick(one_dense, "iris", tmp_path, start_from=str(first.folder), epochs=1)
    assert second.is_finished
    with pytest.raises(ConfigError, match="same architecture. Received: .*whose first other layer"):
        quick(net(code, "build"), "iris", tmp_path, start_from=str(first.folder))


def hidden_then(*layers):
    return [keras.Input((4,)), keras.layers.Dense(6, activation="relu"), *layers]


def relu_net():
    return keras.Sequential([*hidden_then(), keras.layers.Dense(3)])


def dropout_net():
    dense = keras.layers.Dense(3, "linear", kernel_initializer="zeros", kernel_regularizer="l2")
    return keras.Sequential([*hidden_then(keras.layers.Dropout(0.3)), dense])


def rescaled_net():
    return keras.Sequential([*hidden_then(keras.layers.Rescaling(2.0)), keras.layers.Dense(3)])


def residual_net():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(6, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()([hidden, hidden])))


def tanh_net():
    layers = [keras.Input((4,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def test_layers_without_weights_belong_to_the_architecture(tmp_path):
    first = quick(relu_net, "iris", tmp_path)
    begun = {"start_from": str(first.folder), "epochs": 1}
    assert quick(dropout_net, "iris", tmp_path, **begun).is_finished
    for other in (rescaled_net, residual_net, tanh_net):
        with pytest.raises(ConfigError, match="same architecture. Received: .*other outputs in"):
            quick(other, "iris", tmp_path / "none", **begun)


def one_dense():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_pipelines_train_with_jax(tmp_path):
    example = Path(__file__).parent.parent / "docs" / "examples" / "train_own_data.py"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(example.parents[2])}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes longest here
    options = {"cwd": tmp_path, "env": environment, "stderr": subprocess.DEVNULL}
    assert b"accuracy" in subprocess.check_output([sys.executable, example], **options)


def test_a_copy_in_another_precision_keeps_weights_and_its_last_layer_in_float32(tmp_path):
    def build():
        return layers_from(
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        )

    model, config, dataset, splits = with_head(build)
    job = Job(save_untrained(model, config, tmp_path), dataset, splits)
    copy = job.build(Compilation("mixed_bfloat16", xla=False))
    (inner,) = (layer for layer in copy.layers if isinstance(layer, keras.Model))
    policies = [layer.dtype_policy.name for layer in inner.layers if layer.weights]
    assert policies == ["mixed_bfloat16", "mixed_bfloat16", "float32"]
    for one, other in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_that_cannot_be_copied_train_in_float32_and_say_so(tmp_path):
    from app.data.reading_progress import observed_reading

    lines = []

    class Observer:
        def begin(self, *_):
            pass

        def advance(self, *_):
            pass

        def note(self, line):
            lines.append(line)

    @keras.saving.register_keras_serializable("hornbill_tests")
    class Float32Only(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            if self.compute_dtype != "float32":
                raise ValueError("only float32")

        def call(self, x):
            return x

    def build():
        return layers_from(keras.Input((4,)), Float32Only(), keras.layers.Dense(3))

    with observed_reading(Observer()):
        run = quick(build, "iris", tmp_path, precision="mixed_bfloat16")
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["precision"] == "float32"
    assert any("Training is in float32: " in line for line in lines)


def test_activations_are_found_inside_nested_models():
    inner = dense(3, "softmax")
    inputs = keras.Input((4,))
    mean = keras.layers.Average()([inner(inputs), dense(3, "softmax")(inputs)])
    assert activation_of(mean) == "softmax"
    assert activation_of(keras.layers.Reshape((3,))(inner(inputs))) == "softmax"
    assert activation_of(keras.ops.sigmoid(inputs)) == "sigmoid"
    assert activation_of(keras.layers.Add()([mean, mean])) == "linear"


def test_losses_and_metrics_of_ones_own_apply_to_families_too(tmp_path):
    def absolute(targets, outputs):
        return keras.ops.mean(keras.ops.abs(targets - outputs), axis=-1)

    config = make_config("softmax", {"epochs": 2, "loss": absolute, "metrics": ["mae", "auc"]})
    run = train(config, tmp_path, figures=False)
    header = (run.folder / "history.csv").read_text().partition("\n")[0].split(",")
    assert {"auc", "mae"} <= set(header)


def test_a_run_of_passed_pipelines_needs_them_again(code, tmp_path):
    with pytest.raises(OwnCodeError, match="StopAtOnce"):
        quick(net(code, "build"), parts(), tmp_path, callbacks=net(code, "StopAtOnce"))
    (folder,) = (tmp_path / "hornbill_net").iterdir()
    with pytest.raises(DataError, match="pipelines that Python code has passed. .* data=…"):
        resume(folder)
    with pytest.raises(DataError, match="goes on with a dict of datasets"):
        resume(folder, data=(X, Y))
    with pytest.raises(DataError, match=r"same shape. Received: \(3,\); it began with \(4,\)"):
        resume(folder, data=parts(train=batches(X[:, :3])))


def test_the_command_line_takes_a_function_and_data_of_a_file(code, tmp_path, run):
    arguments = ["train", net(code, "build"), "--data", f"{code}/hornbill_data.py:arrays"]
    status, output, error = run(
        *arguments, "--set", "epochs=2", "--output", tmp_path / "runs", "--no-figures"
    )
    assert (status, "accuracy" in output) == (0, True)
    assert "training hornbill_net.py:build" in error
    status, _, error = run("train", net(code, "bild"), "--data", "iris")
    assert status == 2
    assert "there is no 'bild'" in error
    status, _, error = run("train", f"{code}/gone.py:build", "--data", "iris")
    assert status == 2
    assert "must be in a file that exists" in error
