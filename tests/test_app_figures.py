"""Figures and the report: what is drawn for which targets, and that the report is complete."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from app.config import make_config
from app.data.datasets import Dataset
from app.reports.captions import captions_of_run
from app.reports.column_figures import draw_dependence, draw_importance
from app.reports.feature_projection import draw_projection
from app.reports.mistake_figures import draw_mistakes
from app.reports.plotting import short_names, write_ticks
from app.reports.run_figures import draw_figures, draw_training_sizes
from app.reports.run_report import write_report
from app.reports.value_figures import draw_residuals

ODD = ("$a_b$", "<script>alert(1)</script>", "_hidden", "数字", "a very long name " * 5)
HISTORY = [
    {"epoch": n, "loss": 1 / n, "accuracy": n / 9, "val_loss": 2 / n, "val_accuracy": n / 10}
    for n in (1, 2, 3)
]


def dataset(kind="multiclass", labels=tuple("abc"), samples=60, images=False):
    random = np.random.default_rng(0)
    shape = (samples, 28, 28) if images else (samples, 4)
    targets = {
        "multiclass": lambda: np.arange(samples) % len(labels),
        "multilabel": lambda: random.integers(0, 2, (samples, len(labels))).astype("float32"),
        "regression": lambda: random.normal(size=(samples, len(labels))).astype("float32"),
    }[kind]()
    return Dataset(
        source="drawn",
        inputs=random.integers(0, 256, shape).astype("uint8" if images else "float32"),
        targets=targets,
        task=kind,
        labels=labels,
        columns=() if images else tuple("wxyz"),
    )


def predictions_for(data, test):
    random = np.random.default_rng(0)
    predictions = random.uniform(size=(len(test), len(data.labels))).astype("float32")
    if data.task == "multiclass":
        predictions /= predictions.sum(axis=1, keepdims=True)
    return predictions


def drawn(folder, data, history=HISTORY, predictions=None, step=1):
    random = np.random.default_rng(0)
    test = np.arange(0, len(data.targets) // 2, step)
    predictions = predictions_for(data, test) if predictions is None else predictions
    draw_figures(folder / "figures", history, data, test, predictions)
    features = random.normal(size=(len(test), 5)).astype("float32")
    draw_projection(data, test, features, folder / "figures" / "features_projection.png")
    paths = sorted((folder / "figures").iterdir())
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 200, path
            some = image.convert("RGB").resize((100, 100), Image.Resampling.NEAREST)
            assert len(some.getcolors(10_000)) > 10, path
    return {path.stem for path in paths}


COMMON = {"learning_curves", "features_projection"}
CLASSES = COMMON | {"confusion_matrix", "reliability_diagram"}
RANKED = {"roc", "precision_recall"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (dataset(), CLASSES),
        (dataset(labels=("no", "yes")), CLASSES | RANKED),
        (dataset(images=True), CLASSES | {"mistakes"}),
        (dataset("multilabel"), COMMON | RANKED),
        (dataset("multilabel", images=True), COMMON | RANKED | {"mistakes"}),
        (dataset("multilabel", tuple(map(str, range(14)))), COMMON | RANKED),
        (dataset("regression"), COMMON | {"predicted_and_true"}),
        (dataset("regression", ("one",)), COMMON | {"predicted_and_true"}),
        (dataset("regression", images=True), COMMON | {"predicted_and_true", "mistakes"}),
        (dataset(labels=tuple(f"class {n}" for n in range(40)), samples=200), CLASSES),
    ],
    ids=[
        *("classes", "two", "images", "labels", "labels of images", "14 labels", "values"),
        *("one value", "values of images", "40 classes"),
    ],
)
def test_the_figures_suit_the_task(data, expected, tmp_path):
    assert drawn(tmp_path, data) == expected


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_figures_accept_unusual_names(kind, tmp_path):
    assert "learning_curves" in drawn(tmp_path, dataset(kind, ODD))


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_without_mistakes_no_sheet_of_mistakes_is_drawn(kind, tmp_path):
    data = dataset(kind, images=True)
    targets = data.targets[np.arange(30)]
    exact = np.eye(3, dtype="float32")[targets] if kind == "multiclass" else targets
    assert "mistakes" not in drawn(tmp_path, data, predictions=exact)


def captions(data, predictions, thresholds, path, monkeypatch):
    shown = []
    monkeypatch.setattr(Axes, "text", lambda *arguments, **_: shown.append(arguments[3]))
    draw_mistakes(data, np.arange(len(predictions)), predictions, thresholds, path)
    return shown


def test_the_sheet_of_mistakes_begins_with_the_worst(tmp_path, monkeypatch):
    path = tmp_path / "mistakes.png"
    labels = dataclasses.replace(
        dataset("multilabel", ("red", "ball"), images=True), targets=np.eye(2)
    )
    sure = np.array([[0.9, 0.6], [0.3, 0.2]])
    found = captions(labels, sure, None, path, monkeypatch)
    assert found == ["ball:\nyes → no 0.80", "ball:\nno → yes 0.60"]
    found = captions(labels, sure, (0.5, 0.1), path, monkeypatch)
    assert found == ["ball:\nno → yes 0.60"]
    values = dataclasses.replace(
        dataset("regression", ("meters", "tons"), images=True),
        targets=np.array([[1000.0, 0.1], [3000.0, 0.3], [2000.0, 0.2]]),
    )
    predicted = values.targets + np.array([[100, 0], [0, 0.3], [0, 0]])
    found = captions(values, predicted, None, path, monkeypatch)
    assert found == ["tons:\n0.3 → 0.6", "meters:\n1,000 → 1,100"]


def test_a_single_epoch_is_drawn(tmp_path):
    assert "learning_curves" in drawn(tmp_path, dataset("regression", ("one",)), HISTORY[:1])


def test_a_class_may_be_absent_from_the_test_split(tmp_path):
    data = dataset(labels=("a", "b"))  # every second sample has the first class
    assert drawn(tmp_path, data, step=2) == CLASSES


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_threshold_is_marked_on_the_curve_of_precision_and_recall(kind, tmp_path):
    data = dataset(kind, ("no", "yes"))
    test = np.arange(60)
    predictions = predictions_for(data, test)
    pictures = []
    for folder, thresholds in (("plain", None), ("chosen", (0.7, 0.3))):
        draw_figures(tmp_path / folder, HISTORY, data, test, predictions, thresholds)
        pictures.append(picture(tmp_path / folder / "precision_recall.png"))
    assert (pictures[0] != pictures[1]).any()


def test_epochs_of_smaller_images_are_marked_on_the_learning_curves(tmp_path):
    data, test = dataset("regression", ("one",)), np.arange(60)
    values = predictions_for(data, test)
    pictures = []
    for folder, smaller in (("plain", 0), ("marked", 1)):
        draw_figures(tmp_path / folder, HISTORY, data, test, values, smaller_epochs=smaller)
        pictures.append(picture(tmp_path / folder / "learning_curves.png"))
    assert (pictures[0] != pictures[1]).any()


def test_only_the_caption_of_growing_images_speaks_of_smaller_ones():
    plain, growing = (captions_of_run(grows) for grows in (False, True))
    assert "smaller" not in plain["learning_curves"]
    assert growing["learning_curves"].startswith(plain["learning_curves"])
    assert "images were smaller (progressive_resizing)" in growing["learning_curves"]
    assert list(plain) == list(growing)


@given(st.lists(st.text("ab \n", min_size=1, max_size=40), unique=True), st.integers(12, 20))
def test_names_that_differ_are_shortened_differently(names, length):
    lines = [" ".join(name.split()) for name in names]
    found = short_names(names, length)
    assert all(len(text) <= length for text in found)
    assert len(set(found)) == len(set(lines))
    assert all(text == line for text, line in zip(found, lines, strict=True) if len(line) <= length)


def test_of_names_with_an_equal_beginning_the_end_is_shown():
    names = ["petal length at the base (cm)", "petal length at the base (in)", "petal width"]
    assert short_names(names) == ["petal leng…base (cm)", "petal leng…base (in)", "petal width"]
    assert short_names(["a long name without another"]) == ["a long name without…"]
    inside = [f"the middle of this {one} is in the middle" for one in ("x", "y")]
    assert short_names(inside) == ["the middle of this…1", "the middle of this…2"]


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
@example(2006.0, 1.0)
@example(0.0, 1e-9)
@example(0.5, 1e-8)
@example(0.0, 1e20)
def test_ticks_that_differ_are_written_differently(low, length):
    axes = Figure(figsize=(4, 3)).subplots()
    axes.set_xlim(low, low + length)
    write_ticks(axes.xaxis)
    ticks = axes.get_xticks()
    texts = axes.xaxis.get_major_formatter().format_ticks(ticks)
    numbers = [float(text.replace(",", "")) for text in texts]
    assert np.abs(numbers - ticks).max() < np.diff(ticks).min() / 50


def test_ticks_have_no_more_decimals_than_they_need():
    axes = Figure(figsize=(4, 3)).subplots()
    write_ticks(axes.xaxis)
    for ticks, texts in (
        ([2006, 2006.5, 2007], ["2,006", "2,006.5", "2,007"]),
        ([-0.25, 0, 0.25], ["-0.25", "0", "0.25"]),
        ([0, 200_000, 400_000], ["0", "200,000", "400,000"]),
        ([2006.123], ["2,006"]),
    ):
        assert axes.xaxis.get_major_formatter().format_ticks(ticks) == texts


@pytest.mark.parametrize("labels", [("one",), ODD])
def test_residuals_are_drawn_with_and_without_intervals(labels, tmp_path):
    data = dataset("regression", labels)
    values = predictions_for(data, np.arange(60))
    pictures = []
    for name, widths in (("with", [0.5] * len(labels)), ("without", None)):
        draw_residuals(data.targets, values, labels, widths, tmp_path / f"{name}.png")
        pictures.append(picture(tmp_path / f"{name}.png"))
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize(
    "data",
    [dataset(labels=("no", "yes")), dataset(labels=ODD), dataset("regression", ODD)],
    ids=["two", "five", "values"],
)
def test_columns_are_drawn_with_unusual_names_and_missing_texts(data, tmp_path):
    random = np.random.default_rng(0)
    rows = [{"name": name, "drop": n / 9, "low": n / 10, "high": n / 8}
            for n, name in enumerate(ODD * 4)]  # fmt: skip
    importance = {"score": "r2", "columns": rows, "column_count": 400}
    draw_importance(importance, tmp_path / "importance.png")
    outputs = len(data.labels)
    dependence = [
        {"name": ODD[0], "values": [0.0, 1.0], "predictions": random.random((2, outputs)).tolist()},
        {"name": ODD[1], "values": ["", *ODD], "predictions": random.random((6, outputs)).tolist()},
        {"name": ODD[2], "values": [1.0], "predictions": random.random((1, outputs)).tolist()},
    ]
    draw_dependence(dependence, data, tmp_path / "dependence.png")
    assert len({picture(path).shape for path in tmp_path.iterdir()}) == 2
    draw_dependence([], data, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_dependence_on_columns_says_if_it_shows_some_classes_only(tmp_path):
    predictions = np.random.default_rng(0).random((3, 6))
    for count in (5, 6):
        rows = [{"name": "x", "values": [1.0, 2.0, 3.0], "predictions": predictions[:, :count]}]
        data = dataset(labels=tuple("abcdef"[:count]))
        draw_dependence(rows, data, tmp_path / f"{count}.png")
    assert (picture(tmp_path / "5.png") != picture(tmp_path / "6.png")).any()


def test_dependence_of_several_values_does_not_depend_on_their_units(tmp_path):
    random = np.random.default_rng(0)
    data = dataset("regression", ("length", "weight"))
    predictions = random.random((3, 2))
    for name, unit in (("plain", (1, 1)), ("units", (1e6, 1e-3))):
        rows = [{"name": "x", "values": [1.0, 2.0, 3.0], "predictions": predictions * unit}]
        scaled = dataclasses.replace(data, targets=data.targets * unit)
        draw_dependence(rows, scaled, tmp_path / f"{name}.png")
    assert (picture(tmp_path / "plain.png") == picture(tmp_path / "units.png")).all()


def test_scores_by_size_are_drawn(tmp_path):
    rows = [{"samples": 10 * n, "train": 1.0, "validation": n / 4} for n in (1, 2, 3)]
    left_out = [{"samples": 3, "reason": "too few"}]
    draw_training_sizes(rows, left_out, "accuracy", tmp_path / "sizes.png")
    assert (tmp_path / "sizes.png").stat().st_size > 1000


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.alternatives = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        self.alternatives += [value for name, value in attrs if name == "alt"]


def test_the_report_is_one_file_without_external_resources(tmp_path):
    data = dataset(labels=ODD, samples=100)
    names = drawn(tmp_path, data)
    counts = {split: dict.fromkeys(ODD, 1) for split in ("train", "test")}
    facts = {
        "sha256": "0" * 64,
        "kind": "images",
        "task": "multiclass",
        "labels": list(ODD),
        "samples": {"train": 70, "test": 30},
        "counts": counts,
        "missing": {"x": 3},
        "duplicates": {"test": 2},
        "skipped": ["<b>broken.png"],
        "is_decoded_each_epoch": True,
    }
    environment = {
        "finished": "today",
        "epochs": 3,
        "seconds": 2.0,
        "parameters": 1234,
        "examples_per_s": 10.0,
        "wait_fraction": 0.01,
        "device": "cpu:0",
        "precision": "float32",
        "xla": False,
        "step_ms": {"float32": 2.345, "mixed_bfloat16": 1234.5},
        "backend": "tensorflow",
        "versions": {"keras": "3"},
    }
    classes = [
        {"name": f"class {n}", "samples": n, "precision": 0.125, "recall": 0.5, "f1": n / 20}
        for n in range(20)
    ]
    probes = {
        "score": "accuracy",
        "linear": 0.375,
        "nearest_neighbors": 0.625,
        "recall_at_1": 0.875,
        "dimension": 16,
        "train_samples": 50,
        "test_samples": 30,
    }
    metrics = {"train": {"accuracy": 0.5}, "test": {"accuracy": 0.25}}
    settings = {"hidden": [8], "residual": True}
    config = make_config("features", settings, data="/secret/folder/drawn.csv")
    evaluation = {"classes": classes, "probes": probes}
    folder = tmp_path / "two words" / "results"
    folder.mkdir(parents=True)
    (tmp_path / "figures").rename(folder / "figures")
    write_report(folder, config, facts, metrics, environment, evaluation)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert f"hornbill export &#39;{folder.parent}&#39;" in text
    assert "script" not in page.tags
    assert "b" in page.tags  # used in captions
    assert "<b>broken.png" not in text
    assert "2.3 ms in float32, 1,234.5 ms in mixed_bfloat16" in text
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert len(page.addresses) == len(page.alternatives) == len(names)
    assert not re.search(r"https?://", text)
    assert "/secret" not in text
    assert "25.0%" in text
    speed = "0.7 s an epoch, 10 images/s after the first step, "
    assert f"{speed}1.0% of the step time spent waiting for data" in text
    shown, _, rest = text.partition("<summary>8 more</summary>")
    assert shown.count(">12.5%<") == 12
    assert rest.count(">12.5%<") == 8
    assert "50 of the 70 training images, and are tested on 30 test images" in text
    assert all(f">{score}<" in text for score in ("37.5%", "62.5%", "87.5%"))
    top, _, rest = text.partition("<h2>Scores</h2>")
    assert re.findall("<h2>(.*?)</h2>", top) == [
        "What it does", "How good that is", "What it gets wrong",
    ]  # fmt: skip
    _, _, changed = rest.partition("<h3>Changed settings</h3>")
    changed, _, rest = changed.partition("</table>")
    assert re.findall('<tr><th scope="row"><code>(.*?)</code>', changed) == ["hidden", "residual"]
    assert '<td><code>8</code></td><td class="soft"><code>64, 32</code></td>' in changed
    assert re.search("<details><summary>All .. settings</summary>", rest)
