"""Progressive resizing: which sizes the images of a training have, and what follows from that."""

import shutil
from itertools import groupby

import keras
import numpy as np
import pytest
from test_app_resume import Notes, interrupt

from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.data.reading_progress import observed_reading
from app.errors import ConfigError
from app.runs import resume, train
from app.system.signals import Interrupted
from app.training.kept_weights import KeptWeights
from app.training.progressive_resizing import GrowingImages, Shrink, first_of_size

SETTINGS = {"width": 4, "epochs": 3, "batch_size": 16, "progressive_resizing": True}
# Quicker to trace than muon, and than a schedule, which Keras traces for each weight.
SETTINGS |= {"optimizer.name": "adamw", "optimizer.schedule": "constant"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The path of a file of 60 color images of 32x32 pixels, of two classes."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "images.npz"
    x = random.integers(0, 256, (60, 32, 32, 3), np.uint8)
    y = np.arange(60) % 2
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    return str(path)


@pytest.fixture(scope="module")
def uninterrupted(images, tmp_path_factory):
    """A run of three epochs, the sides of images in its steps, and what it has told."""
    sides, call = [], Shrink.call

    def recording(self, images):
        smaller = call(self, images)
        sides.append(smaller.shape[1:3])
        return smaller

    notes = Notes()
    with pytest.MonkeyPatch.context() as patch, observed_reading(notes):
        patch.setattr(Shrink, "call", recording)
        config = make_config("features", SETTINGS, data=images)
        run = train(config, tmp_path_factory.mktemp("whole"), figures=False)
    return run, sides, notes.lines


def test_images_grow_and_the_saved_model_takes_whole_ones(uninterrupted):
    run, sides, notes = uninterrupted
    assert [side for side, _ in groupby(sides)] == [(21, 21), (32, 32)]
    assert run.load_model().inputs[0].shape == (None, 32, 32, 3)
    assert notes == [
        "Images are reduced to 21x21 pixels up to epoch 2 of 3 (progressive_resizing), and have "
        "32x32 from then on."
    ]


def test_an_interrupted_run_goes_on_at_the_size_of_its_epoch(images, uninterrupted, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(make_config("features", SETTINGS, data=images), tmp_path, [Stop()], figures=False)
    (folder,) = (tmp_path / "features").iterdir()
    run = resume(folder)
    assert run.metrics == uninterrupted[0].metrics


def test_a_run_that_has_had_whole_images_begins_again_with_them(uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted[0].folder, tmp_path / "run")
    notes, stop = Notes(), keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: interrupt())
    with observed_reading(notes), pytest.raises(Interrupted):
        resume(folder, [stop], settings={"epochs": 6})
    assert any("Training goes on after epoch 3" in line for line in notes.lines)
    assert not [line for line in notes.lines if line.startswith("Images are reduced")]


# In short: test_a_run_that_has_had_whole_images_begins_again_with_them.
@pytest.mark.slow
def test_a_run_that_has_had_whole_images_goes_on_with_them(uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted[0].folder, tmp_path / "run")
    notes = Notes()
    with observed_reading(notes):
        resume(folder, settings={"epochs": 6})
        resume(folder, settings={"epochs": 7})
    assert not [line for line in notes.lines if line.startswith("Images are reduced")]


@pytest.mark.parametrize(
    ("epochs", "trained", "known", "first"),
    [
        (9, 0, None, 6),
        (18, 9, 6, 6),
        (18, 4, 6, 12),
        (18, 6, 6, 12),
        (18, 7, 6, 6),
        (1, 0, None, 0),
    ],
)
def test_images_do_not_become_smaller_again(epochs, trained, known, first):
    growing = GrowingImages(Shrink(), (96, 96, 3), epochs, trained, known)
    assert growing.first_whole == first
    assert growing.fractions == sorted(growing.fractions)
    assert len(growing.fractions) == epochs


def test_training_does_not_stop_early_before_it_has_seen_whole_images(images, tmp_path):
    # Nothing is learned: the validation loss is that of the size of the images.
    settings = {"epochs": 9, "patience": 1, "optimizer.learning_rate": 1e-30}
    settings |= {"optimizer.weight_decay": 0, "normalization": "none"}
    run = train(make_config("features", SETTINGS | settings, data=images), tmp_path, figures=False)
    epochs = len((run.folder / "history.csv").read_text().splitlines()) - 1
    assert 6 < epochs < 9


@pytest.mark.parametrize(("epochs", "smaller"), [(1, 0), (2, 1), (3, 2), (4, 2), (60, 40)])
def test_a_training_ends_with_whole_images(epochs, smaller):
    growing = GrowingImages(Shrink(), (96, 48, 3), epochs)
    assert growing.fractions == [2 / 3] * smaller + [1] * (epochs - smaller)
    assert growing.work == [4 / 9] * smaller + [1] * (epochs - smaller)


def test_smaller_images_show_the_same():
    layer = Shrink()
    layer.fraction = 2 / 3
    rows = np.arange(0, 192, 2, np.uint8)
    images = np.broadcast_to(rows[None, :, None, None], (2, 96, 48, 3))
    smaller = np.asarray(layer(images))
    assert smaller.shape == (2, 64, 32, 3)
    np.testing.assert_allclose(smaller[0, :, 0, 0], 3 * np.arange(64) + 0.5, atol=0.5)


def test_images_do_not_become_smaller_than_sixteen_pixels():
    layer = Shrink()
    layer.fraction = 2 / 3
    assert layer(np.zeros((1, 12, 18, 1), np.uint8)).shape == (1, 12, 16, 1)


def test_the_best_epoch_is_one_of_whole_images():
    config = make_config("features", {"restore_best_weights": True}).training
    kept = KeptWeights(config)
    for number, (losses, is_whole) in enumerate(
        [([0.1], False), ([0.5], True), ([0.5, 0.7], True)]
    ):
        kept.add([np.array(number)], losses, is_last=number == 2, is_whole=is_whole)
    assert kept.weights[0] == 1


@pytest.mark.parametrize(("losses", "epoch"), [((0.45, 0.41), 1), ((0.45, 0.3), 5)])
def test_a_run_that_goes_on_keeps_its_best_epoch_of_whole_images(losses, epoch):
    config = make_config("features", {"restore_best_weights": True}).training
    kept = KeptWeights(config)
    # Small and whole images, then again.
    rows = [([0.6], False), ([0.35], True), ([0.35, 0.4], True), ([0.2], False)]
    rows += [(losses[:1], True), (losses, True)]
    for number, (known, is_whole) in enumerate(rows):
        kept.add([np.array(number)], known, is_last=number in (2, 5), is_whole=is_whole)
    assert kept.weights[0] == epoch


def test_losses_are_compared_among_epochs_of_one_size():
    params = {"work": [0.4, 0.4, 1, 1, 0.4, 1, 1], "epochs": 7}
    assert [first_of_size(params, epoch) for epoch in range(7)] == [0, 0, 2, 2, 4, 5, 5]
    assert first_of_size({"epochs": 3}, 2) == 0


@pytest.mark.parametrize(
    ("settings", "shape", "grows", "epochs"),
    [
        ({}, (96, 96, 3), True, 61),
        ({}, (64, 96, 1), True, 61),
        ({}, (48, 96, 3), False, 40),
        ({"progressive_resizing": False}, (96, 96, 3), False, 40),
        ({"progressive_resizing": True}, (32, 32, 3), True, 61),
        ({"backbone": "mlp"}, (96, 96, 3), False, 40),
    ],
)
def test_large_images_grow_by_default_for_more_epochs(settings, shape, grows, epochs):
    training = choose_defaults(make_config("features", settings), 4_000, shape).training
    assert (training.progressive_resizing, training.epochs) == (grows, epochs)


def test_a_frozen_backbone_takes_images_of_its_size():
    frozen = make_config("features", {"freeze": "all", "augmentation.flip": True})
    assert not choose_defaults(frozen, 4_000, (96, 96, 3)).training.progressive_resizing
    config = make_config("features", {"progressive_resizing": True, "freeze": "all"})
    with pytest.raises(ConfigError, match="a backbone that learns. Received: freeze=all"):
        choose_defaults(config, 4_000, (96, 96, 3))


def test_only_residual_nets_take_images_of_any_size():
    config = make_config("features", {"progressive_resizing": True, "backbone": "mlp"})
    with pytest.raises(ConfigError, match="backbone=residual only. Received: backbone=mlp."):
        choose_defaults(config, 100, (32, 32, 3))
    config = make_config("features", {"progressive_resizing": True})
    with pytest.raises(ConfigError, match="progressive_resizing applies to images only"):
        choose_defaults(config, 100, (4,))
