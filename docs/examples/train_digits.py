"""Trains a digit net, exports it and predicts: python docs/examples/train_digits.py."""

from app.system.tensorflow_import import import_tensorflow_quietly

import_tensorflow_quietly()

from app.bundles.export_run import export_run
from app.config import make_config
from app.data.sources import load_dataset
from app.runs import train
from serving import Predictor

SETTINGS = {
    "variant": "mlp",
    "epochs": 3,
    "hidden": [128],
    "optimizer.learning_rate": 3e-3,
    "augmentation.rotation": 10,
}

if __name__ == "__main__":
    run = train(make_config("digits", SETTINGS, data="digits8x8", seed=1))
    print({name: round(value, 3) for name, value in run.metrics["test"].items()})
    predictor = Predictor.load(export_run(run.folder, name="example"))
    dataset = load_dataset("digits8x8")
    chosen = run.splits.test[:10]
    print([dataset.labels[target] for target in dataset.targets[chosen]])
    print(predictor.predict(dataset.inputs[chosen]).labels)
