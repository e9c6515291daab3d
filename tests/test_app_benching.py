"""`hornbill bench`: every installed runtime, compared with the others."""

import json
from importlib.util import find_spec

import keras
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from app.bundles.runtime_benchmark import BATCH_SIZES, bench_bundle
from app.commands.cli import main
from export import ExportError, ExportOptions, ModelFacts, export_bundle
from models.heads import scale_probabilities
from serving.bundle import KERAS_MODEL, read_manifest
from serving.manifest import Calibration


@pytest.fixture(scope="module")
def row_bundle(exported_row_bundle):
    """A fresh export, not the committed one."""
    return exported_row_bundle


def test_every_runtime_gives_the_outputs_of_keras(row_bundle, softmax_run):
    rows = bench_bundle(row_bundle, softmax_run.folder / KERAS_MODEL, rounds=3)
    names = [row.runtime for row in rows]
    assert names[:3] == ["Keras", "SavedModel", "ONNX Runtime"]
    assert ("OpenVINO" in names) == (find_spec("openvino") is not None)
    assert ("LiteRT" in names) == (find_spec("ai_edge_litert") is not None)
    for row in rows:
        assert row.same_class == 1
        assert row.largest_difference < 1e-4
        assert row.size > 0
        assert set(row.milliseconds) == set(BATCH_SIZES)
        for low, middle, high in row.milliseconds.values():
            assert 0 < low <= middle <= high


def test_a_different_keras_model_is_refused(row_bundle, mlp_run):
    with pytest.raises(ExportError, match="must be the one that was exported"):
        bench_bundle(row_bundle, mlp_run.folder / KERAS_MODEL)


@pytest.mark.parametrize("is_measured", [True, False])
def test_keras_is_measured_for_a_model_that_was_not_trained_here(is_measured, run, tmp_path):
    iris = load_iris()
    fitted = LogisticRegression(C=0.05).fit(iris.data, iris.target)
    head = keras.layers.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((4,), name="measurements"), head])
    head.set_weights([20 * fitted.coef_.T, 20 * fitted.intercept_])  # far too certain
    model.save(tmp_path / "flowers.keras")
    (tmp_path / "labels.txt").write_text("setosa\nversicolor\nvirginica")
    columns = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)"
    options = ["--labels", tmp_path / "labels.txt", "--columns", columns, "--int8", "never"]
    options += ["--evaluate", "iris"] if is_measured else []
    where = ["--output", tmp_path]
    assert run("export", tmp_path / "flowers.keras", *options, *where)[0] == 0
    bundle = tmp_path / "flowers"
    manifest = read_manifest(bundle / "1")
    assert not is_measured or manifest.calibration.temperature > 1
    row = bench_bundle(bundle, tmp_path / "flowers.keras", rounds=1)[0]
    assert (row.runtime, row.same_class) == ("Keras", 1)
    assert row.largest_difference < 1e-5


def test_keras_is_measured_with_probabilities_that_were_scaled_behind_the_last_layer(tmp_path):
    keras.utils.set_random_seed(0)
    start = keras.Input((4,), name="inputs")
    found = keras.layers.Dense(3, activation="softmax")(start)
    smooth = keras.layers.Rescaling(0.7, 0.1, name="probabilities")(found)
    model = keras.Model(start, {"probabilities": smooth})
    model.save(tmp_path / "own.keras")
    scaled = scale_probabilities(model, "probabilities", 0.5, (), True)
    facts = ModelFacts(
        labels=("a", "b", "c"), calibration=Calibration(0.5, "some", "others", 0.1, 0.0)
    )
    bundle = export_bundle(scaled, tmp_path, "own", facts, options=ExportOptions(int8="never"))
    row = bench_bundle(bundle, tmp_path / "own.keras", rounds=1)[0]
    assert row.largest_difference < 1e-5


def test_bench_prints_a_table_or_json_and_writes_a_picture(row_bundle, tmp_path, capfd):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        return caught.value.code or 0, capfd.readouterr().out

    status, output = run("bench", row_bundle, "--picture", tmp_path / "bench.png")
    assert status == 0
    assert "ONNX Runtime" in output
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert run("bench", row_bundle, "--picture", tmp_path / "bench.jpg") == (2, "")
    (tmp_path / "folder.png").mkdir()
    status, output = run("bench", row_bundle, "--picture", tmp_path / "folder.png")
    assert status == 2
    assert "ONNX Runtime" in output  # what was measured is not lost
    status, output = run("bench", row_bundle, "--json")
    assert status == 0
    assert [row["runtime"] for row in json.loads(output)][:2] == ["SavedModel", "ONNX Runtime"]
