"""Importance of columns and partial dependence, for functions that are known."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from app.data.datasets import Dataset
from app.evaluation.importance import (
    Column,
    Rows,
    partial_dependence,
    permutation_importance,
    read_rows,
    source_columns,
)
from serving.row_format import RawColumn, RowFormat


def known_model(slopes, words=()):
    """A model of values: a sum of the columns times `slopes`, plus 5 where a text is the first."""
    numbers = keras.Input((len(slopes),), name="inputs")
    layer = keras.layers.Dense(1, use_bias=False)
    values = layer(numbers)
    layer.set_weights([np.float32(slopes)[:, np.newaxis]])
    if not words:
        return keras.Model(numbers, {"values": values})
    texts = keras.Input((1,), name="texts", dtype="string")
    codes = keras.layers.StringLookup(vocabulary=list(words), num_oov_indices=1)(texts)
    first = 5.0 * keras.ops.cast(keras.ops.equal(codes, 1), "float32")
    return keras.Model({"inputs": numbers, "texts": texts}, {"values": values + first})


def table(slopes, words=(), samples=400):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(samples, len(slopes))).astype("float32")
    codes = random.integers(1, 1 + len(words), (samples, 1)).astype("int32") if words else None
    values = numbers @ np.float32(slopes) + (5 * (codes[:, 0] == 1) if words else 0)
    noisy = values + random.normal(size=samples).astype("float32") / 10
    return Dataset(
        source="drawn",
        inputs=numbers,
        targets=noisy[:, np.newaxis].astype("float32"),
        task="regression",
        labels=("y",),
        columns=tuple("abcdefgh"[: len(slopes)]),
        codes=codes,
        string_columns=("word",) if words else (),
        words=(("", *words),) if words else (),
    )


@pytest.fixture(scope="module")
def mixed():
    slopes, words = (1.0, 0.0, -3.0), ("red", "blue")
    return known_model(slopes, words), table(slopes, words)


def test_columns_are_ranked_by_what_the_model_loses_without_them(mixed):
    model, data = mixed
    found = permutation_importance(model, data, np.arange(400), {"r2": 0.99})
    assert [row["name"] for row in found["columns"]] == ["c", "word", "a", "b"]
    assert (found["score"], found["samples"]) == ("r2", 400)
    by_name = {row["name"]: row for row in found["columns"]}
    assert all(row["low"] <= row["drop"] <= row["high"] for row in by_name.values())
    assert by_name["b"]["drop"] == 0  # the model does not use it
    assert by_name["a"]["low"] > 0
    # Permuting a column adds twice its share of the variance.
    variance = float(data.targets.var())
    assert by_name["c"]["drop"] == pytest.approx(
        2 * 9 * data.inputs[:, 2].var() / variance, rel=0.1
    )


def test_two_classes_are_ranked_by_roc_auc():
    data = table((1.0, 0.5))
    classes = (data.targets[:, 0] > 0).astype("int64")
    data = replace(data, targets=classes, task="multiclass", labels=("n", "y"))
    numbers = keras.Input((2,), name="inputs")
    layer = keras.layers.Dense(2, activation="softmax")
    outputs = {"probabilities": layer(numbers)}
    layer.set_weights([np.float32([[0, 1], [0, 0.5]]), np.zeros(2, "f4")])
    model = keras.Model(numbers, outputs)
    found = permutation_importance(model, data, np.arange(400), {"roc_auc": 1.0})
    before = roc_auc_score(classes, model.predict(data.inputs, verbose=0)["probabilities"][:, 1])
    rows = np.tile(data.inputs, (20, 1, 1))
    for seed, each in enumerate(rows):
        each[:, 0] = np.random.default_rng(seed).permutation(each[:, 0])
    predicted = model.predict(rows.reshape(-1, 2), verbose=0)["probabilities"][:, 1]
    drops = [before - roc_auc_score(classes, after) for after in predicted.reshape(20, -1)]
    first = next(row for row in found["columns"] if row["name"] == "a")
    assert found["score"] == "roc_auc"
    assert first["drop"] == pytest.approx(np.mean(drops), abs=0.03)
    assert first["low"] < np.mean(drops) < first["high"]


def test_a_rare_class_that_is_not_drawn_leaves_the_accuracy():
    data = table((1.0,), samples=3000)
    classes = np.zeros(3000, np.int64)
    classes[0] = 1
    data = replace(data, targets=classes, task="multiclass", labels=("n", "y"))
    numbers = keras.Input((1,), name="inputs")
    outputs = {"probabilities": keras.layers.Dense(2, activation="softmax")(numbers)}
    model = keras.Model(numbers, outputs)
    found = permutation_importance(model, data, np.arange(1, 3000), {"roc_auc": 0.5})
    assert found["score"] == "accuracy"
    assert all(np.isfinite(row["high"]) for row in found["columns"])


def test_large_values_are_ranked_as_small_ones():
    """Their squares do not fit in float32."""
    drops = []
    for scale in (1.0, 1e20):
        data = table((1.0, 0.5))
        numbers = np.float32([[1, 0], [0, 1], [1, 1], [0, 0]] * 25)
        targets = (numbers.sum(axis=1, keepdims=True) * scale).astype("float32")
        data = replace(data, inputs=numbers, targets=targets)
        model = known_model((scale, scale))
        found = permutation_importance(model, data, np.arange(100), {"r2": 1.0})
        drops.append([row["drop"] for row in found["columns"]])
    assert drops[1] == pytest.approx(drops[0], rel=1e-4)


def test_decisions_follow_the_thresholds_of_the_run():
    data = table((1.0,))
    targets = (data.inputs > 0).astype("float32")
    data = replace(data, targets=targets, task="multilabel", labels=("l",))
    numbers = keras.Input((1,), name="inputs")
    rare = 0.25 * keras.ops.cast(numbers > 0, "float32")  # no label is ever probable
    model = keras.Model(numbers, {"probabilities": rare})
    for thresholds, drop in ((None, 0), ((0.2,), 0.5)):
        scores = {"f1_macro": 0.0}
        found = permutation_importance(model, data, np.arange(400), scores, thresholds)
        assert found["columns"][0]["drop"] == pytest.approx(drop, abs=0.1)


def test_of_many_columns_those_that_matter_are_measured():
    random = np.random.default_rng(0)
    slopes = np.zeros(130)
    slopes[[5, 128]] = 1.0, 2.0
    data = table((1.0,) * 8)
    inputs = random.normal(size=(300, 130)).astype("float32")
    names = tuple(f"x{n}" for n in range(130))
    targets = (inputs @ slopes)[:, np.newaxis].astype("float32")
    data = replace(data, inputs=inputs, columns=names, targets=targets)
    found = permutation_importance(known_model(slopes), data, np.arange(300), {"r2": 1.0})
    assert (len(found["columns"]), found["column_count"]) == (100, 130)
    assert [row["name"] for row in found["columns"][:2]] == ["x128", "x5"]


def test_partial_dependence_is_the_slope_of_a_linear_function(mixed):
    model, data = mixed
    found = partial_dependence(model, data, np.arange(400), ["c", "word", "b"])
    assert [row["name"] for row in found] == ["c", "word", "b"]
    numbers, text, useless = found
    means = np.array(numbers["predictions"])[:, 0]
    np.testing.assert_allclose(np.diff(means) / np.diff(numbers["values"]), -3, rtol=1e-3)
    by_text = dict(zip(text["values"], text["predictions"], strict=True))
    assert by_text["red"][0] - by_text["blue"][0] == pytest.approx(5, abs=1e-4)
    assert np.ptp(useless["predictions"]) < 1e-5


def test_columns_of_one_source_are_exchanged_together():
    rows = Rows(np.arange(6.0).reshape(2, 3), np.array([["a"], ["b"]], object))
    other = Rows(rows.numbers[::-1], rows.texts[::-1])
    exchanged = rows.exchange(Column("when", (0, 2), (0,)), other)
    assert exchanged.numbers.tolist() == [[3, 1, 5], [0, 4, 2]]
    assert exchanged.texts.tolist() == [["b"], ["a"]]
    assert rows.numbers.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_parts_of_a_date_count_as_one_column():
    data = table((1.0, 2.0, 0.0))
    names = ("when.month", "b", "when.day")
    columns = (RawColumn("when", "date", parts=("month", "day")), RawColumn("b", "number"))
    data = replace(data, columns=names, row_format=RowFormat(columns))
    assert source_columns(data) == [Column("when", numbers=(0, 2)), Column("b", numbers=(1,))]
    model = known_model((1.0, 2.0, 0.0))
    found = permutation_importance(model, data, np.arange(400), {"r2": 1.0})
    assert [row["name"] for row in found["columns"]] == ["b", "when"]
    dependence = partial_dependence(model, data, np.arange(400), ["b", "when"])
    assert [row["name"] for row in dependence] == ["b"]


def test_rows_of_texts_alone_are_read():
    data = table((1.0,), ("red", "blue"))
    only = replace(data, inputs=np.zeros((400, 0), "f4"), columns=())
    rows = read_rows(only, np.arange(3))
    assert rows.numbers.shape == (3, 0)
    assert rows.inputs.shape == (3, 1)
