"""Fine-tunes a .keras file on other classes: python docs/examples/train_from_file.py net.keras."""

import sys

from app.system.tensorflow_import import import_tensorflow_quietly

import_tensorflow_quietly()

import keras
import numpy as np
from sklearn.datasets import load_digits

from app.runs import train


def with_new_head(num_classes: int) -> keras.Model:
    """Return the model of the file with its layers frozen, up to a new last layer."""
    base = keras.saving.load_model(sys.argv[1], compile=False)
    base.trainable = False
    head = keras.layers.Dense(num_classes, name="head")
    return keras.Model(base.inputs, head(base.layers[-1].input))


if __name__ == "__main__":
    x, y = load_digits(return_X_y=True)
    parity = np.array(["even", "odd"])[y % 2]
    run = train({"epochs": 3}, model=with_new_head, data=(x, parity))
    print(run.data["labels"], run.metrics["test"])
