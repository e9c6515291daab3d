"""One version of a model, loaded, verified, measured and warm."""

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
from .settings import Settings

_MEASURED_ROWS, _TRIES = 8, 5


@dataclass(frozen=True, eq=False)
class Model:
    """A version that answers.

    Attributes:
        manifest: of the version.
        predictor: runs it.
        protocol: reads and writes the Open Inference Protocol for it.
        cost: of running rows.
    """

    manifest: Manifest
    predictor: Predictor
    protocol: OpenInference
    cost: Cost

    def run(self, arrays: Arrays) -> list[np.ndarray]:
        """Return every output, in the manifest's order."""
        (first, *others) = arrays.values()  # one alone has the faster way
        return self.predictor.predict(arrays if others else first).arrays

    def prediction(self, arrays: list[np.ndarray]) -> Prediction:
        """Return the meaning of every output, in the manifest's order."""
        return Prediction([spec.name for spec in self.manifest.outputs], arrays, self.manifest)

    def batcher(
        self,
        count: Callable[[list[np.ndarray]], None],
        executor: Executor,
        threads: int,
        settings: Settings,
    ) -> Batcher:
        """Return a queue for this model, whose outputs are counted batch by batch."""

        def run(arrays: Arrays) -> list[np.ndarray]:
            outputs = self.run(arrays)
            count(outputs)
            return outputs

        limits = Limits(
            request_rows=settings.max_rows,
            batch_rows=self.cost.most_rows(settings.max_delay_ms),
            threads=threads,
        )
        return Batcher(run, self.cost, executor, limits)


def load_model(folder: Path) -> Model:
    """Verify a version's folder, load it, and measure it on its golden samples.

    Raises:
        ManifestError: it does not verify.
    """
    failed = [check for check in verify_bundle(folder) if not check.passed]
    if failed:
        raise ManifestError(failed[0].detail)
    predictor = Predictor.load(folder)
    manifest = predictor.manifest
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise ManifestError(
            f"A version must lie in {manifest.name}/{manifest.version}. Received: {folder}."
        )
    samples = read_golden(folder, "input", manifest.inputs)
    return Model(manifest, predictor, OpenInference(manifest), _measure(predictor, samples))


def _measure(predictor: Predictor, samples: Arrays) -> Cost:
    """Return the cost of rows; to run them also makes ONNX Runtime allocate what it needs."""
    few, many = (
        _milliseconds(predictor, take_samples(samples, np.arange(rows) % count_samples(samples)))
        for rows in (1, _MEASURED_ROWS)
    )
    size = sum(array.size for array in samples.values()) // count_samples(samples)
    return Cost(few, max(0.0, many - few) / (_MEASURED_ROWS - 1), size)


def _milliseconds(predictor: Predictor, inputs: Inputs) -> float:
    times = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        predictor.predict(inputs)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)
