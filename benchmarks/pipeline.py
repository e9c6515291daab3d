"""Speed of the training pipeline, compared with the training step that it feeds.

    HORNBILL_DATA=… python -m benchmarks.pipeline

Measures the examples/s of the pipeline alone, the examples/s of the default `cnn`, and the fraction
of its step time that the `cnn` spends waiting for data. Without mnist.npz it uses digits8x8.
"""

import time
from pathlib import Path

import numpy as np

from app.config.run_config import make_config
from app.data.pipelines import TrainingPipeline, seed_everything
from app.data.sources import bare_source, load_dataset
from app.data.splits import split_dataset
from app.system.data_folders import find_data
from app.training.fit import fit
from benchmarks.results import write_results

BATCH_SIZE = 128
EPOCHS = 3


def pipeline_rate(count: int) -> float:
    """Return the examples/s of a pipeline whose batches are not used."""
    seed_everything(0)
    arrays = [np.zeros((count, 28, 28), np.float32), np.zeros((count, 10), np.float32)]
    pipeline = TrainingPipeline(arrays, np.arange(count), BATCH_SIZE, seed=0)
    start = time.perf_counter()
    for pipeline.epoch in range(EPOCHS):
        for _ in pipeline.batches:
            pass
    return EPOCHS * count / (time.perf_counter() - start)


def main() -> None:
    """Measure both, one after the other."""
    source = "mnist.npz" if Path(find_data("mnist.npz")).exists() else "digits8x8"
    dataset = load_dataset(source)
    splits = split_dataset(dataset, seed=0)
    config = make_config("digits", {"epochs": 1, "batch_size": BATCH_SIZE}, data=source)
    fitted = fit(config, dataset, splits)
    rate = pipeline_rate(len(splits.train))
    row = {
        "what": bare_source(source),
        "pipeline_examples_per_s": round(rate),
        "cnn_examples_per_s": round(fitted.examples_per_s),
        "pipeline_to_cnn": round(rate / fitted.examples_per_s, 2),
        "wait_fraction": round(fitted.wait_fraction or 0.0, 5),
    }
    print(row)
    write_results("pipeline", [row])


if __name__ == "__main__":
    main()
