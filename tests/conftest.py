"""What tests share: versions in the header, real data, one trained and exported model."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each process of pytest-xdist has one core; more threads only wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def pytest_report_header():
    packages = ("tensorflow", "keras", "onnx", "tf2onnx", "onnxruntime")
    return ", ".join(f"{package} {version(package)}" for package in packages)


def pytest_collection_finish():
    gc.freeze()  # as commands do: each export would look through all of TensorFlow for garbage


@pytest.fixture(scope="session")
def data_folder():
    """The folder that HORNBILL_DATA names, with mnist.npz and semeion.data."""
    folder = os.environ.get("HORNBILL_DATA")
    if not folder:
        pytest.skip("HORNBILL_DATA names no folder with mnist.npz and semeion.data")
    return Path(folder)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("session")


def _train(workplace, family, settings, figures=False):
    from app.config import make_config
    from app.runs import train

    return train(make_config(family, settings), workplace / "runs", figures=figures)


@pytest.fixture(scope="session")
def mlp_run(workplace):
    """A digit net trained for a moment, with its figures."""
    settings = {"variant": "mlp", "epochs": 3, "hidden": [32], "batch_size": 16}
    return _train(workplace, "digits", settings, figures=True)


@pytest.fixture(scope="session")
def softmax_run(workplace):
    return _train(workplace, "softmax", {"epochs": 10, "optimizer.learning_rate": 0.1})


@pytest.fixture(scope="session")
def bundle(workplace, mlp_run):
    """The folder of version 1 of `digits`. Not to be changed: copy it first."""
    from app.bundles.export_run import export_run
    from export import ExportOptions

    return export_run(mlp_run.folder, workplace / "dist", options=ExportOptions(int8="never"))


@pytest.fixture(scope="session")
def row_bundle(workplace, softmax_run):
    """The folder of version 1 of `softmax`. Not to be changed."""
    from app.bundles.export_run import export_run
    from export import ExportOptions

    return export_run(softmax_run.folder, workplace / "dist", options=ExportOptions(int8="never"))


@pytest.fixture(scope="session")
def raw_bundle(tmp_path_factory):
    """The folder of a model that takes raw rows, with gaps and texts, and its table."""
    from app.bundles.export_run import export_run
    from app.config import make_config
    from app.runs import train
    from export import ExportOptions

    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("raw")
    lines = [
        f"{'' if random.random() < 0.2 else round(x, 3)},{random.choice(['red', 'blue', ''])},"
        f"{round(y, 3)},{'yes' if x + y > 0 else 'no'}"
        for x, y in random.normal(size=(200, 2)).tolist()
    ]
    (folder / "raw.csv").write_text("size,color,weight,kind\n" + "\n".join(lines) + "\n")
    settings = {"target": "kind", "epochs": 3, "hidden": [8]}
    config = make_config("features", settings, data=str(folder / "raw.csv"))
    run = train(config, folder / "runs", figures=False)
    options = ExportOptions(int8="never")
    return export_run(run.folder, folder / "dist", "raw", options), folder / "raw.csv"


@pytest.fixture(scope="session")
def images():
    """Twelve images of digits, uint8 (12, 28, 28)."""
    from app.data.sources import load_dataset

    return np.ascontiguousarray(load_dataset("digits8x8").inputs[:12])


@pytest.fixture
def run(capfd):
    """Run a command in this process: status, standard output, standard error."""
    from app.commands.cli import main

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        output, error = capfd.readouterr()
        return caught.value.code or 0, output, error

    return call
