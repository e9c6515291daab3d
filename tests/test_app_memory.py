"""Memory: how much is read and computed at once does not grow with the size of images."""

import keras
import numpy as np
import pytest

from app.bundles import export_run as exporting
from app.config import make_config
from app.config.chosen_defaults import choose_defaults
from app.data.arrays import ComputedArray
from app.data.datasets import Dataset
from app.data.splits import split_dataset
from app.errors import RunError
from app.evaluation.predictions import predict_samples
from app.system.memory import translate_out_of_memory
from app.training.job import Job
from export import ExportOptions
from serving.bundle import read_manifest


class Images(ComputedArray):
    """Images of one gray each, and how many are read at once."""

    def __init__(self, count, shape):
        super().__init__(range(count), lambda number: np.full(shape, number), shape, np.uint8, None)
        self.read = []

    def __getitem__(self, index):
        self.read.append(len(index))
        return super().__getitem__(index)


class Seen(keras.layers.Layer):
    """Computes two outputs of an image, and how many images are seen at once."""

    def __init__(self):
        super().__init__(name="probabilities")
        self.sizes = set()

    def call(self, images):
        self.sizes.add(images.shape[0])
        gray = keras.ops.mean(keras.ops.cast(images, "float32"), axis=(1, 2))
        return keras.ops.concatenate([gray, 255 - gray], axis=1)


@pytest.mark.parametrize(("side", "most_read", "seen"), [(32, 300, 256), (1024, 30, 2)])
def test_the_larger_images_are_the_fewer_are_predicted_at_once(side, most_read, seen):
    count = 31 if side > 500 else 300
    images, layer = Images(count, (side, side, 1)), Seen()
    dataset = Dataset(source="own", inputs=images, targets=np.arange(count) % 2, labels=("a", "b"))
    inputs = keras.Input((side, side, 1), dtype="uint8")
    model = keras.Model(inputs, {"probabilities": layer(inputs)})
    found = predict_samples(model, dataset, np.arange(count))
    np.testing.assert_allclose(found[:, 0], np.arange(count) % 256)
    assert max(images.read) == most_read
    assert layer.sizes - {None} == {seen}


@pytest.mark.parametrize(("side", "size"), [(96, 256), (512, 9)])
def test_the_larger_images_are_the_fewer_are_validated_at_once(side, size):
    images = np.random.default_rng(0).integers(0, 256, (20, side, side, 1), np.uint8)
    dataset = Dataset(source="own", inputs=images, targets=np.arange(20) % 2, labels=("a", "b"))
    config = make_config("features", {"backbone": "mlp", "hidden": [2]})
    config = choose_defaults(config, 20, (side, side, 1))
    assert Job(config, dataset, split_dataset(dataset, 0)).evaluation_batch_size == size


def test_a_proof_takes_as_many_samples_as_fit_into_memory(softmax_run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_MAX_BYTES", 10 * 4 * 4)
    bundle = exporting.export_run(softmax_run.folder, tmp_path, "some", ExportOptions(int8="never"))
    proof = read_manifest(bundle).proof
    assert (proof.samples, proof.source) == (10, "a part of the test split of iris")


def test_what_makes_a_model_of_images_smaller_is_named():
    message = "Reduce hidden, .*width, .*image_size or batch_size"
    with pytest.raises(RunError, match=message), translate_out_of_memory():
        raise MemoryError
