"""docs/scale.md: its figures are the measured ones, and its manifest has KServe's fields."""

import ast
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from benchmarks.results import read_results

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "scale.md").read_text()
# KServe's client classes for serving.kserve.io/v1beta1, by path in the manifest.
CLASSES = {
    "": "v1beta1_inference_service",
    "spec": "v1beta1_inference_service_spec",
    "spec.predictor": "v1beta1_predictor_spec",
    "spec.predictor.model": "v1beta1_model_spec",
    "spec.predictor.model.modelFormat": "v1beta1_model_format",
}
FIELDS = {
    "": {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict},
    "spec": {"predictor": dict},
    "spec.predictor": {
        "minReplicas": int, "maxReplicas": int, "scaleMetric": str, "scaleTarget": int,
        "model": dict,
    },
    "spec.predictor.model": {
        "modelFormat": dict, "runtime": str, "protocolVersion": str, "storageUri": str,
        "resources": dict,
    },
    "spec.predictor.model.modelFormat": {"name": str, "version": str},
}  # fmt: skip


def at(value, path):
    for name in path.split(".") if path else ():
        value = value[name]
    return value


@pytest.fixture(scope="module")
def service(bundle):
    example = ROOT / "docs" / "examples" / "inference_service.py"
    command = [sys.executable, str(example), str(bundle.parent), "s3://models/dist"]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    return yaml.safe_load(finished.stdout)


def test_the_manifest_has_the_fields_that_kserve_knows(service):
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1", "InferenceService",
    )  # fmt: skip
    assert service["metadata"] == {"name": "digits"}
    for path, fields in FIELDS.items():
        found = at(service, path)
        assert set(found) <= set(fields), path
        assert all(isinstance(value, fields[name]) for name, value in found.items()), path
    assert at(service, "spec.predictor.model.modelFormat") == {"name": "onnx", "version": "1"}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Big.Cats_v2", "big-cats-v2"),
        ("3d-shapes", "model-3d-shapes"),
        ("___", "model"),
        ("a" * 52 + ".b", "a" * 52),
    ],
)
def test_a_service_has_a_name_that_kserve_takes(model, name):
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "inference_service.py"))
    service = yaml.safe_load(example["render_service"](model, "s3://models/dist"))
    assert service["metadata"]["name"] == name


@pytest.mark.slow
def test_the_fields_are_those_of_kserves_client(tmp_path):
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "kserve"]
    subprocess.run([*command, "--dest", str(tmp_path)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("kserve-*.whl")
    kinds = {"str": str, "int": int}
    with zipfile.ZipFile(wheel) as archive:
        for path, name in CLASSES.items():
            tree = ast.parse(archive.read(f"kserve/models/{name}.py"))
            tables = {
                node.targets[0].id: ast.literal_eval(node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
                and isinstance(node.targets[0], ast.Name)
            }  # fmt: skip
            types, names = tables["openapi_types"], tables["attribute_map"]
            theirs = {names[key]: kinds.get(kind, dict) for key, kind in types.items()}
            for field, kind in FIELDS[path].items():
                assert theirs[field] is kind, f"{path}.{field}"


def test_the_figures_are_those_that_were_measured():
    rates = {row["what"]: row["requests_per_s"] for row in read_results("http_load")}
    for what, cores in (("Hornbill, JSON", 108), ("Hornbill, binary", 89)):
        assert f"{rates[what]:,}" in TEXT
        assert -(-1_000_000 // int(0.7 * rates[what])) == cores
        assert f"| {cores} | ${round(cores * 0.04 * 730):,} |" in TEXT
