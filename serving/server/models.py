"""One version of a model: loaded, measured and warmed up."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..checking import check_finite
from ..errors import ManifestError
from ..golden import read_golden
from ..manifest import Manifest
from ..parity import Inputs, count_samples, take_samples
from ..predictor import Prediction, Predictor
from .batching import Arrays, Batcher, Cost, Limits
from .model_settings import DEFAULTS, ModelSettings
from .open_inference import OpenInference
from .samples import describe_samples
from .selftest import SelfTest, make_selftest
from .settings import Settings
from .turns import Turns

# So many rows that their time stands out from the noise of the machine, unless they take longer.
_MEASURED_ROWS, _MEASURED_MS = 64, 50.0
_TRIES = 5


@dataclass(frozen=True, eq=False)
class Model:
    """A version that is ready.

    Attributes:
        manifest: manifest of the version.
        predictor: runs the model.
        open_inference: reads and writes the Open Inference Protocol for the model.
        cost: time to run rows.
        selftest: a golden sample and its answer; None if its answers vary.
        settings: settings of the model.
        samples: what the page offers to try the model with, as JSON.
    """

    manifest: Manifest
    predictor: Predictor
    open_inference: OpenInference
    cost: Cost
    selftest: SelfTest | None
    settings: ModelSettings
    samples: bytes

    def run(self, arrays: Arrays) -> list[np.ndarray]:
        """Return every output, in the manifest's order."""
        return _run(self.predictor, arrays)

    def check(self, arrays: Arrays) -> None:
        """Raise `InputError` if a number must be finite and is not."""
        manifest = self.manifest
        nullable = [manifest.columns.index(name) for name in manifest.nullable_columns]
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                check_finite(name, array, nullable if name == "inputs" else ())

    def prediction(self, arrays: list[np.ndarray]) -> Prediction:
        """Return the prediction for all outputs, given in the manifest's order."""
        return Prediction([spec.name for spec in self.manifest.outputs], arrays, self.manifest)

    def batcher(
        self,
        count: Callable[[list[np.ndarray]], None],
        turns: Turns,
        settings: Settings,
    ) -> Batcher:
        """Return a queue for this model. `count` is called with the outputs of each batch."""

        def run(arrays: Arrays) -> list[np.ndarray]:
            outputs = self.run(arrays)
            count(outputs)
            return outputs

        own = self.settings
        batch_rows = self.cost.max_rows(own.max_delay_ms or settings.max_delay_ms)
        if self.manifest.whole_batches:  # requests are never joined
            batch_rows = 1
        limits = Limits(
            request_rows=min(settings.max_rows, own.max_rows or settings.max_rows),
            batch_rows=min(batch_rows, own.max_batch_rows or batch_rows),
            is_whole=self.manifest.whole_batches,
        )
        return Batcher(run, self.check, self.cost, turns, limits)


def load_model(folder: Path, settings: ModelSettings = DEFAULTS) -> Model:
    """Load the folder of a version, which has passed its trial, and measure it on golden samples.

    Args:
        folder: folder of the version.
        settings: settings of the model.

    Raises:
        ManifestError: the version has changed since, or its folder has another name.
    """
    predictor = Predictor.load(folder, threads=settings.threads)
    manifest = predictor.manifest
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise ManifestError(
            f"The folder of this version must be {manifest.name}/{manifest.version}. "
            f"Received: {folder}."
        )
    samples = read_golden(folder, "input", manifest.inputs)
    open_inference = OpenInference(manifest)
    cost = _measure(predictor, samples)
    offered = describe_samples(manifest, samples)
    selftest = make_selftest(manifest, open_inference, partial(_run, predictor), samples)
    return Model(manifest, predictor, open_inference, cost, selftest, settings, offered)


def _run(predictor: Predictor, arrays: Arrays) -> list[np.ndarray]:
    (first, *others) = arrays.values()  # a single array takes the predictor's fast path
    return predictor.predict(arrays if others else first).arrays


def _measure(predictor: Predictor, samples: Arrays) -> Cost:
    """Return the cost of rows. The runs also make ONNX Runtime allocate its memory."""
    if predictor.manifest.batch_size is not None:  # no other number of rows can be measured
        return Cost(_milliseconds(predictor, samples), 0.0, _row_size(samples))

    def measure(rows: int) -> float:
        taken = take_samples(samples, np.arange(rows) % count_samples(samples))
        return _milliseconds(predictor, taken)

    alone_ms = measure(1)
    rows = max(8, min(_MEASURED_ROWS, int(_MEASURED_MS / alone_ms)))
    return Cost(alone_ms, max(0.0, measure(rows) - alone_ms) / (rows - 1), _row_size(samples))


def _row_size(samples: Arrays) -> int:
    return sum(array.size for array in samples.values()) // count_samples(samples)


def _milliseconds(predictor: Predictor, inputs: Inputs) -> float:
    times = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        predictor.predict(inputs)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)
