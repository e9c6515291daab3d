"""Thresholds and intervals of a bundle: what is decided, and where it is told."""

import io
import json
import math
import re
import shutil

import numpy as np
import pytest
from checksums import write_checksums
from color_bundles import write_color_bundle
from live import start
from PIL import Image

from serving import Predictor, verify_bundle
from serving.decisions import decide
from serving.errors import ManifestError
from serving.manifest import Manifest
from serving.server import Settings

NAMES = ("red", "green", "blue")
CHOSEN = {"rule": "f1", "chosen_on": "some", "measured_on": "others"}
LABELS = CHOSEN | {
    "values": [0.9, 0.5, 0.1],
    "positive": None,
    "precision": [1.0, 1.0, 1.0],
    "recall": [1.0, 1.0, 1.0],
}
CLASSES = CHOSEN | {
    "values": [0.7, 0.3],
    "positive": "yes",
    "precision": [1.0, 1.0],
    "recall": [1.0, 1.0],
}
INTERVALS = {
    "coverage": 0.9,
    "half_widths": [1.0, 2.0, 4.0],
    "fitted_on": "some",
    "measured_on": "others",
    "measured_coverage": [0.9, 0.9, 0.9],
}


def changed(version, folder, **keys):
    """Return a copy of a version with other keys in its manifest."""
    copy = shutil.copytree(version, folder / version.parent.name / version.name)
    path = copy / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    write_checksums(copy)
    return copy


def images(*colors):
    return np.stack([np.full((32, 32, 3), color, np.uint8) for color in colors])


def test_two_classes_follow_the_threshold_of_the_second(raw_bundle, tmp_path):
    plain, rows = Predictor.load(raw_bundle[0]), raw_rows()
    probabilities = plain.predict(rows).probabilities
    assert plain.predict(rows).labels == [("no", "yes")[p] for p in probabilities.argmax(axis=1)]
    median = float(np.median(probabilities[:, 1]))
    thresholds = CLASSES | {"values": [1 - median, median]}
    decided = Predictor.load(changed(raw_bundle[0], tmp_path, thresholds=thresholds)).predict(rows)
    assert decided.labels == ["yes" if p >= median else "no" for p in probabilities[:, 1]]
    assert 0 < decided.labels.count("yes") < len(rows["inputs"])


def test_the_first_of_two_classes_can_always_be_predicted(raw_bundle, tmp_path):
    """Also where the second has a probability of 1."""
    cut = 0.0, math.nextafter(1, 2)
    version = changed(raw_bundle[0], tmp_path, thresholds=CLASSES | {"values": cut})
    assert all(check.passed for check in verify_bundle(version))
    assert set(Predictor.load(version).predict(raw_rows()).labels) == {"no"}
    assert decide("multiclass", np.float32([[0, 1], [1, 0]]), cut).tolist() == [0, 0]
    with pytest.raises(ManifestError, match="a probability for each label"):
        Predictor.load(
            changed(raw_bundle[0], tmp_path / "2", thresholds=CLASSES | {"values": [0, 1.01]})
        )


def raw_rows():
    random = np.random.default_rng(0)
    numbers = random.normal(size=(50, 2)).astype("float32")
    return {"inputs": numbers, "texts": random.choice(["red", "blue"], (50, 1)).astype(object)}


def test_each_label_has_a_threshold(bundle, tmp_path):
    version = write_color_bundle(tmp_path, bundle, "multilabel", thresholds=LABELS)
    predictor = Predictor.load(version)
    colors = images((128, 128, 128), (128, 128, 119), (128, 128, 110))
    assert [p[2] > 0.1 for p in predictor.predict(colors).probabilities] == [True, True, False]
    assert predictor.predict(colors).labels == [("green", "blue"), ("green", "blue"), ("green",)]


def test_values_have_the_ends_of_their_intervals(bundle, tmp_path):
    version = write_color_bundle(tmp_path, bundle, "regression", intervals=INTERVALS)
    prediction = Predictor.load(version).predict(images((10, 20, 30)))
    assert prediction.lower.tolist() == [[9, 18, 26]]
    assert prediction.upper.tolist() == [[11, 22, 34]]
    assert prediction.upper.dtype == np.float32


def test_values_without_intervals_have_no_ends(bundle, tmp_path):
    version = write_color_bundle(tmp_path, bundle, "regression")
    prediction = Predictor.load(version).predict(images((10, 20, 30)))
    assert prediction.lower is None
    assert prediction.upper is None


def test_a_bundle_of_an_earlier_version_has_neither(bundle):
    text = json.loads((bundle / "manifest.json").read_text())
    for key in (
        "thresholds",
        "intervals",
        "reference_scores",
        "importance",
        "warnings",
        "positive",
    ):
        text.pop(key, None)
    manifest = Manifest.from_json(json.dumps(text).encode())
    assert (manifest.thresholds, manifest.intervals, manifest.importance) == (None, None, None)
    assert (manifest.reference_scores, manifest.warnings) == ({}, ())


@pytest.mark.parametrize(
    ("task", "keys", "message"),
    [
        ("multiclass", {"thresholds": CLASSES}, "a probability for each label. Received: .* 3 lab"),
        ("multiclass", {"thresholds": LABELS | {"values": [0.5, 0.6, 0.1]}}, "must sum to 1"),
        ("multiclass", {"thresholds": LABELS | {"values": [0.5, 0.5, 0]}}, "must be above 0"),
        ("regression", {"thresholds": LABELS}, "need classes or labels. Received: 3 values"),
        ("multilabel", {"thresholds": CLASSES}, "a probability for each label. Received: .* 3 lab"),
        ("multilabel", {"thresholds": LABELS | {"values": [2, 0, 0]}}, "for each label"),
        ("multilabel", {"intervals": INTERVALS}, "intervals need task=regression"),
        ("regression", {"intervals": INTERVALS | {"half_widths": [1]}}, "half width of at least 0"),
        ("regression", {"intervals": INTERVALS | {"half_widths": [1, 2, -1]}}, "at least 0"),
        ("regression", {"intervals": INTERVALS | {"coverage": 1}}, "between 0 and 1. Received: 1"),
    ],
)  # fmt: skip
def test_thresholds_and_intervals_that_do_not_fit_the_model_are_refused(
    task, keys, message, bundle, tmp_path
):
    version = write_color_bundle(tmp_path, bundle, task, **keys)
    with pytest.raises(ManifestError, match=message):
        Predictor.load(version)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"thresholds": CLASSES | {"values": [0.3, 0.3]}}, "must sum to 1"),
        (
            {
                "thresholds": CLASSES,
                "reject_option": {
                    "threshold": 0.9,
                    "target_accuracy": 0.9,
                    "chosen_on": "some",
                    "measured_on": "others",
                    "coverage": 0.5,
                    "accuracy": 0.9,
                },
            },
            "either thresholds or a reject_option",
        ),
    ],
)
def test_thresholds_of_two_classes_are_consistent(keys, message, raw_bundle, tmp_path):
    with pytest.raises(ManifestError, match=message):
        Predictor.load(changed(raw_bundle[0], tmp_path, **keys))


@pytest.mark.parametrize(
    ("task", "keys"),
    [("multilabel", {"thresholds": LABELS}), ("regression", {"intervals": INTERVALS})],
)
def test_a_bundle_with_thresholds_or_intervals_verifies(task, keys, bundle, tmp_path):
    version = write_color_bundle(tmp_path, bundle, task, **keys)
    checks = verify_bundle(version)
    assert all(check.passed for check in checks), checks


@pytest.fixture(scope="module")
def client(bundle, raw_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_color_bundle(folder, bundle, "regression", name="means", intervals=INTERVALS)
    write_color_bundle(folder, bundle, "multilabel", name="colors", thresholds=LABELS)
    changed(raw_bundle[0], folder, thresholds=CLASSES)
    client, stop = start(Settings(folder, log_requests=False))
    yield client
    stop()


def infer(client, name, tensors, *outputs):
    inputs = [
        {
            "name": key,
            "shape": list(array.shape),
            "datatype": {"u": "UINT8", "f": "FP32", "O": "BYTES"}[array.dtype.kind],
            "data": array.ravel().tolist(),
        }
        for key, array in tensors.items()
    ]
    wanted = {"outputs": [{"name": output} for output in outputs]} if outputs else {}
    status, response = client.post(f"/v2/models/{name}/infer", {"inputs": inputs, **wanted})
    return status, response


def test_the_server_returns_intervals_where_they_are_requested(client):
    image = {"image": images((10, 20, 30), (1, 2, 3))}
    _, plain = infer(client, "means", image)
    assert [output["name"] for output in plain["outputs"]] == ["values"]
    _, response = infer(client, "means", image, "lower", "values", "upper")
    lower, values, upper = response["outputs"]
    assert (upper["name"], upper["datatype"], upper["shape"]) == ("upper", "FP32", [2, 3])
    assert values["data"] == plain["outputs"][0]["data"]
    assert lower["data"] == [9, 18, 26, 0, 0, -1]
    assert upper["data"] == [11, 22, 34, 2, 4, 7]


def test_the_server_returns_decisions_where_they_are_requested(client, raw_bundle):
    rows = raw_rows()
    _, response = infer(client, "raw", rows, "label", "probabilities")
    label, probabilities = response["outputs"]
    assert (label["datatype"], label["shape"]) == ("BYTES", [50])
    second = np.float32(probabilities["data"])[1::2]
    assert label["data"] == ["yes" if p >= np.float64(0.3) else "no" for p in second]
    _, response = infer(client, "colors", {"image": images((128, 128, 119))}, "labels")
    (labels,) = response["outputs"]
    assert (labels["datatype"], labels["data"]) == ("BOOL", [False, True, True])
    status, response = infer(client, "raw", rows, "lower")
    assert status == 400
    assert "Outputs must be among probabilities, features, label" in response["error"]


def test_rows_of_a_table_get_their_labels(client):
    rows = raw_rows()
    cells = [
        {"size": str(size), "weight": weight, "color": color}
        for (size, weight), (color,) in zip(rows["inputs"].tolist(), rows["texts"], strict=True)
    ]
    _, response = infer(client, "raw", rows, "label")
    expected = response["outputs"][0]["data"]
    status, answer = client.post("/v1/models/raw:predict", {"instances": cells})
    assert status == 200, answer
    assert [row["label"] for row in answer["predictions"]] == expected
    by_column = {name: [row[name] for row in cells] for name in cells[0]}
    _, answer = client.post("/v1/models/raw:predict", {"inputs": by_column})
    assert answer["outputs"]["label"] == expected
    tensors = {name: array.tolist() for name, array in rows.items()}
    _, answer = client.post("/v1/models/raw:predict", {"inputs": tensors})
    assert answer["outputs"].keys() == {"probabilities", "features"}


def test_an_image_file_gets_the_labels_and_the_intervals(client):
    file = io.BytesIO()
    Image.fromarray(images((128, 128, 119))[0]).save(file, "png")
    _, _, body = client("POST", "/images/colors", file.getvalue())
    assert json.loads(body)["labels"] == ["green", "blue"]
    _, _, body = client("POST", "/images/means", file.getvalue())
    assert json.loads(body)["lower"] == [127, 126, 115]
    assert json.loads(body)["upper"] == [129, 130, 123]


def test_predictions_are_counted_by_the_class_that_is_predicted(client):
    before = counted(client, "yes")
    _, response = infer(client, "raw", raw_rows(), "label")
    (label,) = response["outputs"]
    assert counted(client, "yes") - before == label["data"].count("yes") > 0


def counted(client, label):
    _, _, text = client("GET", "/metrics")
    found = re.findall(
        f'hornbill_predictions_total.*label="{label}",model="raw".* (.*)', text.decode()
    )
    return sum(map(float, found))


def test_predict_prints_the_decision_and_the_intervals(bundle, raw_bundle, tmp_path, run):
    version = changed(raw_bundle[0], tmp_path, thresholds=CLASSES | {"values": [1.0, 0.0]})
    _, output, _ = run("predict", version, raw_bundle[1], "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert {line["label"] for line in lines} == {"yes"}
    _, output, _ = run("predict", version, raw_bundle[1])
    first = next(line for line in output.splitlines() if "yes" in line)
    assert f"{lines[0]['probabilities']['yes']:.4f}" in first
    values = write_color_bundle(tmp_path, bundle, "regression", intervals=INTERVALS)
    Image.fromarray(images((10, 20, 30))[0]).save(tmp_path / "color.png")
    _, output, _ = run("predict", values, tmp_path / "color.png", "--json")
    line = json.loads(output)
    assert line["values"] == {"red": 10, "green": 20, "blue": 30}
    assert line["lower"] == {"red": 9, "green": 18, "blue": 26}
    assert line["upper"] == {"red": 11, "green": 22, "blue": 34}
    _, output, _ = run("predict", values, tmp_path / "color.png")
    head, row, _ = output.splitlines()
    assert head.split() == ["file", "red", "lower", "upper", "green", "lower", "upper", "blue",
                            "lower", "upper"]  # fmt: skip
    assert row.split()[1:4] == ["10", "9", "11"]


def test_predict_names_the_thresholds_below_its_table(run, bundle, tmp_path):
    version = write_color_bundle(tmp_path, bundle, "multilabel", thresholds=LABELS)
    Image.fromarray(images((200, 10, 10))[0]).save(tmp_path / "red.png")
    status, output, error = run("predict", version, tmp_path / "red.png")
    assert (status, error) == (0, "")
    *_, red, green, blue, _ = output.splitlines()
    assert red == '"red" is predicted from a probability of 0.9000 on (threshold=f1)'
    assert (green.split()[0], blue.split()[0]) == ('"green"', '"blue"')


def test_of_three_classes_predict_does_not_state_a_probability_as_threshold(run, bundle, tmp_path):
    thresholds = LABELS | {"values": [0.7, 0.2, 0.1], "rule": "class_weight=balanced"}
    version = write_color_bundle(tmp_path, bundle, thresholds=thresholds)
    Image.fromarray(images((200, 10, 10))[0]).save(tmp_path / "red.png")
    status, output, error = run("predict", version, tmp_path / "red.png")
    assert (status, error) == (0, "")
    assert "is predicted from a probability" not in output
    assert "largest relative to its fraction" in output
    assert "(class_weight=balanced)" in output
