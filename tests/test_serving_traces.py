"""Traces of requests: the context they come with, and the spans that a collector receives."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from live import start
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.server import Settings
from serving.server.tracing import Traces, trace_id

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PREDICT = "/v1/models/softmax:predict"


@pytest.fixture
def collector(monkeypatch):
    """A collector's address, and the spans that it has received with their resource."""
    found = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = named(batch.resource.attributes)
                found.extend((resource, s) for part in batch.scope_spans for s in part.spans)

        def log_message(self, *_arguments):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield found
        server.shutdown()
        thread.join()


def named(attributes):
    return {a.key: a.value.string_value or a.value.int_value for a in attributes}


def test_a_collector_receives_a_span_for_each_request_to_a_model(
    row_bundle, collector, monkeypatch, capfd
):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    client, stop = start(Settings(row_bundle.parent))
    row = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
    try:
        assert client.post(PREDICT, row, Traceparent=TRACEPARENT)[0] == 200
        assert client.post(PREDICT, row, Traceparent="00-not-valid-01")[0] == 200
        assert client.post(PREDICT, {})[0] == 400
        assert client.post(PREDICT, row, Traceparent=TRACEPARENT[:-1] + "0")[0] == 200
        assert client.get("/v2/health/live")[0] == 200
    finally:
        stop()  # sends the last spans
    # The last request to the model was not sampled by its client.
    (resource, first), (_, second), (_, third) = collector
    assert resource["service.name"] == "hornbill"
    assert resource["deployment.environment"] == "test"
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert first.name == "POST /v1/models/{model}:predict"
    assert 0 < first.end_time_unix_nano - first.start_time_unix_nano < 30e9
    attributes = named(first.attributes)
    assert attributes["http.route"] == "/v1/models/{model}:predict"
    assert attributes["hornbill.model"] == "softmax"
    assert attributes["http.response.status_code"] == 200
    assert second.parent_span_id == b""
    assert named(third.attributes)["http.response.status_code"] == 400
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    traces = [line.get("trace") for line in lines if line["path"] == PREDICT]
    assert traces == [TRACE, None, None, TRACE]


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (TRACEPARENT, TRACE),
        (f"01-{TRACE}-{PARENT}-01-later", TRACE),
        ("", ""),
        (TRACEPARENT.upper(), ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"{TRACEPARENT}\n", ""),
    ],
)
def test_only_a_valid_context_names_a_trace(header, wanted):
    assert trace_id(header) == wanted


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
)
def test_traces_can_be_turned_off(name, value, collector, monkeypatch):
    monkeypatch.setenv(name, value)
    assert Traces().record is None


def test_without_a_collector_nothing_is_recorded():
    assert Traces().record is None
