"""Logs, counts and traces the requests that have ended, over both protocols."""

import itertools
import os
import time
from collections.abc import Callable, Container
from typing import NamedTuple

from prometheus_client import Counter, Histogram

from .settings import Settings
from .telemetry import AccessLog, LogLine, Metrics
from .tracing import Ended, Traces, trace_id


class Head(NamedTuple):
    """What a request began with.

    Attributes:
        id: its id.
        method: HTTP method.
        path: path of the request, or of the method that is called.
        traceparent: W3C header of that name; may be empty.
    """

    id: str
    method: str
    path: str
    traceparent: str


class Recorder:
    """Records requests.

    Attributes:
        metrics: the metrics that it adds to.
        is_logging: whether requests are logged.
        trace: records the span of a request; None if no traces are sent.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, models: Callable[[], Container[str]]
    ) -> None:
        """Make a recorder.

        Args:
            settings: settings of the server.
            metrics: its metrics.
            models: returns the names of the models that are served; clients can invent others.
        """
        self.metrics = metrics
        self._models = models
        self.is_logging = settings.log_requests
        self._log = AccessLog()
        self._traces = Traces()
        self.trace: Callable[[Ended], None] | None = self._traces.record
        self._process, self._numbers = f"{os.getpid():x}", itertools.count()
        self._series: dict[tuple[str, str, int | str], tuple[Histogram, Counter]] = {}

    def next_id(self) -> str:
        """Return a new id for a request."""
        return f"{self._process}-{next(self._numbers):x}"

    def count(self, route: str, model: str, status: int | str, seconds: float) -> None:
        """Count a request.

        Args:
            route: name of its route or method.
            model: name of the model that it asks for; may be empty.
            status: HTTP status of its response, or the name of gRPC's.
            seconds: its duration.
        """
        if model not in self._models():
            model = ""
        key = route, model, status
        series = self._series.get(key)
        if series is None:
            metrics, names = self.metrics, (route, model)
            series = metrics.seconds.labels(*names), metrics.requests.labels(*names, str(status))
            self._series[key] = series
        series[0].observe(seconds)
        series[1].inc()

    def log(
        self, head: Head, status: int | str, seconds: float, size: int, token: str = ""
    ) -> None:
        """Log a request; to be called only if requests are logged.

        Args:
            head: what it began with.
            status: HTTP status of its response, or the name of gRPC's.
            seconds: its duration.
            size: bytes of its response before compression.
            token: name of the token that it presented.
        """
        now, milliseconds = round(time.time(), 3), round(1000 * seconds, 3)
        named = head.id, head.method, head.path
        trace = trace_id(head.traceparent) if head.traceparent else ""
        self._log.write(LogLine(now, *named, status, milliseconds, size, token, trace))

    def flush(self) -> None:
        """Start writing the log of the last requests."""
        self._log.flush()

    def close(self) -> None:
        """Write the last lines of the log, and send the last spans."""
        self._log.close()
        self._traces.close()
