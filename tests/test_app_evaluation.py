"""What a run says of its model beyond scores, and what of it reaches the bundle."""

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import BUNDLES

from app.bundles.export_run import export_run
from app.config import make_config
from app.config.run_facts import read_evaluation
from app.config.training_config import TrainingConfig
from app.data.datasets import Dataset
from app.data.splits import Splits
from app.errors import ConfigError
from app.evaluation.metrics import measure
from app.reports.class_lines import UNDEFINED, describe_values
from app.reports.classification_figures import draw_confusion_matrix
from app.reports.plotting import style
from app.runs import train
from app.runs.evaluation import Predictions, evaluate
from app.runs.train import load_run_data
from export import ExportOptions
from serving import Predictor, verify_bundle
from serving.written_numbers import write_score

OPTIONS = ExportOptions(int8="never")
FAST = {"epochs": 3, "hidden": [8], "batch_size": 16, "members": 1}


def classify(folder):
    """Train and export a model of two classes with a threshold; return its run and its bundle."""
    table = str(shutil.copy(BUNDLES / "raw.csv", folder))
    settings = FAST | {"target": "kind", "threshold": "recall=0.9"}
    run = train(make_config("features", settings, data=table), folder / "runs")
    return run, export_run(run.folder, folder / "dist", options=OPTIONS)


def regress(folder):
    """Train and export a model of two values; return its run and its bundle."""
    random, table = np.random.default_rng(0), folder / "table.csv"
    rows = random.normal(size=(300, 2))
    lines = [
        f"{x:.3f},{z:.3f},{random.choice(['red', 'blue'])},{x + z + e:.3f},{x - z + e:.3f}"
        for (x, z), e in zip(rows, random.normal(size=300) / 3, strict=True)
    ]
    table.write_text("\n".join(["x,z,color,sum,difference", *lines]))
    learned = {"repeat": 5, "optimizer.learning_rate": 0.02, "validation_split": 0.4}
    settings = FAST | learned | {"target": ["sum", "difference"], "head": "linear"}
    run = train(make_config("features", settings, data=str(table)), folder / "runs")
    return run, export_run(run.folder, folder / "dist", options=OPTIONS)


@pytest.fixture(scope="module")
def classes(once):
    return once("evaluated-classes", classify)


@pytest.fixture(scope="module")
def values(once):
    return once("evaluated-values", regress)


def test_a_run_of_several_values_tells_the_scores_of_each(values, run):
    trained, _ = values
    found = read_evaluation(trained.folder)["values"]
    assert list(found) == ["sum", "difference"]
    for name, score in trained.metrics["test"].items():
        assert np.mean([scores[name] for scores in found.values()]) == pytest.approx(score)
    status, output, _ = run("train", "--resume", trained.folder)
    assert status == 0
    lines = [line for line in output.splitlines() if line.startswith("each:")]
    assert lines == [
        f'each:   "{label}" mean absolute error {write_score("mae", scores["mae"])}, '
        f"R² {write_score('r2', scores['r2'])}"
        for label, scores in found.items()
    ]


def test_an_evaluation_of_several_values_shows_the_scores_of_each(values, tmp_path, run):
    trained, bundle = values
    own = read_evaluation(trained.folder)["values"]
    command = ("evaluate", bundle, "--data", trained.config.data)
    page = tmp_path / "page.html"
    status, output, error = run(*command, "--json", "--page", page)
    assert status == 0, error
    found = json.loads(output)["values"]
    assert list(found) == list(own)
    for label, scores in own.items():
        assert found[label] == pytest.approx(scores, rel=1e-5)
    lines = [line for line in run(*command)[1].splitlines() if line.startswith("values:")]
    assert lines == [f"values:      {line}" for line in describe_values(found)]
    for written, shown in ((page, found), (trained.folder / "report.html", own)):
        table = written.read_text().partition("Scores of each value</h2>")[2].partition("</tbody>")
        rows = re.findall(r'row">(.*?)</th>(.*?)</tr>', table[0])
        assert [label for label, _ in rows] == list(shown)
        for label, cells in rows:
            texts = [write_score(name, score) for name, score in shown[label].items()]
            assert re.findall(r">([^<]+)</td>", cells) == texts


def test_a_value_whose_target_is_constant_has_no_r2_and_does_not_enter_the_mean(
    values, tmp_path, run
):
    trained, bundle = values
    names = ["sum", "difference"]
    with Path(trained.config.data).open(newline="") as file:
        rows = list(csv.DictReader(file))[:50]

    def evaluate(name, rows):
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        status, output, error = run("evaluate", bundle, "--data", path, "--json")
        assert status == 0, error
        return json.loads(output)

    one = evaluate("one", [{**row, "sum": 0.1} for row in rows])
    assert "r2" not in one["values"]["sum"]
    score = one["scores"]["r2"]["value"]
    assert score == pytest.approx(one["values"]["difference"]["r2"], abs=1e-6)
    assert one["notes"][-1] == (
        "R² is undefined where the target is constant, sum, and the mean leaves it out."
    )
    assert describe_values(one["values"])[0].endswith(f", R² {UNDEFINED}")
    none = evaluate("none", [{**row, **dict.fromkeys(names, 0.1)} for row in rows])
    assert "r2" not in none["scores"]
    assert none["notes"][-1] == "R² is undefined where the target is constant, sum, difference."
    single = evaluate("single", rows[:1])
    assert single["measured_on"] == "the only sample of single.csv"
    assert (single["notes"][-1], "r2" in single["scores"]) == (
        "R² is undefined for a single sample.",
        False,
    )


def test_of_many_values_the_first_are_told():
    many = {f"v{number}": {"mae": 1.0, "rmse": 2.0} for number in range(15)}
    told = describe_values(many)
    assert told[0] == f'"v0" mean absolute error 1, R² {UNDEFINED}'
    assert told[11:] == [
        f'"v11" mean absolute error 1, R² {UNDEFINED}',
        "3 more are in evaluation.json",
    ]
    assert describe_values({"only": {"mae": 1.0, "r2": 0.5}}) == []


def test_the_run_compares_its_model_with_baselines(classes, values):
    for run, names in ((classes[0], {"constant", "linear"}), (values[0], {"constant", "linear"})):
        found = read_evaluation(run.folder)
        assert found["baselines"].keys() == names
        assert found["baselines"]["linear"].keys() == run.metrics["test"].keys()
        report = html.unescape((run.folder / "report.html").read_text())
        assert re.findall('<th scope="col" class="number.*?>(.*?)</th>', report)[:5] == [
            "test", "linear model", "constant", "validation", "train",
        ]  # fmt: skip
        summary, _, _ = report.partition("<h2>Scores</h2>")
        score = "mae" if "mae" in found["baselines"]["linear"] else "roc_auc"
        for scores in (run.metrics["test"], *found["baselines"].values()):
            assert f">{write_score(score, scores[score])}</span>" in summary
        wrong = summary.partition("<h2>What it gets wrong</h2>")[2]
        assert wrong.count("<li>") == len(found.get("confusions", ())) or score == "mae"
        assert all(line in report for line in found["warnings"])


def test_the_run_ranks_its_columns_and_draws_them(classes, values):
    for run, columns in (
        (classes[0], {"size", "weight", "color"}),
        (values[0], {"x", "z", "color"}),
    ):
        found = read_evaluation(run.folder)
        assert {row["name"] for row in found["importance"]["columns"]} == columns
        assert {row["name"] for row in found["partial_dependence"]} == columns
        assert "Columns, the most important first" in (run.folder / "report.html").read_text()
        drawn = {path.stem for path in (run.folder / "figures").iterdir()}
        assert {"column_importance", "partial_dependence"} <= drawn
    best = read_evaluation(values[0].folder)["importance"]["columns"][:2]
    assert {row["name"] for row in best} == {"x", "z"}


def test_the_threshold_travels_from_the_validation_split_to_the_labels(classes):
    run, bundle = classes
    predictor, dataset = Predictor.load(bundle), load_run_data(run.config)
    found = predictor.manifest.thresholds
    assert (found.rule, found.positive) == ("recall=0.9", dataset.positive_label)
    assert predictor.manifest.positive == dataset.positive_label
    for split in ("validation", "test"):
        indices = getattr(run.splits, split)
        prediction = predictor.predict(dataset.model_inputs(indices))
        is_true = dataset.targets[indices] == dataset.positive
        is_found = np.array(prediction.labels) == found.positive
        recall = (is_true & is_found).sum() / is_true.sum()
        if split == "validation":
            assert recall >= 0.9
            continue
        assert recall == pytest.approx(found.recall[dataset.positive])
        accuracy = (is_true == is_found).mean()
        assert predictor.manifest.metrics["accuracy"] == pytest.approx(accuracy)
        # The baseline of production is what the model predicts, too.
        fractions = predictor.manifest.baseline.fractions
        assert fractions[dataset.positive] == pytest.approx(is_found.mean())
    assert all(check.passed for check in verify_bundle(bundle))
    text = (bundle / "README.md").read_text()
    assert "| label | threshold | precision | recall |" in text
    assert "by the rule `recall=0.9`" in text


def test_the_run_reports_with_the_same_threshold(classes):
    run, bundle = classes
    recorded = read_evaluation(run.folder)["thresholds"]
    found = Predictor.load(bundle).manifest.thresholds
    assert recorded["recall"] == list(found.recall)  # a temperature keeps the order
    assert "(threshold=recall=0.9): precision" in (run.folder / "report.html").read_text()
    assert {path.stem for path in (run.folder / "figures").iterdir()} >= {"roc", "precision_recall"}


def test_an_export_may_choose_another_threshold(classes, tmp_path):
    run, _ = classes
    bundle = export_run(run.folder, tmp_path, "other", OPTIONS, threshold=0.25)
    thresholds = Predictor.load(bundle).manifest.thresholds
    dataset = load_run_data(run.config)
    assert thresholds.values[dataset.positive] == 0.25
    assert sum(thresholds.values) == 1
    plain = export_run(run.folder, tmp_path, "plain", OPTIONS, threshold=0.5)
    assert Predictor.load(plain).manifest.thresholds is None


def test_figures_of_a_bundle_show_its_decisions_and_not_those_of_the_run(classes, tmp_path):
    run, _ = classes
    bundle = export_run(run.folder, tmp_path, "plain", OPTIONS, threshold=0.5)
    changed = {
        path.stem
        for path in (run.folder / "figures").iterdir()
        if path.read_bytes() != (bundle / "figures" / path.name).read_bytes()
    }
    assert changed == {"confusion_matrix", "precision_recall", "reliability_diagram"}
    dataset, test = load_run_data(run.config), run.splits.test
    answers = Predictor.load(bundle).predict(dataset.model_inputs(test)).labels
    decided = np.array([dataset.labels.index(label) for label in answers])
    with style():
        draw_confusion_matrix(
            dataset.targets[test], decided, dataset.labels, tmp_path / "expected.png"
        )
    expected = (tmp_path / "expected.png").read_bytes()
    assert (bundle / "figures" / "confusion_matrix.png").read_bytes() == expected


def test_a_threshold_that_cannot_be_kept_is_refused_before_the_export(classes, values, tmp_path):
    cases = (
        (classes, {"threshold": "f3"}, "threshold must be f1; a probability above 0"),
        (classes, {"target_accuracy": 0.6}, "cannot be combined with a threshold"),
        (values, {"threshold": "f1"}, "labels. Received: threshold=f1 for .* targets are 2 values"),
    )
    for (run, _), arguments, message in cases:
        with pytest.raises(ConfigError, match=message):
            export_run(run.folder, tmp_path / "dist", None, OPTIONS, **arguments)
    assert not (tmp_path / "dist").exists()


def test_intervals_travel_from_the_validation_split_to_the_values(values):
    run, bundle = values
    predictor, dataset = Predictor.load(bundle), load_run_data(run.config)
    prediction = predictor.predict(dataset.model_inputs(run.splits.test))
    targets = dataset.targets[run.splits.test]
    is_inside = (prediction.lower <= targets) & (targets <= prediction.upper)
    found = predictor.manifest.intervals
    assert found.coverage == 0.9
    assert found.measured_coverage == pytest.approx(is_inside.mean(axis=0), abs=0.02)
    assert (is_inside.mean(axis=0) > 0.7).all()
    assert read_evaluation(run.folder)["intervals"]["half_widths"] == pytest.approx(
        found.half_widths, rel=1e-4
    )
    text = (bundle / "README.md").read_text()
    assert "contains the true value with a probability of 90%" in text
    report = (run.folder / "report.html").read_text()
    assert "Half of the predictions of sum are off by " in report
    assert "Error of sum by tenths of the test samples" in report
    assert {path.stem for path in (run.folder / "figures").iterdir()} >= {"residuals"}


def test_the_card_compares_the_model_and_ranks_the_columns(classes, values):
    for _, bundle in (classes, values):
        text = (bundle / "README.md").read_text()
        assert "| metric | this model | a constant | a linear model |" in text
        assert "| column | falls by | 95% interval |" in text
        manifest = Predictor.load(bundle).manifest
        assert all(f"**Warning:** {line}." in text for line in manifest.warnings)
        assert manifest.reference_scores.keys() == {"constant", "linear"}


def test_an_export_says_as_the_run_that_a_difference_may_be_chance(tmp_path):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(120, 2)).round(3).tolist()
    lines = [f"{x},{y}" for x, y in numbers]
    table = tmp_path / "noise.csv"
    table.write_text("x,y\n" + "\n".join(lines) + "\n")
    settings = {"target": "y", "head": "linear", "epochs": 20, "hidden": [8], "figures": False}
    run = train(make_config("features", settings, data=table), tmp_path)
    told = read_evaluation(run.folder)["warnings"]
    manifest = Predictor.load(export_run(run.folder, tmp_path, "noise", OPTIONS)).manifest
    for warnings in (told, manifest.warnings):
        assert len(warnings) == 2
        assert all("; the difference may be chance, since its 95%" in line for line in warnings)


def test_the_terminal_shows_ranking_metrics_first_then_baselines(tmp_path, run):
    table = shutil.copy(BUNDLES / "raw.csv", tmp_path)
    settings = ("--set", "epochs=1", "--set", "hidden=4", "--set", "threshold=precision=0.999")
    status, output, _ = run(
        *("train", "features", "--data", table, "--target", "kind", *settings),
        *("--no-figures", "--output", tmp_path / "runs"),
    )
    assert status == 0
    lines = {line.split(":")[0]: line for line in output.splitlines()}
    assert lines["test"].startswith("test:   ROC AUC 0.")
    assert ", average precision 0." in lines["test"].split(", accuracy")[0]
    assert lines["linear"].startswith("linear: ROC AUC")
    assert lines["constant"].startswith("constant: ROC AUC 0.500,")
    assert '"yes" precision' in lines["each"]
    (folder,) = (tmp_path / "runs" / "features").iterdir()
    told = json.loads((folder / "evaluation.json").read_text())
    assert all(f"warning: {line}" in output for line in told["warnings"])
    assert not any(line.endswith(".") for line in told["warnings"])  # the report adds it
    assert not (folder / "figures").exists()
    if "thresholds" not in told:  # no threshold had that precision
        assert "must be reachable on the validation split" in output


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_classes_and_labels_that_no_sample_of_a_split_has_are_named(task):
    """A class of three samples may well be in training alone, as its own folders may have it."""
    classes = np.resize([0, 1], 60)
    classes[:3] = 2
    targets = classes if task == "multiclass" else np.eye(3, dtype=np.float32)[classes]
    data = Dataset(
        source="drawn", inputs=np.zeros((60, 4, 4), np.uint8), targets=targets, task=task,
        labels=("a", "b", "rare"),
    )  # fmt: skip
    for validation, told in ((40, ["test", "validation"]), (2, ["test"])):
        splits = Splits(np.arange(40), np.arange(validation, 50), np.arange(50, 60))
        found = {
            name: np.full((len(getattr(splits, name)), 3), 1 / 3, np.float32)
            for name in ("validation", "test")
        }
        scores = measure(task, targets[splits.test], found["test"])
        predictions = Predictions(found, None, "", {})
        warnings = evaluate(TrainingConfig(), data, splits, None, predictions, scores)["warnings"]
        fix = f"add samples, or leave rare {'classes' if task == 'multiclass' else 'labels'} out"
        expected = [f"no {split} sample has rare: {fix}" for split in told]
        assert [line for line in warnings if line.startswith("no ")] == expected


def test_a_threshold_for_three_classes_is_refused_before_training(tmp_path):
    config = make_config("softmax", {"threshold": "f1"})
    message = "Received: threshold=f1 for iris, whose targets are 3 classes"
    with pytest.raises(ConfigError, match=message):
        train(config, tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("config.toml"))
