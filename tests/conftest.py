"""Shared fixtures: real data, trained models and committed bundles; versions in the header."""

import gc
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

BUNDLES = Path(__file__).with_name("bundles")
# A busy machine must not fail a test.
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
    gc.freeze()  # as in commands: otherwise each export would scan all of TensorFlow for garbage


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
    """A briefly trained digit net, with its figures."""
    settings = {"variant": "mlp", "epochs": 3, "hidden": [32], "batch_size": 16}
    return _train(workplace, "digits", settings, figures=True)


@pytest.fixture(scope="session")
def softmax_run(workplace):
    return _train(workplace, "softmax", {"epochs": 10, "optimizer.learning_rate": 0.1})


def _export(run, folder, name):
    from app.bundles.export_run import export_run
    from export import ExportOptions

    return export_run(run.folder, folder, name, ExportOptions(int8="never"))


@pytest.fixture(scope="session")
def exported_bundle(workplace, mlp_run):
    """Version 1 of `digits`, freshly exported. Tests must not change it."""
    return _export(mlp_run, workplace / "exported", "digits")


@pytest.fixture(scope="session")
def exported_row_bundle(workplace, softmax_run):
    """Version 1 of `softmax`, freshly exported. Tests must not change it."""
    return _export(softmax_run, workplace / "exported", "softmax")


@pytest.fixture(scope="session")
def exported_raw_bundle(tmp_path_factory):
    """Version 1 of `raw`, freshly exported, and its table."""
    from app.config import make_config
    from app.runs import train

    folder = tmp_path_factory.mktemp("exported-raw")
    table = shutil.copy(BUNDLES / "raw.csv", folder)
    settings = {"target": "kind", "epochs": 3, "hidden": [8]}
    config = make_config("features", settings, data=str(table))
    run = train(config, folder / "runs", figures=False)
    return _export(run, folder / "dist", "raw"), table


@pytest.fixture(scope="session")
def committed_models(workplace):
    """A copy of the bundles that `make_bundles.py` makes, `digits` and `softmax`."""
    for name in ("digits", "softmax"):
        shutil.copytree(BUNDLES / "dist" / name, workplace / "dist" / name)
    return workplace / "dist"


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
