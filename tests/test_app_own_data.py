"""Arrays, DataFrames and pipelines of users in unusual forms: what works, and what is said."""

import io

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from rich.console import Console
from test_app_resume import Notes

from app.bundles.export_run import export_run
from app.config import make_config
from app.data.frames import data_on_disk
from app.data.reading_progress import observed_reading
from app.data.shown_progress import ReadingProgress
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.errors import ConfigError, DataError
from app.runs import train
from app.runs.train import load_run_data
from app.training.own_models import builder_of, decide_head
from export import ExportOptions
from serving import Predictor

X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
SAMPLE = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.int64))


def batches(x=X, y=Y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(32)


def batches_with(weights, rows=slice(None)):
    return tf.data.Dataset.from_tensor_slices((X[rows], Y[rows], weights[rows])).batch(32)


def pipelines(**changes):
    return {"train": batches(), "validation": batches(), "test": batches(), **changes}


def pipelines_of(y):
    return {name: batches(X, y) for name in pipelines()}


def generated(samples, signature=SAMPLE):
    return tf.data.Dataset.from_generator(samples, output_signature=signature)


def of_unknown_rank():
    types = (tf.float32, tf.int64)
    return tf.data.Dataset.from_generator(lambda: zip(X, Y, strict=True), types)


# AutoGraph would parse the whole file.
@tf.autograph.experimental.do_not_convert
def doubled_in_python(x, y):
    return tf.numpy_function(lambda v: 2 * v, [x], tf.float32), y


@tf.autograph.experimental.do_not_convert
def with_weights_by_name(x, y):
    return x, y, {"a": y}


def failing():
    yield from zip(X[:50], Y[:50], strict=True)
    raise OSError("disk gone")


def growing():
    yield from zip([*X[:8], X[0], X[0, :3]], Y[:10], strict=True)


ANY_SIZE = (tf.TensorSpec((None,), tf.float32), tf.TensorSpec((), tf.int64))
FRAME = pd.DataFrame({"number": X[:, 0], "text": ["a", "b", "c"] * 100})
RANK = "number of axes of each tensor of a dataset must be known. Received: "
W = np.ones(300, np.float32)
WEIGHTS = "Weights must be a number for each sample, at least 0. Received: "
BAD = "NaN, infinity or negative ones in "
INPUTS = "Several inputs must be a dict of tensors by the name of the model's input. Received: "
NAMED = "Several inputs must be a dict of arrays by the name of the model's input. Received: "
RAGGED = [[0]] * 299 + [[0, 1]]
OF_SAMPLES = "a model learns a class, labels or values of each sample. Received: "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (of_unknown_rank, RANK + r"data with \(float32 of any shape, int64 of any shape\)\. Give"),
        (lambda: of_unknown_rank().batch(32), RANK + "data with .* from_generator an output_sig"),
        (lambda: batches().map(doubled_in_python), RANK + r"data .*, int64 \(None,\)\)\..*set_sha"),
        (lambda: pipelines(test=of_unknown_rank()), RANK + "test with"),
        (lambda: batches((X, X)), INPUTS + "data with a tuple of 2. Make one with"),
        (lambda: pipelines(validation=batches((X, X))), INPUTS + "validation with a tuple of 2"),
        (lambda: batches({"a": {"b": X}}), "must be .*of dense tensors. Received: data with .*a: "),
        (
            lambda: pipelines(train=batches().map(with_weights_by_name)),
            r"must be \(x, y\) or \(x, y, weights\), of dense tensors. Received: train",
        ),
        (
            lambda: generated(failing),
            "Received: data, which failed in samples 0 to 255: OSError in line .*: disk gone$",
        ),
        (
            lambda: generated(failing).batch(16),
            "Received: data, which failed after 48: OSError in line .*: disk gone$",
        ),
        (
            lambda: generated(growing, ANY_SIZE).batch(8),
            r"failed after 8: \w+: Cannot batch tensors with different shapes .* shape \[3\]\.$",
        ),
        (
            lambda: pipelines(train=(X, Y)),
            r"Received: tuple for train. Make one with Dataset.from_tensor_slices.* arrays \(",
        ),
        (lambda: {"train": (X, Y), "val": (X, Y)}, r"arrays \(x, y\) for train, validation and te"),
        (lambda: ((X, Y), (X[:0], Y[:0])), "Arrays must hold samples. Received: none in test"),
        (
            lambda: ((X, Y), (X[:, :3], Y)),
            r"one shape. Received: x of test with \(3,\) after \(4,\)",
        ),
        (lambda: ((X, Y),) * 4, "Received: a tuple of 4 parts"),
        (lambda: (X, Y, W[1:]), WEIGHTS + r"\(299,\) in data, with 300 samples\.$"),
        (lambda: [{"a": X}, Y, -W], WEIGHTS + BAD + "data, with 300 samples"),
        (lambda: (X, Y, X), WEIGHTS + r"\(300, 4\) in data"),
        (lambda: (X, Y, ["1"] * 300), WEIGHTS + r"<U1 \(300,\) in data"),
        (lambda: (X, Y, [[1], [1, 2]]), WEIGHTS + "list of several shapes in data"),
        (lambda: (X, Y, 1e300 * W.astype(float)), WEIGHTS + BAD + "data"),
        (
            lambda: ((X, Y, W), (X[:9], Y[:9], 0 * W[:9]), (X, Y, W)),
            "validation samples must be above 0. Received: 0 for all 9 of",
        ),
        (lambda: (X, Y, 0 * W), "training samples must be above 0. Received: 0 for all 216 of"),
        (lambda: ((X, Y, np.nan * W), (X, Y)), WEIGHTS + BAD + "train, with 300 samples"),
        (
            lambda: {"train": (X, Y), "validation": (X, Y), "test": (X, Y, -W)},
            WEIGHTS + BAD + "test, with 300 samples",
        ),
        (lambda: {**pipelines(), "train": (X, Y, W)}, "Received: tuple for train. Make one with"),
        (lambda: batches_with(-W), WEIGHTS + BAD + "data, with 32 samples"),
        (
            lambda: batches_with(np.where(np.arange(300) < 290, W, -W)).unbatch(),
            WEIGHTS + BAD + "data, after 256 others, 44 samples",
        ),
        (lambda: pipelines(test=batches_with(-W)), WEIGHTS + BAD + "test, with 32 samples"),
        (lambda: ((X, X, X), Y), "Several inputs must be a dict of arrays"),
        (
            lambda: (FRAME, Y),
            r"DataFrame of object \(300, 2\)\. Columns of texts are encoded .*=table, .*target=",
        ),
        (lambda: ([X, X], Y, W), NAMED + "a list of 2 arrays"),
        (lambda: (([X, X], Y), ([X, X], Y)), NAMED + "a list of 2 arrays"),
        (lambda: (X, Y, {0: 1.0, 1: 2.0}), WEIGHTS + "a dict of 0, 1 in .*For weights of classes"),
        (lambda: ((X, Y, {0: 1.0}), (X, Y)), WEIGHTS + r"a dict of 0 in .* np.array\(\[1.0, 2.0"),
        (lambda: (X, (Y, Y)), "y must be one array. Received: a tuple of 2 arrays. .*columns"),
        (lambda: (X, [Y, X]), "y must be one array. Received: a list of 2 arrays"),
        (lambda: (X, (Y, Y), W), "y must be one array. Received: a tuple of 2 arrays"),
        (lambda: ((X, [Y, Y]), (X, [Y, Y])), "y must be one array. Received: a list of 2 arr"),
        (lambda: (X, RAGGED), "y must .* list of 300 samples of several shapes. Several labels"),
        (lambda: (RAGGED, Y), "x must .* of several shapes. Bring them to one length"),
        (lambda: (X, X[:, None, :]), OF_SAMPLES + r"float32 \(300, 1, 4\)\. A model with images"),
        (lambda: batches(X, X[:, None, :]), OF_SAMPLES + r".* by hornbill export FILE.keras\.$"),
        (lambda: FRAME, r"--target COLUMN\. The DataFrame has the columns number, text"),
    ],
)
def test_data_that_cannot_be_used_is_told_in_one_line(data, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        train({"epochs": 1}, tmp_path, figures=False, model=build, data=data())
    assert "\n" not in str(caught.value)
    assert "[Op:" not in str(caught.value)


def build(num_classes):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(num_classes)])


def splits_of(data):
    with data_on_disk(data) as found:
        dataset = load_dataset(found.source)
        splits = split_dataset(dataset, 0)
        parts = (splits.train, splits.validation, splits.test)
        inputs = {name: np.asarray(a[:]) for name, a in named(dataset.inputs).items()}
        return [{name: a[part] for name, a in inputs.items()} for part in parts]


def named(inputs):
    return getattr(inputs, "named", {"": inputs})


PARTS = (slice(0, 200), slice(200, 250), slice(250, 300))


@pytest.mark.parametrize("names", [None, ("train", "validation", "test")])
@pytest.mark.parametrize("key", ["", "a"])
def test_arrays_may_have_validation_samples_of_their_own(names, key):
    data = tuple(({key: X[rows]} if key else X[rows], Y[rows]) for rows in PARTS)
    found = splits_of(data if names is None else dict(zip(names, data, strict=True)))
    for part, rows in zip(found, PARTS, strict=True):
        np.testing.assert_array_equal(part[key], X[rows])


def test_a_dict_of_arrays_for_training_and_test_is_split_for_validation():
    train_part, validation, test = splits_of(
        {"test": (X[250:], Y[250:]), "train": (X[:250], Y[:250])}
    )
    np.testing.assert_array_equal(test[""], X[250:])
    assert (len(train_part[""]), len(validation[""])) == (225, 25)


def logits(units):
    return lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])


@pytest.mark.parametrize("data", [lambda y: (X, y), lambda y: batches(X, y), pipelines_of])
@pytest.mark.parametrize(
    ("model", "targets", "settings", "head", "is_noted"),
    [
        (build, np.float32(Y), {}, "linear", True),
        (build, np.float32(Y), {"loss": "mae"}, "linear", True),
        (build, np.float32(Y), {"head": "linear"}, "linear", False),
        (build, np.float32(Y), {"head": "softmax"}, "softmax", False),
        (build, np.float32(Y), {"loss": "categorical_crossentropy"}, "softmax", False),
        (build, np.float32(Y), {"loss": "cross_entropy"}, "softmax", False),
        (logits(3), np.float32(Y), {}, "softmax", False),
        (logits(1), np.float32(Y), {}, "linear", False),
        (build, Y, {}, "softmax", False),
        (build, np.float32(Y > 0), {}, "softmax", False),
        (build, X[:, 0], {}, "linear", False),
        (build, np.arange(300.0), {}, "linear", False),
    ],
)
def test_whole_numbers_as_floats_are_classes_if_the_model_says_so_and_values_with_a_note(
    data, model, targets, settings, head, is_noted
):
    notes = Notes()
    with data_on_disk(data(targets)) as found, observed_reading(notes):
        config = make_config(model, settings, data=found.source)
        assert decide_head(config, builder_of(config.family)).model.head == head
    assert [line.startswith("y holds a few whole numbers, but as") for line in notes.lines] == (
        [True] * is_noted
    )


SHARES = np.float32([0.7, 0.2, 0.1]) * np.ones((300, 1), np.float32)
MIXED = np.where(np.arange(300)[:, np.newaxis] < 150, SHARES, np.eye(3, dtype=np.float32)[Y])


@pytest.mark.parametrize(
    ("model", "targets", "settings", "head", "is_noted"),
    [
        (build, SHARES, {}, "softmax", False),  # it asks for the number of classes
        (logits(3), SHARES, {}, "linear", True),
        (logits(3), SHARES, {"loss": "categorical_crossentropy"}, "softmax", False),
        (logits(3), SHARES, {"head": "softmax"}, "softmax", False),
        (logits(3), MIXED, {}, "softmax", False),
        (logits(3), 2 * SHARES, {}, "linear", False),
    ],
)
def test_rows_that_sum_to_1_are_classes_if_something_says_so_and_values_with_a_note(
    model, targets, settings, head, is_noted
):
    notes = Notes()
    with data_on_disk((X, targets)) as found, observed_reading(notes):
        config = make_config(model, settings, data=found.source)
        assert decide_head(config, builder_of(config.family)).model.head == head
    assert [line.startswith("The rows of y sum to 1, and are") for line in notes.lines] == (
        [True] * is_noted
    )


def blended(x, y):
    return x, 0.7 * y + 0.3 * y[::-1]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("units", [1, 2])
def test_probabilities_of_classes_are_learned_as_such(is_streamed, units, tmp_path):
    y = np.float32([[0.1, 0.9], [0.6, 0.4]] * 150)  # 0.65 on average; as classes, it would be 0.5
    data = {**pipelines_of(np.eye(2)[[0, 1] * 150]), "train": batches(X, y)}
    settings = {"epochs": 20, "optimizer.learning_rate": 0.05, "head": "softmax"}
    given = data if is_streamed else (X, y)
    run = train(settings, tmp_path, figures=False, model=logits(units), data=given)
    assert any("probabilities of classes" in note for note in run.data["notes"])
    found = keras.models.load_model(run.folder / "model.keras").predict(X, verbose=0)
    found = found["probabilities"] if isinstance(found, dict) else found
    assert float(np.mean(found[:, -1])) == pytest.approx(0.65, abs=0.05)


def test_a_pipeline_that_mixes_classes_trains_on_classes(tmp_path):
    one_hot = np.eye(3, dtype=np.float32)[Y]
    data = {**pipelines_of(one_hot), "train": batches(X, one_hot).map(blended)}
    run = train({"epochs": 1}, tmp_path, figures=False, model=logits(3), data=data)
    assert run.data["task"] == "multiclass"
    assert run.data["counts"]["test"] == {str(n): int((n == Y).sum()) for n in range(3)}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("batch_size", 8, r"whose batches are those of its \.batch\(…\)\."),
        ("repeat", 3, r"whose passes in an epoch are those of its \.repeat\(…\)\."),
        ("validation_split", 0.3, "which has validation samples"),
        ("class_weight", "balanced", "whose elements may be"),
    ],
)
def test_settings_that_pipelines_cannot_follow_are_refused(key, value, reason, tmp_path):
    message = f"{key} does not apply to a pipeline, {reason}.* Received: {key}={value}.$"
    with pytest.raises(ConfigError, match=message):
        train({key: value}, tmp_path / "runs", model=build, data=pipelines())
    assert not list(tmp_path.glob("runs/*/*"))


@tf.autograph.experimental.do_not_convert
def weighted(x, y):
    return x, y, tf.cast(y + 1, tf.float32)


def mean_of_batch(targets, outputs):
    return keras.ops.mean(keras.ops.square(targets - outputs))


class MeanOfBatch(keras.losses.Loss):
    """A loss whose mean over the batch hides its samples from weights."""

    def call(self, targets, outputs):
        return mean_of_batch(targets, outputs)


class MeanOfColumns(keras.losses.Loss):
    """A loss with a mean over the batch for each column."""

    def call(self, targets, outputs):
        return keras.ops.mean(keras.ops.square(targets - outputs), axis=0)


def mean_of_samples(targets, outputs):
    return keras.ops.mean(keras.ops.square(targets - outputs), axis=-1)


BALANCED = {"class_weight": "balanced"}


@pytest.mark.parametrize(
    ("loss", "data", "settings", "received"),
    [
        (mean_of_batch, (X, Y), BALANCED, "mean_of_batch, which gives one number for 2 samples"),
        (MeanOfBatch(), (X, Y), BALANCED, "MeanOfBatch, which gives one number for 2 samples"),
        ("dice", (X, Y), BALANCED, "dice, which gives one number for 2 samples"),
        (mean_of_batch, {}, {}, "mean_of_batch, which gives one number for 2 samples"),
    ],
    ids=["function", "class", "of Keras", "pipeline"],
)
def test_weights_with_a_loss_that_gives_no_value_for_each_sample_are_refused(
    loss, data, settings, received, tmp_path
):
    data = data or pipelines(train=batches().map(weighted))
    message = f"need a loss that gives a value for each sample. Received: loss=.*{received}. Return"
    with pytest.raises(ConfigError, match=message) as caught:
        train({"loss": loss, **settings}, tmp_path / "runs", model=build, data=data)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_mean_for_each_of_two_columns_is_none_for_each_of_two_samples(tmp_path):
    data, message = (X, Y > 0), r"which gives the shape \(2,\) for 3 samples"
    settings = {"loss": MeanOfColumns(), **BALANCED}
    with pytest.raises(ConfigError, match=message):
        train(settings, tmp_path / "runs", model=build, data=data)


@pytest.mark.parametrize(
    ("loss", "settings"), [(mean_of_batch, {}), (mean_of_samples, BALANCED)], ids=["mean", "each"]
)
def test_a_mean_of_the_batch_is_a_loss_without_weights_and_one_of_each_sample_with_them(
    loss, settings, tmp_path
):
    given = {"loss": loss, "epochs": 1, **settings}
    assert train(given, tmp_path, figures=False, model=build, data=(X, Y)).is_finished


def test_settings_with_their_defaults_are_taken_beside_pipelines(tmp_path):
    settings = {"batch_size": 64, "repeat": 1, "class_weight": "none", "epochs": 1}
    assert train(settings, tmp_path, figures=False, model=build, data=pipelines()).is_finished


@pytest.mark.parametrize("size", [0, 16])
def test_the_samples_of_a_pipeline_of_unknown_length_are_counted_while_it_is_read(size, tmp_path):
    def many():
        yield from zip(np.repeat(X, 3, axis=0), np.repeat(Y, 3), strict=True)

    data = generated(many).batch(size) if size else generated(many)
    for is_terminal in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=is_terminal, width=100)
        progress = ReadingProgress(console, patience_s=0, log_every_s=0)
        with progress, observed_reading(progress), data_on_disk(data):
            pass
        seen = file.getvalue()
        assert " so far" in seen if is_terminal else "reading 768 samples so far, " in seen
        assert "samples/s" in seen
        assert "left" not in seen


def test_batches_of_a_pipeline_of_known_length_are_counted_with_the_time_left():
    file = io.StringIO()
    progress = ReadingProgress(Console(file=file, width=100), patience_s=0, log_every_s=0)
    with progress, observed_reading(progress), data_on_disk(batches()):
        pass
    assert "reading 9 of 10 batches, " in file.getvalue()


OF_X = np.exp(X[:, 2])  # weights by which a row is known
WEIGHTED = {
    "arrays": lambda: (X, Y, OF_X),
    "a column, as a list": lambda: [{"a": X}, Y, OF_X[:, np.newaxis].tolist()],
    "training and test": lambda: ((X[:200], Y[:200], OF_X[:200]), (X[200:], Y[200:])),
    "a dict": lambda: {
        "test": (X[250:], Y[250:]),
        "train": (X[:200], Y[:200], OF_X[:200]),
        "validation": (X[200:250], Y[200:250], OF_X[200:250]),
    },
    "a dict with weights of validation only": lambda: {
        "train": (X[:200], Y[:200]),
        "validation": (X[200:250], Y[200:250], OF_X[200:250]),
        "test": (X[250:], Y[250:]),
    },
    "a dataset": lambda: batches_with(OF_X),
    "a dataset without batches": lambda: batches_with(OF_X).unbatch(),
    "pipelines": lambda: {
        "train": batches_with(OF_X, slice(200)),
        "validation": batches_with(OF_X, slice(200, 250)),
        "test": batches_with(OF_X, slice(250, 300)),
    },
}


@pytest.mark.parametrize("form", WEIGHTED)
def test_weights_follow_their_samples_through_splitting_and_batches_into_both_losses(
    form, tmp_path
):
    # So small a rate leaves the weights of the model as they were.
    settings = {"epochs": 1, "optimizer.learning_rate": 1e-20, "loss": "categorical_crossentropy"}
    if form != "pipelines":
        settings["batch_size"] = 64
    run = train(settings, tmp_path, figures=False, model=build, data=WEIGHTED[form]())
    assert any("samples have weights, which count in the losses" in n for n in run.data["notes"])
    model = keras.models.load_model(run.folder / "model.keras")
    dataset = load_run_data(run.config)
    rows = np.asarray(next(iter(named(dataset.inputs).values())))
    expected = {}
    for split in ("train", "validation"):
        indices = getattr(run.splits, split)
        found = model.predict(dataset.model_inputs(indices), verbose=0)["probabilities"]
        losses = -np.log(found[np.arange(len(indices)), dataset.targets[indices]])
        is_weighted = not (split == "train" and form == "a dict with weights of validation only")
        weights = np.exp(rows[indices, 2]) if is_weighted else 1
        expected[split] = np.mean(weights * losses)
    (epoch,) = pd.read_csv(run.folder / "history.csv").to_dict("records")
    assert epoch["loss"] == pytest.approx(expected["train"], rel=1e-4)
    assert epoch["val_loss"] == pytest.approx(expected["validation"], rel=1e-4)


def test_weights_give_the_gradients_of_fit(tmp_path):
    """One step on all training samples ends where that of `keras.Model.fit` does."""
    settings = {"epochs": 1, "optimizer.name": "sgd", "optimizer.learning_rate": 0.5}
    settings |= {"batch_size": 200, "optimizer.schedule": "constant", "head": "linear"}
    settings |= {"loss": "mean_squared_error", "precision": "float32"}
    data = {
        "train": (X[:200], X[:200, :1], OF_X[:200]),
        "validation": (X[200:250], X[200:250, :1]),
        "test": (X[250:], X[250:, :1]),
    }
    run = train(settings, tmp_path, figures=False, model=zeros, data=data)
    model = zeros()
    model.compile(keras.optimizers.SGD(0.5), "mean_squared_error")
    model.fit(X[:200], X[:200, :1], 200, sample_weight=OF_X[:200], verbose=0)
    found = keras.models.load_model(run.folder / "model.keras").predict(X, verbose=0)
    values = found["values"] if isinstance(found, dict) else found
    np.testing.assert_allclose(values, model.predict(X, verbose=0), rtol=1e-4, atol=1e-5)


def zeros():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="zeros")])


@pytest.mark.parametrize("family", ["features", build])
def test_samples_of_weight_0_are_not_learned_from(family, tmp_path):
    """The classes of most samples are wrong, but these count nothing."""
    x, is_wrong = np.tile(X, (4, 1)), np.arange(1200) % 4 > 0
    y = np.tile((X[:, 0] > 0).astype(int), 4)
    data = (x, np.where(is_wrong, 1 - y, y), np.where(is_wrong, 0.0, 1.0))
    settings = {"epochs": 20, "optimizer.learning_rate": 0.02}
    run = train(settings, tmp_path, figures=False, model=family, data=data)
    found = keras.models.load_model(run.folder / "model.keras").predict(x, verbose=0)
    assert np.mean(found["probabilities"].argmax(axis=1) == y) > 0.9


@pytest.mark.parametrize(("data", "count"), [((X, Y, W), 1), (batches_with(W), 1), ((X, Y), 0)])
def test_it_is_told_once_where_weights_count(data, count):
    notes = Notes()
    with observed_reading(notes), data_on_disk(data):
        pass
    assert [line.startswith("samples have weights") for line in notes.lines] == [True] * count


def test_an_autoencoder_with_a_sigmoid_is_told_how_to_learn_values(tmp_path):
    def autoencoder():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, activation="sigmoid")])

    data = (X, keras.ops.convert_to_numpy(keras.ops.sigmoid(X)))
    with pytest.raises(DataError, match=r"of 0 and 1\. Received: .* use head=linear\.$"):
        train({"epochs": 1}, tmp_path, figures=False, model=autoencoder, data=data)
    run = train(
        {"epochs": 1, "head": "linear"}, tmp_path, figures=False, model=autoencoder, data=data
    )
    assert run.config.model.head == "linear"


def named_classes(dataset, names=("ant", "bee", "cat")):
    dataset.class_names = list(names)
    return dataset


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (lambda: named_classes(batches()), ("ant", "bee", "cat")),
        (lambda: named_classes(batches(y=np.eye(3, dtype=np.float32)[Y])), ("ant", "bee", "cat")),
        (lambda: named_classes(batches(y=np.float32(Y[:, None] > 0)), "ab"), ("a", "b")),
        (lambda: named_classes(batches(), "abcd"), ("0", "1", "2")),
        (lambda: pipelines(train=named_classes(batches())), ("ant", "bee", "cat")),
        (lambda: pipelines(test=named_classes(batches())), ("0", "1", "2")),
        (lambda: named_classes(batches(y=np.array(["u", "v", "w"])[Y])), ("u", "v", "w")),
    ],
)
def test_classes_get_the_names_that_keras_keeps_beside_a_dataset(data, labels):
    with data_on_disk(data()) as found:
        assert load_dataset(found.source).labels == labels


def test_a_pipeline_with_names_of_classes_trains_and_reports_them(tmp_path):
    data = pipelines(train=named_classes(batches()))
    run = train({"epochs": 1}, tmp_path, figures=False, model=build, data=data)
    assert list(run.data["labels"]) == ["ant", "bee", "cat"]


def test_class_weights_beside_those_of_samples_are_refused(tmp_path):
    message = r"no class weights, as in keras.Model.fit. Received: class_weight=balanced and data"
    with pytest.raises(ConfigError, match=message):
        train(BALANCED, tmp_path / "runs", model=build, data=(X, Y, W))
    assert not list(tmp_path.glob("runs/*/*"))


def test_weights_with_arrays_need_a_loss_that_gives_a_value_for_each_sample(tmp_path):
    with pytest.raises(ConfigError, match="Weights of samples or classes need a loss"):
        train({"loss": mean_of_batch}, tmp_path, model=build, data=(X, Y, W))


def test_probabilities_are_corrected_on_samples_that_count_alike(tmp_path):
    """Weights of a class shift the probabilities of a run, and an export puts them right."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3000, 4)).astype(np.float32)
    y = (random.random(3000) < 1 / (1 + np.exp(2 - x[:, 0]))).astype(int)
    settings = {"epochs": 10, "optimizer.learning_rate": 0.05}
    data = (x, y, np.where(y, 6.0, 1.0))
    run = train(settings, tmp_path / "runs", figures=False, model=build, data=data)
    raw = keras.models.load_model(run.folder / "model.keras").predict(x, verbose=0)
    assert raw["probabilities"][:, 1].mean() > y.mean() + 0.2
    bundle = export_run(run.folder, tmp_path, "weighted", ExportOptions(int8="never"))
    assert "its samples had weights, which count in its loss" in (bundle / "README.md").read_text()
    mended = Predictor.load(bundle).predict(x).probabilities
    assert mended[:, 1].mean() == pytest.approx(y.mean(), abs=0.03)
