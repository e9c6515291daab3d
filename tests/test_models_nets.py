"""Replicas: each one predicts and learns as a single model would."""

import keras
import numpy as np
import pytest

from app.config import make_config
from app.data.sources import load_dataset
from app.data.splits import Splits
from app.errors import ConfigError
from app.studies.nets import (
    NONE,
    StartFrom,
    build_replicas,
    configure,
    learning_weights,
    losses,
    outputs,
    plain_config,
    predictions,
)
from app.training.fit import fit
from app.training.job import Job
from app.training.replicas import fit_replicas
from models import DigitNetConfig
from models.digits import digit_net

COUNT = 3
EVERYTHING = np.arange(150)


@pytest.fixture(scope="module")
def iris():
    return load_dataset("iris")


def of_replica(weights, number, count=COUNT):
    """The weights of one replica. Normalizations store those of all replicas in one axis."""
    shapes = [w.shape[1:] if len(w) == count else (len(w) // count,) for w in weights]
    return [
        weight.reshape(count, -1)[number].reshape(shape)
        for weight, shape in zip(weights, shapes, strict=True)
    ]


def single_model(settings, dataset):
    return Job(plain_config(settings), dataset, Splits(EVERYTHING, NONE, NONE)).model


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": []},
        {"hidden": [4], "activation": "linear"},
        {"hidden": [4, 4], "residual": True, "activation": "prelu"},
        {"hidden": [4], "normalization": "batch"},
        {"hidden": [4], "normalization": "layer"},
        {"hidden": [4], "normalization": "instance"},
        {"hidden": [4], "normalization": "group", "groups": 2},
        {"family": "softmax"},
    ],
    ids=str,
)
def test_each_replica_predicts_like_a_single_model(settings, iris):
    many = build_replicas(configure(settings, COUNT), iris, EVERYTHING)
    together = outputs(many, iris.inputs)["probabilities"]
    assert together.shape == (150, COUNT, 3)
    single = single_model(settings, iris)
    for net in range(COUNT):
        for variable, weight in zip(
            single.trainable_variables, of_replica(learning_weights(many), net), strict=True
        ):
            variable.assign(weight)
        own = outputs(single, iris.inputs)["probabilities"]
        np.testing.assert_allclose(together[:, net], own, atol=2e-6)


@pytest.mark.parametrize(
    ("data", "settings", "output"),
    [
        ("breast_cancer", {"head": "sigmoid", "hidden": [3]}, "probabilities"),
        ("diabetes", {"head": "linear", "hidden": [3]}, "values"),
    ],
)
def test_every_head_predicts_for_each_replica(data, settings, output):
    dataset = load_dataset(
        data, task={"sigmoid": "multilabel", "linear": "regression"}[settings["head"]]
    )
    nets = build_replicas(configure(settings, COUNT), dataset, np.arange(100))
    found = outputs(nets, dataset.inputs[:5])[output]
    assert found.shape == (5, COUNT, len(dataset.labels))
    assert np.isfinite(found).all()


# Adam keeps more state than momentum.
@pytest.mark.parametrize("optimizer", [pytest.param("momentum", marks=pytest.mark.slow), "adam"])
def test_each_replica_learns_like_a_single_model(optimizer, iris):
    settings = {
        "hidden": [5],
        "activation": "tanh",
        "l2": 1e-2,
        "batch_size": 150,
        "epochs": 2,
        "repeat": 5,
        "optimizer.name": optimizer,
    }
    rates = [0.01, 0.1]
    config = configure(settings, len(rates), rates)
    start = learning_weights(build_replicas(config, iris, EVERYTHING))
    together = fit_replicas(config, iris, EVERYTHING, callbacks=[StartFrom(start)])
    assert losses(together).shape == (2, len(rates))
    for net, rate in enumerate(rates):
        own_config = plain_config({**settings, "optimizer.learning_rate": rate})
        begin = StartFrom(of_replica(start, net, len(rates)))
        own = fit(own_config, iris, Splits(EVERYTHING, NONE, NONE), [begin])
        expected = outputs(own.model, iris.inputs)["probabilities"]
        np.testing.assert_allclose(predictions(together, iris)[:, net], expected, atol=1e-4)


def test_each_replica_learns_only_from_its_own_samples(iris):
    """The second replica sees two of the classes, and never predicts the third."""
    train = np.stack([np.arange(0, 150, 3), np.arange(0, 100, 2)], axis=1)
    settings = {"hidden": [], "epochs": 1, "repeat": 60, "optimizer.learning_rate": 0.1}
    predicted = predictions(fit_replicas(configure(settings, 2), iris, train), iris).argmax(axis=2)
    assert (predicted[:, 1] != 2).all()
    assert (predicted[:, 0] == iris.targets).mean() > 0.9


def test_a_single_replica_also_has_an_axis(iris):
    fitted = fit_replicas(configure({"hidden": [4], "epochs": 2}, 1), iris, EVERYTHING)
    assert losses(fitted).shape == (2, 1)
    assert predictions(fitted, iris).shape == (150, 1, 3)


def test_a_replica_that_diverges_leaves_the_others_alone(iris):
    settings = {"hidden": [8], "epochs": 1, "repeat": 20, "optimizer.name": "sgd"}
    fitted = fit_replicas(configure(settings, 2, [0.05, 1e30]), iris, EVERYTHING)
    first, second = losses(fitted)[-1]
    assert first < 0.6
    assert not np.isfinite(second)


def test_initial_weights_differ_between_replicas_and_have_the_spread_of_a_single_model(iris):
    nets = build_replicas(configure({"hidden": [200]}, COUNT), iris, EVERYTHING)
    kernels = learning_weights(nets)[0]
    assert len({kernel.tobytes() for kernel in kernels}) == COUNT
    assert kernels.std() == pytest.approx(np.sqrt(2 / 4), rel=0.1)  # Kaiming, of 4 inputs


def test_repeat_makes_longer_epochs_of_the_same_training(iris):
    def train(epochs, repeat):
        settings = {"epochs": epochs, "repeat": repeat, "optimizer.schedule": "constant"}
        config = make_config("features", settings)
        return fit(config, iris, Splits(EVERYTHING[::2], EVERYTHING[1::2], NONE))

    short, long = train(4, 1), train(2, 2)
    assert [len(fitted.history) for fitted in (short, long)] == [4, 2]
    for one, other in zip(short.model.get_weights(), long.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_linear_model_is_one_without_hidden_layers(iris):
    config = make_config("features", {"hidden": [], "epochs": 2})
    model = fit(config, iris, Splits(EVERYTHING[::2], EVERYTHING[1::2], NONE)).model
    found = model.predict(iris.inputs, verbose=0)
    normalize = keras.ops.convert_to_numpy(model.get_layer("normalize")(iris.inputs[:]))
    np.testing.assert_allclose(found["features"], normalize, atol=1e-6)
    assert len(model.trainable_variables) == 2


@pytest.mark.parametrize("normalization", ["none", "batch", "instance"])
def test_each_replica_of_a_convolutional_net_predicts_like_a_single_model(normalization):
    config = DigitNetConfig(filters=(2, 3), hidden=(4,), dropout=0.0, normalization=normalization)
    many, single = digit_net(config, replicas=COUNT), digit_net(config)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    together = outputs(many, images)["probabilities"]
    weights = learning_weights(many)
    for net in range(COUNT):
        for variable, weight in zip(single.trainable_variables, weights, strict=True):
            own = np.split(weight, COUNT, axis=-1)[net] if weight.ndim in {1, 4} else weight[net]
            variable.assign(own)
        alone = outputs(single, images)["probabilities"]
        np.testing.assert_allclose(together[:, net], alone, atol=2e-6)


def test_kernels_of_replicas_have_the_spread_of_a_single_model():
    config = DigitNetConfig(initializer="xavier_uniform", filters=(8, 64), hidden=(4,))
    single, many = (digit_net(config, replicas).get_layer("block2_conv").kernel
                    for replicas in (0, 4))  # fmt: skip
    assert np.std(many) == pytest.approx(np.std(single), rel=0.05)
    first, second, *_ = np.split(np.asarray(many), 4, axis=-1)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("changed", [{"variant": "resnet"}, {"normalization": "group"}])
def test_a_net_whose_channels_would_mix_cannot_be_replicated(changed):
    with pytest.raises(ValueError, match="can be replicated. Received: replicas=2, "):
        digit_net(DigitNetConfig(**changed), replicas=2)


@pytest.mark.parametrize("key", ["replicas", "optimizer.learning_rates"])
def test_a_run_trains_a_single_model(key):
    with pytest.raises(ConfigError, match="is not a setting of features"):
        make_config("features", {key: 2})
