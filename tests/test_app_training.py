"""Training: what a run's folder contains, that runs are reproducible, that errors leave nothing."""

import contextlib
import csv
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle

import keras
import numpy as np
import pytest
from waiting import wait_until

from app.config.families import FAMILIES
from app.config.run_config import combine_settings, make_config
from app.config.run_facts import describe_data, read_environment
from app.config.training_config import LOSSES, OPTIMIZERS, SCHEDULES, OptimizerConfig
from app.data.sources import load_dataset
from app.data.splits import Splits, split_dataset
from app.errors import ConfigError, DataError, RunError
from app.evaluation.metrics import measure
from app.evaluation.predictions import predict_samples
from app.runs import resume, train
from app.runs.run_folder import new_run_folder, read_run
from app.training.compilation import Compilation
from app.training.fit import fit
from app.training.job import Job
from app.training.losses import make_metric
from app.training.model_sizes import fit_to_data
from app.training.optimizers import make_optimizer, optimizer_callbacks
from app.training.progress_bar import TrainingProgress


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits8x8")


def without_validation(splits):
    """Return splits without validation samples, which saves tracing the evaluation."""
    return replace(splits, validation=splits.validation[:0])


def test_a_run_folder_contains_everything_about_the_run(mlp_run):
    names = {path.relative_to(mlp_run.folder).as_posix() for path in mlp_run.folder.rglob("*.*")}
    names = {name for name in names if not name.startswith("tensorboard")}
    assert names == {
        "checkpoint.npz",
        "config.toml",
        "data.json",
        "environment.json",
        "evaluation.json",
        "figures/confusion_matrix.png",
        "figures/learning_curves.png",
        "history.csv",
        "metrics.json",
        "model.keras",
        "figures/features_projection.png",
        "figures/mistakes.png",
        "figures/reliability_diagram.png",
        "report.html",
        "splits.npz",
    }
    logs = list((mlp_run.folder / "tensorboard").rglob("events.*"))
    assert {path.parent.name for path in logs} == {"train", "validation"}
    with (mlp_run.folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    environment = json.loads((mlp_run.folder / "environment.json").read_text())
    assert environment["examples_per_s"] > 0
    assert 0 < environment["wait_fraction"] < 1
    assert (environment["precision"], environment["xla"]) == ("float32", False)
    assert environment["step_ms"] == {}  # too few steps to measure the precision
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


def test_the_same_seed_gives_the_same_metrics(mlp_run, tmp_path):
    config = combine_settings(None, mlp_run.folder / "config.toml")
    assert train(config, tmp_path, figures=False).metrics == mlp_run.metrics


def test_another_seed_gives_other_metrics(softmax_run):
    dataset, splits = load_dataset("iris"), softmax_run.splits
    targets, found = dataset.targets[splits.test], []
    for seed in (0, 1):
        fitted = fit(replace(softmax_run.config, seed=seed), dataset, splits)
        predictions = predict_samples(fitted.model, dataset, splits.test)
        found.append(measure("multiclass", targets, predictions))
    assert found[0] != found[1]


def test_a_trained_net_is_better_than_chance(mlp_run, softmax_run):
    assert mlp_run.metrics["test"]["accuracy"] > 0.8
    assert softmax_run.metrics["test"]["accuracy"] > 0.85


def test_the_features_family_accepts_images():
    dataset, splits, result = fitted("digits8x8", backbone="mlp", hidden=[16], epochs=1, repeat=3)
    predictions = predict_samples(result.model, dataset, splits.test)
    assert measure("multiclass", dataset.targets[splits.test], predictions)["accuracy"] > 0.2


@pytest.mark.parametrize(
    "settings",
    [
        {
            "optimizer.name": name,
            "optimizer.schedule": schedule,
            "optimizer.decay_epochs": 2,
            "loss": loss,
        }
        for name, schedule, loss in zip(OPTIMIZERS, cycle(SCHEDULES), cycle(LOSSES))
    ]
    + [
        {"class_weight": "balanced", "optimizer.ema_momentum": 0.9, "optimizer.warmup": 0.2},
        {"label_smoothing": 0.1, "optimizer.clip_norm": 1.0, "precision": "mixed_bfloat16"},
        {"xla": True},
        {"steps_per_execution": 4},
        {"restore_best_weights": True, "patience": 2},
    ],
    ids=lambda settings: ",".join(f"{key}={value}" for key, value in settings.items()),
)
def test_the_loss_falls_with_every_training_setting(settings):
    config = make_config("softmax", {"epochs": 3, "optimizer.learning_rate": 0.02, **settings})
    dataset = load_dataset("iris")
    needs_validation = "patience" in settings or "plateau" in settings.values()
    splits = split_dataset(dataset, 0)
    fitted = fit(config, dataset, splits if needs_validation else without_validation(splits))
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


def test_only_the_head_learns_behind_step_activations():
    config = make_config("features", {"activation": "step", "epochs": 3, "hidden": [8]})
    dataset = load_dataset("iris")
    fitted = fit(config, dataset, without_validation(split_dataset(dataset, 0)))
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"schedule": "constant"}, [0.1, 0.1, 0.1]),
        ({"schedule": "step", "decay_rate": 0.5, "decay_epochs": 2}, [0.1, 0.05, 0.05]),
        (
            {"schedule": "exponential", "decay_rate": 0.25, "decay_epochs": 4},
            [0.1, 0.05, 0.1 * 0.25**0.9],
        ),
        ({"schedule": "cosine"}, [0.1, 0.05, 0.05 * (1 + np.cos(0.9 * np.pi))]),
        ({"schedule": "cosine", "warmup": 0.5}, [0, 0.1, 0.05 * (1 + np.cos(0.8 * np.pi))]),
    ],
)
def test_the_learning_rate_follows_its_schedule(settings, rates):
    """At the start, in the middle and at nine tenths of four epochs of five steps."""
    config = OptimizerConfig(learning_rate=0.1, **settings)
    rate = make_optimizer(config, steps_per_epoch=5, epochs=4).get_config()["learning_rate"]
    found = [rate] * 3
    if isinstance(rate, dict):
        schedule = keras.saving.deserialize_keras_object(rate)
        found = [float(schedule(step)) for step in (0, 10, 18)]
    assert found == pytest.approx(rates, abs=1e-6)


def test_decay_clipping_and_averaging_reach_the_optimizer():
    config = OptimizerConfig(name="adamw", weight_decay=0.3, clip_norm=2.0, ema_momentum=0.95)
    optimizer = make_optimizer(config, 5, 4)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.3, 2.0)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.95)
    names = [type(callback).__name__ for callback in optimizer_callbacks(config)]
    assert names == ["SwapEMAWeights"]


def test_muon_takes_orthogonal_steps_with_the_kernels_of_hidden_layers_only():
    layers = [
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4, name="hidden"),
        keras.layers.Dense(4, name="probabilities"),
    ]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
    config = OptimizerConfig(name="muon", weight_decay=0.0, schedule="constant")
    before = {variable.path: np.array(variable) for variable in model.trainable_variables}
    generator = np.random.default_rng(0)
    optimizer = make_optimizer(config, 1, 1)
    gradients = [
        generator.normal(size=v.shape).astype("float32") for v in model.trainable_variables
    ]
    optimizer.apply(gradients, model.trainable_variables)
    spreads = {}
    for variable in model.trainable_variables:
        step = np.array(variable) - before[variable.path]
        # All steps have the size of those of Adam.
        assert 0.1 < np.sqrt((step**2).mean()) / config.learning_rate < 1.01
        if variable.name == "kernel":
            values = np.linalg.svd(step.reshape(-1, step.shape[-1]), compute_uv=False)
            spreads[variable.path.split("/")[-2]] = values.max() / values.min()
    assert max(spreads["conv"], spreads["hidden"]) < 2 < spreads["probabilities"]


def test_a_family_refuses_data_of_another_kind_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="'digits' takes images. Received: iris, .* rows"):
        train(make_config("digits", data="iris"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_longer_finite_is_an_error_and_leaves_no_run(tmp_path):
    settings = {
        "epochs": 3,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 1e30,
        "optimizer.schedule": "constant",
        "loss": "mse",
    }
    settings |= {"normalization": "none", "activation": "relu", "hidden": [8, 8], "members": 1}
    message = r"loss must stay finite.*nan in step \d of epoch 1, at the learning rate 1e\+30"
    with pytest.raises(RunError, match=message):
        train(make_config("features", settings), tmp_path)
    assert not list(tmp_path.rglob("config.toml"))


def test_a_loss_that_is_infinite_from_the_start_is_not_blamed_on_the_learning_rate(tmp_path):
    message = "inf in step 1 of epoch 1, .* No step was taken yet: lower initializer_stddev, l1"
    with pytest.raises(RunError, match=message):
        train(make_config("softmax", {"l2": 1e38}), tmp_path)


def test_a_model_that_diverges_in_the_last_step_is_an_error(tmp_path):
    settings = {"optimizer.name": "gradient_descent", "optimizer.learning_rate": 1e30}
    once = {"epochs": 1, "repeat": 1, "normalization": "none", "members": 1}
    config = make_config("features", {**settings, **once}, data="iris")
    with pytest.raises(RunError, match="loss must stay finite. Received: nan after epoch 1. Lower"):
        train(config, tmp_path)
    with pytest.raises(RunError, match="predictions must be finite. Received: NaN or infinity"):
        measure("multiclass", np.array([0]), np.array([[np.nan, 0.0]]))


def test_sizes_that_cannot_be_trained_on_are_left_out_with_the_reason(tmp_path):
    settings = {"head": "linear", "epochs": 1, "members": 1}
    settings |= {"train_sizes": [0.1, 0.5]}  # 0.1 is 1 sample
    run = train(make_config("features", settings, data="linnerud"), tmp_path, figures=False)
    found = json.loads((run.folder / "training_sizes.json").read_text())
    assert [row["samples"] for row in found["sizes"]] == [7, 14]
    (left_out,) = found["left_out"]
    assert left_out["samples"] == 1
    assert "must vary" in left_out["reason"]
    assert found["standard_error"] > 0


def test_training_sizes_are_measured_without_the_thresholds_of_the_run(tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, 3))
    lines = ["a,b,c,p,q", *(f"{a},{b},{c},{int(a > 1)},{int(b > 1.2)}" for a, b, c in rows)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    settings = {"head": "sigmoid", "target": ["p", "q"], "epochs": 1, "train_sizes": [0.5]}
    settings |= {"members": 1}
    found = []
    for rule in ("0.5", "0.05"):
        config = make_config(
            "features", settings | {"threshold": rule}, data=tmp_path / "labels.csv"
        )
        run = train(config, tmp_path, figures=False)
        found.append(json.loads((run.folder / "training_sizes.json").read_text())["sizes"])
        assert run.metrics["validation"]["f1_macro"] > 0 or rule == "0.5"
    assert found[0] == found[1]


@pytest.mark.parametrize("patience", [1, 2])
def test_averaged_weights_are_kept_by_a_training_that_stops_early(patience, tmp_path):
    settings = {"epochs": 50, "patience": patience, "l2": 0, "restore_best_weights": True}
    settings |= {"optimizer.learning_rate": 9.0, "optimizer.schedule": "constant"}
    settings |= {"optimizer.ema_momentum": 0.9, "repeat": 1}
    run = train(make_config("softmax", settings, data="iris"), tmp_path, figures=False)
    with (run.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) < 50
    best = min(float(row["val_loss"]) for row in rows)
    assert run.metrics["validation"]["cross_entropy"] == pytest.approx(best, rel=1e-5)


def test_the_speed_of_several_steps_executed_at_once_is_that_of_the_epoch(tmp_path):
    settings = {"steps_per_execution": 1000, "epochs": 4}
    run = train(make_config("softmax", settings, data="iris"), tmp_path, figures=False)
    assert read_environment(run.folder)["examples_per_s"] > 0


def test_float16_is_trained_with_loss_scaling():
    class Kept(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            kept.append(self.model.optimizer)

    kept = []
    config = make_config("softmax", {"precision": "mixed_float16", "epochs": 1})
    dataset = load_dataset("iris")
    fit(config, dataset, without_validation(split_dataset(dataset, 0)), [Kept()])
    assert isinstance(kept[0], keras.optimizers.LossScaleOptimizer)


def test_the_progress_bar_releases_the_terminal_after_an_error():
    def is_shown():
        return "_RefreshThread" in {type(thread).__name__ for thread in threading.enumerate()}

    progress = TrainingProgress()
    progress.set_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    progress.set_params({"steps": 2, "epochs": 1})
    with contextlib.suppress(RunError), progress:
        progress.on_train_begin()
        assert is_shown()
        raise RunError("stopped")
    wait_until(lambda: not is_shown())


def test_runs_that_begin_at_the_same_moment_get_different_folders(tmp_path):
    folders = [new_run_folder(tmp_path, "digits") for _ in range(3)]
    assert len(set(folders)) == 3


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file.* cannot be written: "):
        new_run_folder(tmp_path / "file", "digits")


@pytest.mark.parametrize("missing", ["config.toml", "metrics.json", "model.keras", "splits.npz"])
def test_an_unfinished_run_is_refused(missing, mlp_run, tmp_path):
    for path in mlp_run.folder.iterdir():
        if path.is_file() and path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(RunError, match=f"(not finished|is incomplete). .*, without {missing}"):
        read_run(tmp_path)


def test_a_run_of_an_earlier_version_is_refused_and_unchanged(mlp_run, tmp_path):
    folder = shutil.copytree(mlp_run.folder, tmp_path / "run")
    data = json.loads((folder / "data.json").read_text())
    data["targets"] = data.pop("task")
    (folder / "data.json").write_text(json.dumps(data))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for read in (read_run, resume):
        with pytest.raises(RunError, match="an earlier version of Hornbill.*Train it again") as e:
            read(folder)
        assert str(folder) in str(e.value)
        assert "\n" not in str(e.value)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "1 sample of validation or test is also in training"),
        (2, "2 samples of validation or test are also in training"),
    ],
)
def test_samples_that_are_in_training_as_well_are_counted(count, text, softmax_run):
    data = {**softmax_run.data, "duplicates": {"validation": 0, "test": count}}
    assert describe_data(data).endswith(f", {text}")


def test_a_run_without_figures_has_a_report_without_pictures(softmax_run):
    assert not (softmax_run.folder / "figures").exists()
    assert "<img" not in (softmax_run.folder / "report.html").read_text()
    assert "macro F1" in (softmax_run.folder / "report.html").read_text()
    assert "figures = false" in (softmax_run.folder / "config.toml").read_text()


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
    with pytest.raises(
        RunError, match="cannot be read as a run: |The run folder is damaged. Received: "
    ):
        read_run(folder)


def test_a_damaged_model_is_refused(mlp_run, tmp_path):
    folder = shutil.copytree(mlp_run.folder, tmp_path / "run")
    (folder / "model.keras").write_bytes(b"no model")
    with pytest.raises(RunError, match="model.keras cannot be loaded by Keras"):
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
    run = train(make_config("digits", settings, data="own.npz"), tmp_path, figures=False)
    assert read_run(run.folder).config.data == str(tmp_path / "own.npz")


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="A run must be a folder that hornbill train has written"):
        read_run(tmp_path / "none")


def test_metrics_are_those_of_a_worked_example():
    targets = np.array([0, 1, 1, 2])
    probabilities = np.array(
        [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], "float32"
    )
    metrics = measure("multiclass", targets, probabilities)
    assert metrics["accuracy"] == 0.75
    assert metrics["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert metrics["cross_entropy"] == pytest.approx((3 * np.log(2) + np.log(4)) / 4)


def test_the_data_decides_the_sizes_of_the_model():
    family, dataset = FAMILIES["features"], load_dataset("breast_cancer")
    config = fit_to_data(family, family.model, dataset, split_dataset(dataset, 0))
    assert (config.rows.num_columns, config.num_outputs) == (30, 2)
    assert (config.rows.nullable_columns, config.rows.vocabularies) == ((), ())


@pytest.mark.parametrize(
    ("family", "data", "settings", "message"),
    [
        (
            "features",
            "diabetes",
            {},
            "targets are values. Use the family 'features' with head=linear",
        ),
        (
            "softmax",
            "diabetes",
            {},
            "targets are values. Use the family 'features' with head=linear",
        ),
        (
            "features",
            "iris",
            {"head": "linear"},
            "classes. Use the family 'features' with head=softmax.$",
        ),
        ("features", "iris", {"head": "sigmoid"}, "head=sigmoid must have two classes"),
        ("features", "diabetes", {"head": "linear", "loss": "cross_entropy"}, "must be one of mse"),
        (
            "features",
            "diabetes",
            {"head": "linear", "loss": "sparse_categorical_crossentropy"},
            "needs classes, .* are values. .* Use loss=mse",
        ),
        (
            "features",
            "diabetes",
            {"head": "linear", "loss": "CategoricalCrossentropy"},
            "needs classes, .* are values. .* Use loss=mse",
        ),
        (
            "features",
            "diabetes",
            {"head": "linear", "class_weight": "balanced"},
            "balanced needs classes",
        ),
        (
            "features",
            "diabetes",
            {"head": "linear", "label_smoothing": 0.1},
            "label_smoothing applies to cross entropy only",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(family, data, settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(make_config(family, settings, data=data), tmp_path)
    assert not list(tmp_path.iterdir())


def fitted(data, family="features", validate=False, **settings):
    from app.runs.train import load_run_data

    # Two long epochs have the steps of twenty, but without most of the evaluations.
    shared = {"epochs": 2, "repeat": 10, "steps_per_execution": 50}
    config = make_config(family, {**shared, **settings}, data=data)
    dataset = load_run_data(config)
    splits = split_dataset(dataset, 0)
    result = fit(config, dataset, splits if validate else without_validation(splits))
    return dataset, splits, result


def test_a_regression_explains_more_than_the_mean_does():
    dataset, splits, result = fitted("diabetes", head="linear")
    values = predict_samples(result.model, dataset, splits.test)
    assert measure("regression", dataset.targets[splits.test], values)["r2"] > 0.2


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_the_first_step_creates_no_variables_in_the_metric(task):
    metric = make_metric(task, 2)
    before = len(metric.variables)
    assert not any(variable.numpy().any() for variable in metric.variables)
    metric.update_state(np.ones((3, 2)), np.ones((3, 2)))
    assert len(metric.variables) == before


def test_a_net_trained_for_few_steps_predicts_as_well_as_it_has_learned():
    settings = {"filters": [8], "hidden": [16], "dropout": 0.0, "epochs": 6, "repeat": 1}
    dataset, splits, result = fitted("digits8x8", "digits", **settings)
    predictions = predict_samples(result.model, dataset, splits.train)
    known = measure("multiclass", dataset.targets[splits.train], predictions)["accuracy"]
    assert result.history[-1]["accuracy"] > 0.95
    assert known > 0.95  # with moving statistics of the last hundred steps it is 0.90


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("batch_size", "passes", "steps"), [(1293, 1, 10), (64, 1, 21), (64, 10, 100)]
)
def test_moving_statistics_are_those_of_the_last_epoch(
    batch_size, passes, steps, precision, digits
):
    settings = {"variant": "mlp", "hidden": [4], "normalization": "batch", "epochs": 1}
    settings |= {"batch_size": batch_size, "repeat": passes, "precision": precision}
    config = make_config("digits", settings)
    job = Job(config, digits, split_dataset(digits, 0))
    for model in (job.model, job.build(Compilation(precision, xla=False))):
        (layer,) = (
            layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
        )
        assert layer.momentum == pytest.approx(1 - 1 / steps)


def test_a_single_sigmoid_unit_separates_two_classes():
    dataset, splits, result = fitted("breast_cancer", head="sigmoid")
    probabilities = predict_samples(result.model, dataset, splits.test)
    assert probabilities.shape == (114, 2)
    metrics = measure("multiclass", dataset.targets[splits.test], probabilities)
    assert metrics["accuracy"] > 0.9
    assert metrics["roc_auc"] > 0.95


def test_a_sigmoid_unit_for_each_label_learns_all_of_them(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3))
    rows = [[*row, int(row[0] > 0), int(row[1] + row[2] > 0)] for row in x.tolist()]
    path = tmp_path / "labels.csv"
    path.write_text("a,b,c,first,second\n" + "\n".join(",".join(map(str, r)) for r in rows))
    dataset, splits, result = fitted(str(path), head="sigmoid", target=["first", "second"])
    predictions = predict_samples(result.model, dataset, splits.test)
    metrics = measure("multilabel", dataset.targets[splits.test], predictions)
    assert metrics["exact_match"] > 0.85
    assert metrics["roc_auc"] > 0.97


def test_balanced_classes_have_equal_total_weight():
    from app.config.training_config import TrainingConfig
    from app.data.datasets import Dataset
    from app.training.losses import sample_weights

    targets = np.array([0] * 9 + [1] * 3)
    dataset = Dataset(
        source="own", inputs=np.zeros((12, 2), "float32"), targets=targets, labels=("a", "b")
    )
    everything = np.arange(12)
    splits = Splits(everything, everything, everything)
    weights = sample_weights(TrainingConfig(class_weight="balanced"), dataset, splits)
    assert weights[targets == 0].sum() == pytest.approx(weights[targets == 1].sum())
    assert weights.mean() == pytest.approx(1)


def test_the_best_epoch_is_kept_on_request():
    settings = {"optimizer.learning_rate": 0.5, "optimizer.schedule": "constant", "hidden": [8]}
    dataset, splits, result = fitted(
        "wine", validate=True, restore_best_weights=True, epochs=10, repeat=1, **settings
    )
    predictions = predict_samples(result.model, dataset, splits.validation)
    kept = measure("multiclass", dataset.targets[splits.validation], predictions)["cross_entropy"]
    losses = [row["val_loss"] for row in result.history]
    assert losses[-1] > min(losses)
    assert kept == pytest.approx(min(losses), rel=1e-3)


def test_full_batch_gradient_descent_takes_one_step_per_epoch():
    settings = {"optimizer.name": "gradient_descent", "optimizer.learning_rate": 0.1, "epochs": 3}
    config = make_config("softmax", {**settings, "repeat": 1})
    dataset = load_dataset("iris")
    steps = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)

    fit(config, dataset, without_validation(split_dataset(dataset, 0)), [Count()])
    assert steps == [0, 0, 0]


def test_augmentation_never_reaches_the_model_that_is_saved(digits):
    settings = {"variant": "mlp", "epochs": 1, "hidden": [8], "augmentation.rotation": 10}
    splits = Splits(np.arange(200), np.arange(0), np.arange(0))
    model = fit(make_config("digits", settings), digits, splits).model
    layers = {type(layer).__name__ for layer in model.layers}
    assert "FitInk" in layers
    assert not {"RandomWarp", "RandomThickness"} & layers


@pytest.mark.parametrize(
    ("steps", "products", "measured"),
    [
        (100, 0, []),
        (1000, 0, ["float32"]),
        (100, 10**9, ["float32"]),  # few steps, but heavy ones
        (10**9, 0, ["float32", "mixed_bfloat16"]),
    ],
)
def test_precision_is_measured_if_training_takes_long(steps, products, measured):
    from app.config.training_config import TrainingConfig
    from app.training.compilation import choose_compilation

    built = []

    def build(candidate):
        built.append(candidate.precision)
        with candidate.policy():
            layers = [keras.Input((4,)), keras.layers.Dense(3, dtype="float32")]
            model = keras.Sequential(layers)
        model.compile("sgd", "mse", jit_compile=candidate.xla)
        return model

    batch = [np.zeros((8, 4), "float32"), np.zeros((8, 3), "float32")]
    given = TrainingConfig(precision="mixed_bfloat16", xla=True)
    assert choose_compilation(given, build, batch, steps) == Compilation("mixed_bfloat16", True)
    assert not built
    chosen = choose_compilation(TrainingConfig(), build, batch, steps, products)
    assert built == measured
    assert list(chosen.step_ms) == measured
    assert chosen.precision in (measured or ["float32"])
    assert keras.config.dtype_policy().name == "float32"


def test_the_products_of_a_model_are_those_of_its_kernels():
    from app.training.compilation import count_products

    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(5, 3, strides=2, padding="same"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(7),
    ]
    assert count_products(keras.Sequential(layers)) == 4 * 4 * 5 * 3 * 3 * 3 + 5 * 7


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [
        ([1.0], [0.79], "mixed_bfloat16"),
        ([1.0], [0.81], "float32"),
        # Other load on the machine slows down single turns.
        ([1.0], [3.0, 0.79], "mixed_bfloat16"),
        ([3.0, 1.0], [0.81], "float32"),
    ],
)
def test_bfloat16_must_save_a_fifth(float32, bfloat16, chosen, monkeypatch):
    from app.config.training_config import TrainingConfig
    from app.training import compilation

    turns = {"float32": cycle(float32), "mixed_bfloat16": cycle(bfloat16)}
    monkeypatch.setattr(compilation, "step_seconds", lambda precision, _: next(turns[precision]))
    found = compilation.choose_compilation(TrainingConfig(), lambda c: c.precision, [], 10_000)
    assert found.precision == chosen
    assert found.step_ms == {"float32": 1000, "mixed_bfloat16": 1000 * min(bfloat16)}


def test_bfloat16_that_the_processor_emulates_is_measured_once(monkeypatch):
    from app.config.training_config import TrainingConfig
    from app.training import compilation

    measured = []

    def step_seconds(precision, _):
        measured.append(precision)
        return {"float32": 1.0, "mixed_bfloat16": 7.0}[precision]

    monkeypatch.setattr(compilation, "step_seconds", step_seconds)
    found = compilation.choose_compilation(TrainingConfig(), lambda c: c.precision, [], 10_000)
    assert found.precision == "float32"
    assert measured.count("mixed_bfloat16") == 1


def test_long_steps_are_measured_less_often(monkeypatch):
    from app.training import compilation

    class Model:
        seconds = 0.0

        def train_on_batch(self):
            self.seconds += 0.6

    model = Model()
    monkeypatch.setattr(compilation.time, "perf_counter", lambda: model.seconds)
    assert compilation.step_seconds(model, []) == pytest.approx(0.6)
    assert model.seconds == pytest.approx(3 * 0.6)  # one compiles, two take more than a second


def test_the_config_of_a_run_contains_the_chosen_precision(mlp_run):
    assert mlp_run.config.training.precision == "float32"
    assert 'precision = "float32"' in (mlp_run.folder / "config.toml").read_text()


OWN_SETTINGS = {
    "floatx": "float64",
    "image_data_format": "channels_first",
    "epsilon": 0.1,
    "dtype_policy": keras.DTypePolicy("float64"),
    "max_epochs": 1,
    "max_steps_per_epoch": 2,
}


def test_settings_of_keras_have_no_effect_and_are_restored(digits):
    settings = {"filters": [4], "hidden": [8], "augmentation.thickness": 0.5, "repeat": 1}
    samples = np.arange(0, 1797, 6)
    splits = Splits(samples[:200], samples[200:250], samples[250:])
    config = make_config("digits", {"epochs": 2, **settings})
    expected = fit(config, digits, splits)
    before = {name: getattr(keras.config, name)() for name in OWN_SETTINGS}
    try:
        for name, value in OWN_SETTINGS.items():
            getattr(keras.config, f"set_{name}")(value)
        result = fit(config, digits, splits)
        assert len(predict_samples(result.model, digits, splits.train)) == len(splits.train)
        assert {name: getattr(keras.config, name)() for name in OWN_SETTINGS} == OWN_SETTINGS
    finally:
        for name, value in before.items():
            getattr(keras.config, f"set_{name}")(value)
    assert len(result.history) == 2
    for one, other in zip(result.model.weights, expected.model.weights, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_threads_that_train_at_once_get_the_same_results_as_alone(softmax_run, tmp_path):
    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(lambda _: train(softmax_run.config, tmp_path), range(2)))
    assert [run.metrics for run in runs] == [softmax_run.metrics] * 2


def test_the_bar_of_a_run_that_ends_early_is_full(capfd):
    config = make_config("softmax", {"epochs": 50, "patience": 1, "optimizer.learning_rate": 9.0})
    dataset = load_dataset("iris")
    with TrainingProgress() as progress:
        history = fit(config, dataset, split_dataset(dataset, 0), [progress]).history
    assert len(history) < 50
    assert f"epoch {len(history)}/{len(history)}" in capfd.readouterr().err


@pytest.mark.parametrize(("shape", "unit"), [((4, 4, 3), "images/s"), ((4,), "rows/s")])
def test_the_bar_shows_the_speed(shape, unit, capfd):
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(1)])
    with TrainingProgress() as progress:
        progress.set_model(model)
        progress.set_params({"steps": 2, "epochs": 1, "samples": 64})
        progress.on_train_begin()
        progress.on_epoch_begin(0)
        for step in range(2):
            progress.on_train_batch_end(step, {"loss": 0.5})
        progress.on_train_end()
    assert unit in capfd.readouterr().err


@pytest.mark.slow  # TensorFlow retries the allocation for ten seconds
def test_a_model_too_large_for_the_machine_is_a_one_line_error(run, tmp_path):
    command = ["train", "features", "--data", "iris", "--set", "hidden=1000000000000"]
    status, _, error = run(*command, "--output", tmp_path)
    assert (status, error.count("\n")) == (2, 1)
    assert "too large for this machine. Received: ResourceExhaustedError. Reduce hidden" in error
    assert not list(tmp_path.iterdir())
