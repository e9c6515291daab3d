"""Draws training images as the model sees them: unchanged, and changed by augmentation."""

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from app.config.training_config import TrainingConfig
from app.data.augmentation import augment_inputs
from app.data.datasets import Dataset
from app.data.splits import some

from .plotting import save, style

_IMAGES, _TIMES = 10, 4


def draw_augmented(
    dataset: Dataset, train: np.ndarray, training: TrainingConfig, path: Path
) -> None:
    """Write a PNG of some training images, each above versions of itself; nothing if none differs.

    Args:
        dataset: a data set of images, uint8 `(samples, height, width, channels)`.
        train: indices of the training split, int64 `(samples,)`.
        training: settings of the training.
        path: the file to write.
    """
    images = dataset.inputs[train[some(len(train), _IMAGES)]]
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    augmented, _ = augment_inputs(inputs, training)
    if augmented is inputs:
        return
    model = keras.Model(inputs, augmented)
    rows = [images]
    rows += [keras.ops.convert_to_numpy(model(images, training=True)) for _ in range(_TIMES)]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    colors = sheet if sheet.shape[2] == 3 else sheet[..., 0]
    height, width = sheet.shape[:2]
    with style():
        figure = Figure(figsize=(8, 8 * height / width + 0.4), layout="constrained")
        axes = figure.subplots()
        axes.imshow(colors, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.axhline(images.shape[1] - 0.5, color="white", linewidth=3)
        axes.set_axis_off()
        axes.set_title("training images (top row) and how training steps see them")
        save(figure, path)
