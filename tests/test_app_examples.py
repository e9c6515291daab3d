"""The examples of the documentation run as they stand."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# train_images.py runs in test_app_features_page.py, which draws the images.
SCRIPTS = ROOT / "docs" / "examples"
# Tables and searches have tests of their own, which are shorter.
SLOW = (pytest.mark.slow,)
PAGES = {"training.md": (), "tables.md": SLOW, "tuning.md": SLOW}
BLOCKS = [
    pytest.param(block, marks=marks, id=page)
    for page, marks in PAGES.items()
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
]


# Run in this process, which has already imported what they import.
@pytest.mark.slow
def test_the_example_script_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(SCRIPTS / "train_digits.py"), run_name="__main__")
    assert capsys.readouterr().out


OWN_CODE = ["train_own_model", "train_own_data", "train_from_file"]


@pytest.mark.parametrize("name", OWN_CODE)
def test_the_scripts_of_own_code_are_short(name):
    script = (SCRIPTS / f"{name}.py").read_text()
    compile(script, name, "exec")
    assert len(script.splitlines()) <= 30


# What the other scripts do, test_app_own_models.py does in short.
@pytest.mark.parametrize(
    "name", [OWN_CODE[0], *(pytest.param(name, marks=SLOW) for name in OWN_CODE[1:])]
)
def test_the_scripts_of_own_code_run(name, tmp_path, monkeypatch, capsys):
    import keras

    script = SCRIPTS / f"{name}.py"
    monkeypatch.chdir(tmp_path)
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(8, "relu")])
    net.add(keras.layers.Dense(10, "softmax"))
    net.save("net.keras")
    monkeypatch.setattr("sys.argv", [str(script), "net.keras"])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_examples_of_a_page_run(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.py").write_text(block)
    runpy.run_path("block.py", run_name="__main__")
    assert "report.html" in capsys.readouterr().out


def test_the_pages_name_every_setting():
    from app.config.run_config import flat_config, make_config

    page = "".join(
        (ROOT / "docs" / name).read_text() for name in ("training.md", "tables.md", "images.md")
    )
    families = ("digits", "softmax", "features")
    keys = {key for family in families for key in flat_config(make_config(family))}
    keys |= set(flat_config(make_config("net.py:build")))
    keys -= {"family", "data", "seed"}
    missing = [key for key in keys if key.rpartition(".")[2] not in page]
    assert not missing
