"""Speed at which images are read and augmented, compared with the training step of the default net.

    python -m benchmarks.image_pipeline

Images are random and lie on disk, as those of a folder do. Settings are those that training
chooses for so many images of that size. Reading with augmentation takes turns with training steps
on a batch in memory, without augmentation; the fastest turn of each counts. Images have their whole
size, as in the last third of the epochs.
"""

import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from app.config.chosen_defaults import choose_defaults
from app.config.run_config import change_config, flat_config, make_config
from app.data.arrays import DiskArray
from app.data.augmentation import augment_inputs
from app.data.datasets import Dataset
from app.data.pipelines import TrainingPipeline
from app.data.splits import Splits
from app.training.compilation import Compilation
from app.training.job import Job
from benchmarks.results import write_results

COUNT = 4096
SIDES = (32, 96)
CLASSES = 10
TURNS = 5
STEPS = 4
_NONE = np.arange(0)


def make_dataset(side: int) -> Dataset:
    """Return random images in color on disk."""
    random = np.random.default_rng(0)
    images = DiskArray((side, side, 3), np.uint8)
    for _ in range(COUNT // 256):
        images.append(random.integers(0, 256, (256, side, side, 3), np.uint8))
    labels = tuple(str(number) for number in range(CLASSES))
    return Dataset(
        source="random", inputs=images, targets=np.arange(COUNT) % CLASSES, labels=labels
    )


def measure(side: int) -> dict[str, object]:
    """Return images/s of the pipeline and of the net, and their ratio."""
    dataset = make_dataset(side)
    config = choose_defaults(make_config("features"), COUNT, (side, side, 3))
    defaults = flat_config(make_config("features"))  # which augment nothing
    still = change_config(
        config, {key: defaults[key] for key in defaults if key.startswith("augmentation.")}
    )
    job = Job(still, dataset, Splits(np.arange(COUNT), _NONE, _NONE))
    model = job.compile(job.model, Compilation("float32", xla=False))
    batch = [array[: job.batch_size] for array in job.arrays]
    read = _reader(job, lambda inputs: augment_inputs(inputs, config.training)[0])

    def train() -> int:
        for _ in range(STEPS):
            model.train_on_batch(*batch)
        return STEPS * job.batch_size

    turns = [(_rate(read), _rate(train)) for _ in range(TURNS + 1)][1:]  # the first one compiles
    pipeline, net = (max(rates) for rates in zip(*turns, strict=True))
    return {
        "what": f"{side}x{side}",
        "batch_size": job.batch_size,
        "pipeline_images_per_s": round(pipeline),
        "net_images_per_s": round(net),
        "pipeline_to_net": round(pipeline / net, 2),
    }


def _reader(
    job: Job, augment: Callable[[keras.KerasTensor], keras.KerasTensor]
) -> Callable[[], int]:
    """Return a function that reads and augments all images once, and returns their number."""
    inputs = keras.Input(job.arrays[0].shape[1:], dtype="uint8")
    augmentation = keras.Model(inputs, augment(inputs))
    pipeline = TrainingPipeline(job.arrays, job.splits.train, job.batch_size, seed=0)

    change = tf.function(lambda images: augmentation(images, training=True))

    def read() -> int:
        pipeline.epoch += 1
        for images, *_ in pipeline.batches:
            change(images)
        return COUNT

    return read


def _rate(process: Callable[[], int]) -> float:
    start = time.perf_counter()
    count = process()
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure every size, and write the results."""
    for side in SIDES:
        row = measure(side)
        print(row, flush=True)
        write_results("image_pipeline", [row])


if __name__ == "__main__":
    main()
