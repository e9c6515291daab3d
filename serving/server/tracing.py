"""Traces: the context that a request comes with, and its span, sent to an OpenTelemetry collector.

Sources: W3C, "Trace Context"; OpenTelemetry, "Semantic conventions for HTTP spans" and
"Environment variable specification".
"""

import logging
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_LOG = logging.getLogger("hornbill.server")
# A later version of the standard may append fields.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
# Either names the collector.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Ended(NamedTuple):
    """A request that has ended.

    Attributes:
        name: low-cardinality name, such as `POST /v2/models/{model}/infer`.
        traceparent: the W3C header `traceparent` of the request; may be empty.
        tracestate: its header `tracestate`; may be empty.
        seconds: its duration.
        attributes: what is known of it, by the names of the semantic conventions.
        is_error: whether the server failed.
    """

    name: str
    traceparent: str
    tracestate: str
    seconds: float
    attributes: dict[str, str | int]
    is_error: bool


def trace_id(traceparent: str) -> str:
    """Return the id of a trace, 32 hexadecimal digits; empty if the header is not valid.

    Args:
        traceparent: value of the header `traceparent`, or of gRPC's metadata of that name.
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    return match[1] if match is not None else ""


class Traces:
    """Sends a span for each request, if the environment names a collector.

    Where it goes, what is sampled and the name of the service follow OpenTelemetry's own variables.
    """

    def __init__(self) -> None:
        self._provider = _make_provider()
        self.record: Callable[[Ended], None] | None = None
        if self._provider is not None:
            self.record = _recorder(self._provider)

    def close(self) -> None:
        """Send the last spans."""
        if self._provider is not None:
            self._provider.shutdown()


def _make_provider() -> "TracerProvider | None":
    if not any(map(os.environ.get, _ENDPOINTS)):
        return None
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:  # platforms set the variables for every container
        _LOG.warning(
            "No traces are sent: the package %s is missing. Install the extra otel.", error.name
        )
        return None
    # The variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have precedence.
    name = os.environ.get("OTEL_SERVICE_NAME") or "hornbill"
    resource = Resource.create({"service.name": name, "service.version": VERSION})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _recorder(provider: "TracerProvider") -> Callable[[Ended], None]:
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    tracer = provider.get_tracer("hornbill.server", VERSION)
    propagator = TraceContextTextMapPropagator()

    def record(ended: Ended) -> None:
        end_ns = time.time_ns()
        carrier = {"traceparent": ended.traceparent, "tracestate": ended.tracestate}
        span = tracer.start_span(
            ended.name,
            context=propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=ended.attributes,
            start_time=end_ns - int(ended.seconds * 1e9),
        )
        if ended.is_error:
            span.set_status(StatusCode.ERROR)
        span.end(end_ns)

    return record
