"""The house's own rules: who imports whom, what is documented, what README promises."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "export", "models", "serving")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Makes `import tensorflow` and its kind fail, then runs what follows.
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


def test_the_predictor_needs_numpy_and_onnxruntime_alone(bundle):
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


def test_a_command_starts_without_what_tensorflow_would_bring_along():
    code = """
from app.quiet import import_tensorflow_quietly
import_tensorflow_quietly()
print([name for name in ("jax", "matplotlib", "pandas", "sklearn") if name in sys.modules])
import matplotlib, sklearn.metrics
import keras
print(keras.backend.backend())
"""
    finished = run_python(code, blocked=())
    assert (finished.stdout, finished.stderr) == ("[]\ntensorflow\n", "")


def test_a_command_that_needs_tensorflow_says_what_to_install():
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
    assert finished.stderr.count("\n") == 1
    assert "pip install 'hornbill[train]'" in finished.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_exports_a_sorted_list_and_defines_nothing(package):
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    for node in tree.body:
        assert isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign), ast.unparse(node)
        if isinstance(node, ast.Assign):
            names = ast.literal_eval(node.value)
            assert ast.unparse(node.targets[0]) == "__all__"
            assert sorted(names) == names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
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
            # A folder inside serving/ has no other way to name what is beside it.
            depth = len(path.relative_to(ROOT).parts) - 1 if package == "serving" else 1
            assert node.level <= depth, ast.unparse(node)
            root = (node.module or "").split(".")[0]
            assert node.level or root not in set(PACKAGES) - allowed, ast.unparse(node)
            if package == "serving" and not node.level:
                assert root not in PACKAGES, "serving/ is imported under other names too"


def test_no_module_is_named_for_nothing():
    empty_names = {"utils", "helpers", "common", "manager", "misc"}
    assert not empty_names & {path.stem for path in MODULES}


def test_every_command_is_documented():
    from app.commands.cli import app

    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert command.callback.__doc__, name
        assert f"hornbill {name}" in (command.epilog or ""), f"{name} --help has no example"
        assert f"hornbill {name}" in readme, f"README does not show {name}"


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


def test_the_files_that_the_readme_names_exist():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_figures_of_the_readme_are_those_that_were_measured():
    from benchmarks.figures import figures_table, machine_list

    readme = (ROOT / "README.md").read_text()
    assert figures_table() in readme
    assert machine_list() in readme
