"""Baselines, intervals and hints: what a model is compared with, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.config.training_config import TrainingConfig
from app.data.datasets import Dataset
from app.data.splits import Splits, split_dataset
from app.evaluation.baselines import (
    baseline_scorers,
    describe_shortfalls,
    linear_train,
    measure_lead,
    unclear_leads,
)
from app.evaluation.imbalance import describe_weighted, suggest_for_rare_class
from app.evaluation.intervals import errors_by_decile, fit_half_widths, fit_intervals
from app.evaluation.metrics import make_scorer, measure


def table(task="multiclass", samples=300, labels=("no", "yes"), share=0.5):
    """A table whose first number, and whose text, tell something about the target."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(samples, 3)).astype("float32")
    codes = random.integers(0, 3, (samples, 1)).astype("int32")
    signal = numbers[:, 0] + (codes[:, 0] == 2) + random.normal(size=samples) / 2
    numbers[::7, 1] = np.nan
    if task == "regression":
        targets = np.stack([signal, -signal], axis=1).astype("float32")[:, : len(labels)]
    elif task == "multilabel":
        targets = np.stack([signal > 0, signal > 1], axis=1).astype("float32")
    else:
        ends = np.quantile(signal, np.linspace(1 - share, 1, len(labels))[:-1])
        targets = (signal[:, np.newaxis] > ends).sum(axis=1)
    return Dataset(
        source="drawn",
        inputs=numbers,
        targets=targets,
        task=task,
        labels=labels,
        columns=("a", "b", "c"),
        codes=codes,
        string_columns=("word",),
        words=(("", "blue", "red"),),
    )


def baseline_scores(data, splits):
    """Metrics of the baselines on the test split, by name."""
    scorers = baseline_scorers(data, splits)
    return {name: scorer(np.ones(len(splits.test))) for name, scorer in scorers.items()}


def test_the_linear_model_is_trained_on_at_most_five_million_cells():
    columns = tuple(map(str, range(1000)))
    for rows, outputs, used in ((6000, 2, 5000), (4000, 2, 4000), (1500, 9, 1000)):
        data = Dataset(
            source="drawn",
            inputs=np.zeros((1, 1000), "f4"),
            targets=np.arange(rows) % outputs,
            labels=tuple(map(str, range(outputs))),
            columns=columns,
        )
        assert len(linear_train(data, np.arange(rows))) == used


def test_the_constant_predicts_how_common_each_class_is():
    data = table(share=0.2)
    splits = split_dataset(data, 0)
    found = baseline_scores(data, splits)["constant"]
    targets = data.targets[splits.test]
    assert found["accuracy"] == pytest.approx((targets == 0).mean())
    assert found["roc_auc"] == 0.5
    assert found["average_precision"] == pytest.approx((targets == 1).mean())


def test_the_linear_model_is_that_of_scikit_learn():
    data = table()
    splits = split_dataset(data, 0)
    x = np.column_stack([data.inputs, *(data.codes == n for n in range(3))])
    missing = np.isnan(x[:, 1])
    x[:, 1][missing] = np.nanmedian(x[splits.train, 1])
    x = np.column_stack([x, missing])
    numeric = [0, 1, 2, 6]
    scaler = StandardScaler().fit(x[splits.train][:, numeric])
    x[:, numeric] = scaler.transform(x[:, numeric])
    model = LogisticRegression().fit(x[splits.train], data.targets[splits.train])
    expected = measure("multiclass", data.targets[splits.test], model.predict_proba(x[splits.test]))
    assert baseline_scores(data, splits)["linear"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("values", [("y",), ("y", "z")])
def test_values_are_compared_with_their_mean_and_with_ridge_regression(values):
    data = table("regression", labels=values)
    splits = split_dataset(data, 0)
    found = baseline_scores(data, splits)
    assert -0.1 < found["constant"]["r2"] <= 0
    rows = np.nan_to_num(data.inputs)
    ridge = make_pipeline(StandardScaler(), Ridge())
    ridge.fit(rows[splits.train], data.targets[splits.train])
    without_text = ridge.score(rows[splits.test], data.targets[splits.test])
    assert 0.3 < without_text < found["linear"]["r2"] < 1


def test_labels_are_compared_too_even_if_one_is_never_set():
    data = table("multilabel", labels=("low", "high"))
    data.targets[:, 1] = 0
    found = baseline_scores(data, split_dataset(data, 0))
    assert "roc_auc" not in found["linear"]
    assert found["linear"]["exact_match"] > found["constant"]["exact_match"]


def test_images_are_compared_with_the_most_common_class_only():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 8, 8, 3)).astype("uint8")
    data = Dataset(source="drawn", inputs=images, targets=np.arange(60) % 3, labels=("a", "b", "c"))
    found = baseline_scores(data, split_dataset(data, 0))
    assert found.keys() == {"constant"}


def test_three_classes_and_numbers_alone_and_texts_alone_are_fitted():
    data = table(labels=("a", "b", "c"), share=0.6)
    whole = baseline_scores(data, split_dataset(data, 0))["linear"]["accuracy"]
    for part in ({"codes": None, "string_columns": (), "words": ()},
                 {"inputs": np.zeros((300, 0), "f4"), "columns": ()}):  # fmt: skip
        less = replace(data, **part)
        assert baseline_scores(less, split_dataset(less, 0))["linear"]["accuracy"] < whole


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"roc_auc": 0.76, "accuracy": 0.9}, ["ROC AUC 0.760 is below the linear model's 0.780"]),
        (
            {"roc_auc": 0.9, "accuracy": 0.88},
            ['accuracy 0.880 is below always answering "no", 0.882'],
        ),
        (
            {"roc_auc": 0.78, "accuracy": 0.882},
            [
                'accuracy 0.882 is no better than always answering "no", 0.882',
                "ROC AUC 0.780 is no better than the linear model's 0.780",
            ],
        ),
        (
            {"roc_auc": 0.7799999, "accuracy": 0.9},
            ["ROC AUC 0.780000 is below the linear model's 0.780000"],
        ),
        ({"roc_auc": 0.8, "accuracy": 0.9}, []),
    ],
)
def test_a_model_that_does_not_beat_a_baseline_is_told_so(scores, expected):
    data = table(share=0.2)
    baselines = {
        "constant": {"roc_auc": 0.5, "accuracy": 0.882},
        "linear": {"roc_auc": 0.78, "accuracy": 0.99},
    }
    assert describe_shortfalls(data, np.arange(300), scores, baselines) == expected


def test_nothing_is_said_of_a_perfect_model_beside_a_perfect_linear_one():
    baselines = {"constant": {"accuracy": 0.8}, "linear": {"roc_auc": 1.0, "accuracy": 1.0}}
    scores = {"roc_auc": 1.0, "accuracy": 1.0}
    assert not describe_shortfalls(table(share=0.2), np.arange(300), scores, baselines)


def test_a_difference_that_may_be_chance_is_called_so_and_another_is_not():
    data, splits = table(share=0.3, samples=3000), split_dataset(table(samples=3000), 0)
    scorers = baseline_scorers(data, splits)
    baselines = {name: scorer(np.ones(len(splits.test))) for name, scorer in scorers.items()}
    targets = data.targets[splits.test]

    def told(gained, lost):
        """What is said of a model that differs from the constant for so many samples."""
        found = np.tile([0.9, 0.1], (len(targets), 1))
        for label, count in ((1, gained), (0, lost)):
            found[np.flatnonzero(targets == label)[:count]] = [0.1, 0.9]
        model = make_scorer("multiclass", targets, found, positive=data.positive)
        scores = model(np.ones(len(targets)))
        lead = measure_lead(model, scorers, len(targets), 2)
        return describe_shortfalls(data, splits.train, scores, baselines, lead=lead)[0]

    always = f'always answering "no", {baselines["constant"]["accuracy"]:.3f}'
    line, chance = told(4, 6).split("; ")
    assert line.endswith(always)
    what, interval = chance.split("interval is ")
    assert what == "the difference may be chance, since its 95% "
    # 10 of 600 samples differ: the standard error is sqrt(10) / 600
    ends = [float(end) for end in interval.split(" to ")]
    assert ends == pytest.approx([-0.0137, 0.007], abs=0.002)
    assert told(0, 60).endswith(always)
    assert told(5, 5) == f"accuracy {always[-5:]} is no better than {always}"


def test_an_interval_that_ends_at_0_contains_it():
    """One sample of 60 is wrong that the constant gets right: more than a third of the resamples
    have no such sample, so the interval of the difference ends at 0."""
    targets = np.zeros(60, np.int64)
    targets[:20] = 1
    data, splits = table(share=0.3, samples=300), split_dataset(table(samples=300), 0)
    data = replace(data, targets=np.resize(targets, 300))
    splits = replace(splits, test=np.arange(60))
    scorers = baseline_scorers(data, splits)
    baselines = {name: scorer(np.ones(60)) for name, scorer in scorers.items()}
    found = np.tile([0.9, 0.1], (60, 1))
    found[30] = [0.1, 0.9]
    model = make_scorer("multiclass", targets, found, positive=data.positive)
    lead = measure_lead(model, scorers, 60, 2)
    assert lead("constant", "accuracy").high == 0
    line = describe_shortfalls(data, splits.train, model(np.ones(60)), baselines, lead=lead)[0]
    assert "; the difference may be chance, since its 95% interval is -0.0" in line
    assert line.endswith(" to +0.000")
    assert (
        "chance"
        not in describe_shortfalls(
            data,
            splits.train,
            baselines["constant"],
            baselines,
            lead=measure_lead(scorers["constant"], scorers, 60, 2),
        )[0]
    )


@pytest.mark.parametrize("metric", ["mae", "accuracy"])
def test_a_lead_by_the_shown_score_is_unclear_only_if_it_may_be_chance(metric):
    """Of 400 samples, a model is better for one, for some or for nearly all."""
    task = "regression" if metric == "mae" else "multiclass"
    targets = np.ones((400, 1), "float32") if task == "regression" else np.ones(400, np.int64)
    others = {"mae": np.zeros((400, 1)), "accuracy": np.tile([0.9, 0.1], (400, 1))}[metric]
    ones = {"mae": np.ones((400, 1)), "accuracy": np.tile([0.1, 0.9], (400, 1))}[metric]
    baselines = {"constant": make_scorer(task, targets, others)}
    plain = {name: scorer(np.ones(400)) for name, scorer in baselines.items()}
    for better, unclear in ((1, {"constant"}), (20, set()), (390, set())):
        model = make_scorer(task, targets, np.concatenate([ones[:better], others[better:]]))
        scores, lead = model(np.ones(400)), measure_lead(model, baselines, 400, 1)
        assert set(unclear_leads(metric, scores, plain, lead, 400)) == unclear


def test_a_chosen_threshold_may_cost_accuracy():
    data, scores = table(share=0.2), {"roc_auc": 0.7, "accuracy": 0.6}
    baselines = {"constant": {"roc_auc": 0.5, "accuracy": 0.8}}
    assert len(describe_shortfalls(data, np.arange(300), scores, baselines)) == 1
    assert describe_shortfalls(data, np.arange(300), scores, baselines, True) == []


def test_values_below_their_mean_are_told_so():
    data = table("regression", labels=("y",))
    for mean, shown in ((-0.01, "-0.200"), (-0.0004, "-0.2000")):
        found = describe_shortfalls(data, np.arange(9), {"r2": -0.2}, {"constant": {"r2": mean}})
        text = f"R² {shown} is below always answering the mean of training, {mean:.3g}"
        assert found[0].startswith(text)
    found = describe_shortfalls(data, np.arange(9), {"r2": -0.09909}, {"constant": {"r2": -1e-6}})
    assert found == ["R² -0.099 is below always answering the mean of training, 0.000"]


def test_average_precision_is_that_of_the_rarer_class():
    targets = np.array([0, 1, 1, 1, 0, 1])
    second = np.array([0.4, 0.3, 0.8, 0.9, 0.2, 0.7])
    probabilities = np.stack([1 - second, second], axis=1)
    for positive, expected in ((0, targets == 0), (1, targets == 1)):
        found = measure("multiclass", targets, probabilities, positive=positive)
        wanted = average_precision_score(expected, probabilities[:, positive])
        assert found["average_precision"] == pytest.approx(wanted)
        assert found["roc_auc"] == pytest.approx(roc_auc_score(targets, second))
        assert list(found)[:3] == ["roc_auc", "average_precision", "accuracy"]


@given(st.integers(9, 60), st.integers(0, 100))
def test_the_half_width_is_the_quantile_that_a_finite_sample_needs(samples, seed):
    drawn = np.random.default_rng(seed)
    targets = drawn.normal(size=(samples, 2)).astype("float32")
    values = drawn.normal(size=(samples, 2)).astype("float32")
    found = fit_half_widths(targets, values)
    rank = -(-(samples + 1) * 9 // 10)  # ceil(0.9 (n + 1))
    for place, width in enumerate(found):
        residuals = np.abs(targets[:, place].astype(float) - values[:, place])
        assert (residuals <= width).sum() == rank


def test_fewer_than_nine_samples_have_no_interval():
    assert fit_half_widths(np.zeros((8, 1)), np.zeros((8, 1))) is None
    assert fit_half_widths(np.zeros((9, 1)), np.ones((9, 1))) == (1.0,)


def test_intervals_cover_what_they_promise():
    """Over many splits the coverage is at least that stated, and hardly more."""
    covered = []
    for seed in range(200):
        drawn = np.random.default_rng(seed)
        errors = drawn.standard_t(3, size=(99 + 400, 1)).astype("float32")
        data = Dataset(
            source="drawn", inputs=np.zeros((499, 1), "f4"), targets=errors, task="regression",
            labels=("y",), columns=("x",),
        )  # fmt: skip
        splits = Splits(np.arange(0), np.arange(99), np.arange(99, 499))
        intervals = fit_intervals(data, splits, np.zeros((99, 1)), np.zeros((400, 1)))
        covered += intervals.measured_coverage
    assert 0.895 < np.mean(covered) < 0.91


def test_deciles_hold_all_samples_in_the_order_of_their_prediction():
    random = np.random.default_rng(0)
    values, targets = random.normal(size=105), random.normal(size=105)
    rows = errors_by_decile(targets, values)
    assert [row["samples"] for row in rows] == [11] * 5 + [10] * 5
    ends = [end for row in rows for end in (row["from"], row["to"])]
    assert ends == sorted(ends)
    mean = np.average([row["mae"] for row in rows], weights=[row["samples"] for row in rows])
    assert mean == pytest.approx(np.abs(targets - values).mean())
    assert len(errors_by_decile(targets[:4], values[:4])) == 4


def suggested(share, labels=("no", "yes"), **settings):
    data = table(share=share, samples=1000, labels=labels)
    splits = split_dataset(data, 0)
    validation = data.targets[splits.validation]
    probabilities = np.full((len(validation), len(labels)), 0.2)
    probabilities[np.arange(len(validation)), validation] += 0.2
    probabilities[:, 0] += 1 - probabilities.sum(axis=1)
    return suggest_for_rare_class(TrainingConfig(**settings), data, splits, probabilities)


def test_for_a_rare_class_weights_and_a_threshold_are_suggested():
    line = suggested(0.05)
    assert line.startswith(
        '"yes" has 5.0% of the training samples: --set class_weight=balanced gives'
    )
    assert (
        '19 times the weight of those of "no"; --set threshold=f1 predicts it from a prob' in line
    )
    assert line.endswith("an F1 of 1.000 on the validation split instead of 0.000")


def test_a_very_rare_class_is_not_said_to_have_no_samples():
    targets = np.zeros(30_000, np.int64)
    targets[:3] = 1
    data = Dataset(
        source="drawn", inputs=np.zeros((30_000, 1), "f4"), targets=targets, labels=("n", "y")
    )
    every = np.arange(30_000)
    splits, config = Splits(every, every, every), TrainingConfig(class_weight="balanced")
    hint = suggest_for_rare_class(TrainingConfig(), data, splits, np.eye(2)[targets])
    assert hint.startswith('"y" has 0.01% of the training samples: ')
    told = describe_weighted(config, data, splits, np.tile([0.9999, 0.0001], (30_000, 1)))
    assert 'that of "y" is 0.0001 on average, where 0.0001 of the test samples have it' in told


def test_what_the_settings_see_to_is_not_suggested():
    assert "threshold" not in suggested(0.05, threshold="f1")
    assert "class_weight" not in suggested(0.05, class_weight="balanced")
    assert suggested(0.05, class_weight="balanced", threshold=0.3) == ""
    assert suggested(0.12) == ""


def test_one_of_many_equal_classes_is_not_rare():
    labels = tuple(map(str, range(20)))
    assert suggested(0.95, labels=labels) == ""
    assert "threshold" not in suggested(0.08, labels=("a", "b", "c"))
    assert "class_weight" in suggested(0.08, labels=("a", "b", "c"))
