"""Training on images: what is chosen from the data, backbones, and the road to predictions."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import KINDS, draw_shape
from live import start

from app.batch import Job, run_job
from app.batch.pools import predict_here
from app.bundles.export_run import export_run
from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.config.run_config import combine_settings, config_toml, parse_settings
from app.config.run_facts import describe_data
from app.config.training_config import FeatureTrainingConfig
from app.data import image_files
from app.data.datasets import Dataset
from app.data.image_lists import list_image_folder
from app.errors import ConfigError, RunError
from app.reports.augmented_images import draw_augmented
from app.runs import read_run, resume, train
from app.runs.train import load_run_data
from app.system.signals import Interrupted
from export import ExportOptions
from models import FeatureExtractorConfig, ImageAugmentationConfig
from models.backbones import whitening_kernel
from models.features import feature_extractor
from models.image_augmentation import augment_images
from serving import Predictor
from serving.bundle import read_manifest
from serving.inputs import read_inputs
from serving.server import Settings

# A short training: what it learns does not matter to most tests.
SHORT = {"width": 8, "epochs": 1, "augmentation.flip": False, "augmentation.shift": 0.0}
# Quicker to trace than muon, and than a schedule, which Keras traces for each weight.
SHORT |= {"optimizer.name": "adamw", "optimizer.schedule": "constant"}


def test_color_and_shape_are_told_apart(shapes):
    assert shapes.metrics["test"]["accuracy"] >= 0.9


# In short: test_a_copy_in_another_precision_keeps_weights_and_its_last_layer_in_float32.
@pytest.mark.slow
def test_a_model_trained_in_mixed_precision_predicts_in_float32(data, tmp_path):
    settings = {"width": 8, "epochs": 6, "precision": "mixed_bfloat16"}
    settings |= {"optimizer.learning_rate": 0.01, "augmentation.flip": False}
    run = train(make_config("features", settings, data=data), tmp_path, figures=False)
    last = (run.folder / "history.csv").read_text().splitlines()
    history = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    # The metric of training, in bfloat16, is that of the saved model, but for rounding.
    assert abs(float(history["val_loss"]) - _loss(run)) < 0.05


def _loss(run):
    """Return the smoothed cross entropy of the saved model on the validation split."""
    dataset = load_run_data(run.config)
    images = dataset.inputs[run.splits.validation]
    targets = dataset.targets[run.splits.validation]
    probabilities = run.load_model().predict(images, verbose=0)["probabilities"]
    smooth = 0.9 * np.eye(len(KINDS))[targets] + 0.1 / len(KINDS)
    return float(-(smooth * np.log(probabilities)).sum(axis=1).mean())


def test_what_is_chosen_from_the_data_is_recorded(shapes):
    config = read_run(shapes.folder).config
    assert config.reading.image_size == (32, 32)
    assert config.training.batch_size == 32
    assert config.training.optimizer.name == "muon"
    assert config.training.augmentation.flip
    assert config.training.epochs == 10  # as given
    chosen = read_run(shapes.folder).data["chosen"]
    assert "batch_size" in chosen
    assert "epochs" not in chosen
    report = (shapes.folder / "report.html").read_text()
    changed, _, rest = report.partition("settings chosen from the data")
    assert "<code>epochs</code>" in changed
    assert '<td><code>10</code></td><td class="soft"><code>100</code></td>' in changed
    assert "<code>batch_size</code>" not in changed
    assert "<code>batch_size</code>" in rest


def test_what_would_have_been_chosen_is_recorded_beside_what_is_given():
    given = {"epochs": 4, "augmentation.flip": False, "batch_size": 32, "image_size": 48}
    config = choose_defaults(make_config("features", given), 216, (48, 48, 3))
    assert config.overridden == {"epochs": 100, "augmentation.flip": True}
    assert "batch_size" in config.chosen  # it would have been the same
    assert "image_size" not in config.chosen


def test_a_run_says_the_size_of_its_images(shapes, run):
    status, output, _ = run("train", "--resume", shapes.folder)
    assert status == 0
    assert "data:   120 samples of 3 classes, images of 32x32 pixels, 28 to" in output
    told = describe_data(shapes.data, (32, 24))
    assert "3 classes, images of height 32 and width 24 pixels, 28 to" in told


@pytest.mark.parametrize("freeze", ["freeze=3", 'freeze="3"'])
def test_a_number_of_layers_can_be_frozen(freeze):
    config = make_config("features", parse_settings([freeze])).model
    model = feature_extractor(replace(config, image_shape=(32, 32, 3), num_outputs=3))
    kept = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    assert kept == ["normalize", "whiten", "stage1_conv"]


@pytest.mark.parametrize(
    ("samples", "epochs", "batch_size"),
    [(100, 100, 32), (4_000, 40, 64), (30_000, 12, 256), (400_000, 8, 256)],
)
def test_epochs_and_batches_follow_from_the_number_of_images(samples, epochs, batch_size):
    training = choose_defaults(make_config("features"), samples, (32, 32, 3)).training
    assert (training.epochs, training.batch_size) == (epochs, batch_size)


def test_gray_images_are_not_mirrored():
    config = choose_defaults(make_config("features"), 100, (32, 32, 1))
    assert not config.training.augmentation.flip


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "linear"])
def test_images_with_values_are_not_augmented_unless_that_is_set(head):
    keys = ("flip", "shift", "erase", "randaugment")
    chosen = choose_defaults(make_config("features", {"head": head}), 100, (32, 32, 3))
    for key in keys:
        assert bool(getattr(chosen.training.augmentation, key)) == (head != "linear"), key
    settings = {"head": head, **{f"augmentation.{key}": key == "flip" or 0.1 for key in keys}}
    given = choose_defaults(make_config("features", settings), 100, (32, 32, 3))
    assert all(getattr(given.training.augmentation, key) for key in keys)


@pytest.mark.parametrize("key", ["width", "backbone", "augmentation.shift"])
def test_settings_of_images_are_refused_for_rows(key, tmp_path):
    value = {"width": 8, "backbone": "mlp", "augmentation.shift": 0.1}[key]
    with pytest.raises(ConfigError, match=f"{key} applies to images only. Received: iris"):
        train(make_config("features", {key: value}), tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_a_file_gives_the_same_features_on_every_road(shapes, data, tmp_path):
    bundle = export_run(shapes.folder, tmp_path, "shapes", ExportOptions(int8="never"))
    path = data / "red disc" / "7.png"
    predictor = Predictor.load(bundle)
    manifest = read_manifest(bundle)
    inputs, names = read_inputs([path], manifest)
    assert (inputs.shape, names) == ((1, 32, 32, 3), [str(path)])
    served = predictor.predict_images([path]).features
    np.testing.assert_allclose(predictor.predict_images([path.read_bytes()]).features, served)
    np.testing.assert_allclose(predictor.predict(inputs).features, served, rtol=1e-5)
    model = read_run(shapes.folder).load_model()
    np.testing.assert_allclose(model.predict(inputs, verbose=0)["features"], served, atol=1e-5)
    # What training has decoded.
    decoded = load_run_data(read_run(shapes.folder).config).inputs
    place = list_image_folder(data).paths.index(path)
    np.testing.assert_array_equal(decoded[place : place + 1], inputs)
    # A batch job.
    output = tmp_path / "features.npy"
    job = Job(bundle, str(path), output, features=True)
    assert run_job(job, predict_here, lambda *_: None).failed == 0
    np.testing.assert_allclose(np.load(output), served, rtol=1e-5)
    # The server.
    client, stop = start(Settings(bundle.parent.parent, log_requests=False))
    try:
        status, _, body = client("POST", "/images/shapes", path.read_bytes())
    finally:
        stop()
    answer = json.loads(body)
    assert status == 200
    np.testing.assert_array_equal(np.reshape(answer["image"]["data"], inputs.shape), inputs)
    probabilities = predictor.predict_images([path]).probabilities
    np.testing.assert_allclose([answer["probabilities"]], probabilities, atol=1e-5)


# In short: test_the_extractor_of_a_head_keeps_its_weights.
@pytest.mark.slow
def test_features_that_were_learned_before_are_kept(shapes, data, tmp_path):
    settings = SHORT | {"backbone": str(shapes.folder), "freeze": "all"}
    run = train(make_config("features", settings, data=data), tmp_path, figures=False)
    before, after = (read_run(r.folder).load_model() for r in (shapes, run))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    features = [m.predict(images, verbose=0)["features"] for m in (before, after)]
    np.testing.assert_allclose(*features, atol=1e-5)


def test_any_model_of_images_can_be_a_backbone(data, tmp_path):
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(6, 3, strides=4),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(2),
    ]
    keras.Sequential(layers).save(tmp_path / "own.keras")
    settings = SHORT | {"backbone": str(tmp_path / "own.keras")}
    run = train(make_config("features", settings, data=data), tmp_path / "runs", figures=False)
    assert run.load_model().output["features"].shape == (None, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_of_keras_applications_can_be_a_backbone(channels):
    config = FeatureExtractorConfig(
        image_shape=(32, 32, channels), backbone="VGG16", freeze="all", hidden=()
    )
    model = feature_extractor(config)
    assert model.output["features"].shape == (None, 512)
    assert [tuple(w.shape) for w in model.trainable_weights] == [(512, 2), (2,)]  # the head


def test_a_run_is_repeated_from_its_configuration(shapes):
    file = shapes.folder / "config.toml"
    config = choose_defaults(combine_settings("features", file), 84, (32, 32, 3))
    assert config == read_run(shapes.folder).config
    assert {"batch_size", "optimizer.name"} <= config.chosen  # as in the first run
    assert not {"epochs", "width"} & config.chosen


def test_the_configuration_of_rows_gives_the_settings_of_images_too(tmp_path):
    config = make_config("features")
    (tmp_path / "config.toml").write_text(config_toml(config))
    read = combine_settings("features", tmp_path / "config.toml")
    assert choose_defaults(read, 100, (4,)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "gone.keras"}, "backbone must be a file that exists.*gone.keras"),
        ({"backbone": "MobilNet"}, "Received: backbone='MobilNet'. Did you mean 'MobileNet'"),
        (
            {"backbone": "InceptionV3"},
            "InceptionV3 cannot be built .* for images of 32x32.*image_size",
        ),
        ({"weights": "imagenet"}, "weights applies to models of keras.applications only"),
        ({"backbone": "VGG16", "weights": "x.h5"}, "weights must be random or imagenet, or a"),
        ({"freeze": "some"}, "freeze must be none, all, or a number of layers"),
        ({"image_size": 36, "backbone": "RUN"}, "must have the shape that the backbone takes"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(settings, message, shapes, data, tmp_path):
    given = {k: str(shapes.folder) if v == "RUN" else v for k, v in settings.items()}
    with pytest.raises(ConfigError, match=message):
        train(make_config("features", given, data=data), tmp_path / "runs")
    assert not list(Path(tmp_path).rglob("config.toml"))


@pytest.mark.parametrize("size", [(1,), (1, 64), (3, 1)])
def test_images_of_a_single_line_of_pixels_are_trained_on(size, data, tmp_path):
    settings = {"image_size": size, "epochs": 1, "width": 2}
    run = train(make_config("features", settings, data=data), tmp_path, figures=False)
    assert run.load_model().inputs[0].shape[1:3] == (size[0], size[-1])
    assert 0 <= run.metrics["test"]["accuracy"] <= 1


def test_whitened_patches_are_uncorrelated_and_of_equal_variance():
    random = np.random.default_rng(0)
    smooth = random.normal(size=(5000, 1, 1, 3)) + 0.3 * random.normal(size=(5000, 2, 2, 3))
    kernel = whitening_kernel(smooth)
    assert kernel.shape == (2, 2, 3, 24)
    outputs = smooth.reshape(5000, -1) @ kernel.reshape(12, 24)
    np.testing.assert_allclose(outputs[:, :12].T @ outputs[:, :12] / 5000, np.eye(12), atol=0.02)
    np.testing.assert_array_equal(outputs[:, 12:], -outputs[:, :12])


@pytest.mark.parametrize(("cutmix", "is_drawn"), [(0.0, False), (1.0, True)])
def test_the_report_shows_images_as_they_are_mixed(cutmix, is_drawn, tmp_path):
    images = np.arange(0, 250, 5, np.uint8).reshape(-1, 1, 1, 1) * np.ones((16, 16, 3), np.uint8)
    dataset = Dataset(source="own", inputs=images, targets=np.arange(50) % 2, labels=("a", "b"))
    training = FeatureTrainingConfig(augmentation=ImageAugmentationConfig(cutmix=cutmix))
    draw_augmented(dataset, np.arange(50), training, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").exists() == is_drawn


class StopAt(keras.callbacks.Callback):
    """Interrupts a training at the beginning of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_file_that_vanishes_while_images_are_decoded_in_each_epoch_is_named(
    data, tmp_path, monkeypatch
):
    photos = Path(shutil.copytree(data, tmp_path / "photos"))
    monkeypatch.setattr(image_files, "_MAX_FRACTION", 0)  # as if the disk was full

    def move(epoch, _logs):
        if epoch == 1:
            photos.rename(tmp_path / "x")

    moved = keras.callbacks.LambdaCallback(on_epoch_begin=move)
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 2}
    config = make_config("features", settings, data=photos)
    message = r"must stay as they are. Received: .*photos.*png does not exist. Put it back, and"
    with pytest.raises(RunError, match=message):
        train(config, tmp_path / "runs", [moved], figures=False)
    (tmp_path / "x").rename(photos)
    (folder,) = (tmp_path / "runs" / "features").iterdir()
    assert resume(folder).metrics["test"]


def test_a_file_that_vanishes_before_the_evaluation_is_named(data, tmp_path, monkeypatch):
    photos = Path(shutil.copytree(data, tmp_path / "photos"))
    monkeypatch.setattr(image_files, "_MAX_FRACTION", 0)  # as if the disk was full
    moved = keras.callbacks.LambdaCallback(on_train_end=lambda *_: photos.rename(tmp_path / "x"))
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 1}
    config = make_config("features", settings, data=photos)
    message = r"Received: .*photos.*png does not exist. Put it back, and resume the run."
    with pytest.raises(RunError, match=message):
        train(config, tmp_path / "runs", [moved], figures=False)


def test_a_file_that_is_gone_or_new_when_a_run_reads_its_images_again_is_named(data, tmp_path):
    photos = Path(shutil.copytree(data, tmp_path / "photos"))
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 1}
    run = train(make_config("features", settings, data=photos), tmp_path / "runs", figures=False)
    lost = sorted(photos.rglob("*.png"))[3]
    lost.rename(lost.with_name("other.png"))
    name, other = (lost.parent.relative_to(photos) / each for each in (lost.name, "other.png"))
    told = f"Received: {photos} without {name} and with {other} besides. Put back what is gone"
    with pytest.raises(RunError, match=re.escape(told)) as caught:
        resume(run.folder, settings={"epochs": 2})
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=re.escape(told)):
        export_run(run.folder, tmp_path / "dist")
    lost.with_name("other.png").unlink()
    told = f"{photos} without {name}. Put back what is gone, or train a new run."
    with pytest.raises(RunError, match=re.escape(told)):
        export_run(run.folder, tmp_path / "dist")


def test_a_new_parquet_file_among_those_of_a_run_is_named_once(data, tmp_path):
    rows = [
        {"image": path.read_bytes(), "kind": path.parent.name}
        for path in sorted(Path(data).rglob("*.png"))
    ]
    table, shards = pa.Table.from_pylist(rows), tmp_path / "shards"
    shards.mkdir()
    pq.write_table(table, shards / "a.parquet")
    reading = {"image_column": "image", "target": ["kind"]}
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 1, **reading}
    run = train(make_config("features", settings, data=shards), tmp_path / "runs", figures=False)
    pq.write_table(table, shards / "b.parquet")
    told = f"Received: {shards} with b.parquet besides. Take away what is new, or train a new run."
    with pytest.raises(RunError, match=re.escape(told)):
        export_run(run.folder, tmp_path / "dist")


def test_a_file_that_vanishes_before_the_end_of_the_first_epoch_leaves_nothing_to_resume(
    data, tmp_path, monkeypatch
):
    photos = Path(shutil.copytree(data, tmp_path / "photos"))
    monkeypatch.setattr(image_files, "_MAX_FRACTION", 0)  # as if the disk was full
    moved = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: photos.rename(tmp_path / "x"))
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 2}
    config = make_config("features", settings, data=photos)
    with pytest.raises(RunError, match=r"does not exist. Put it back, and train again\.$"):
        train(config, tmp_path / "runs", [moved], figures=False)
    assert not list(tmp_path.glob("runs/*/*"))


# In short: test_a_run_that_is_interrupted_twice_ends_like_an_uninterrupted_run.
@pytest.mark.slow
def test_an_interrupted_training_with_mixed_images_ends_as_an_uninterrupted_one(data, tmp_path):
    settings = {"backbone": "mlp", "hidden": [8], "epochs": 3, "class_weight": "balanced"}
    settings |= {
        "augmentation.randaugment": 0.3,
        "augmentation.mixup": 0.5,
        "augmentation.cutmix": 1.0,
    }
    config = make_config("features", settings, data=data)
    whole = train(config, tmp_path / "whole", figures=False)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", [StopAt(1)], figures=False)
    (folder,) = (tmp_path / "stopped" / "features").iterdir()
    resumed = resume(folder)
    assert (resumed.folder / "history.csv").read_text() == (
        whole.folder / "history.csv"
    ).read_text()
    for one, other in zip(*(r.load_model().get_weights() for r in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.load_model().output["probabilities"].shape == (None, len(KINDS))
    assert not [layer for layer in whole.load_model().layers if "random" in layer.name]


@pytest.mark.parametrize(
    "settings",
    [
        {"flip": True},
        {"shift": 0.2},
        {"scale": 0.3, "stretch": 0.2},
        {"brightness": 0.2},
        {"contrast": 0.5},
        {"saturation": 0.9},
        {"erase": 0.4},
    ],
)
def test_augmentation_changes_images_in_training_only(settings):
    images = np.stack([np.asarray(draw_shape("red disc", seed)) for seed in range(8)])
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    model = keras.Model(inputs, augment_images(inputs, ImageAugmentationConfig(**settings)))
    np.testing.assert_array_equal(model(images), images)
    changed = np.asarray(model(images, training=True))
    assert changed.dtype == np.uint8
    assert (changed != images).any()
    if settings == {"flip": True}:
        for new, old in zip(changed, images, strict=True):
            assert (new == old).all() or (new == old[:, ::-1]).all()
