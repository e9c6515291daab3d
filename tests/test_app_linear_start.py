"""The linear part of a table net begins as a linear model."""

from dataclasses import replace

import numpy as np
import pytest
from test_app_baselines import baseline_scores, table

from app.config.run_config import change_config, make_config
from app.data.splits import split_dataset
from app.evaluation.linear_models import fit_linear
from app.evaluation.metrics import measure
from app.evaluation.predictions import predict_samples
from app.training import linear_start
from app.training.job import Job
from models.heads import HEAD_LAYERS

TABLE_NET = {
    "scaling": "robust",
    "numeric_embedding": "piecewise",
    "normalization": "none",
    "hidden": (8,),
    "wide": True,
    "members": 2,
}


def started(dataset, settings):
    """Return the splits and an untrained net of a table whose hidden layers say nothing."""
    config = change_config(make_config("features", {}), {**TABLE_NET, **settings})
    splits = split_dataset(dataset, 0, 0.1)
    model = Job(config, dataset, splits).model
    layers = {layer.name: layer for layer in model.layers}
    head = next(layers[name] for name in HEAD_LAYERS if hasattr(layers.get(name), "kernel"))
    kernel, bias = head.get_weights()
    kernel[..., :8, :] = 0
    head.set_weights([kernel, bias])
    return splits, model


@pytest.mark.parametrize(
    ("task", "head", "labels", "members"),
    [
        ("multiclass", "softmax", ("no", "yes"), 1),
        ("multiclass", "sigmoid", ("no", "yes"), 2),
        ("multilabel", "sigmoid", ("a", "b"), 1),
        ("regression", "linear", ("up", "down"), 2),
    ],
)
def test_without_its_hidden_layers_a_new_net_predicts_as_a_linear_model(
    task, head, labels, members
):
    dataset = table(task, labels=labels)
    splits, model = started(dataset, {"head": head, "members": members})
    predictions = predict_samples(model, dataset, splits.test)
    found = measure(task, dataset.targets[splits.test], predictions, positive=dataset.positive)
    expected = baseline_scores(dataset, splits)["linear"]
    key = {"regression": "r2", "multilabel": "roc_auc", "multiclass": "accuracy"}[task]
    assert found[key] == pytest.approx(expected[key], abs=0.1)


@pytest.mark.parametrize("members", [1, 2])
def test_numbers_that_are_not_embedded_are_what_the_linear_model_reads(members):
    dataset = replace(table(), codes=None, string_columns=(), words=())
    dataset.inputs[:] = np.nan_to_num(dataset.inputs)  # else indicators are joined to them
    splits, model = started(dataset, {"numeric_embedding": "none", "members": members})
    found = measure(
        "multiclass", dataset.targets[splits.test], predict_samples(model, dataset, splits.test)
    )
    expected = baseline_scores(dataset, splits)["linear"]["accuracy"]
    assert found["accuracy"] == pytest.approx(expected, abs=0.1)


def test_a_class_without_a_sample_is_never_predicted():
    random = np.random.default_rng(1)
    rows = random.normal(size=(60, 2))
    targets = np.where(rows[:, 0] > 0, 3, 1)
    weights, biases = fit_linear("multiclass", rows, targets, 4)
    assert biases[[0, 2]].tolist() == [-np.inf, -np.inf]
    assert ((rows @ weights + biases).argmax(axis=1) == targets).mean() > 0.95
    weights, biases = fit_linear("multiclass", rows, np.full(60, 2), 3)
    assert not weights.any()
    assert biases.argmax() == 2


def test_a_label_that_all_or_no_samples_have_has_an_infinite_bias():
    random = np.random.default_rng(1)
    rows = random.normal(size=(20, 2))
    targets = np.array([[0, 1]] * 20, np.float32)
    weights, biases = fit_linear("multilabel", rows, targets, 2)
    assert not weights.any()
    assert biases.tolist() == [-np.inf, np.inf]


def test_large_data_keeps_its_random_start(monkeypatch):
    monkeypatch.setattr(linear_start, "_MAX_CELLS", 1000)
    _, model = started(table(), {})
    assert np.abs(model.get_layer("member_probabilities").get_weights()[1]).max() == 0


def test_class_weights_reach_the_linear_start():
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 1))
    targets = (rows[:, 0] + random.normal(size=400) > 2).astype(int)
    weights = np.where(targets == 1, len(targets) / targets.sum() - 1, 1.0)
    shares = []
    for sample_weights in (None, weights):
        found, bias = fit_linear("multiclass", rows, targets, 2, sample_weights)
        shares.append((rows @ found + bias).argmax(axis=1).mean())
    assert shares[0] < targets.mean() < shares[1]
