"""Requests per second of Hornbill's server and of others that serve the same model.

    python -m benchmarks.http_load dist/mlp [--kind gRPC]

Each server runs on one core, and the load comes from another: 32 connections, each of which sends
one image as soon as the previous response arrives. The other servers are in `rivals/`; each has a
virtual environment, which is created on first use, with the version of ONNX Runtime that Hornbill
uses, and where they name Granian or grpcio, with those too. Before the load, a server must return
the probabilities of the bundle's Predictor. The servers run in turn, for several rounds. A ratio is
the median of the ratios within each round, so that slow changes of the machine affect all alike.

Needs wrk, taskset, and h2load for gRPC.
"""

import argparse
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import bundle_argument
from benchmarks.contenders import (
    CONTENDERS,
    GRPC,
    OURS,
    Contender,
    RequestFormat,
    make_request_formats,
)
from benchmarks.environments import Unavailable, make_environment, read_versions
from benchmarks.loads import CONNECTIONS, load
from benchmarks.results import write_results
from benchmarks.servers import running
from serving import Predictor
from serving.golden import read_golden

ROUNDS, WARM_UP_S, LOAD_S = 3, 2, 6
TOLERANCE = 1e-5
TOOLS = ("wrk", "taskset", "h2load")


@dataclass(frozen=True)
class Workload:
    """The requests that servers get, and the expected response.

    Attributes:
        bundle: folder of the version.
        requests: the request in every format, by name.
        probabilities: probabilities from the Predictor, float32 `(10,)`.
    """

    bundle: Path
    requests: Mapping[str, RequestFormat]
    probabilities: np.ndarray


@dataclass
class Measurement:
    """The measurements of one server.

    Attributes:
        versions: versions of its packages.
        loads: for each kind of body, the figures of each round.
        reason: why it could not be measured in all rounds; empty if it could.
    """

    versions: dict[str, str] = field(default_factory=dict)
    loads: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    reason: str = ""


def main() -> None:
    """Measure every server in turn, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "bundle", metavar="BUNDLE", type=bundle_argument, help="Bundle of a digit net called mlp."
    )
    parser.add_argument("--kind", choices=("JSON", "binary", GRPC), help="only this kind")
    parser.add_argument("--environments", metavar="DIR", type=Path, default=Path(".bench"))
    arguments = parser.parse_args()
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"{', '.join(TOOLS)} must be installed. Missing: {', '.join(missing)}.")
    workload = _make_workload(arguments.bundle, arguments.kind)
    contenders = [one for one in CONTENDERS if workload.requests.keys() & set(one.formats)]
    found = {contender.name: Measurement() for contender in contenders}
    for _ in range(ROUNDS):
        for contender in contenders:
            if not found[contender.name].reason:
                _measure(contender, workload, arguments.environments, found[contender.name])
    rows = [
        _row(contender.name, workload.requests[name].kind, found[contender.name], found[OURS.name])
        for contender in contenders
        for name in contender.formats
        if name in workload.requests
    ]
    for row in rows:
        print(_line(row))
    write_results("http_load", rows)


def _make_workload(bundle: Path, kind: str | None) -> Workload:
    """Return the requests of one kind, or of all."""
    predictor = Predictor.load(bundle)
    manifest = predictor.manifest
    if manifest.name != "mlp":
        raise SystemExit(
            f"The bundle must be called mlp, as in rivals/. Received: {manifest.name}."
        )
    image = read_golden(bundle, "input", manifest.inputs)["image"][:1]
    probabilities = predictor.predict(image).probabilities[0]
    formats = make_request_formats(manifest.name, image)
    wanted = {name: one for name, one in formats.items() if kind in (None, one.kind)}
    return Workload(bundle, wanted, probabilities)


def _measure(
    contender: Contender, workload: Workload, environments: Path, found: Measurement
) -> None:
    """Start a server, load it with each of its request formats, and add to its measurement."""
    python = Path(sys.executable)
    try:
        if not contender.is_ours:
            python = make_environment(environments / contender.name.lower(), contender.packages)
        found.versions = found.versions or read_versions(python, contender.packages)
        with running(contender, workload.bundle, python) as server:
            formats = [name for name in contender.formats if name in workload.requests]
            for request in (workload.requests[name] for name in formats):
                body = server.first_response(request)
                if contender.is_checked:
                    _check(request, body, workload.probabilities)
                port = server.port_of(request)
                load(port, request, body, WARM_UP_S)
                figures = load(port, request, body, LOAD_S)
                if not figures["requests_per_s"]:
                    raise Unavailable(f"none of {CONNECTIONS} requests got a response under load")
                if wrong := figures["not_200"] + figures["broken"]:
                    raise Unavailable(f"{wrong:.0f} requests did not get status 200 under load")
                found.loads.setdefault(request.kind, []).append(figures)
                rate = figures["requests_per_s"]
                print(f"{contender.name}, {request.kind}: {rate:,.0f}", flush=True)
    except Unavailable as error:
        found.reason = str(error)
        print(f"{contender.name}: {error}", flush=True)


def _check(request: RequestFormat, body: bytes, expected: np.ndarray) -> None:
    """Raise `Unavailable` if the probabilities in a response are not the Predictor's."""
    try:
        received = request.read(body)
    except (KeyError, TypeError, ValueError):
        raise Unavailable(f"the response has no probabilities: {body!r:.300}") from None
    if received.shape != expected.shape or not np.allclose(
        received, expected, rtol=0, atol=TOLERANCE
    ):
        raise Unavailable(f"expected {expected.tolist()}, received {received.tolist()}")


def _row(name: str, kind: str, found: Measurement, ours: Measurement) -> dict[str, Any]:
    """Return the row of results of a server for one kind of body."""
    row: dict[str, Any] = {"what": f"{name}, {kind}", "versions": found.versions}
    if found.reason:
        row["reason"] = found.reason
    loads = found.loads.get(kind, [])
    if not loads:
        return row
    return {
        **row,
        "requests_per_s": round(_median("requests_per_s", loads)),
        "p50_ms": round(_median("p50_ms", loads), 2),
        "p99_ms": round(_median("p99_ms", loads), 2),
        "hornbill_to_this": _ratio(ours.loads.get(kind, []), loads),
        "rounds": [round(load["requests_per_s"]) for load in loads],
    }


def _median(figure: str, loads: Sequence[Mapping[str, float]]) -> float:
    return statistics.median(load[figure] for load in loads)


def _ratio(
    ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]
) -> float | None:
    """Return the median over the rounds of our requests/s relative to theirs."""
    pairs = zip(ours, theirs, strict=False)
    ratios = [one["requests_per_s"] / other["requests_per_s"] for one, other in pairs]
    return round(statistics.median(ratios), 3) if ratios else None


def _line(row: Mapping[str, Any]) -> str:
    if "requests_per_s" not in row:
        return f"{row['what']:17} not measured: {row['reason']}"
    return (
        f"{row['what']:17} {row['requests_per_s']:7,} requests/s   p50 {row['p50_ms']:7.2f} ms   "
        f"p99 {row['p99_ms']:7.2f} ms   "
        f"Hornbill: {row['hornbill_to_this']} times"
        + (f"   after {len(row['rounds'])} rounds: {row['reason']}" if "reason" in row else "")
    )


if __name__ == "__main__":
    main()
