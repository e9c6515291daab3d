"""One version of a model: verified, loaded, measured and warmed up."""

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ManifestError
from ..golden import read_golden
from ..manifest import Manifest
from ..parity import Inputs, count_samples, take_samples
from ..predictor import Prediction, Predictor
from ..verify import verify_bundle
from .batching import Arrays, Batcher, Cost, Limits
from .open_inference import OpenInference
from .samples import describe_samples
from .settings import Settings

_MEASURED_ROWS, _TRIES = 8, 5


@dataclass(frozen=True, eq=False)
class Model:
    """A version that is ready.

    Attributes:
        manifest: manifest of the version.
        predictor: runs the model.
        open_inference: reads and writes the Open Inference Protocol for the model.
        cost: time to run rows.
        samples: what the page offers to try the model with, as JSON.
    """

    manifest: Manifest
    predictor: Predictor
    open_inference: OpenInference
    cost: Cost
    samples: bytes

    def run(self, arrays: Arrays) -> list[np.ndarray]:
        """Return every output, in the manifest's order."""
        (first, *others) = arrays.values()  # a single array takes the predictor's fast path
        return self.predictor.predict(arrays if others else first).arrays

    def prediction(self, arrays: list[np.ndarray]) -> Prediction:
        """Return the prediction for all outputs, given in the manifest's order."""
        return Prediction([spec.name for spec in self.manifest.outputs], arrays, self.manifest)

    def batcher(
        self,
        count: Callable[[list[np.ndarray]], None],
        executor: Executor,
        threads: int,
        settings: Settings,
    ) -> Batcher:
        """Return a queue for this model. `count` is called with the outputs of each batch."""

        def run(arrays: Arrays) -> list[np.ndarray]:
            outputs = self.run(arrays)
            count(outputs)
            return outputs

        is_whole = self.manifest.whole_batches  # requests are never joined
        limits = Limits(
            request_rows=settings.max_rows,
            batch_rows=1 if is_whole else self.cost.max_rows(settings.max_delay_ms),
            threads=threads,
        )
        return Batcher(run, self.cost, executor, limits)


def load_model(folder: Path) -> Model:
    """Verify the folder of a version, load it, and measure it on its golden samples.

    Raises:
        ManifestError: the version does not pass verification.
    """
    failed = [check for check in verify_bundle(folder) if not check.passed]
    if failed:
        raise ManifestError(failed[0].detail)
    predictor = Predictor.load(folder)
    manifest = predictor.manifest
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise ManifestError(
            f"The folder of this version must be {manifest.name}/{manifest.version}. "
            f"Received: {folder}."
        )
    samples = read_golden(folder, "input", manifest.inputs)
    cost = _measure(predictor, samples)
    offered = describe_samples(manifest, samples)
    return Model(manifest, predictor, OpenInference(manifest), cost, offered)


def _measure(predictor: Predictor, samples: Arrays) -> Cost:
    """Return the cost of rows. The runs also make ONNX Runtime allocate its memory."""
    if predictor.manifest.batch_size is not None:  # no other number of rows can be measured
        return Cost(_milliseconds(predictor, samples), 0.0, _row_size(samples))
    few, many = (
        _milliseconds(predictor, take_samples(samples, np.arange(rows) % count_samples(samples)))
        for rows in (1, _MEASURED_ROWS)
    )
    return Cost(few, max(0.0, many - few) / (_MEASURED_ROWS - 1), _row_size(samples))


def _row_size(samples: Arrays) -> int:
    return sum(array.size for array in samples.values()) // count_samples(samples)


def _milliseconds(predictor: Predictor, inputs: Inputs) -> float:
    times = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        predictor.predict(inputs)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)
