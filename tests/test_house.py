"""The rules of the project: imports, documentation, and what the README shows."""

import ast
import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "export", "models", "serving")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FOLDERS = [path.parent for path in MODULES if path.name == "__init__.py"]
# Makes imports of the blocked packages fail, then runs the code that follows.
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocker())
"""
HEAVY = ("tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "matplotlib", "scipy")


def run_python(code, *arguments, blocked=HEAVY):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=blocked) + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_the_predictor_needs_only_numpy_and_onnxruntime(bundle):
    code = """
import numpy as np
from serving import Predictor
predictor = Predictor.load(sys.argv[1])
print(predictor.predict(np.zeros((3, 28, 28), np.uint8)).probabilities.shape)
"""
    finished = run_python(code, bundle, blocked=(*HEAVY, "PIL", "typer", "rich"))
    assert finished.stderr == ""
    assert finished.stdout == "(3, 10)\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["verify", "BUNDLE"], ["predict", "BUNDLE", "IMAGE"]]
)
def test_the_command_line_runs_without_tensorflow(arguments, bundle, images, tmp_path):
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "digit.png")
    places = {"BUNDLE": str(bundle), "IMAGE": str(tmp_path / "digit.png")}
    arguments = [places.get(word, word) for word in arguments]
    finished = run_python("from app.commands.cli import main; main(sys.argv[1:])", *arguments)
    assert finished.returncode == 0, finished.stderr


def test_importing_tensorflow_does_not_import_unneeded_packages_nor_need_standard_error():
    code = """
import os, sys
error = os.dup(2)
os.close(2)
sys.stderr = None  # as Python begins without it
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # people set it to see less
from app.system.tensorflow_import import import_tensorflow_quietly
import_tensorflow_quietly()
os.dup2(error, 2)
print([name for name in ("jax", "matplotlib", "pandas") if name in sys.modules])
import app.runs.train
print("pandas" in sys.modules)
import matplotlib, sklearn.metrics
import keras
print(keras.backend.backend())
import tensorflow
tensorflow.config.list_physical_devices()  # complains where there is no driver of a GPU
from tensorflow.python.util._pywrap_util_port import IsMklEnabled
print(IsMklEnabled())
"""
    has_onednn = platform.machine() in ("x86_64", "AMD64")  # elsewhere TensorFlow decides
    finished = run_python(code, blocked=())
    found = finished.stdout.splitlines()
    assert (found[:3], finished.stderr) == (["[]", "False", "tensorflow"], "")
    assert found[3] == "True" or not has_onednn


def test_onednn_can_be_switched_off(monkeypatch):
    from app.system.tensorflow_import import import_tensorflow_quietly

    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    import_tensorflow_quietly()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_settings_and_sources_are_checked_without_keras():
    code = """
from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.config.families import FAMILIES
from app.data.source_kinds import check_source
config = make_config("features", {"backbone": "MobileNetV2", "augmentation.flip": True})
check_source("iris", config.reading, FAMILIES["features"])
print(config.model.backbone)
"""
    finished = run_python(code, blocked=(*HEAVY, "pandas"))
    assert (finished.stdout, finished.stderr) == ("MobileNetV2\n", "")


def test_a_command_without_tensorflow_names_the_extra_to_install():
    code = "from app.commands.cli import main; main(['train', 'digits'])"
    missing = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError("no", name=name)
sys.meta_path.insert(0, Missing())
"""
    finished = run_python(missing + code, blocked=())
    assert finished.returncode == 2
    first, error = finished.stderr.splitlines()
    assert first == "training digits on digits8x8 …"
    assert "pip install '.[train]'" in error


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_package_exports_a_sorted_list_and_defines_nothing(folder):
    tree = ast.parse((folder / "__init__.py").read_text())
    for node in tree.body:
        assert isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign | ast.If), ast.unparse(node)
        if isinstance(node, ast.If):  # types of what is imported on first use
            assert ast.unparse(node.test) == "TYPE_CHECKING"
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "__getattr__":
            names = ast.literal_eval(node.value)
            assert ast.unparse(node.targets[0]) == "__all__"
            assert sorted(names) == names


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_package_docstring_states_what_belongs_there_and_what_does_not(folder):
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert len(re.findall(r"[.](?:\s|$)", text)) >= 2, text


def test_the_table_of_where_things_go_names_every_package():
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(map(name_of, FOLDERS))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_downward_and_never_climb(path):
    package = path.relative_to(ROOT).parts[0]
    allowed = {
        "app": set(PACKAGES),
        "export": {"export", "models", "serving"},
        "models": {"models"},
        "serving": {"serving"},
    }[package]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            # serving/ is also installed under another name: its subfolders must use two dots.
            depth = len(path.relative_to(ROOT).parts) - 1 if package == "serving" else 1
            assert node.level <= depth, ast.unparse(node)
            root = (node.module or "").split(".")[0]
            assert node.level or root not in set(PACKAGES) - allowed, ast.unparse(node)
            if package == "serving" and not node.level:
                assert root not in PACKAGES, "serving/ is imported under other names too"


def test_what_is_built_holds_every_module_and_all_of_their_data():
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    def files_in(folder):
        return {name_of(path) for path in (ROOT / folder).rglob("*") if path.is_file()}

    def built_by(builder):
        return {file.distribution_path for file in builder(str(ROOT)).recurse_included_files()}

    compiled = re.compile(r"(?:^|/)__pycache__/")
    in_packages = {
        name for each in PACKAGES for name in files_in(each) if not compiled.search(name)
    }
    of_tests = {name for name in files_in("tests") if not compiled.search(name)}
    assert in_packages - {"serving/pyproject.toml"} == built_by(WheelBuilder)
    assert in_packages | of_tests <= built_by(SdistBuilder)


def test_no_module_has_a_meaningless_name():
    empty_names = {"utils", "helpers", "common", "manager", "misc"}
    assert not empty_names & {path.stem for path in MODULES}


def test_every_option_of_a_command_names_its_value():
    import typer

    from app.commands.cli import app

    root = typer.main.get_command(app)
    groups = (root, root.commands["study"])
    commands = [command for group in groups for command in group.commands.values()]
    unnamed = [
        (command.name, option.name)
        for command in commands
        for option in command.params
        if not getattr(option, "is_flag", False) and not option.metavar
    ]
    assert not unnamed


def test_percent_signs_follow_their_number_without_a_space():
    pages = [*MODULES, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    spaced = [page for page in pages if re.search(r"[0-9}] %(?![}0-9a-z({])", page.read_text())]
    assert not spaced


def test_tables_have_no_bars_in_code():
    """GitHub needs a backslash in front of one, which the built pages show."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert not [page for page in pages if re.search(r"`[^`\n]*\\\|[^`\n]*`", page.read_text())]


def test_every_command_is_documented_and_has_an_example():
    from app.commands.cli import app

    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert command.callback.__doc__, name
        assert f"hornbill {name}" in (command.epilog or ""), f"{name} --help has no example"
        assert f"`hornbill {name}`" in readme, f"README does not list {name}"


def test_the_readme_is_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def readme_examples():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks, "README has no Python example"
    return blocks


@pytest.mark.parametrize("example", readme_examples())
def test_the_python_examples_of_the_readme_run(example, bundle):
    finished = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        cwd=bundle.parent.parent.parent,  # where dist/digits is
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_linked_files_exist(page):
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", (ROOT / page).read_text()):
        assert (ROOT / link).exists(), link


def test_the_figures_of_the_documentation_are_the_measured_ones():
    from benchmarks.figures import headline_table, page

    assert headline_table() in (ROOT / "README.md").read_text()
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page()


@pytest.mark.parametrize(
    ("value", "sign", "goal", "met"),
    [
        (0.99696, "≥", 0.997, False),  # both print as 99.70%
        (5.0, "≥", 5, True),
        (60.0, "<", 60, False),
        (0.05, "≤", 0.05, True),
        (1.0, "", None, None),
    ],
)
def test_a_goal_is_compared_with_the_unrounded_measurement(value, sign, goal, met):
    from benchmarks.figures.figure import compare

    assert compare("accuracy", value, "{:.2%}", sign, goal).met is met


def test_the_documentation_builds_without_warnings_and_without_tensorflow(tmp_path):
    """Broken links and anchors, pages outside the index and malformed docstrings are warnings."""
    pytest.importorskip("mkdocs")
    code = "from mkdocs.__main__ import cli; cli()"
    arguments = ["build", "--strict", "--site-dir", tmp_path]
    finished = run_python(code, *arguments)
    assert finished.returncode == 0, finished.stderr
    reference = (tmp_path / "reference" / "serving.html").read_text()
    assert 'id="serving.Predictor.predict"' in reference
    types = ("TensorSpec", "Proof", "Parity", "Calibration", "RejectOption", "Baseline", "Int8")
    assert all(f'id="serving.manifest.{name}"' in reference for name in types)
    commands = (tmp_path / "reference" / "cli.html").read_text()
    assert all(f'id="hornbill-{name}"' in commands for name in ("train", "bench", "study-run"))


def messages():
    """Return the text of every string in the packages; a blank stands for each value in it."""
    texts = []
    for node in (node for path in MODULES for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (getattr(part, "value", " ") for part in node.values)
            texts.append("".join(part if isinstance(part, str) else " " for part in parts))
    return "\n".join(" ".join(text.split()) for text in texts)


def test_what_messages_and_pages_tell_to_install_are_extras_in_the_clone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    texts = "\n".join([messages(), *(page.read_text() for page in pages)])
    names = re.findall(r"pip install (?:-\S+ )*'(?!\./serving\[)([^'\n]*)'", texts)
    assert len(names) > 10
    for name in names:
        extras = re.fullmatch(r"\.\[(.*)\]", name)[1].split(",")
        assert set(extras) <= {*project["optional-dependencies"], " "}, name  # a value is a blank


def test_the_messages_that_troubleshooting_quotes_are_those_of_the_product():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quotes = re.findall(r'^\*\*"(.+?)"\*\*', page, re.MULTILINE)
    known = messages() + (ROOT / "Makefile").read_text()
    # The operating system says these; the rest must be ours. Values are `…` or a quoted word.
    of_the_system = {"Address already in use", "Cannot assign requested address"}
    assert len(quotes) > len(of_the_system)
    for quote in set(quotes) - of_the_system:
        for piece in re.split(r"…|'always'|model\.int8\.onnx|SHA256SUMS|\binputs\b", quote):
            assert piece.strip() in known, quote
