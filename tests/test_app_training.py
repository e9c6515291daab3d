"""Training: what a run's folder holds, that it repeats, that errors leave nothing behind."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest

from app.config import combine_settings, make_config
from app.errors import DataError, RunError
from app.evaluation import classification_metrics
from app.families import FAMILIES, fit_to_data
from app.fitting import fit
from app.runs import new_run_folder, read_run
from app.settings import LOSSES, OPTIMIZERS, SCHEDULES
from app.training import train


def test_a_run_holds_everything_about_itself(mlp_run):
    names = {path.relative_to(mlp_run.folder).as_posix() for path in mlp_run.folder.rglob("*.*")}
    assert names == {
        "config.toml",
        "data.json",
        "environment.json",
        "figures/confusion_matrix.png",
        "figures/learning_curves.png",
        "history.csv",
        "metrics.json",
        "model.keras",
        "splits.npz",
    }
    with (mlp_run.folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    environment = json.loads((mlp_run.folder / "environment.json").read_text())
    assert environment["examples_per_s"] > 0
    assert environment["versions"]["keras"] == keras.__version__


def test_a_run_is_read_back_as_it_was_written(mlp_run):
    again = read_run(mlp_run.folder)
    assert (again.config, again.metrics, again.data) == (
        mlp_run.config,
        mlp_run.metrics,
        mlp_run.data,
    )
    np.testing.assert_array_equal(again.splits.test, mlp_run.splits.test)
    assert set(again.load_model().output) == {"probabilities", "features"}


def test_the_same_seed_gives_the_same_metrics_and_another_seed_others(softmax_run, tmp_path):
    config = combine_settings(None, softmax_run.folder / "config.toml")
    again = train(config, tmp_path)
    assert again.metrics == softmax_run.metrics
    other = train(combine_settings(None, softmax_run.folder / "config.toml", seed=1), tmp_path)
    assert other.metrics != softmax_run.metrics


def test_a_digit_net_repeats_its_training(mlp_run, tmp_path):
    again = train(combine_settings(None, mlp_run.folder / "config.toml"), tmp_path)
    assert again.metrics == mlp_run.metrics


def test_a_trained_net_knows_more_than_chance(mlp_run, softmax_run):
    assert mlp_run.metrics["test"]["accuracy"] > 0.8
    assert softmax_run.metrics["test"]["accuracy"] > 0.85


def test_the_features_family_takes_images_too(tmp_path):
    config = make_config("features", {"epochs": 1, "hidden": [16]}, data="digits8x8")
    run = train(config, tmp_path)
    assert run.metrics["test"]["accuracy"] > 0.2


@pytest.mark.parametrize(
    "settings",
    [{"optimizer.name": name} for name in OPTIMIZERS]
    + [{"optimizer.schedule": name} for name in SCHEDULES]
    + [{"loss": name} for name in LOSSES],
    ids=lambda settings: "=".join(*settings.items()),
)
def test_every_training_knob_lowers_the_loss(settings):
    from app.data.sources import load_dataset
    from app.data.splits import split_dataset

    config = make_config("softmax", {"epochs": 5, "optimizer.learning_rate": 0.02, **settings})
    dataset = load_dataset("iris")
    fitted = fit(config, dataset, split_dataset(dataset, 0))
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def test_a_family_refuses_data_of_another_kind_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="'digits' takes images. Received: iris, .* rows"):
        train(make_config("digits", data="iris"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_longer_finite_is_an_error_and_leaves_no_run(tmp_path):
    settings = {
        "epochs": 3,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 1e30,
        "loss": "mse",
    }
    settings |= {"normalization": "none", "activation": "relu", "hidden": [8, 8]}
    with pytest.raises(RunError, match=r"loss must stay finite.*learning_rate=1e\+30"):
        train(make_config("features", settings), tmp_path)
    assert not list(tmp_path.rglob("config.toml"))


def test_runs_at_the_same_moment_get_folders_of_their_own(tmp_path):
    folders = [new_run_folder(tmp_path, "digits") for _ in range(3)]
    assert len(set(folders)) == 3


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"a folder that can be written. Received: .*file"):
        new_run_folder(tmp_path / "file", "digits")


@pytest.mark.parametrize("missing", ["config.toml", "metrics.json", "model.keras", "splits.npz"])
def test_an_unfinished_run_is_refused(missing, mlp_run, tmp_path):
    for path in mlp_run.folder.iterdir():
        if path.is_file() and path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RunError, match=f"must be finished. Received: .* has no {missing}"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("splits.npz", b"PK broken"),
        ("metrics.json", b"[]"),
        ("data.json", b"{}"),
        ("metrics.json", b"{"),
    ],
)
def test_a_damaged_run_is_refused(name, content, mlp_run, tmp_path):
    folder = shutil.copytree(mlp_run.folder, tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match="A run must be (readable|whole). Received: "):
        read_run(folder)


def test_a_damaged_model_is_refused(mlp_run, tmp_path):
    folder = shutil.copytree(mlp_run.folder, tmp_path / "run")
    (folder / "model.keras").write_bytes(b"no model")
    with pytest.raises(RunError, match="model.keras must be a Keras model"):
        read_run(folder).load_model()


def test_a_run_finds_its_data_from_any_folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    arrays = {
        f"x_{part}": random.integers(0, 256, (100, 28, 28), np.uint8) for part in ("train", "test")
    }
    arrays |= {f"y_{part}": np.arange(100) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "own.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    settings = {"variant": "mlp", "epochs": 1, "hidden": [4]}
    run = train(make_config("digits", settings, data="own.npz"), tmp_path)
    assert read_run(run.folder).config.data == str(tmp_path / "own.npz")


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="A run must be a folder that hornbill train made"):
        read_run(tmp_path / "none")


def test_metrics_are_those_of_a_worked_example():
    targets = np.array([0, 1, 1, 2])
    probabilities = np.array(
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], "float32"
    )
    metrics = classification_metrics(targets, probabilities)
    assert metrics["accuracy"] == 0.75
    assert metrics["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics["cross_entropy"] == pytest.approx((3 * np.log(2) + np.log(4)) / 4)


def test_the_data_decides_the_sizes_of_the_model():
    from app.data.sources import load_dataset

    family = FAMILIES["features"]
    config = fit_to_data(family, family.model, load_dataset("breast_cancer"))
    assert (config.input_shape, config.num_classes) == ((30,), 2)
