"""The examples of the documentation run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "docs" / "examples").glob("train_*.py"))
PAGES = {"training.md": (), "tuning.md": (pytest.mark.slow,)}
BLOCKS = [
    pytest.param(block, marks=marks, id=page)
    for page, marks in PAGES.items()
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
]


def run(arguments, folder):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_script_runs(script, tmp_path):
    finished = run([str(script)], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_of_a_page_runs(block, tmp_path):
    finished = run(["-c", block], tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "report.html" in finished.stdout


def test_the_training_page_names_every_setting():
    from app.config import flat_config, make_config

    page = (ROOT / "docs" / "training.md").read_text()
    families = ("digits", "softmax", "features")
    keys = {key for family in families for key in flat_config(make_config(family))}
    keys -= {"family", "data", "seed"}
    missing = [key for key in keys if key.rpartition(".")[2] not in page]
    assert not missing
