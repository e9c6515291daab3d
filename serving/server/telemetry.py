"""The metrics of a server for Prometheus, and its access log."""

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

from ..decisions import decide, thresholds_of
from ..manifest import Manifest
from .process_usage import ProcessUsage
from .writing import Writer

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_STATES = ("loading", "ready", "failed")
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each
# The folder in which the processes share metrics; prometheus_client reads this variable.
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_LOG = logging.getLogger("hornbill.server")
_ENCODER = msgspec.json.Encoder()
_WARNING_S = 60.0  # between two warnings about lines that were not logged
_CLOSING_S = 1.0  # to write the last lines when the server ends


class Metrics:
    """The metrics of one server. Its processes share them if there are several.

    They are shared through files in a folder: prometheus_client, "Multiprocess Mode".
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._waiting: dict[str, int] = {}
        self._versions: dict[tuple[str, int], str] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"hornbill_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Completed requests.", "route", "model", "status")
        self.predictions = counter(
            "predictions", "Predicted samples by predicted class.", "model", "version", "label"
        )
        self.rejected = counter(
            "rejected_predictions",
            "Predicted samples below the threshold.",
            "model",
            "version",
        )
        self.seconds = Histogram(
            "hornbill_request_duration_seconds",
            "Time from the head of a request to the end of its response, in seconds.",
            ["route", "model"], registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.rows = Histogram(
            "hornbill_batch_rows", "Samples in a batch.", ["model"],
            registry=self.registry, buckets=_ROWS,
        )  # fmt: skip
        self.in_flight = Gauge(
            "hornbill_requests_in_flight", "Requests in flight.",
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.waiting = Gauge(
            "hornbill_queue_depth", "Requests that wait for a batch.", ["model"],
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.queue_seconds = counter(
            "queue_seconds", "Time that requests waited for a batch, in seconds.", "model"
        )
        self.selftests = counter(
            "selftest", "Golden samples that the server sent to itself.",
            "model", "version", "result",
        )  # fmt: skip
        self.usage = ProcessUsage(self.registry)
        self.versions = Gauge(
            "hornbill_model_version", "1 for a served version, 0 for a failed or removed one.",
            ["model", "version"], registry=self.registry, multiprocess_mode="livemin",
        )  # fmt: skip
        self.states = Gauge(
            "hornbill_model_state",
            "1 for the state of a version: loading, ready or failed; /models has the reason.",
            ["model", "version", "state"],
            registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.baseline = Gauge(
            "hornbill_baseline_fraction",
            "Fraction of the test samples predicted as each class, measured at export.",
            ["model", "version", "label"], registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.baseline_rejected = Gauge(
            "hornbill_baseline_rejected_fraction",
            "Fraction of the test samples below the threshold, measured at export.",
            ["model", "version"], registry=self.registry, multiprocess_mode="livemax",
        )  # fmt: skip

    def update_gauges(
        self,
        in_flight: int,
        waiting: Mapping[str, int],
        waited_s: Mapping[str, float],
        versions: Mapping[tuple[str, int], str],
    ) -> None:
        """Set the gauges to the current state.

        Args:
            in_flight: number of requests in flight.
            waiting: number of waiting requests for each model.
            waited_s: time that requests of each model have waited since the last call.
            versions: the state of each version, `loading`, `ready` or `failed`, by model and
                number.
        """
        self.usage.update()
        for model, seconds in waited_s.items():
            self.queue_seconds.labels(model).inc(seconds)
        self.in_flight.set(in_flight)
        # Removed models are set to 0, since nothing can be removed from the shared files.
        self._waiting = dict.fromkeys(self._waiting, 0) | dict(waiting)
        for model, count in self._waiting.items():
            self.waiting.labels(model).set(count)
        self._versions = dict.fromkeys(self._versions, "") | dict(versions)
        for (model, number), state in self._versions.items():
            self.versions.labels(model, str(number)).set(state == "ready")
            for each in _STATES:
                self.states.labels(model, str(number), each).set(state == each)

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        if _FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        forget_ended_processes()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let the processes that are started inside this context share their metrics."""
    with tempfile.TemporaryDirectory(prefix="hornbill-metrics-") as folder:
        os.environ[_FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[_FOLDER_VARIABLE]


def forget_ended_processes() -> None:
    """Remove the gauges of ended processes, such as their requests in flight."""
    if _FOLDER_VARIABLE not in os.environ:
        return
    for path in Path(os.environ[_FOLDER_VARIABLE]).glob("*_live*_*.db"):
        process = int(path.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except (
            ProcessLookupError,
            PermissionError,
        ):  # ended; another user may have its id
            with suppress(FileNotFoundError):  # another process does the same
                mark_process_dead(process)  # type: ignore[no-untyped-call]


class PredictionCounter:
    """Counts the predictions of one version: samples, classes and rejections."""

    def __init__(self, metrics: Metrics, manifest: Manifest) -> None:
        names = (manifest.name, str(manifest.version))
        self._rows = metrics.rows.labels(manifest.name)
        self._place = None
        if manifest.task == "multiclass":
            self._place = [spec.name for spec in manifest.outputs].index(
                str(manifest.prediction_output)
            )
        self._labels = [metrics.predictions.labels(*names, label) for label in manifest.labels]
        self._thresholds = thresholds_of(manifest)
        self._rejected = metrics.rejected.labels(*names)
        self._threshold = manifest.reject_option.threshold if manifest.reject_option else None
        if manifest.reject_option is not None:
            metrics.baseline_rejected.labels(*names).set(1 - manifest.reject_option.coverage)
        if manifest.baseline is not None:
            for label, fraction in zip(manifest.labels, manifest.baseline.fractions, strict=True):
                metrics.baseline.labels(*names, label).set(fraction)

    def count(self, outputs: Sequence[np.ndarray]) -> None:
        """Count the samples of one batch, given all outputs of the model."""
        self._rows.observe(len(outputs[0]))
        if self._place is None:
            return
        probabilities = outputs[self._place]
        counts: dict[int, int] = {}
        for index in decide("multiclass", probabilities, self._thresholds).tolist():
            counts[index] = counts.get(index, 0) + 1
        for index, count in counts.items():
            self._labels[index].inc(count)
        if self._threshold is not None:
            rejected = (probabilities.max(axis=1) < self._threshold).tolist().count(True)
            if rejected:
                self._rejected.inc(rejected)


class LogLine(msgspec.Struct, gc=False, omit_defaults=True):
    """The log entry of one request.

    Attributes:
        time: time of the response, seconds since 1970.
        id: id of the request.
        method: HTTP method.
        path: path of the request.
        status: HTTP status of the response, or the name of gRPC's.
        ms: duration in milliseconds.
        bytes: size of the response before compression.
        token: name of the token that the client presented; empty without a file of tokens.
        trace: id of the W3C trace that the client's request belongs to; empty if there is none.
    """

    time: float
    id: str
    method: str
    path: str
    status: int | str
    ms: float
    bytes: int
    token: str = ""
    trace: str = ""


class AccessLog:
    """Writes a line of JSON for each request to standard output.

    Lines are buffered until `flush`. A line is dropped if it cannot be written because the disk is
    full, or because the reader of the pipe has stopped or is gone.
    """

    def __init__(self) -> None:
        self._writer = Writer(sys.stdout.buffer, _warn_unlogged)
        self._lines: list[bytes] = []
        self._dropped = 0
        self._warned_s = -math.inf

    def write(self, line: LogLine) -> None:
        """Buffer a line."""
        self._lines.append(_ENCODER.encode(line))

    def flush(self) -> None:
        """Start writing the buffered lines without waiting for the end."""
        if self._lines:
            lines, self._lines = [*self._lines, b""], []
            if not self._writer.write(b"\n".join(lines), len(lines) - 1):
                self._dropped += len(lines) - 1
        if self._dropped and time.monotonic() - self._warned_s > _WARNING_S:
            self._warn()

    def close(self) -> None:
        """Write the buffered lines and stop."""
        self.flush()
        self._writer.close(_CLOSING_S)
        if self._dropped:
            self._warn()

    def _warn(self) -> None:
        _LOG.warning(
            "%d requests were not logged: the reader of standard output does not keep up.",
            self._dropped,
        )
        self._dropped, self._warned_s = 0, time.monotonic()


def _warn_unlogged(lines: int, error: OSError) -> None:
    _LOG.warning("%d requests could not be logged: %s", lines, error)
