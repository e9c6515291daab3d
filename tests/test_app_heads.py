"""Heads on the features of a trained model, and training with such a backbone in two phases."""

import csv
import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import KINDS
from test_app_resume import Notes, StopAt, history, interrupt

from app.bundles.export_run import export_run
from app.commands.train import Request, run_training
from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.config.extractors import bare_settings
from app.config.heads import head_settings
from app.config.run_config import flat_config
from app.data.datasets import Dataset
from app.data.reading_progress import observed_reading
from app.distributed.team import alone
from app.errors import ConfigError, RunError
from app.evaluation.predictions import predict_outputs
from app.runs import read_run, resume, train
from app.runs.train import load_run_data
from app.system.signals import Interrupted
from app.training.model_sizes import image_size_taken
from app.training.two_phases import in_two_phases
from export import ExportOptions
from models import FeatureExtractorConfig
from models.backbones import application_backbone
from models.errors import BackboneError
from models.extractors import has_scaling, layers_with_weights, load_extractor
from models.features import feature_extractor
from serving import Predictor


@pytest.fixture(scope="module")
def head(once, shapes, data):
    """A softmax regression on the features of the run on shapes."""

    def make(folder):
        request = Request(
            family="softmax",
            data=str(data),
            on_features=str(shapes.folder),
            settings=["epochs=3", "optimizer.learning_rate=0.01"],
            output=str(folder),
            figures=False,
            quiet=True,
        )
        run_training(request, alone())
        (run,) = (folder / "features").iterdir()
        return read_run(run)

    return once("head", make)


@pytest.fixture(scope="module")
def bundle(once, head):
    def make(folder):
        return export_run(head.folder, folder, "head", ExportOptions(int8="never"))

    return once("head-bundle", make)


@pytest.fixture
def table(data, tmp_path):
    """The path of a CSV file of images, with a class, two labels and a value."""
    path = tmp_path / "shapes.csv"
    with path.open("w") as file:
        lines = csv.writer(file)
        lines.writerow(["file", "kind", "is_red", "is_disc", "number"])
        for number, kind in enumerate(KINDS):
            for image in sorted((data / kind).iterdir()):
                lines.writerow([image, kind, int("red" in kind), int("disc" in kind), number + 1.5])
    return path


def images_of(run, count=5):
    return load_run_data(run.config).inputs[np.arange(count)]


def weights(model):
    """Return the weights of the backbone inside a model."""
    return model.get_layer("backbone").get_weights()


def same(first, second):
    return all((a == b).all() for a, b in zip(first, second, strict=True))


def test_one_graph_goes_from_the_image_to_the_extractors_features_and_the_head(
    shapes, head, bundle, data
):
    assert head.config.model.is_frozen
    images = images_of(shapes)
    features = shapes.load_model().predict(images, verbose=0)["features"]
    layer = head.load_model().get_layer("normalize_features")
    kernel, bias = head.load_model().get_layer("probabilities").get_weights()
    logits = np.asarray(layer(features)) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = head.load_model().predict(images, verbose=0)
    np.testing.assert_allclose(predicted["features"], features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predicted["probabilities"], expected, rtol=1e-3, atol=1e-5)
    # The exported graph, whose probabilities are calibrated, reads a file of any size.
    served = Predictor.load(bundle).predict_images([data / KINDS[1] / "3.png"])
    assert served.features.shape == (1, features.shape[1])
    assert served.labels == [KINDS[1]]


def test_the_extractor_of_a_head_keeps_its_weights(shapes, head):
    assert same(weights_before(shapes), weights(head.load_model()))


def test_the_size_of_images_is_that_of_the_extractor(data, tmp_path):
    settings = {"backbone": save_model(tmp_path / "wide.keras", (16, 24, 3)), "freeze": "all"}
    config = make_config("features", settings, data=data)
    dataset = load_run_data(config, image_size_taken(config))
    assert dataset.inputs.shape[1:] == (16, 24, 3)
    assert choose_defaults(config, 84, dataset.inputs.shape[1:]).reading.image_size == (16, 24)


def save_model(path, shape):
    """Save a model without training it; return its path."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dense(2)]
    keras.Sequential([keras.Input(shape), *layers]).save(path)
    return str(path)


def test_a_bundle_is_an_extractor_too(bundle, head, data):
    settings = {"backbone": str(bundle.parent), "freeze": "all"}
    config = make_config("features", settings, data=data)
    assert config.model.backbone == str(bundle / "model.keras")
    extractor = keras.saving.load_model(config.model.backbone, compile=False)
    images = images_of(head)
    features = [m.predict(images, verbose=0)["features"] for m in (extractor, head.load_model())]
    np.testing.assert_array_equal(*features)


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"head": "sigmoid", "target": ["is_red", "is_disc"]}, "probabilities"),
        # In short: that of labels.
        pytest.param(
            {"head": "linear", "target": ["number"], "hidden": [4]},
            "values",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_heads_for_labels_and_values(settings, output, shapes, table, tmp_path):
    family, given = head_settings(
        "features", str(shapes.folder), {"image_column": "file", "epochs": 2, **settings}
    )
    run = train(make_config(family, given, data=table), tmp_path / "runs", figures=False)
    model = run.load_model()
    assert model.output[output].shape[-1] == len(settings["target"])
    assert model.output["features"].shape[-1] == settings.get("hidden", [72])[0]
    assert same(weights(model), weights_before(shapes))


def weights_before(shapes):
    model = shapes.load_model()
    return [w for x in model.layers if x.name != "probabilities" for w in x.get_weights()]


def test_a_head_on_the_features_of_rows_takes_raw_rows(exported_raw_bundle, tmp_path):
    source = exported_raw_bundle[1]
    (folder,) = (Path(source).parent / "runs" / "features").iterdir()
    base, settings = read_run(folder), {"target": "kind", "epochs": 1, "backbone": str(folder)}
    run = train(make_config("features", settings, data=source), tmp_path, figures=False)
    dataset, first = load_run_data(run.config), np.arange(9)
    before, after = (
        predict_outputs(r.load_model(), dataset, first, {"features": first >= 0})["features"]
        for r in (base, run)
    )
    np.testing.assert_allclose(after, before, rtol=1e-5)
    header, *lines = Path(source).read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([header.replace("size", "length"), *lines]) + "\n")
    message = "The rows must have the columns of .*Received: no 'size' but 'length'"
    refuse(settings, str(other), tmp_path / "refused", message)
    bundle = export_run(run.folder, tmp_path / "dist", "rows", ExportOptions(int8="never"))
    served = Predictor.load(bundle).predict(dataset.model_inputs(first))
    np.testing.assert_allclose(served.features, before, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def two_phases(shapes, data, tmp_path_factory):
    """The configuration of a run of two epochs, of which only the head learns in the first; a run
    that was interrupted in the second; its end; and its extractor.
    """
    folder = tmp_path_factory.mktemp("two-phases")
    extractor = shutil.copy(shapes.folder / "model.keras", folder)
    settings = {"backbone": extractor, "epochs": 2, "head_epochs": 1, "batch_size": 16}
    # Quicker to trace than muon, and than a schedule, which Keras traces for each weight.
    settings |= {"optimizer.name": "adamw", "optimizer.schedule": "constant"}
    config = make_config("features", settings, data=data)
    with pytest.raises(Interrupted):
        train(config, folder / "cut", [StopAt(1, interrupt)], figures=False)
    (cut,) = (folder / "cut" / "features").iterdir()
    return config, cut, resume(shutil.copytree(cut, folder / "resumed")), extractor


def test_the_backbone_keeps_its_weights_in_the_first_phase(two_phases, shapes):
    _, cut, _, _ = two_phases
    with np.load(cut / "checkpoint.npz") as checkpoint:
        kept = {checkpoint[name].tobytes() for name in checkpoint.files if name.startswith("kept")}
    before = weights_before(shapes)
    assert len(before) > 20
    assert all(array.tobytes() in kept for array in before)


def test_a_run_whose_extractor_is_gone_is_not_resumed(two_phases):
    _, cut, _, extractor = two_phases
    moved = shutil.move(extractor, f"{extractor}.moved")
    try:
        with pytest.raises(ConfigError, match="backbone must be a file that exists"):
            resume(cut)
    finally:
        shutil.move(moved, extractor)
    assert (cut / "checkpoint.npz").exists()


def test_a_run_whose_extractor_has_changed_is_not_resumed(two_phases):
    _, cut, _, extractor = two_phases
    kept = Path(extractor).read_bytes()
    other = keras.saving.load_model(extractor, compile=False)
    other.set_weights([weight + 1 for weight in other.get_weights()])
    other.save(extractor)
    try:
        with pytest.raises(RunError, match="backbone must be the file that .*Restore the file"):
            resume(cut)
    finally:
        Path(extractor).write_bytes(kept)


def test_a_run_that_is_interrupted_between_the_phases_ends_like_an_uninterrupted_run(
    two_phases, tmp_path
):
    config, _, run, _ = two_phases
    whole = train(config, tmp_path, figures=False)
    assert history(run) == history(whole)
    assert run.metrics == whole.metrics
    assert same(*(r.load_model().get_weights() for r in (run, whole)))


def test_the_backbone_learns_in_the_second_phase(two_phases, shapes):
    assert not same(weights_before(shapes), weights(two_phases[2].load_model()))


def test_batch_normalization_of_a_trained_backbone_does_not_change(two_phases, shapes):
    after = two_phases[2].load_model().get_layer("backbone")
    layers = [x for x in after.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert layers
    for layer in layers:
        before = shapes.load_model().get_layer(layer.name)
        assert same(layer.get_weights(), before.get_weights())


def test_a_trained_backbone_learns_after_a_quarter_of_the_epochs(shapes):
    settings = {"backbone": str(shapes.folder)}
    training = choose_defaults(make_config("features", settings), 100, (32, 32, 3)).training
    assert (training.epochs, training.head_epochs, training.backbone_rate) == (100, 25, 0.1)
    settings |= {"epochs": 8}
    training = choose_defaults(make_config("features", settings), 100, (32, 32, 3)).training
    assert training.head_epochs == 2
    settings |= {"head_epochs": 9}
    with pytest.raises(ConfigError, match="must be at most 8, .* Received: head_epochs=9"):
        choose_defaults(make_config("features", settings), 100, (32, 32, 3))


def test_training_does_not_stop_early_before_the_backbone_learns(tmp_path):
    # Nothing is learned at all: the validation loss does not fall.
    random = np.random.default_rng(0)
    images = {
        f"x_{part}": random.integers(0, 256, (20, 8, 8, 3), np.uint8) for part in ("train", "test")
    }
    targets = {name.replace("x", "y"): np.arange(20) % 2 for name in images}
    np.savez(tmp_path / "noise.npz", **images, **targets)
    settings = {"backbone": save_model(tmp_path / "own.keras", (8, 8, 3)), "epochs": 6}
    settings |= {"head_epochs": 2, "patience": 1, "optimizer.learning_rate": 1e-30}
    settings |= {"optimizer.weight_decay": 0, "validation_split": 0.5}
    config = make_config("features", settings, data=tmp_path / "noise.npz")

    def stop(epoch, _logs):
        if epoch == 2:
            interrupt()

    stopping = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    with pytest.raises(Interrupted):
        train(config, tmp_path, [stopping], figures=False)
    (folder,) = (tmp_path / "features").iterdir()
    with np.load(folder / "checkpoint.npz") as checkpoint:
        arrays = dict(checkpoint)
    state = json.loads(arrays["state"].tobytes())
    # An earlier version has counted these epochs.
    state["callbacks"]["EarlyStopping"] |= {"wait": 9, "best": -1.0}
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    np.savez(folder / "checkpoint.npz", **arrays)
    assert len(history(resume(folder)).splitlines()) == 1 + 4


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adam"])
def test_the_backbone_keeps_its_weights_then_learns_at_a_tenth_of_the_rate(name):
    decay = {"weight_decay": 0.1} if name == "AdamW" else {}
    head, backbone, alone = (keras.Variable([1.0, -2.0]) for _ in range(3))
    optimizer = getattr(keras.optimizers, name)(0.01, **decay)
    phased = in_two_phases(optimizer, [head, backbone], [backbone], 2, 0.1)
    phased.build([head, backbone])
    single = getattr(keras.optimizers, name)(0.01, **decay)
    single.build([alone])
    gradient = keras.ops.array([0.5, 0.25])
    for step in range(3):
        before = np.array(backbone)
        phased.apply([gradient, gradient], [head, backbone])
        single.apply([gradient], [alone])
        np.testing.assert_allclose(head, alone, rtol=1e-6)
        if step < 2:
            np.testing.assert_array_equal(backbone, before)
    last = {"SGD": 0.01 * np.array([0.5, 0.25])}.get(name, np.array([0.01, 0.01]))
    decayed = 0.01 * 0.1 * before if decay else 0.0
    np.testing.assert_allclose(before - np.array(backbone), 0.1 * (last + decayed), rtol=1e-3)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("digits", {}, "--on-features needs the family softmax or features.*Received: digits"),
        (
            "features",
            {"backbone": "mlp"},
            "keeps the weights of RUN. Received: backbone=mlp. Leave it",
        ),
        ("features", {"freeze": "none"}, "keeps the weights of RUN. Received: freeze=none"),
        ("softmax", {"hidden": "32"}, "single layer .* hidden=32. Use the family features"),
        ("softmax", {"head": "linear"}, "Received: head=linear. Use the family features"),
        (
            "softmax",
            {"target": ["a", "b"]},
            "target=a,b. Use the family features with head=sigmoid",
        ),
    ],
)
def test_settings_that_contradict_a_head_on_features_are_refused(family, settings, message):
    with pytest.raises(ConfigError, match=message):
        head_settings(family, "RUN", settings)


def test_the_images_of_a_head_on_features_can_be_augmented():
    _, settings = head_settings("softmax", "RUN", {"augmentation.flip": "true"})
    assert settings["augmentation.flip"] == "true"
    assert settings["freeze"] == "all"


def test_a_head_is_said_to_train_on_feature_vectors(run, shapes, data, tmp_path):
    status, output, error = run(
        *("train", "softmax", "--data", data, "--on-features", shapes.folder, "-o", tmp_path),
        *("--set", "epochs=1", "--no-figures"),
    )
    assert status == 0
    assert re.search(r"training: [\d,]+ feature vectors an epoch in \d+ steps", error)
    assert re.search(r"speed: .* [\d,]+ feature vectors/s after the first step", output)


@pytest.mark.parametrize(
    ("settings", "is_alone"),
    [({}, True), ({"augmentation.flip": True}, False), ({"freeze": "none"}, False)],
)
def test_features_are_computed_once_unless_images_or_the_backbone_change(
    shapes, settings, is_alone
):
    given = {"backbone": str(shapes.folder), "freeze": "all", **settings}
    assert make_config("features", given).learns_head_only is is_alone


def test_an_extractor_that_is_gone_is_refused_before_anything_is_written(run, tmp_path):
    status, _, error = run(
        "train", "softmax", "--data", "iris", "--on-features", tmp_path / "gone", "-o", tmp_path
    )
    assert status == 2
    assert error.endswith("gone, which does not exist.\n")
    assert not list(tmp_path.iterdir())


def refuse(settings, source, folder, message, error=ConfigError):
    with pytest.raises(error, match=message) as caught:
        train(make_config("features", settings, data=source), folder / "new")
    assert "\n" not in str(caught.value)
    assert not (folder / "new").exists()


def test_extractors_that_do_not_suit_the_data_are_refused(
    shapes, data, softmax_run, row_bundle, tmp_path
):
    model = {"backbone": str(shapes.folder)}
    no_features = {"backbone": str(softmax_run.folder)}
    of_rows = {"backbone": save_model(tmp_path / "rows.keras", (4,))}
    gray = {"backbone": save_model(tmp_path / "gray.keras", (32, 32, 1))}
    four = {"backbone": save_model(tmp_path / "four.keras", (32, 32, 4))}
    refuse(no_features, "iris", tmp_path, "features that were learned. Received: .*model.keras")
    message = "4 columns of numbers for .* takes images of 32x32x3. Give a source of images, with"
    refuse(model, "iris", tmp_path, message)
    refuse({"head": "linear"}, data, tmp_path, "Use the family 'features' with head=softmax.$")
    refuse(model | {"freeze": "none"}, "iris", tmp_path, "A backbone of rows must be frozen")
    refuse(model | {"image_size": 40}, data, tmp_path, "takes .32, 32, 3.. Leave out image_size")
    refuse(of_rows, data, tmp_path, "takes .4,.. Give a model of images.")
    refuse(gray, data, tmp_path, "Give a model of images in color, or gray images.")
    refuse(four, data, tmp_path, "Give a model of gray images or of images in color.")
    refuse({"head_epochs": 2}, data, tmp_path, "Received: head_epochs=2, backbone=residual with r")
    refuse({"wide": True}, data, tmp_path, "wide applies to rows only")
    refuse({"members": 2}, data, tmp_path, "members applies to rows only")
    for path, message in (
        (row_bundle, "bundles of models with features hold model.keras. Give its run or file."),
        (tmp_path, "Give the folder of a finished run, or a bundle."),
    ):
        with pytest.raises(ConfigError, match=message):
            make_config("features", {"backbone": str(path)})


def test_weights_of_another_architecture_and_images_below_the_least_size_are_refused(tmp_path):
    other = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save_weights(other)
    image = keras.Input((32, 32, 3), dtype="uint8")
    with pytest.raises(BackboneError, match="weights must be those of VGG16. Received: .*other"):
        application_backbone(image, "VGG16", str(other))
    with pytest.raises(BackboneError, match="must be at least 75x75.* Set image_size to larger"):
        application_backbone(image, "InceptionV3", "random")


@pytest.fixture
def keras_folder(monkeypatch, tmp_path):
    """The folder in which Keras, which reads KERAS_HOME when it is imported, looks for weights."""
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_weights_that_cannot_be_downloaded_are_put_where_keras_looks(monkeypatch, keras_folder):
    build = keras.applications.NASNetMobile

    @functools.wraps(build)
    def fail(**_):
        address = "http://127.0.0.1:9/NASNet-mobile-no-top.h5"
        keras.utils.get_file("nasnet_mobile_no_top.h5", address, cache_subdir="models")

    monkeypatch.setattr(keras.applications, "NASNetMobile", fail)
    image = keras.Input((32, 32, 3), dtype="uint8")
    message = f"-no-top.h5 elsewhere, and put it into {keras_folder} as nasnet_mobile_no_top.h5."
    with pytest.raises(BackboneError, match=message):
        application_backbone(image, "NASNetMobile", "imagenet")


def test_weights_that_were_downloaded_in_part_are_named(keras_folder):
    part = keras_folder / "mobilenet_1_0_224_tf_no_top.h5"
    part.write_bytes(b"a part")
    image = keras.Input((32, 32, 3), dtype="uint8")
    with pytest.raises(BackboneError, match=f"Received: {part}: .* Remove it, so that Keras"):
        application_backbone(image, "MobileNet", "imagenet")


def test_layers_that_keep_random_weights_and_settings_without_effect_are_told(data, tmp_path):
    notes = Notes()
    settings = {"freeze": "all", "epochs": 1, "image_size": [32], "figures": False}
    settings |= {"optimizer.name": "sgd", "optimizer.momentum": 0.5}
    with observed_reading(notes):
        train(make_config("features", settings, data=data), tmp_path)
    assert [line for line in notes.lines if line.startswith("residual has random weights")]
    assert [line for line in notes.lines if line.startswith("optimizer.momentum=0.5 has no effect")]


def test_the_first_layers_are_frozen_also_those_of_a_nested_model(tmp_path):
    conv = keras.layers.Conv2D
    inner = keras.Sequential([conv(2, 3, name="first"), conv(2, 3, name="second")])
    pooled = keras.layers.GlobalAveragePooling2D()
    keras.Sequential([keras.Input((16, 16, 3)), inner, pooled]).save(path := tmp_path / "m.keras")
    config = make_config("features", {"backbone": str(path), "freeze": "1"}).model
    model = feature_extractor(replace(config, image_shape=(16, 16, 3), num_outputs=3))
    layers = {layer.name: layer.trainable for layer in layers_with_weights(model)}
    assert (layers["first"], layers["second"]) == (False, True)


def test_more_layers_than_there_are_cannot_be_frozen():
    config = make_config("features", {"freeze": "2000"}).model
    with pytest.raises(BackboneError, match="freeze must be at most .* Received: freeze=2000"):
        feature_extractor(replace(config, image_shape=(32, 32, 3), num_outputs=3))


def test_a_bundle_to_start_from_says_which_extractor_it_needs(bundle, head, data):
    with pytest.raises(ConfigError, match="needs the backbone .* Give it: --set backbone=PATH"):
        make_config("features", {"start_from": str(bundle)}, data=data)
    settings = {"start_from": str(bundle), "backbone": head.config.model.backbone}
    assert make_config("features", settings, data=data).model.backbone == settings["backbone"]


def test_a_frozen_model_of_keras_applications_has_the_settings_of_a_head():
    given = {"backbone": "MobileNetV2", "weights": "imagenet", "freeze": "all"}
    training = choose_defaults(make_config("features", given), 4_000, (96, 96, 3)).training
    assert (training.epochs, training.head_epochs, training.augments) == (20, 0, False)


def test_the_penalty_of_a_head_is_that_of_each_label(shapes):
    given = {"backbone": str(shapes.folder), "freeze": "all", "head": "sigmoid"}

    def penalty(labels):
        return choose_defaults(make_config("features", given), 100, (32, 32, 3), labels).model.l2

    assert (penalty(1), penalty(4), penalty(700)) == (0.5, 0.125, 0.000714)


def test_labels_of_arrays_count_for_the_penalty_too():
    inputs, labels = np.zeros((9, 4), np.float32), tuple("abc")
    targets = np.ones((9, 3), np.float32)
    found = Dataset(source="x", inputs=inputs, targets=targets, task="multilabel", labels=labels)
    assert found.averaged_labels == 3
    assert replace(found, task="regression").averaged_labels == 1


def test_epochs_of_the_head_that_a_configuration_repeats_do_not_matter_where_it_is_frozen(shapes):
    settings = {"backbone": str(shapes.folder), "freeze": "all", "head_epochs": 25}
    training = choose_defaults(make_config("features", settings), 100, (32, 32, 3)).training
    assert training.epochs == 20


@pytest.mark.parametrize(("batch_size", "repeat"), [(None, 6), (400, 75), (16, 3)])
def test_a_head_takes_as_many_steps_with_any_batch_size(shapes, batch_size, repeat):
    settings = {"backbone": str(shapes.folder), "freeze": "all"}
    settings |= {"batch_size": batch_size} if batch_size else {}
    training = choose_defaults(make_config("features", settings), 400, (32, 32, 3)).training
    assert training.repeat == repeat
    assert training.epochs * training.repeat * -(-400 // training.batch_size) >= 1500


def test_labels_are_smoothed_with_the_name_of_their_loss_too(shapes):
    settings = {"head": "sigmoid", "target": ("a", "b"), "loss": "binary_cross_entropy"}
    training = choose_defaults(make_config("features", settings), 100, (32, 32, 3)).training
    assert training.label_smoothing == 0.1


@pytest.mark.parametrize(("epochs", "of_head"), [(1, 0), (2, 1), (3, 1), (8, 2)])
def test_the_head_learns_first_in_short_trainings_too(epochs, of_head):
    given = {"backbone": "MobileNetV2", "weights": "imagenet", "epochs": epochs}
    training = choose_defaults(make_config("features", given), 4_000, (96, 96, 3)).training
    assert training.head_epochs == of_head


def test_a_manifest_names_an_extractor_without_its_folder(head):
    backbone = bare_settings(flat_config(head.config))["backbone"]
    assert backbone == f"features/{Path(head.config.model.backbone).parent.name}/model.keras"
    mine = {"backbone": "/home/me/own.keras", "weights": "random"}
    assert bare_settings(mine) == {"backbone": "own.keras", "weights": "random"}
    assert bare_settings({"start_from": "/home/me/model.keras"}) == {"start_from": "model.keras"}


def test_an_extractor_of_images_of_any_size_is_trained_on(data, tmp_path):
    net = [keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)]
    net += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    path = tmp_path / "any.keras"
    keras.Sequential(net).save(path)
    settings = {"backbone": str(path), "epochs": 1, "image_size": 20, "hidden": ()}
    run = train(make_config("features", settings, data=data), tmp_path, figures=False)
    assert run.load_model().inputs[0].shape == (None, 20, 20, 3)


def net(*layers):
    """Return a net of images, which ends with `layers`."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(image)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


POOLED = keras.layers.GlobalAveragePooling2D


@pytest.mark.parametrize(
    ("layers", "dimension"),
    [
        ([POOLED(name="features")], 4),
        ([POOLED(), keras.layers.Dense(6, name="features")], 6),
        ([net(POOLED())], 4),
        # The features of a classifier are in front of its head.
        ([POOLED(), keras.layers.Dense(2)], 4),
        ([POOLED(), keras.layers.Dense(2), keras.layers.Softmax()], 2),
    ],
)
def test_a_model_without_a_head_ends_with_its_features(layers, dimension, tmp_path):
    is_nested = isinstance(layers[0], keras.Model)
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers]) if is_nested else net(*layers)
    model.save(tmp_path / "own.keras")
    extractor = load_extractor(str(tmp_path / "own.keras"))
    assert extractor.output_shape == (None, dimension)


def test_maps_are_no_features(tmp_path):
    net(keras.layers.ReLU()).save(tmp_path / "maps.keras")
    with pytest.raises(BackboneError, match=r"gives \(batch, 6, 6, 4\). End it with .*Pooling2D"):
        load_extractor(str(tmp_path / "maps.keras"))


def test_features_that_hardly_vary_are_told(data, tmp_path):
    model = net(POOLED(), keras.layers.Rescaling(1e-16, name="features"))
    model.save(tmp_path / "faint.keras")
    notes, settings = Notes(), {"backbone": str(tmp_path / "faint.keras"), "freeze": "all"}
    with observed_reading(notes):
        config = make_config("features", settings | {"epochs": 1, "figures": False}, data=data)
        train(config, tmp_path)
    assert [line for line in notes.lines if line.startswith("The features of the backbone hardly")]


def scaled(x):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, net(POOLED())(inputs / 255 if x == "/" else x(inputs)))


@pytest.mark.parametrize(
    ("build", "is_scaled"),
    [
        (lambda: net(POOLED()), False),
        (lambda: scaled(keras.layers.ZeroPadding2D(0)), False),
        (lambda: keras.applications.MobileNetV2((32, 32, 3), 0.35, False, weights=None), False),
        (lambda: scaled("/"), True),
        (lambda: scaled(keras.layers.Rescaling(1 / 255)), True),
        (lambda: scaled(keras.layers.Normalization(mean=0, variance=1)), True),
        (lambda: scaled(keras.layers.BatchNormalization()), True),
    ],
)
def test_an_extractor_scales_its_input_if_anything_but_weights_reads_it(build, is_scaled):
    assert has_scaling(build()) == is_scaled


def test_an_extractor_that_gets_pixels_as_they_are_is_told(data, tmp_path):
    net(POOLED()).save(tmp_path / "own.keras")
    notes, settings = Notes(), {"backbone": str(tmp_path / "own.keras"), "freeze": "all"}
    with observed_reading(notes):
        config = make_config("features", settings | {"epochs": 1, "figures": False}, data=data)
        train(config, tmp_path)
    assert [line for line in notes.lines if "so it gets pixels from 0 to 255" in line]


def test_gray_images_suit_an_extractor_of_color(shapes):
    path = str(shapes.folder / "model.keras")
    config = FeatureExtractorConfig(
        image_shape=(32, 32, 1), backbone=path, hidden=(), num_outputs=3
    )
    gray = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    features = shapes.load_model().predict(np.repeat(gray, 3, axis=3), verbose=0)["features"]
    again = feature_extractor(config).predict(gray, verbose=0)["features"]
    np.testing.assert_allclose(again, features, rtol=1e-5)


def test_missing_values_need_an_extractor_that_has_learned_from_some(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 4)).round(3).tolist()
    rows[3][2] = ""
    lines = [",".join(map(str, [*row, number % 2])) for number, row in enumerate(rows)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["a,b,c,d,kind", *lines]))
    settings = {"backbone": save_model(tmp_path / "rows.keras", (4,)), "target": "kind"}
    refuse(settings, path, tmp_path, "The rows must have no missing values if the backbone")
