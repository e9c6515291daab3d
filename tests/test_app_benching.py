"""`hornbill bench`: every installed runtime, compared with the others."""

import json
from importlib.util import find_spec

import pytest

from app.bundles.runtime_benchmark import BATCH_SIZES, bench_bundle
from app.commands.cli import main
from export import ExportError
from serving.bundle import KERAS_MODEL


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
