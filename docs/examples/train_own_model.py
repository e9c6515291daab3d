"""Trains a model of your own, exports it and predicts: python docs/examples/train_own_model.py.

On the command line: hornbill train docs/examples/train_own_model.py:build --data digits8x8
"""

from app.system.tensorflow_import import import_tensorflow_quietly

import_tensorflow_quietly()

import keras
from keras import layers

from app.bundles.export_run import export_run
from app.runs import train
from serving import Predictor


def build(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Return a net; its arguments come from the data."""
    image = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(x)
    return keras.Model(image, layers.Dense(num_classes)(layers.Flatten()(x)))


if __name__ == "__main__":
    run = train({"epochs": 3, "metrics": ["auc"]}, model=build, data="digits8x8")
    predictor = Predictor.load(export_run(run.folder, name="own_model"))
    print(run.metrics["test"]["accuracy"], predictor.manifest.labels)
