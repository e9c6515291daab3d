"""`hornbill evaluate` and `hornbill compare`: any bundle, any labeled data, no TensorFlow."""

import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow import csv

from app.bundles.comparing import KnownSamples, compare_with_previous
from app.bundles.evaluating import reading_of
from app.config.reading_config import ReadingConfig
from app.data.labeled import read_labeled
from app.data.measured import choose_measured
from app.data.sources import load_dataset
from app.data.splits import split_dataset
from app.data.targets import names_of_targets
from app.errors import DataError
from app.evaluation.comparison import Answers, compare_answers
from app.evaluation.evaluations import calibration_of
from app.evaluation.metrics import measure
from app.reports.comparison_lines import comparison_lines
from app.reports.evaluation_lines import describe_calibration, describe_gaps
from serving import Predictor
from serving.bundle import read_manifest
from tests.checksums import write_checksums
from tests.test_house import HEAVY, run_python

COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


def evaluated(run, *arguments):
    status, output, error = run("evaluate", *arguments, "--json")
    assert status == 0, error
    return json.loads(output)


def compared(run, *arguments):
    status, output, error = run("compare", *arguments, "--json")
    assert status == 0, error
    return json.loads(output)


def changed_copy(folder, target, **changes):
    """Copy a version and change keys of its manifest."""
    copy = shutil.copytree(folder, target)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    write_checksums(copy)
    return copy


@pytest.fixture
def digits(images, tmp_path):
    """Twelve images of two classes, as files."""
    for number, image in enumerate(images):
        path = tmp_path / "digits" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "digits"


@pytest.fixture
def arrays(images, tmp_path, monkeypatch):
    """Files that an evaluation refuses, in the working folder."""
    monkeypatch.chdir(tmp_path)
    np.savez("wrong.npz", image=images)
    np.savez("short.npz", image=images, y=np.zeros(3, int))
    np.savez("large.npz", image=np.zeros((12, 5, 5), np.uint8), y=np.zeros(12, int))
    np.savez("class.npz", image=images, y=np.arange(12))


def write_flowers(path, labels=("setosa", "versicolor", "virginica"), kept=(0, 1, 2)):
    """Write Iris with its columns in another order, and one more."""
    from sklearn.datasets import load_iris

    iris = load_iris()
    rows = [
        f"{n},{labels[target]},{','.join(map(str, row[::-1]))}"
        for n, (row, target) in enumerate(zip(iris.data, iris.target, strict=True))
        if target in kept
    ]
    path.write_text(f"id,flower,{','.join(COLUMNS[::-1])}\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("fixture", ["bundle", "row_bundle", "raw_bundle"])
def test_the_test_split_of_a_training_gives_the_scores_of_the_manifest(fixture, run, request):
    folder = request.getfixturevalue(fixture)
    source = {"bundle": "digits8x8", "row_bundle": "iris"}.get(fixture)
    if fixture == "raw_bundle":
        folder, source = folder
    found = evaluated(run, folder, "--data", source)
    manifest = read_manifest(folder)
    assert found["samples"] == manifest.data["samples"]["test"]
    assert found["measured_on"].endswith("in the test split of the training")
    scores = {name: score["value"] for name, score in found["scores"].items()}
    assert scores == pytest.approx(manifest.metrics, abs=1e-6)
    for score in found["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert found["scores"]["accuracy"]["method"] == "wilson"
    assert found["scores"]["cross_entropy"]["method"] == "bootstrap"


def test_a_table_is_read_as_the_model_reads_it(row_bundle, tmp_path, run):
    table = write_flowers(tmp_path / "flowers.csv")
    found = evaluated(run, row_bundle, "--data", table, "--target", "flower")
    hint = "as many as iris has, on which the model was trained; if this is a copy of it, the "
    hint += "scores are too good"
    assert found["measured_on"] == f"all 150 samples of flowers.csv ({hint})"
    numbered = write_flowers(tmp_path / "numbered.csv", labels=("0", "1.0", "2"))
    again = evaluated(run, row_bundle, "--data", numbered, "--target", "flower")
    assert again["scores"] == found["scores"]  # numbers are indices of labels that are none


def test_numbers_that_are_read_as_places_of_classes_are_told(row_bundle, tmp_path, run):
    read = "they are read as places of the classes: 0 is setosa, 1.0 is versicolor, 2 is virginica"
    numbered = write_flowers(tmp_path / "numbered.csv", labels=("0", "1.0", "2"))
    columns = np.loadtxt(numbered, delimiter=",", skiprows=1)
    arrays = tmp_path / "numbered.npz"
    np.savez(arrays, inputs=columns[:, :1:-1].astype(np.float32), y=columns[:, 1].astype(int))
    options = ("--target", "flower")
    status, output, _ = run("evaluate", row_bundle, "--data", numbered, *options)
    assert status == 0
    assert f"note:        The target flower of {numbered} has numbers; {read}\n" in output
    (note,) = evaluated(run, row_bundle, "--data", numbered, *options)["notes"]
    assert note == f"The target flower of {numbered} has numbers; {read}."
    (note,) = evaluated(run, row_bundle, "--data", arrays)["notes"]
    assert note == f"The target of {arrays} has numbers; {read.replace('1.0', '1')}."
    named = write_flowers(tmp_path / "named.csv")
    assert evaluated(run, row_bundle, "--data", named, *options)["notes"] == []


def test_python_code_is_told_of_numbers_that_are_places_of_classes(
    bundle, digits, tmp_path, caplog
):
    manifest = dataclasses.replace(read_manifest(bundle), labels=tuple("abcdefghij"))
    with caplog.at_level("WARNING", "hornbill.notes"):
        (note,) = read_labeled(str(digits), manifest, ReadingConfig()).notes
    read = "they are read as places of the classes: 0 is a, 1 is b."
    assert note == f"The target of {digits} has numbers; {read}"
    assert caplog.messages == [note]
    of_numbers = read_manifest(bundle)
    assert read_labeled(str(digits), of_numbers, ReadingConfig()).notes == ()


@pytest.mark.parametrize("key", ["positive", "thresholds"])
def test_the_positive_class_is_that_of_the_bundle_whichever_is_rarer_here(
    key, raw_bundle, tmp_path, run
):
    """Bundles of earlier versions state it with their thresholds only."""
    (folder, table), found = raw_bundle, {}
    for name in ("no", "yes"):
        changes = {"positive": name}
        if key == "thresholds":
            halves = {"values": [0.5, 0.5], "precision": [1.0, 1.0], "recall": [1.0, 1.0]}
            told = {"rule": "f1", "positive": name, "chosen_on": "", "measured_on": "", **halves}
            changes = {"positive": None, "thresholds": told}
        copy = changed_copy(folder, tmp_path / name, **changes)
        manifest = read_manifest(copy)
        dataset = read_labeled(str(table), manifest, reading_of(manifest, {}))
        result = evaluated(run, copy, "--data", table)
        assert result["positive"] == dataset.positive_label == name
        found[name] = result["scores"]["average_precision"]["value"]
    assert found["no"] != found["yes"]
    status, output, _ = run("evaluate", copy, "--data", table)
    assert status == 0
    assert "average precision of yes:" in output
    assert output.count("threshold:  ") == (key == "thresholds")
    assert ('"yes" is predicted from a probability of 0.5000 on' in output) == (key == "thresholds")


def test_a_column_that_the_model_does_not_need_may_hold_anything(row_bundle, tmp_path, run):
    table = csv.read_csv(write_flowers(tmp_path / "flowers.csv"))
    lists = pa.array([[1]] * len(table))
    pq.write_table(table.append_column("lists", lists), tmp_path / "flowers.parquet")
    arguments = [row_bundle, "--data", tmp_path / "flowers.parquet", "--target"]
    assert evaluated(run, *arguments, "flower")["samples"] == 150
    status, _, error = run("evaluate", *arguments, "lists")
    assert status != 0
    assert "Received: 'lists', which holds list<" in error


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_package_that_the_page_needs_is_asked_for_before_the_work(
    command, row_bundle, tmp_path, run, monkeypatch
):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for name in ("html", "evaluation_page", "comparison_page"):
        monkeypatch.delitem(sys.modules, f"app.reports.{name}", raising=False)
    (tmp_path / "wrong.csv").write_text("a,kind\n1,setosa\n")  # which the work would refuse
    models = [row_bundle] * (2 if command == "compare" else 1)
    options = ["--data", tmp_path / "wrong.csv", "--page", tmp_path / "page.html"]
    status, output, error = run(command, *models, *options)
    assert (status, output) == (2, "")
    assert "needs the package jinja2" in error


def test_a_class_without_samples_is_named_and_does_not_count(row_bundle, tmp_path, run):
    table = write_flowers(tmp_path / "flowers.csv", kept=(0, 1))
    found = evaluated(run, row_bundle, "--data", table, "--target", "flower")
    assert found["lacking"] == ["virginica"]
    assert "roc_auc" not in found["scores"]
    assert [row["samples"] for row in found["classes"] if row["name"] == "virginica"] == [0]
    status, output, _ = run("evaluate", row_bundle, "--data", table, "--target", "flower")
    assert status == 0
    assert "no sample has virginica" in output


def test_labels_without_samples_count_as_0_and_classes_do_not_count():
    """As `f1_macro` is measured."""
    targets = np.zeros((4, 2), np.float32)
    targets[:2, 0] = 1
    for task, truth, score, effect in (
        ("multilabel", targets, 0.5, "y: macro F1 counts 0 for each, and"),
        ("multiclass", np.zeros(4, int), 1, "y: macro F1 leaves out each that is not predicted"),
    ):
        probabilities = truth if task == "multilabel" else np.eye(2)[truth]
        assert measure(task, truth, probabilities)["f1_macro"] == score
        (line,) = describe_gaps({"lacking": ["y"], "task": task})
        assert effect in line


@pytest.mark.parametrize(
    ("confidences", "right", "verdict"),
    [
        (
            [0.95],
            [0.85],
            "; overconfident: the most probable answers have 95.0% on average, and 85",
        ),
        ([0.75], [0.85], "; underconfident: the most probable answers have 75.0% on average, and"),
        ([0.95, 0.75], [0.85, 0.85], "overconfident at some probabilities and underconfident at"),
        ([0.85], [0.85], "; no sign of more than that"),
    ],
)
def test_a_model_is_called_over_or_underconfident_where_it_errs_to_one_side(
    confidences, right, verdict
):
    first = np.repeat(confidences, 2000)
    wrong = np.concatenate([np.arange(2000) >= 2000 * share for share in right])
    found = calibration_of(wrong.astype(int), np.stack([first, 1 - first], axis=1))
    assert verdict in describe_calibration(found)


def test_a_calibration_error_that_chance_seldom_gives_is_no_chance():
    # 120 predictions of 70% of which n are right; 95 of 100 calibrated models have 74 to 94.
    for right, is_chance in ((92, True), (97, False), (84, True), (71, False)):
        first = np.full(120, 0.7)
        targets = (np.arange(120) >= right).astype(int)
        found = calibration_of(targets, np.stack([first, 1 - first], axis=1))
        assert found["ece_by_chance"] < found["ece_by_chance_95"] < 2.6 * found["ece_by_chance"]
        told = describe_calibration(found)
        assert f"up to {found['ece_by_chance_95']:.4f} in 95 of 100 cases" in told
        assert ("no sign of more" in told) is is_chance
    sure = np.tile([1 - 1e-7, 1e-7], (9, 1))  # all right, as nearly always
    assert "no sign of more" in describe_calibration(calibration_of(np.zeros(9, int), sure))


def test_images_in_folders_are_measured_even_if_classes_are_absent(bundle, images, tmp_path, run):
    for number in (0, 1, 2, 3):
        (tmp_path / "scans" / str(number)).mkdir(parents=True)
        Image.fromarray(images[number]).save(tmp_path / "scans" / str(number) / "a.png")
    page = tmp_path / "page.html"
    found = evaluated(run, bundle, "--data", tmp_path / "scans", "--page", page)
    assert found["samples"] == 4
    assert len(found["lacking"]) == 6
    text = page.read_text()
    assert "confusion matrix" in text
    assert "all 4 samples of scans" in text


def test_arrays_are_measured_with_names_or_indices_of_classes(bundle, images, tmp_path, run):
    targets = np.arange(12) % 10
    by_name = tmp_path / "named.npz"
    np.savez(by_name, image=images, y=targets.astype(str))
    found = evaluated(run, bundle, "--data", by_name)
    np.savez(tmp_path / "numbered.npz", x=images, y=targets)
    np.savez(tmp_path / "one_hot.npz", x=images, y=np.eye(10)[targets])
    for name in ("numbered.npz", "one_hot.npz"):
        assert evaluated(run, bundle, "--data", tmp_path / name)["scores"] == found["scores"]


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("iris", (), "The data must suit the model digits.*Received: iris, with rows."),
        ("nowhere.csv", (), "does not exist or is not a file. Received: nowhere.csv."),
        ("wrong.npz", (), "must hold the targets as y. Received: image."),
        ("short.npz", (), "must have a target for each sample. Received: 12 samples and 3"),
        ("large.npz", (), "image must have shape (batch, 28, 28).*(12, 5, 5)"),
        ("class.npz", (), "Each target must be a class of the model, '0', '1'.*Received: '10'"),
        ("short.npz", ("--page", "page.pdf"), "--page must end in .html. Received: page.pdf."),
        ("short.npz", ("--page", "no/page.html"), "The folder of --page must exist."),
    ],
)
def test_data_that_does_not_suit_gets_one_line(source, options, message, bundle, run):
    status, output, error = run("evaluate", bundle, "--data", source, *options)
    assert (status, output) == (2, "")
    assert len(error.splitlines()) == 1
    assert re.search(message.replace("(", r"\(").replace(")", r"\)"), error), error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "A table needs a column to predict: --target COLUMN."),
        (("--target", "kind"), "must have the column 'kind'"),
        (("--target", "flower"), "Each target must be a class of the model, 'setosa'.*'rose'"),
    ],
)
def test_tables_without_the_targets_get_one_line(options, message, row_bundle, tmp_path, run):
    table = write_flowers(tmp_path / "t.csv", labels=("setosa", "rose", "virginica"))
    status, _, error = run("evaluate", row_bundle, "--data", table, *options)
    assert status == 2
    assert re.search(message, error), error


def test_targets_with_the_names_of_labels_stand_for_these_in_any_order():
    def order(*names):
        return names_of_targets(ReadingConfig(target=names), "multilabel", ("animal", "water"))

    assert order("animal", "water") == order("water", "animal") == ("animal", "water")
    assert order("first", "second") == ("first", "second")
    with pytest.raises(DataError, match="in the order of the labels, animal, water"):
        order("water", "other")
    with pytest.raises(DataError, match="a target for each of animal, water. Received: animal"):
        order("animal")


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_classes_do_not_suit_a_model_of_values_or_labels(task, bundle, digits):
    manifest = dataclasses.replace(Predictor.load(bundle).manifest, task=task, labels=("x", "y"))
    with pytest.raises(DataError, match="The data must suit the model .*digits, with classes"):
        read_labeled(str(digits), manifest, ReadingConfig())


def test_files_that_are_left_out_are_told(bundle, digits):
    (digits / "0" / "broken.png").write_bytes(b"none")
    manifest = Predictor.load(bundle).manifest
    dataset = read_labeled(str(digits), manifest, ReadingConfig(unreadable="skip"))
    (line,) = describe_gaps({"left_out": dataset.skipped})
    assert line.startswith("1 file left out: ")
    assert "broken.png cannot be read" in line


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_images_that_cannot_be_read_are_left_out_of_the_measures(command, bundle, digits, run):
    (digits / "0" / "broken.png").write_bytes(b"none")
    models = [bundle] * (2 if command == "compare" else 1)
    status, output, _ = run(command, *models, "--data", digits)
    assert status == 0
    assert "all 12 samples of digits" in output
    assert "1 file left out: " in output
    for path in digits.rglob("*.png"):
        path.write_bytes(b"none")
    status, _, error = run(command, *models, "--data", digits)
    assert status == 2
    assert "13 unreadable" in error
    assert "--set" not in error


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "zero"], "Each target must be a class of the model, .* Received: 'zero'"),
        (["1", "?"], "Received: kind='?', a missing value, in row 1 of"),
        (["1", None], "Received: kind is null or NaN, a missing value, in row 1 of"),
    ],
)
def test_an_error_of_targets_of_images_advises_nothing_that_evaluate_lacks(
    labels, message, bundle, digits, tmp_path, run
):
    table = tmp_path / "digits.parquet"
    files = ["digits/1/1.png", "digits/0/10.png"]
    pq.write_table(pa.table({"file": files, "kind": labels}), table)
    options = ("--target", "kind", "--image-column", "file")
    status, _, error = run("evaluate", bundle, "--data", table, *options)
    assert status == 2
    assert re.search(message.replace("?", r"\?"), error), error
    assert "--set" not in error
    assert "--categorical" not in error


def test_images_of_files_are_named_by_their_file(bundle, digits, tmp_path):
    manifest = Predictor.load(bundle).manifest
    table = tmp_path / "digits.csv"
    table.write_text("file,kind\ndigits/1/1.png,1\ndigits/0/10.png,0\n")
    dataset = read_labeled(str(digits), manifest, ReadingConfig())
    assert dataset.files[:3] == ["0/0.png", "0/10.png", "0/2.png"]
    listed = ReadingConfig(image_column="file", target=("kind",))
    assert read_labeled(str(table), manifest, listed).files == ["digits/1/1.png", "digits/0/10.png"]
    shutil.copytree(digits, tmp_path / "split" / "train")
    shutil.move(digits, tmp_path / "split" / "test")
    split = tmp_path / "split"
    joined = read_labeled(f"{split}+{split / 'train'}", manifest, ReadingConfig())
    assert len(joined.files) == len(joined.inputs) == 36
    assert {Path(file).parts[0] for file in joined.files[-12:]} == {"test"}
    for file, image in zip(joined.files, joined.inputs[:], strict=True):
        place = split if file.startswith(("train", "test")) else split / "train"
        np.testing.assert_array_equal(image, Image.open(place / file))


def test_examples_of_a_comparison_are_named_by_their_file(bundle, digits, tmp_path, run):
    other = changed_copy(bundle, tmp_path / "other", thresholds=preferring_zero(1e-9))
    found = compared(run, bundle, other, "--data", f"{digits}")
    names = [one["sample"] for change in found["changes"] for one in change["examples"]]
    assert names
    assert all((digits / name).is_file() for name in names)


def test_a_model_without_labels_has_nothing_to_compare_targets_with(bundle):
    from dataclasses import replace

    manifest = replace(read_manifest(bundle), task="unknown", prediction_output=None)
    with pytest.raises(DataError, match="Export it with --labels."):
        read_labeled("digits8x8", manifest, ReadingConfig())


def preferring_zero(threshold):
    """Return thresholds of the digits, of which that of 0 is low."""
    return {
        "rule": "class_weight=balanced",
        "values": [threshold, *[(1 - threshold) / 9] * 9],
        "positive": None,
        "chosen_on": "",
        "measured_on": "",
        "precision": [1.0] * 10,
        "recall": [1.0] * 10,
    }


def test_a_comparison_names_what_changes(bundle, tmp_path, run):
    """The second version predicts 0 already if it is a tenth as probable as another class."""
    thresholds = preferring_zero(0.01)
    config = {**read_manifest(bundle).config, "epochs": 5}
    other = changed_copy(bundle, tmp_path / "digits", config=config, thresholds=thresholds)
    page = tmp_path / "page.html"
    found = compared(run, bundle, other, "--data", "digits8x8", "--page", page)
    assert found["samples"] == 360
    assert found["changed"] == sum(change["count"] for change in found["changes"]) > 0
    assert {change["to"] for change in found["changes"]} == {"0"}
    assert found["agreement"]["value"] == pytest.approx(1 - found["changed"] / 360)
    matrix = np.array(found["matrix"])
    assert matrix.sum() == 360
    assert matrix[:, 0].sum() - matrix[0, 0] == found["changed"]
    example = found["changes"][0]["examples"][0]
    assert set(example) == {"sample", "number", "true", "first", "second"}
    test = found["mcnemar"]
    gained = test["only_second_right"] - test["only_first_right"]
    difference = found["scores"]["accuracy"]["difference"]
    assert difference["value"] == pytest.approx(gained / 360)
    assert difference["low"] < difference["value"] < difference["high"]
    assert found["settings"]["epochs"] == [3, 5]
    assert found["settings"]["threshold"] == [None, "class_weight=balanced"]
    assert set(found["latency"]) == {"1", "64"}
    text = page.read_text()
    assert "McNemar" in text
    assert "data:image/png;base64," in text
    status, output, _ = run("compare", bundle, other, "--data", "digits8x8")
    assert status == 0
    assert "epochs: 3 → 5" in output
    status, output, _ = run("evaluate", other, "--data", "digits8x8")
    (line,) = (line for line in output.splitlines() if line.startswith("threshold:"))
    assert "largest relative to its fraction of the training split" in line
    assert line.endswith(" averaged over 10 classes on these samples")


def versions_with_seeds(row_bundle, folder, first, second):
    """Return the second of two versions, and the samples that the export of a run has."""
    config = read_manifest(row_bundle).config
    for number, seed in enumerate((first, second), start=1):
        changes = {"version": number, "config": {**config, "seed": seed}}
        copy = changed_copy(row_bundle, folder / "softmax" / str(number), **changes)
    manifest = read_manifest(copy)
    dataset = read_labeled("iris", manifest, reading_of(manifest, {}))
    splits = split_dataset(dataset, second)
    return copy, KnownSamples(dataset, "iris", splits.test, splits.describe("test"))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1)])
def test_an_export_compares_on_samples_that_are_new_to_both_versions(
    first, second, row_bundle, tmp_path
):
    folder, known = versions_with_seeds(row_bundle, tmp_path, first, second)
    found = compare_with_previous(folder, known)
    test = np.intersect1d(known.indices, split_dataset(known.dataset, first).test)
    assert found["samples"] == len(test)
    new = "" if first == second else f"the {len(test)} of "
    assert found["measured_on"] == (
        f"{new}the 30 samples of the test split{new and ' that are new to both versions'}"
    )


@pytest.mark.parametrize("validation", [20, 14])
def test_without_a_test_split_that_of_the_training_is_measured_on(bundle, tmp_path, validation):
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for number in range(count * 10):
            path = tmp_path / "digits" / split / f"{number % 10}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(path)
    trained = split_dataset(load_dataset(str(tmp_path / "digits")), 0)
    manifest = read_manifest(bundle)
    dataset = read_labeled(str(tmp_path / "digits"), manifest, reading_of(manifest, {}))
    joined = read_labeled("+".join(2 * [dataset.source]), manifest, reading_of(manifest, {}))
    assert len(joined.targets) == 160
    sizes = {"train": 66 - validation, "validation": validation, "test": 14}
    if validation == 20:
        sizes = {name: len(part) for name, part in vars(trained).items()}
    data = {**manifest.data, "source": "digits", "samples": sizes}
    known = dataclasses.replace(manifest, data=data)
    chosen, _ = choose_measured(dataset, "digits", [known])
    if validation == 20:
        np.testing.assert_array_equal(chosen, trained.test)
    else:  # an earlier version split it off the validation samples too
        assert chosen.max() >= 60


def write_reordered(bundle, folder, key, **changes):
    """Write a version with the same graph, but with columns or classes in another order."""
    others = getattr(read_manifest(bundle), key)[::-1]
    written = changed_copy(bundle, folder, **{key: others}, **changes)
    graph = onnx.load(written / "model.onnx")
    onnx.helper.set_model_props(
        graph,
        {p.key: p.value for p in graph.metadata_props} | {key: json.dumps(others)},
    )
    onnx.save(graph, written / "model.onnx")
    write_checksums(written)


@pytest.mark.parametrize("key", ["columns", "labels"])
def test_an_export_reads_its_samples_as_the_version_before_does(key, row_bundle, tmp_path):
    write_reordered(row_bundle, tmp_path / "softmax" / "1", key)
    second = changed_copy(row_bundle, tmp_path / "softmax" / "2", version=2)
    manifest = read_manifest(row_bundle)
    dataset = read_labeled("iris", manifest, reading_of(manifest, {}))
    splits = split_dataset(dataset, 0)
    found = compare_with_previous(
        second, KnownSamples(dataset, "iris", splits.test, splits.describe("test"))
    )
    scores = found["scores"]["accuracy"]
    assert scores["second"]["value"] > 0.8 > scores["first"]["value"]
    assert found["agreement"]["value"] < 0.8


def test_the_version_before_reads_what_the_export_was_told_to_read(row_bundle, tmp_path):
    """A model that was trained elsewhere does not know which column is the target."""
    write_reordered(row_bundle, tmp_path / "softmax" / "1", "columns", config={})
    second = changed_copy(row_bundle, tmp_path / "softmax" / "2", version=2, config={})
    manifest, iris = read_manifest(second), load_dataset("iris")
    rows = (
        f"{','.join(map(str, row))},{iris.labels[target]}"
        for row, target in zip(iris.inputs[:], iris.targets, strict=True)
    )
    table = tmp_path / "flowers.csv"
    table.write_text("\n".join([",".join([*iris.columns, "kind"]), *rows]))
    given = {"target": ("kind",)}
    dataset = read_labeled(str(table), manifest, reading_of(manifest, given))
    known = KnownSamples(dataset, str(table), np.arange(150), "all flowers", given)
    scores = compare_with_previous(second, known)["scores"]["accuracy"]
    assert scores["second"]["value"] > 0.8 > scores["first"]["value"]


@pytest.mark.parametrize(
    ("trained", "source", "is_told"),
    [
        ("flowers", "flowers/train-0.csv", True),
        ("flowers", "flowers/train/a.csv", True),
        ("flowers", "flowers/test-0.csv", False),
        ("flowers", "flowers/test/a.csv+flowers/train/a.csv", True),
        ("flowers", "other/train-0.csv", False),
        ("train-0.csv+b.csv", "flowers/train-0.csv", True),
        ("train-0.csv", "flowers/train-0.csv+other/train-1.csv", True),
    ],
)
def test_data_that_lies_inside_of_that_of_a_training_is_told(
    trained, source, is_told, row_bundle, tmp_path, run
):
    parts = [tmp_path / part for part in source.split("+")]
    for part in parts:
        part.parent.mkdir(parents=True, exist_ok=True)
        write_flowers(part, kept=(0, 1))
    data = {**read_manifest(row_bundle).data, "source": trained}
    copy = changed_copy(row_bundle, tmp_path / "softmax" / "1", data=data)
    joined = "+".join(map(str, parts))
    found = evaluated(run, copy, "--data", joined, "--target", "flower")["measured_on"]
    remark = f"(version 1 was trained on {trained}, which seems to share samples with this; if it "
    assert (remark + "does, the scores are too good)" in found) == is_told


def test_data_that_has_grown_since_a_training_is_told(row_bundle, tmp_path, run):
    sizes = {"train": 70, "validation": 10, "test": 20}
    data = {**read_manifest(row_bundle).data, "samples": sizes}
    copy = changed_copy(row_bundle, tmp_path / "softmax" / "1", data=data)
    second = changed_copy(row_bundle, tmp_path / "softmax" / "2", version=2)
    remark = "(version 1 was trained on data of this name with another number of samples, perhaps "
    remark += "on some of these)"
    assert evaluated(run, copy, "--data", "iris")["measured_on"] == (
        f"all 150 samples of iris {remark}"
    )
    manifest = read_manifest(second)
    dataset = read_labeled("iris", manifest, reading_of(manifest, {}))
    splits = split_dataset(dataset, 0)
    known = KnownSamples(dataset, "iris", splits.test, splits.describe("test"))
    assert compare_with_previous(second, known)["measured_on"] == (
        f"the 30 samples of the test split {remark}"
    )


def test_an_export_whose_samples_the_version_before_has_learned_from_says_so(row_bundle, tmp_path):
    folder, known = versions_with_seeds(row_bundle, tmp_path, 0, 1)
    trained = np.setdiff1d(known.indices, split_dataset(known.dataset, 0).test)
    with pytest.raises(DataError, match="neither was trained on. Received: none of the 30 samples"):
        compare_with_previous(folder, dataclasses.replace(known, indices=trained))


def test_the_next_command_keeps_the_options_that_were_given(row_bundle, tmp_path, run):
    table = write_flowers(tmp_path / "some flowers.csv")
    options = f"--data '{table}' --target flower"
    _, output, _ = run("evaluate", row_bundle, "--data", table, "--target", "flower")
    assert output.splitlines()[-1] == (
        f"next: hornbill evaluate {row_bundle} {options} --page page.html"
    )
    models = row_bundle, row_bundle
    _, output, _ = run("compare", *models, "--data", table, "--target", "flower")
    assert output.splitlines()[-1] == (
        f"next: hornbill compare {row_bundle} {row_bundle} {options} --page compare.html"
    )


def test_values_are_compared_and_measured_by_how_far_they_are(row_bundle, tmp_path, run):
    """A bundle of classes whose manifest calls its probabilities values stands for such a model."""
    changes = {"task": "regression", "reject_option": None, "calibration": None, "thresholds": None}
    folder = changed_copy(
        row_bundle, tmp_path / "values", **changes, baseline=None, metrics={}, metric_intervals={}
    )
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    predicted = Predictor.load(row_bundle).predict(rows).probabilities
    np.savez(tmp_path / "v.npz", inputs=rows, y=np.add(predicted, [0.5, 0, 0]))
    data = ("--data", tmp_path / "v.npz", "--page", tmp_path / "page.html")
    found = evaluated(run, folder, *data)
    assert found["scores"]["mae"]["value"] == pytest.approx(0.5 / 3, abs=1e-6)
    assert "predicted and true" in (tmp_path / "page.html").read_text()
    found = compared(run, folder, folder, *data)
    assert [row["largest"] for row in found["differences"]] == [0, 0, 0]
    assert "mcnemar" not in found
    assert "mean absolute change" in (tmp_path / "page.html").read_text()
    status, output, _ = run("evaluate", folder, *data)
    assert status == 0
    assert "classes:" not in output


def test_models_of_values_in_other_units_are_not_compared(row_bundle, tmp_path, run):
    changes = {"task": "regression", "reject_option": None, "calibration": None, "baseline": None}
    folders = [
        changed_copy(
            row_bundle,
            tmp_path / str(place),
            **{**changes, "thresholds": None, "metrics": {}, "metric_intervals": {}},
            target_units=units,
        )
        for place, units in enumerate(({"setosa": "kWh"}, {"setosa": "MWh"}, {}))
    ]
    rows = np.zeros((60, 4), "float32")
    np.savez(tmp_path / "v.npz", inputs=rows, y=np.zeros((60, 3)))
    status, _, error = run("compare", *folders[:2], "--data", tmp_path / "v.npz")
    assert status == 2
    assert error.splitlines()[-1] == (
        "hornbill: Models that are compared must have setosa in the same unit. "
        "Received: kWh and MWh."
    )
    status, _, error = run("compare", folders[0], folders[2], "--data", tmp_path / "v.npz")
    assert status == 0, error


def test_a_bundle_agrees_with_itself_on_files_without_targets(raw_bundle, run):
    folder, table = raw_bundle
    found = compared(run, folder, folder.parent, "--input", table)
    assert (found["samples"], found["changed"]) == (200, 0)
    assert "scores" not in found
    assert found["settings"] == {}


def test_labels_in_another_order_are_the_same_labels(row_bundle, tmp_path, run):
    folder = tmp_path / "other" / "1"
    shutil.copytree(row_bundle, folder)
    first = Predictor.load(row_bundle)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["labels"] = manifest["labels"][::-1]
    assert first.manifest.labels[0] == manifest["labels"][-1]
    from app.bundles.comparing import _in_order_of
    from serving.manifest import Manifest

    other = Manifest.from_json(json.dumps(manifest).encode())
    predictions = np.array([[0.7, 0.2, 0.1]])
    found = _in_order_of(Answers(first.manifest, predictions), Answers(other, predictions))
    assert found.manifest.labels == first.manifest.labels
    assert found.predictions.tolist() == [[0.1, 0.2, 0.7]]


def test_a_run_is_compared_as_the_bundle_that_it_would_become(bundle, mlp_run, run):
    found = compared(run, bundle, mlp_run.folder, "--data", "digits8x8")
    assert found["samples"] == 360
    assert found["agreement"]["value"] > 0.9  # the same settings, data and seed
    assert found["scores"]["accuracy"]["second"]["value"] > 0.8
    assert [model["title"] for model in found["models"]] == [
        "digits 1", f"run {mlp_run.folder.name}",
    ]  # fmt: skip


def test_all_kinds_of_change_are_counted_and_the_most_frequent_listed(bundle):
    first, second = np.divmod(np.arange(100), 10)
    manifest = read_manifest(bundle)
    found = compare_answers(*(Answers(manifest, np.eye(10)[each]) for each in (first, second)))
    assert (found["changed"], found["kinds"], len(found["changes"])) == (90, 90, 20)
    for change in found["changes"]:
        change["examples"] = []
    model = {"title": "digits 1", "precision": "float32"}
    facts = {"models": [model] * 2, "measured_on": "", "latency": {}, "settings": {}, **found}
    assert "  and 84 more kinds of change" in comparison_lines(facts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Give either --data SOURCE or --input GLOB. Received: neither."),
        (("--data", "iris"), "must have the same labels. Received: 10 classes with 0, 1, 2"),
    ],
)
def test_models_that_cannot_be_compared_get_one_line(options, message, bundle, row_bundle, run):
    status, _, error = run("compare", bundle, row_bundle, *options)
    assert status == 2
    assert message in error


def test_evaluating_and_comparing_need_neither_tensorflow_nor_keras(bundle, tmp_path, images):
    """Nor do they need scikit-learn and SciPy, but for the figures of a page."""
    np.savez(tmp_path / "d.npz", image=images, y=np.arange(12) % 10)
    code = "from app.commands.cli import main; main(sys.argv[1:])"
    data, page = ("--data", tmp_path / "d.npz"), ("--page", tmp_path / "page.html")
    for command, blocked in (
        (["evaluate", bundle, *data], HEAVY),
        (["compare", bundle, bundle, *data, *page], HEAVY),
        (["evaluate", bundle, *data, *page], ("tensorflow", "keras", "onnx", "tf2onnx")),
    ):
        finished = run_python(code, *command, blocked=blocked)
        assert (finished.returncode, finished.stderr) == (0, "")
