"""Nets of tables: scaling, numerical embeddings, categories, members, and what they export to."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

import models
from app.config import make_config
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.training.fit import fit
from app.training.job import Job
from models import numeric_embeddings
from models.categories import CategoryEmbedding, OneHotCategories
from models.columns import encode_columns
from models.config import ColumnsConfig
from models.features import feature_extractor
from models.numeric_embeddings import PeriodicEmbedding, PiecewiseLinearEmbedding
from models.rows import prepare_columns
from models.scaling import ClipToRange, RobustScale, ScaleColumns, SmoothClip

ROWS = models.RowsConfig(
    num_columns=2,
    nullable_columns=(0, 1),
    indicators=(1,),
    vocabularies=(("red", "blue"), ("a", "b", "c")),
)
EVERY_PART = {
    "scaling": "robust",
    "numeric_embedding": "piecewise",
    "drop_binary": True,
    "max_one_hot": 2,
    "members": 3,
    "wide": True,
    "column_scale": True,
    "normalization": "none",
    "hidden": (8, 8),
    "hidden_dropout": 0.1,
}


def applied(layer, rows):
    return ops.convert_to_numpy(layer(np.array(rows, np.float32)))


def encoded(config=None, rows=ROWS, numbers=(), texts=()):
    config = config or ColumnsConfig()
    inputs, prepared = prepare_columns(rows, config.scaling)
    model = keras.Model(inputs, encode_columns(prepared, rows, config))
    tensors = {"inputs": numbers, "texts": texts}
    return ops.convert_to_numpy(
        model({name: ops.convert_to_tensor(each) for name, each in tensors.items()})
    )


def some_rows(task="multiclass", count=60):
    """A data set with two numbers, of which some are missing, and two columns of text."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(count, 2)).astype(np.float32)
    numbers[::7, 1] = np.nan
    codes = random.integers(0, [3, 4], (count, 2)).astype(np.int32)
    kinds = (numbers[:, 0] > 0).astype(np.int64)
    values = 5 + 3 * numbers[:, :1]
    return Dataset(
        source="rows",
        inputs=numbers,
        targets={"multiclass": kinds, "regression": values}[task],
        task=task,
        labels=("no", "yes") if task == "multiclass" else ("y",),
        columns=("x0", "x1"),
        codes=codes,
        string_columns=("color", "letter"),
        words=(("", "blue", "red"), ("", "a", "b", "c")),
    )


SPLITS = Splits(np.arange(40), np.arange(40, 50), np.arange(50, 60))


def test_robust_scaling_uses_median_and_quartiles():
    layer = RobustScale()
    rows = [[-1, 0, 7], [0, 0, 7], [1, 0, 7], [2, 0, 7], [1000, 8, np.nan]]
    layer.build((None, 3))
    layer.adapt(np.array(rows, np.float32))
    # The quartiles of the first column are 0 and 2; those of the second coincide.
    expected = [[-1, 0, 0], [-0.5, 0, 0], [0, 0, 0], [0.5, 0, 0], [499.5, 2, np.nan]]
    np.testing.assert_allclose(applied(layer, rows), expected)


def test_a_column_without_values_in_the_sample_is_left_as_it_is():
    layer = RobustScale()
    layer.build((None, 1))
    layer.adapt(np.full((3, 1), np.nan, np.float32))
    np.testing.assert_array_equal(applied(layer, [[4.0]]), [[4]])


def test_smooth_clipping_keeps_the_order_and_bounds_everything():
    x = [[-3e38, -1e18, -30, -1, 0, 0.1, 1, 30, 1e18, 3e38]]
    clipped = applied(SmoothClip(), x)[0]
    assert np.abs(clipped).max() <= 3
    assert (np.diff(clipped) >= 0).all()
    np.testing.assert_allclose(clipped[5], 0.1, rtol=1e-3)


def test_a_learned_scale_begins_as_the_identity():
    np.testing.assert_array_equal(applied(ScaleColumns(), [[2, 3]]), [[2, 3]])


def test_values_are_clipped_to_limits_and_a_quarter_of_the_range_beyond_single_targets():
    layer = ClipToRange()
    np.testing.assert_array_equal(applied(layer, [[-1e30], [1e30]]), np.float32([[-1e30], [1e30]]))
    layer = ClipToRange()
    layer.build((None, 2))
    layer.adapt(np.array([[2, 0], [2, 1], [6, 1]], np.float32))
    received = applied(layer, [[1, -9], [3, 0.5], [9, 9]])
    np.testing.assert_array_equal(received, [[2, -0.25], [3, 0.5], [7, 1]])


def test_the_bins_of_a_piecewise_linear_embedding_are_quantiles():
    layer = PiecewiseLinearEmbedding(2, 1)
    layer.build((None, 2))
    layer.adapt(np.array([[0, 1], [1, 1], [2, 0], [3, np.nan], [4, 0]], np.float32))
    layer.kernel.assign(np.array([[[1.0], [10.0]], [[1.0], [10.0]]]) / numeric_embeddings._RATE)
    received = applied(layer, [[-1, 0], [0, 0], [1, 0.5], [2, 1], [3, 1], [9, 1]])
    # Half of the first bin is 0.5, and half of the second 5; the second column has a single bin.
    expected = [[0, 0], [0, 0], [0.5, 0.5], [1, 1], [6, 1], [11, 1]]
    bins = int((ops.convert_to_numpy(layer.slopes)[1] > 0).sum())
    assert bins <= 2
    np.testing.assert_allclose(received[:, 0], [row[0] for row in expected], atol=1e-6)
    assert received[0, 1] == 0
    assert (np.diff(received[1:, 1]) >= 0).all()


def test_a_column_that_is_nearly_always_zero_has_many_bins():
    layer = PiecewiseLinearEmbedding(16, 1)
    layer.build((None, 1))
    gains = np.concatenate([np.zeros(9000), np.tile(np.arange(1, 101), 10)])
    layer.adapt(gains[:, np.newaxis].astype(np.float32))
    assert (ops.convert_to_numpy(layer.slopes) > 0).sum() >= 10


def test_a_periodic_embedding_repeats_itself():
    layer = PeriodicEmbedding(3, 2)
    layer.build((None, 1))
    layer.frequencies.assign(np.full((1, 1, 3), 2 * np.pi))
    received = applied(layer, [[0.25], [1.25], [0.5]])
    np.testing.assert_allclose(received[0], received[1], atol=1e-5)
    assert np.abs(received[0] - received[2]).max() > 1e-3


def test_missing_values_and_texts_become_columns():
    numbers = [[1, np.nan], [np.nan, 3], [4, 5]]
    texts = [["blue", "c"], ["green", "a"], ["", "red"]]
    received = encoded(numbers=numbers, texts=texts)
    # Two numbers, an indicator, red, blue, a, b, c. "red" is no letter.
    expected = [[1, 0, 1, 0, 1, 0, 0, 1], [0, 3, 0, 0, 0, 1, 0, 0], [4, 5, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_allclose(received, expected)


def test_a_column_of_two_texts_can_be_one_column():
    texts = [["red", "a"], ["blue", "b"], ["green", ""]]
    numbers = np.zeros((3, 2), np.float32)
    received = encoded(ColumnsConfig(drop_binary=True), numbers=numbers, texts=texts)
    np.testing.assert_array_equal(received[:, 3:], [[-1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])


def test_columns_with_many_texts_are_embedded_and_unknown_texts_give_zeros():
    texts = [["red", "a"], ["red", "a"], ["blue", "b"], ["red", "unknown"]]
    config = ColumnsConfig(max_one_hot=2, category_dim=4)
    received = encoded(config, numbers=np.zeros((4, 2), np.float32), texts=texts)[:, 3:]
    assert received.shape == (4, 2 + 4)
    np.testing.assert_array_equal(received[0], received[1])
    assert np.abs(received[0, 2:] - received[2, 2:]).max() > 1e-3
    np.testing.assert_array_equal(received[3, 2:], 0)


def test_numbers_are_embedded_beside_themselves():
    config = ColumnsConfig(numeric_embedding="periodic", embedding_dim=3)
    received = encoded(config, numbers=[[1.0, 2.0]], texts=[["", ""]])
    assert received.shape == (1, 2 * 3 + 3 + 5)
    np.testing.assert_array_equal(received[0, 6:9], [1, 2, 0])


@pytest.mark.parametrize(
    "layer",
    [
        RobustScale(),
        SmoothClip(),
        ScaleColumns(),
        ClipToRange(),
        PiecewiseLinearEmbedding(3, 2),
        PeriodicEmbedding(3, 2, 0.3),
        OneHotCategories([[1, 2], [], [3]], True),
        CategoryEmbedding([1], 5, 2),
        models.members.SplitMembers(3),
        models.members.JoinMembers(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_saved_and_loaded(layer, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "net.keras")
    rows = np.array([[1, 2, 3], [2, 1, 0]], np.float32)
    again = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(rows)), ops.convert_to_numpy(again(rows))
    )


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        ("values", {"head": "linear", "num_outputs": 2, "clip_values": True}),
        ("probabilities", {"num_outputs": 3}),
        ("probabilities", {"head": "sigmoid", "num_outputs": 2}),
        ("probabilities", {"head": "sigmoid", "num_outputs": 2, "many_labels": True}),
    ],
)
def test_the_answer_is_the_mean_of_the_members(head, settings):
    config = models.FeatureExtractorConfig(rows=ROWS, **EVERY_PART, **settings)
    model = feature_extractor(config)
    assert model.output[head].shape == (None, config.num_outputs)
    assert model.output["features"].shape == (None, 8)
    tensors = {"inputs": [[1.0, np.nan], [0.0, 3.0]], "texts": [["blue", "a"], ["", "c"]]}
    tensors = {name: ops.convert_to_tensor(each) for name, each in tensors.items()}
    net = keras.Model(
        model.input,
        [model.get_layer(config.member_layer).output, model.get_layer(config.trained_layer).output],
    )
    each, mean = map(ops.convert_to_numpy, net(tensors))
    assert each.shape == (2, 3, config.num_outputs)
    np.testing.assert_allclose(each.mean(axis=1), mean, rtol=1e-5, atol=1e-6)
    assert each.std(axis=1).max() > 1e-3


def test_a_wide_head_reads_the_columns_themselves():
    plain = feature_extractor(models.FeatureExtractorConfig(hidden=(8,)))
    wide = feature_extractor(models.FeatureExtractorConfig(hidden=(8,), wide=True))
    assert plain.get_layer("probabilities").kernel.shape == (8, 2)
    assert wide.get_layer("probabilities").kernel.shape == (12, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scaling": "rubost"}, "scaling must be one of standard, robust.*Did you mean 'robust'"),
        ({"numeric_embedding": "x"}, "numeric_embedding must be one of none, piecewise, periodic"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1"),
        ({"num_bins": 1}, "num_bins must be at least 2"),
        ({"frequency_scale": 0.0}, "frequency_scale must be above 0"),
        ({"max_one_hot": -1}, "max_one_hot must be at least 0"),
        ({"category_dim": 0}, "category_dim must be at least 1"),
        ({"members": 0}, "members must be at least 1"),
        ({"hidden_dropout": 1.0}, "hidden_dropout must be at least 0 and below 1"),
    ],
)
def test_settings_of_columns_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        models.FeatureExtractorConfig(**settings)


@pytest.fixture(scope="module")
def nets():
    """Nets with every part, trained for a few steps: of classes, and of values."""
    brief = {"epochs": 2, "batch_size": 20, **EVERY_PART, "hidden": [8, 8]}
    heads = {"multiclass": {}, "regression": {"head": "linear", "clip_values": True}}
    return {
        task: fit(make_config("features", {**brief, **head}), some_rows(task), SPLITS)
        for task, head in heads.items()
    }


def test_members_are_trained_each_on_its_own_loss(nets):
    assert len(nets["multiclass"].history) == 2
    first, last = nets["regression"].history
    assert last["loss"] < first["loss"]
    assert {"r2", "val_r2", "val_loss"} <= first.keys()


def test_the_validation_loss_is_that_of_the_mean(nets):
    model, dataset = nets["multiclass"].model, some_rows()
    inputs = {
        k: ops.convert_to_tensor(v) for k, v in dataset.model_inputs(SPLITS.validation).items()
    }
    probabilities = ops.convert_to_numpy(model(inputs)["probabilities"])
    right = probabilities[np.arange(10), dataset.targets[SPLITS.validation]]
    loss = nets["multiclass"].history[-1]["val_loss"]
    np.testing.assert_allclose(-np.log(right).mean(), loss, rtol=1e-5)


def test_quantiles_come_from_the_training_split():
    dataset = some_rows()
    shifted = dataset.inputs.copy()
    shifted[40:] += 100
    config = make_config("features", {"scaling": "robust", "numeric_embedding": "piecewise"})
    one, other = (
        Job(config, replace(dataset, inputs=inputs), SPLITS).model
        for inputs in (dataset.inputs, shifted)
    )
    for name in ("robust_scale", "numeric_embedding"):
        weights = zip(one.get_layer(name).weights, other.get_layer(name).weights, strict=True)
        for left, right in weights:
            if not left.trainable:
                np.testing.assert_array_equal(left, right)


def test_values_stay_within_a_quarter_of_the_range_of_the_training_targets(nets):
    model, targets = nets["regression"].model, some_rows("regression").targets[SPLITS.train]
    texts = ops.convert_to_tensor([["red", "a"]] * 2)
    extreme = {"inputs": ops.convert_to_tensor([[1e9, 0.0], [-1e9, 0.0]]), "texts": texts}
    values = ops.convert_to_numpy(model(extreme)["values"])
    reach = np.ptp(targets) / 4
    assert targets.min() - reach <= values.min()
    assert values.max() <= targets.max() + reach


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_every_part_is_exported_to_standard_operators(task, nets, tmp_path):
    from export import ExportOptions, ModelFacts, export_bundle
    from serving import Predictor

    dataset = some_rows(task)
    facts = ModelFacts(labels=dataset.labels, task=task)
    samples = dataset.model_inputs(np.array([1, 2, 3, 4, 5, 6]))  # without missing values
    model = nets[task].model
    options = ExportOptions(int8="always")
    bundle = export_bundle(model, tmp_path, "rows", facts, samples, options)  # proves parity
    predicted = Predictor.load(bundle, int8="never").predict(samples)
    tensors = {name: ops.convert_to_tensor(each) for name, each in samples.items()}
    name = "values" if task == "regression" else "probabilities"
    expected = ops.convert_to_numpy(model(tensors)[name])
    np.testing.assert_allclose(getattr(predicted, name), expected, atol=1e-5)
