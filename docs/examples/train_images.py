"""Learns from a folder of images, exports the model and predicts an image.

    python docs/examples/train_images.py photos holiday.jpg

Each subfolder of `photos` holds the images of a class.
"""

import sys

from app.system.tensorflow_import import import_tensorflow_quietly

import_tensorflow_quietly()

from app.bundles.export_run import export_run
from app.config import make_config
from app.runs import train
from serving import Predictor

SETTINGS = {"epochs": 10, "width": 16}  # for a quick look; without them, the data decides

if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("Usage: python docs/examples/train_images.py FOLDER IMAGE")
    folder, image = sys.argv[1:]
    run = train(make_config("features", SETTINGS, data=folder))
    print(f"accuracy: {run.metrics['test']['accuracy']:.3f}")
    with Predictor.load(export_run(run.folder, name="photos")) as predictor:
        prediction = predictor.predict_images([image])
        print(prediction.labels, prediction.probabilities, prediction.features.shape)
