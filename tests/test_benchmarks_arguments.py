"""Benchmarks whose bundle, folder or data is missing end with one line."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.arguments import bundle_argument, path_argument

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("read", [bundle_argument, path_argument])
def test_what_exists_is_returned(read, bundle):
    assert read(str(bundle)) == bundle


@pytest.mark.parametrize(
    "arguments",
    [("packing", "none"), ("cold_start", "none"), ("comparing", "none", "none"), ("soak", "none")],
)
def test_what_is_missing_is_told_in_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(arguments))
    with pytest.raises(SystemExit, match="^2$"):
        import_module(f"benchmarks.{arguments[0]}").main()
    output, error = capsys.readouterr()
    (line,) = error.splitlines()
    assert output == ""
    assert line.endswith("Received: none, which does not exist.")


def test_a_folder_that_must_be_new_is_refused_if_it_exists(tmp_path):
    command = [sys.executable, "-m", "benchmarks.studies", "--output", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line == f"A new folder must be named. Received: {tmp_path}, which exists."


def test_missing_data_is_told_in_one_line(tmp_path):
    command = [sys.executable, "-m", "benchmarks.image_sets", "--quick"]
    environment = {**os.environ, "HORNBILL_DATA": str(tmp_path)}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert (
        line
        == f"cifar10.tar.xz does not exist. Looked in {ROOT} and, by HORNBILL_DATA, in {tmp_path}."
    )
