"""The top of a report: what a model does, how good that is, what it gets wrong."""

import numpy as np
import pytest

from app.evaluation.mistakes import confused_pairs, error_quantiles
from app.reports.run_summary import summarize


def facts(task, labels, kind="rows", columns=("x", "y"), test=200):
    return {
        "task": task,
        "labels": list(labels),
        "kind": kind,
        "columns": list(columns),
        "string_columns": [],
        "samples": {"train": 700, "validation": 100, "test": test},
    }


def test_classes_are_told_with_their_most_frequent_mistakes():
    evaluation = {
        "baselines": {"constant": {"accuracy": 0.5}, "linear": {"accuracy": 0.75}},
        "confusions": [
            {"true": "Yes", "predicted": "No", "count": 12, "samples": 1000},
            {"true": "No", "predicted": "Yes", "count": 3, "samples": 100},
        ],
        "importance": {
            "column_count": 400,
            "columns": [{"name": n, "low": 0.1} for n in ("x", "y", "z", "u")],
        },
    }
    data, scores = facts("multiclass", ("No", "Yes")), {"accuracy": 0.9, "roc_auc": 0.95}
    found = summarize("churn.csv", ("Churn",), data, scores, evaluation)
    assert found.purpose == (
        "It sees 400 columns of churn.csv and predicts Churn, one of 2 classes: No, Yes."
    )
    assert [(bar.name, bar.text, bar.percent, bar.is_net) for bar in found.bars] == [
        ("this model", "90.0%", 90, True),
        ("linear model", "75.0%", 75, False),
        ("constant answer", "50.0%", 50, False),
    ]
    assert found.verdict == (
        "Measured on 200 samples that training has not seen; for new ones like them, from 85.1% "
        "to 93.4% are to be expected (95% interval). ROC AUC 0.950. It is better than the linear "
        "model and the constant answer."
    )
    assert found.mistakes == [
        "1.2% of “Yes” (12 of 1,000) are taken for “No”.",
        "3.0% of “No” (3 of 100) are taken for “Yes”.",
    ]
    assert found.columns == "The most important columns are x, y, z."


def test_classes_of_which_one_is_rare_are_told_by_how_they_are_ranked():
    rivals = {"constant": {"accuracy": 0.98, "roc_auc": 0.5}}
    scores = {"roc_auc": 0.9, "accuracy": 0.98, "f1_macro": 0.7}
    data = facts("multiclass", ("no", "fraud"))
    found = summarize("cards.csv", ("fraud",), data, scores, {"baselines": rivals})
    assert "ranks" in found.meaning
    assert [(bar.text, bar.percent) for bar in found.bars] == [("0.900", 90), ("0.500", 50)]
    assert found.verdict == (
        "Measured on 200 samples that training has not seen. Accuracy 98.0%, macro F1 0.700. It is "
        "better than the constant answer."
    )


@pytest.mark.parametrize(
    ("unclear", "ends"),
    [
        ((), "It is better than the linear model and the constant answer."),
        (
            ("linear",),
            "It is better than the constant answer; the difference from the linear model may be "
            "chance.",
        ),
        (
            ("linear", "constant"),
            "The difference from the linear model and the constant answer may be chance.",
        ),
    ],
)
def test_a_difference_that_may_be_chance_is_not_praised(unclear, ends):
    baselines = {"constant": {"accuracy": 0.5}, "linear": {"accuracy": 0.85}}
    evaluation = {"baselines": baselines, "unclear_leads": {key: {} for key in unclear}}
    found = summarize("x.csv", (), facts("multiclass", "ab"), {"accuracy": 0.9}, evaluation)
    assert found.verdict.endswith(ends)


def test_a_model_that_is_no_better_is_not_praised():
    baselines = {"constant": {"accuracy": 0.5}, "linear": {"accuracy": 0.9}}
    data, scores = facts("multiclass", "ab"), {"accuracy": 0.9}
    found = summarize("x.csv", (), data, scores, {"baselines": baselines})
    assert found.verdict.endswith(" By this score it is no better than the linear model.")
    told = {"baselines": baselines, "warnings": ["no"], "shortfalls": 1}
    assert "better" not in summarize("x.csv", (), data, scores, told).verdict
    # the other warnings do not say what it does not beat
    told = {"baselines": baselines, "warnings": ["no test sample has a"], "shortfalls": 0}
    assert summarize("x.csv", (), data, scores, told).verdict == found.verdict


def test_values_are_told_in_their_unit_the_lower_the_better():
    evaluation = {
        "baselines": {"constant": {"mae": 91000.0}, "linear": {"mae": 50000.0}},
        "error_quantiles": {"price": {"half": 20123.4, "nine_of_ten": 99999.9}},
        "errors_by_decile": {
            "price": [
                {"from": 1000.0, "to": 2000.0, "mae": 10.0},
                {"from": 350000.0, "to": 500001.0, "mae": 78123.4},
            ]
        },
    }
    scores = {"mae": 35212.3, "r2": 0.81}
    found = summarize("homes.csv", ("price",), facts("regression", ["price"]), scores, evaluation)
    assert found.purpose == "It sees 2 columns of homes.csv and predicts price."
    assert [bar.text for bar in found.bars] == ["35,212", "50,000", "91,000"]
    assert [round(bar.percent) for bar in found.bars] == [39, 55, 100]
    assert found.verdict == (
        "Measured on 200 samples that training has not seen. R² 0.810. It is better than the "
        "linear model and the constant answer."
    )
    assert found.mistakes == [
        "Half of the predictions of price are off by 20,123 or more, one in ten by 100,000.",
        "It errs most where it predicts 350,000 to 500,001: by 78,123 on average.",
    ]


def test_a_range_of_predictions_has_digits_that_tell_its_ends_apart():
    deciles = [
        {"from": 2005.25, "to": 2006.0, "mae": 0.5},
        {"from": 2006.0, "to": 2007.5, "mae": 1},
    ]
    evaluation = {
        "error_quantiles": {"year": {"half": 0.5, "nine_of_ten": 1.0}},
        "errors_by_decile": {"year": deciles},
    }
    found = summarize("x.csv", (), facts("regression", ["year"]), {"mae": 1.0}, evaluation)
    assert "it predicts 2,006.00 to 2,007.50: by 1 on average." in found.mistakes[1]


def test_labels_are_told_with_what_is_missed():
    classes = [
        {"name": "pets", "samples": 103, "precision": 0.0, "recall": 0.0, "f1": 0.0},
        {"name": "car", "samples": 200, "precision": 0.75, "recall": 0.9, "f1": 0.8},
        {"name": "bus", "samples": 5, "predicted": 5, "precision": 1.0, "recall": 1.0, "f1": 1.0},
        {"name": "cat", "samples": 0, "predicted": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ]
    data = facts("multilabel", ("pets", "car", "bus", "cat"), test=1)
    scores = {"exact_match": 1.0}
    found = summarize("x.csv", ("pets", "car"), data, scores, {"classes": classes})
    assert found.purpose.endswith("predicts which of 4 labels apply: pets, car, bus, cat.")
    assert found.verdict.startswith("Measured on 1 sample that training has not seen; ")
    assert found.mistakes == [
        "“pets”: 103 of 103 are missed.",
        "“car”: 20 of 200 are missed; of those predicted, 25.0% do not have it.",
    ]
    classes[0] |= {"predicted": 7}
    told = summarize("x.csv", ("pets", "car"), data, scores, {"classes": classes}).mistakes[0]
    assert told.endswith("of those predicted, 100% do not have it.")
    assert summarize("x.csv", (), data, scores, {"classes": classes[2:]}).mistakes == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"duplicates": {"test": 0}}, " that training has not seen;"),
        ({"duplicates": {"test": 12}}, ", of which training has seen 12;"),
        ({"duplicates": {"test": 0}, "is_streamed": True}, " of the test split;"),
    ],
)
def test_samples_that_training_has_seen_are_not_called_unseen(more, told):
    data = facts("multiclass", "ab") | more
    found = summarize("x.csv", (), data, {"accuracy": 0.5}, {})
    assert found.verdict.startswith(f"Measured on 200 samples{told}")


def test_arrays_have_no_columns():
    found = summarize("x.npz", (), facts("regression", ["y"], "arrays", ()), {"mae": 1.0}, {})
    assert found.purpose == "It sees a sample like those of x.npz and predicts y."


def test_many_classes_of_images_are_named_in_part_and_old_runs_have_no_mistakes():
    labels = [f"class {n}" for n in range(1234)]
    data = facts("multiclass", labels, kind="images", columns=())
    found = summarize("photos", (), data, {"accuracy": 0.25}, {})
    assert found.purpose.startswith("It sees an image like those of photos and predicts one of 1,2")
    assert found.purpose.endswith(", class 9 and 1,224 more.")
    assert (found.mistakes, found.columns, len(found.bars)) == ([], "", 1)


def test_pairs_of_confused_classes_are_counted():
    truth = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([1, 1, 0, 1, 2, 0])
    assert confused_pairs(truth, predicted, ("a", "b", "c")) == [
        {"true": "a", "predicted": "b", "count": 2, "samples": 3},
        {"true": "b", "predicted": "c", "count": 1, "samples": 2},
        {"true": "c", "predicted": "a", "count": 1, "samples": 1},
    ]
    assert confused_pairs(truth, truth, ("a", "b", "c")) == []


def test_quantiles_of_errors_are_those_of_their_size():
    truth, values = np.zeros((11, 1)), np.arange(-5.0, 6)[:, np.newaxis]
    found = error_quantiles(truth, values, ["x"])
    assert found == {"x": {"half": pytest.approx(3), "nine_of_ten": pytest.approx(5)}}
