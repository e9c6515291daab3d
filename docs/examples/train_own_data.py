"""Trains on tf.data pipelines with their own augmentation: python docs/examples/train_own_data.py.

On the command line: hornbill train MODEL.py:build --data docs/examples/train_own_data.py:pipelines
"""

from app.system.tensorflow_import import import_tensorflow_quietly

import_tensorflow_quietly()

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from app.runs import train


def pipelines() -> dict[str, tf.data.Dataset]:
    """Return batches for each split; training images get random contrast."""
    x, y = load_digits(return_X_y=True)
    parts = np.split(np.random.default_rng(0).permutation(len(x)), [1200, 1500])
    sets = [tf.data.Dataset.from_tensor_slices((x[i].astype("float32"), y[i])) for i in parts]
    sets[0] = sets[0].shuffle(1200).map(lambda x, y: (x * tf.random.uniform((), 0.8, 1.2), y))
    return dict(zip(("train", "validation", "test"), (s.batch(64) for s in sets), strict=True))


if __name__ == "__main__":
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    print(train({"epochs": 3}, model=net, data=pipelines()).metrics["test"])
