"""Shared fixtures: real data, trained models and committed bundles; versions in the header."""

import contextlib
import gc
import os
import pickle
import shutil
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw
from xdist import is_xdist_worker

# Classes of images of the fixture `shapes`.
KINDS = ("blue disc", "red disc", "red square")
BUNDLES = Path(__file__).with_name("bundles")
# Files whose tests take longest.
LONG = ["app_own_models", "app_tuning", "app_training", "app_heads", "export_models"]
LONG += ["app_start_from", "app_tuning_failures", "app_distributed"]
# A busy machine must not fail a test.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", PATIENT, max_examples=30)
settings.register_profile("thorough", PATIENT, max_examples=500)
settings.load_profile("quick")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each process of pytest-xdist has one core; more threads only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers():
    """One worker more than cores: a tenth of the time is spent waiting for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_sessionstart(session):
    """Import TensorFlow as commands do: the tests would import it with packages it does not need.

    A process of pytest-xdist runs tests of all kinds; a single file may need no TensorFlow.
    """
    if is_xdist_worker(session):
        from app.system.tensorflow_import import import_tensorflow_quietly

        import_tensorflow_quietly()


@contextlib.contextmanager
def _graph_optimizer(config, is_on):
    """Switch TensorFlow's optimizer of graphs in the processes of pytest-xdist.

    It takes a tenth of the time of short trainings. The slow tests, and tests that run in one
    process, always have it, as commands do.
    """
    if not hasattr(config, "workerinput") or not config.option.markexpr.startswith("not slow"):
        yield
        return
    from tensorflow.config import optimizer

    before = optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    optimizer.set_experimental_options({"disable_meta_optimizer": not is_on})
    try:
        yield
    finally:
        optimizer.set_experimental_options({"disable_meta_optimizer": before})


@pytest.fixture(autouse=True, scope="module")
def graph_optimizer(request):
    """Leave the optimizer on for exports: their proofs are about its rounding too."""
    with _graph_optimizer(request.config, request.path.name.startswith("test_export_")):
        yield


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, and spread those that mostly wait among the others.

    So no process is left with a long file at the end, and all cores have work.
    """
    files = sorted(dict.fromkeys(item.path for item in items), key=_place)
    working = [file for file in files if not file.name.startswith("test_serving_")]
    waiting = iter([file for file in files if file not in working])
    ordered = []
    for number, file in enumerate(working, 1):
        ordered.append(file)
        if number % 2 == 0:
            ordered += islice(waiting, 1)
    places = {file: place for place, file in enumerate([*ordered, *waiting])}
    items.sort(key=lambda item: places[item.path])


def _place(file):
    name = file.stem.removeprefix("test_")
    return LONG.index(name) if name in LONG else len(LONG)


def pytest_report_header():
    packages = ("tensorflow", "keras", "onnx", "tf2onnx", "onnxruntime")
    return ", ".join(f"{package} {version(package)}" for package in packages)


def pytest_collection_finish():
    gc.freeze()  # as in commands: otherwise each export would scan all of TensorFlow for garbage
    gc.set_threshold(100_000, 50, 100)  # a traced function is many objects and little garbage


@pytest.fixture(scope="session")
def data_folder():
    """The folder that HORNBILL_DATA names, with mnist.npz and semeion.data."""
    folder = os.environ.get("HORNBILL_DATA")
    if not folder:
        pytest.skip("HORNBILL_DATA names no folder with mnist.npz and semeion.data")
    return Path(folder)


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id, pytestconfig):
    """Make something once for all processes of pytest-xdist.

    `once(name, make, *arguments)` calls `make(folder, *arguments)` in the first process that needs
    it. Each process gets a copy of the result; all share the folder. Not to be changed.
    """
    root = tmp_path_factory.getbasetemp()
    root = (root if worker_id == "master" else root.parent) / "once"
    root.mkdir(exist_ok=True)

    def call(name, make, *arguments):
        folder, result = root / name, root / f"{name}.pickle"
        with FileLock(root / f"{name}.lock"):
            if not result.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                with _graph_optimizer(pytestconfig, is_on=False):  # the same wherever it is made
                    result.write_bytes(pickle.dumps(make(folder, *arguments)))
        return pickle.loads(result.read_bytes())

    return call


def _train(folder, family, settings, figures=False, **data):
    from app.config import make_config
    from app.runs import train

    return train(make_config(family, settings, **data), folder / "runs", figures=figures)


@pytest.fixture(scope="session")
def mlp_run(once):
    """A briefly trained digit net, with its figures."""
    settings = {"variant": "mlp", "epochs": 3, "hidden": [32], "batch_size": 16}
    return once("mlp", _train, "digits", settings, True)


@pytest.fixture(scope="session")
def softmax_run(once):
    settings = {"epochs": 10, "repeat": 1, "optimizer.learning_rate": 0.1}
    return once("softmax", _train, "softmax", settings)


def draw_shape(kind, seed):
    """Return a shape on noise, 40x24 pixels."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(90, 160, (24, 40, 3), np.uint8))
    color, shape = kind.split()
    x, y = random.integers(2, 20), random.integers(1, 8)
    box = (x, y, x + 14, y + 14)
    outline = ImageDraw.Draw(image)
    (outline.ellipse if shape == "disc" else outline.rectangle)(box, fill=color)
    return image


def _draw_folder(folder):
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for seed in range(40):
            draw_shape(kind, seed).save(folder / kind / f"{seed}.png")
    return folder


def _train_on_shapes(folder):
    data = _draw_folder(folder / "shapes")
    settings = {"width": 8, "epochs": 10, "optimizer.learning_rate": 0.01}
    return _train(folder, "features", settings, data=data)


@pytest.fixture(scope="session")
def shapes(once):
    """A run on shapes in color; the folder of its data is `shapes` beside its runs."""
    return once("shapes", _train_on_shapes)


@pytest.fixture(scope="session")
def data(shapes):
    """The folder of images that `shapes` was trained on. Tests must not change it."""
    return shapes.folder.parents[2] / "shapes"


def _export(folder, run, name):
    from app.bundles.export_run import export_run
    from export import ExportOptions

    return export_run(run.folder, folder, name, ExportOptions(int8="never"))


@pytest.fixture(scope="session")
def exported_bundle(once, mlp_run):
    """Version 1 of `digits`, freshly exported. Tests must not change it."""
    return once("exported-digits", _export, mlp_run, "digits")


@pytest.fixture(scope="session")
def exported_row_bundle(once, softmax_run):
    """Version 1 of `softmax`, freshly exported. Tests must not change it."""
    return once("exported-softmax", _export, softmax_run, "softmax")


@pytest.fixture(scope="session")
def exported_raw_bundle(once):
    """Version 1 of `raw`, freshly exported, and its table."""

    def make(folder):
        table = shutil.copy(BUNDLES / "raw.csv", folder)
        settings = {"target": "kind", "epochs": 3, "hidden": [8]}
        run = _train(folder, "features", settings, data=str(table))
        return _export(folder / "dist", run, "raw"), table

    return once("exported-raw", make)


@pytest.fixture(scope="session")
def quick_study(once):
    """Run a study by its name in quick mode with two seeds; return the folder of studies with it.

    Tests must not change the folder.
    """

    def make(folder, name):
        from app.studies.runner import run_study

        run_study(name, folder, seeds=2, quick=True)
        return folder

    return lambda name: once(f"study-{name}", make, name)


@pytest.fixture(scope="session")
def committed_models(tmp_path_factory):
    """A copy of the bundles that `make_bundles.py` makes, `digits` and `softmax`."""
    folder = tmp_path_factory.mktemp("committed") / "dist"
    for name in ("digits", "softmax"):
        shutil.copytree(BUNDLES / "dist" / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def bundle(committed_models):
    """The folder of version 1 of `digits`. Tests must not change it, but may copy it."""
    return committed_models / "digits" / "1"


@pytest.fixture(scope="session")
def row_bundle(committed_models):
    """The folder of version 1 of `softmax`. Tests must not change it."""
    return committed_models / "softmax" / "1"


@pytest.fixture(scope="session")
def raw_bundle(tmp_path_factory):
    """The folder of a model of raw rows, with missing values and texts, and its table."""
    folder = tmp_path_factory.mktemp("raw")
    shutil.copytree(BUNDLES / "dist" / "raw", folder / "dist" / "raw")
    shutil.copy(BUNDLES / "raw.csv", folder)
    return folder / "dist" / "raw" / "1", folder / "raw.csv"


@pytest.fixture(scope="session")
def images():
    """Twelve images of digits, uint8 (12, 28, 28)."""
    return np.load(BUNDLES / "images.npy")


@pytest.fixture
def run(capfd):
    """Run a command in this process; return its status, standard output and standard error."""
    from app.commands.cli import main

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        output, error = capfd.readouterr()
        return caught.value.code or 0, output, error

    return call
