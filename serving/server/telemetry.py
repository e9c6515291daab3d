"""What a server counts, for Prometheus, and what it logs."""

import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ..manifest import Manifest
from .writing import Writer

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each
# Where prometheus_client looks for it.
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_LOG = logging.getLogger("hornbill.server")
_ENCODER = msgspec.json.Encoder()
_WARNING_S = 60.0  # between two warnings of what was not logged
_CLOSING_S = 1.0  # for what is still to be logged when the server ends


class Metrics:
    """The metrics of one server, whose processes share them where it has several.

    They do so through files in a folder, as prometheus_client has it: "Multiprocess Mode".
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._waiting: dict[str, int] = {}
        self._versions: dict[tuple[str, int], bool] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"hornbill_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Requests answered.", "route", "status")
        self.predictions = counter(
            "predictions", "Samples predicted, by their class.", "model", "version", "label"
        )
        self.rejected = counter(
            "rejected_predictions", "Samples whose class is not sure enough.", "model", "version"
        )
        self.seconds = Histogram(
            "hornbill_request_duration_seconds",
            "Time from the first byte of a request to the last of its response.", ["route"],
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.rows = Histogram(
            "hornbill_batch_rows", "Samples run together.", ["model"],
            registry=self.registry, buckets=_ROWS,
        )  # fmt: skip
        self.under_way = Gauge(
            "hornbill_requests_in_flight", "Requests not yet answered.",
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.waiting = Gauge(
            "hornbill_queue_depth", "Requests that wait for a batch.", ["model"],
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.versions = Gauge(
            "hornbill_model_version", "1 for a version that answers, 0 for one that does not.",
            ["model", "version"], registry=self.registry, multiprocess_mode="livemin",
        )  # fmt: skip
        self.baseline = Gauge(
            "hornbill_baseline_share",
            "Share of the samples answered with a class, when the bundle was made.",
            ["model", "version", "label"], registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.baseline_rejected = Gauge(
            "hornbill_baseline_rejected_share",
            "Share of the samples whose class was not sure enough, when the bundle was made.",
            ["model", "version"], registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip

    def note(
        self, under_way: int, waiting: Mapping[str, int], versions: Mapping[tuple[str, int], bool]
    ) -> None:
        """Set what holds at present.

        Args:
            under_way: requests.
            waiting: requests for each model.
            versions: whether each version of a model answers.
        """
        self.under_way.set(under_way)
        # What was dropped is set to 0: files that are shared forget nothing.
        self._waiting = dict.fromkeys(self._waiting, 0) | dict(waiting)
        for model, count in self._waiting.items():
            self.waiting.labels(model).set(count)
        self._versions = dict.fromkeys(self._versions, False) | dict(versions)
        for (model, number), answers in self._versions.items():
            self.versions.labels(model, str(number)).set(answers)

    def render(self) -> bytes:
        """Return all of them as Prometheus reads them."""
        if _FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        forget_ended_processes()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let the processes that are started meanwhile share their metrics."""
    with tempfile.TemporaryDirectory(prefix="hornbill-metrics-") as folder:
        os.environ[_FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[_FOLDER_VARIABLE]


def forget_ended_processes() -> None:
    """Drop what processes that have ended left of the present: what they had under way."""
    if _FOLDER_VARIABLE not in os.environ:
        return
    for path in Path(os.environ[_FOLDER_VARIABLE]).glob("*_live*_*.db"):
        process = int(path.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except (ProcessLookupError, PermissionError):  # gone, or its number is another user's
            with suppress(FileNotFoundError):  # another process does the same
                mark_process_dead(process)  # type: ignore[no-untyped-call]


class Answers:
    """Counts what one version answers: samples, classes and rejections."""

    def __init__(self, metrics: Metrics, manifest: Manifest) -> None:
        names = (manifest.name, str(manifest.version))
        self._rows = metrics.rows.labels(manifest.name)
        self._place = None
        if manifest.task == "multiclass":
            self._place = [spec.name for spec in manifest.outputs].index(
                str(manifest.prediction_output)
            )
        self._labels = [metrics.predictions.labels(*names, label) for label in manifest.labels]
        self._rejected = metrics.rejected.labels(*names)
        self._threshold = manifest.reject_option.threshold if manifest.reject_option else None
        if manifest.reject_option is not None:
            metrics.baseline_rejected.labels(*names).set(1 - manifest.reject_option.coverage)
        if manifest.baseline is not None:
            for label, share in zip(manifest.labels, manifest.baseline.shares, strict=True):
                metrics.baseline.labels(*names, label).set(share)

    def count(self, outputs: Sequence[np.ndarray]) -> None:
        """Count the samples that were run together."""
        self._rows.observe(len(outputs[0]))
        if self._place is None:
            return
        probabilities = outputs[self._place]
        counts = np.bincount(probabilities.argmax(axis=1))
        for index in counts.nonzero()[0].tolist():
            self._labels[index].inc(int(counts[index]))
        if self._threshold is not None:
            rejected = int((probabilities.max(axis=1) < self._threshold).sum())
            if rejected:
                self._rejected.inc(rejected)


class LogLine(msgspec.Struct, gc=False):
    """What is logged of one request.

    Attributes:
        time: when it was answered, seconds since 1970.
        id: of the request.
        method: of HTTP.
        path: asked for.
        status: of the answer.
        ms: milliseconds that it took.
        bytes: of the answer, before compression.
    """

    time: float
    id: str
    method: str
    path: str
    status: int
    ms: float
    bytes: int


class AccessLog:
    """Writes a line of JSON for each request; lines are kept back until `flush`.

    Those that cannot be written, to a full disk or a pipe whose reader has gone or stopped, are
    dropped.
    """

    def __init__(self) -> None:
        self._writer = Writer(sys.stdout.buffer, _say_unlogged)
        self._lines: list[bytes] = []
        self._dropped = 0
        self._warned_s = -math.inf

    def write(self, line: LogLine) -> None:
        """Keep a line."""
        self._lines.append(_ENCODER.encode(line))

    def flush(self) -> None:
        """Let be written what was kept, without waiting for it."""
        if self._lines:
            lines, self._lines = [*self._lines, b""], []
            if not self._writer.write(b"\n".join(lines), len(lines) - 1):
                self._dropped += len(lines) - 1
        if self._dropped and time.monotonic() - self._warned_s > _WARNING_S:
            self._warn()

    def close(self) -> None:
        """Write what was kept, and end."""
        self.flush()
        self._writer.close(_CLOSING_S)
        if self._dropped:
            self._warn()

    def _warn(self) -> None:
        _LOG.warning(
            "%d requests were not logged: who reads standard output does not keep up.",
            self._dropped,
        )
        self._dropped, self._warned_s = 0, time.monotonic()


def _say_unlogged(lines: int, error: OSError) -> None:
    _LOG.warning("%d requests could not be logged: %s", lines, error)
