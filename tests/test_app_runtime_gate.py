"""`hornbill verify --runtimes`: a version of ONNX Runtime that changes an answer is named."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
from conftest import BUNDLES

from app.bundles import runtime_gate
from app.bundles.runtime_gate import parse_versions, try_runtimes
from app.errors import ConfigError, RunError
from export import export_bundle

BUNDLE = BUNDLES / "dist" / "digits" / "1"
# A package that loads the installed onnxruntime with a session whose rewrite of graphs is broken.
SHIM = """
import importlib, sys
sys.path = [path for path in sys.path if path != {folder!r}] + [{packages!r}]
del sys.modules["onnxruntime"]
real = importlib.import_module("onnxruntime")
class Session(real.InferenceSession):
    def run(self, *arguments):
        return [output {change} for output in super().run(*arguments)]
real.InferenceSession = Session
"""
PACKAGES = str(Path(onnxruntime.__file__).parents[1])


def install_numpy(folder):
    for path in Path(PACKAGES).glob("numpy*"):
        (folder / path.name).symlink_to(path)


def install_broken(version, folder, change="[..., ::-1]"):
    install_numpy(folder)
    package = folder / "onnxruntime"
    package.mkdir()
    text = SHIM.format(folder=str(folder), packages=PACKAGES, change=change)
    (package / "__init__.py").write_text(text)


def test_a_runtime_with_a_broken_rewrite_is_named(run, monkeypatch):
    monkeypatch.setattr(runtime_gate, "try_runtimes", partial(try_runtimes, install=install_broken))
    code, output, _ = run("verify", BUNDLE.parent, "--runtimes", "9.8.7", "--json")
    assert code == 1
    found = json.loads(output)
    assert not found["passed"]
    assert all(check["passed"] for check in found["checks"])
    here, other = found["runtimes"]
    assert (here["version"], here["changed"], here["samples"]) == (onnxruntime.__version__, 0, 32)
    assert other["changed"] > 16
    assert other["largest_difference"] > 0.1
    _, text, _ = run("verify", BUNDLE.parent, "--runtimes", "9.8.7")
    assert [line[-4:] for line in text.splitlines()[-2:]] == ["PASS", "FAIL"]


def test_the_folder_of_a_version_is_removed_when_the_command_is_ended(run, monkeypatch):
    folders = []

    def install(_, folder):
        folders.append(folder)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(runtime_gate, "try_runtimes", partial(try_runtimes, install=install))
    status, output, error = run("verify", BUNDLE, "--runtimes", "9.8.7")
    assert status == 130
    assert output.count("PASS") == 3  # the checks are shown before something is installed
    assert error == "installing onnxruntime 9.8.7 …\nhornbill: Interrupted.\n"
    assert not folders[0].exists()


@pytest.mark.parametrize("change", ["* 1.001", "* float('nan')"])
def test_floats_that_differ_by_more_than_the_proof_allows_are_other_answers(
    change, run, monkeypatch
):
    install = partial(install_broken, change=change)
    monkeypatch.setattr(runtime_gate, "try_runtimes", partial(try_runtimes, install=install))
    status, output, _ = run("verify", BUNDLE.parent, "--runtimes", "9.8.7", "--json")

    def refuse(constant):
        raise AssertionError(constant)

    _, other = json.loads(output, parse_constant=refuse)["runtimes"]
    assert status == 1
    assert (other["changed"], other["failure"]) == (32, "")
    assert (other["largest_difference"] is None) == ("nan" in change)
    status, text, _ = run("verify", BUNDLE.parent, "--runtimes", "9.8.7")
    assert (status, text.splitlines()[-1][-4:]) == (1, "FAIL")


@pytest.mark.parametrize("change", ["", "* 1.001"])
def test_an_output_without_a_row_for_each_sample_is_compared_as_a_whole(change, tmp_path):
    start = keras.Input((4,), name="x")
    outputs = {"mean": keras.ops.mean(start), "centered": start - keras.ops.mean(start, axis=0)}
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    bundle = export_bundle(keras.Model(start, outputs), tmp_path, "own", samples=rows)
    reports = try_runtimes(bundle, ["9.8.7"], partial(install_broken, change=change))
    changed = [report.changed for report in reports]
    assert [report.failure for report in reports] == ["", ""]
    assert changed == [0, reports[1].samples if change else 0]


def test_a_pip_that_takes_too_long_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime_gate, "_INSTALL_SECONDS", 0.01)
    with pytest.raises(RunError, match=r"onnxruntime 9.8.7 must be installed within 0.01 seconds"):
        runtime_gate.install_runtime("9.8.7", tmp_path)


def test_rounding_is_no_other_answer():
    install = partial(install_broken, change="* 1.000005")
    here, other = try_runtimes(BUNDLE, ["9.8.7"], install)
    assert (other.changed, other.failure) == (0, "")
    assert here.largest_difference < other.largest_difference < 1e-4
    assert min(other.load_ms, other.latency_ms) > 0


def test_a_runtime_that_cannot_run_the_bundle_is_told_in_one_line():
    def install(version, folder):
        install_numpy(folder)
        (folder / "onnxruntime.py").write_text("raise OSError('no such instruction')")

    _, other = try_runtimes(BUNDLE, ["9.8.7"], install)
    assert (other.version, other.failure) == ("9.8.7", "OSError: no such instruction")


@pytest.mark.parametrize("text", ["", "abc", "latest", "1.20.1,", "1.20.1;rm", ">=1.2"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(ConfigError, match="must be versions of onnxruntime"):
        parse_versions(text)


def test_versions_are_tried_once_and_in_order():
    assert parse_versions("1.24.4, 1.20.1,1.24.4") == ["1.24.4", "1.20.1"]


@pytest.mark.slow  # pip asks the package index
def test_a_version_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    with pytest.raises(RunError, match=r"onnxruntime 0.1.2 cannot be installed here"):
        runtime_gate.install_runtime("0.1.2", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # pip installs packages
@pytest.mark.parametrize("version", ["1.17.3", "1.20.1"])
def test_an_older_version_runs_with_numpy_alone(version):
    _, other = try_runtimes(BUNDLE, [version])
    assert (other.version, other.changed, other.failure) == (version, 0, "")


def test_the_workflow_for_other_teams_is_valid():
    yaml = pytest.importorskip("yaml")
    path = BUNDLES.parents[1] / "docs" / "examples" / "verify_bundle.yml"
    found = yaml.safe_load(path.read_text())
    steps = found["jobs"]["verify"]["steps"]
    assert "hornbill verify" in steps[-1]["run"]
    assert all(version in found["env"]["RUNTIMES"] for version in parse_versions("1.20.1,1.24.4"))
