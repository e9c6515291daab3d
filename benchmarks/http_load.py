"""Servers of one model under load, in turn: Hornbill's, the constant application's, the rivals'.

    python -m benchmarks.http_load dist/mlp

Each server has one processor, the load another: 32 connections, each of which asks about one image
as soon as its last answer is there. The rivals are in `rivals/`, each in an environment of its own,
made on first use. Before it is loaded a server must answer as the bundle's Predictor does. Ratios
are medians over the rounds, each within its round, so that a machine's drift meets all alike.

Needs wrk and taskset.
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

from benchmarks.contenders import CONTENDERS, OURS, Contender, Form, make_forms
from benchmarks.environments import Unavailable, make_environment, read_versions
from benchmarks.results import write_results
from benchmarks.servers import CONNECTIONS, running
from serving import Predictor
from serving.bundle import find_version
from serving.golden import read_golden

ROUNDS, WARM_UP_S, LOAD_S = 3, 2, 6
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Question:
    """What every server is asked, and what is right.

    Attributes:
        bundle: folder of the version.
        forms: ways to ask, by name.
        probabilities: the Predictor's, float32 `(10,)`.
    """

    bundle: Path
    forms: Mapping[str, Form]
    probabilities: np.ndarray


@dataclass
class SearchResult:
    """What is known of one contender.

    Attributes:
        versions: of its packages.
        loads: figures of each round, by the kind of body.
        reason: why it could not be measured, or no further; empty if it could.
    """

    versions: dict[str, str] = field(default_factory=dict)
    loads: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    reason: str = ""


def main() -> None:
    """Load every server in turn, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="of a digit net called mlp, as rivals call it"
    )
    parser.add_argument("--environments", metavar="DIR", type=Path, default=Path(".bench"))
    arguments = parser.parse_args()
    missing = [name for name in ("wrk", "taskset") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"wrk and taskset must be installed. Missing: {', '.join(missing)}.")
    question = _make_question(find_version(arguments.bundle))
    found = {contender.name: SearchResult() for contender in CONTENDERS}
    for _ in range(ROUNDS):
        for contender in CONTENDERS:
            if not found[contender.name].reason:
                _measure(contender, question, arguments.environments, found[contender.name])
    rows = [
        _row(contender.name, question.forms[name].kind, found[contender.name], found[OURS.name])
        for contender in CONTENDERS
        for name in contender.forms
    ]
    for row in rows:
        print(_line(row))
    write_results("http_load", rows)


def _make_question(bundle: Path) -> Question:
    predictor = Predictor.load(bundle)
    manifest = predictor.manifest
    if manifest.name != "mlp":
        raise SystemExit(f"The bundle must be called mlp. Received: {manifest.name}.")
    image = read_golden(bundle, "input", manifest.inputs)["image"][:1]
    answer = predictor.predict(image).probabilities[0]
    return Question(bundle, make_forms(manifest.name, image), answer)


def _measure(
    contender: Contender, question: Question, environments: Path, found: SearchResult
) -> None:
    """Start a server, load it with each of its forms, stop it; note what was found."""
    python = Path(sys.executable)
    try:
        if not contender.is_ours:
            python = make_environment(environments / contender.name.lower(), contender.packages)
        found.versions = found.versions or read_versions(python, contender.packages)
        with running(contender, question.bundle, python) as server:
            for form in (question.forms[name] for name in contender.forms):
                answer = server.first_answer(form)
                if contender.is_checked:
                    _check(form, answer, question.probabilities)
                server.load(form, WARM_UP_S)
                load = server.load(form, LOAD_S)
                if not load["requests_per_s"]:
                    raise Unavailable(f"none of {CONNECTIONS} requests was answered under load")
                found.loads.setdefault(form.kind, []).append(load)
                print(f"{contender.name}, {form.kind}: {load['requests_per_s']:,.0f}", flush=True)
    except Unavailable as error:
        found.reason = str(error)
        print(f"{contender.name}: {error}", flush=True)


def _check(form: Form, answer: bytes, right: np.ndarray) -> None:
    """Raise `Unavailable` where the probabilities of an answer are not the Predictor's."""
    try:
        given = form.read(answer)
    except (KeyError, TypeError, ValueError):
        raise Unavailable(f"answers must hold probabilities. Received: {answer!r:.300}") from None
    if given.shape != right.shape or not np.allclose(given, right, rtol=0, atol=TOLERANCE):
        raise Unavailable(f"answers must be {right.tolist()}. Received: {given.tolist()}")


def _row(name: str, kind: str, found: SearchResult, ours: SearchResult) -> dict[str, Any]:
    """Return what was found of a server with one kind of body, next to ours with it."""
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
        "not_200": sum(int(load["not_200"]) for load in loads),
        "broken": sum(int(load["broken"]) for load in loads),
        "hornbill_to_this": _ratio(ours.loads.get(kind, []), loads),
        "rounds": [round(load["requests_per_s"]) for load in loads],
    }


def _median(figure: str, loads: Sequence[Mapping[str, float]]) -> float:
    return statistics.median(load[figure] for load in loads)


def _ratio(
    ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]
) -> float | None:
    """Return the median over rounds of our requests/s over theirs."""
    pairs = zip(ours, theirs, strict=False)
    ratios = [one["requests_per_s"] / other["requests_per_s"] for one, other in pairs]
    return round(statistics.median(ratios), 3) if ratios else None


def _line(row: Mapping[str, Any]) -> str:
    if "requests_per_s" not in row:
        return f"{row['what']:17} not measured: {row['reason']}"
    return (
        f"{row['what']:17} {row['requests_per_s']:7,} requests/s   p50 {row['p50_ms']:7.2f} ms   "
        f"p99 {row['p99_ms']:7.2f} ms   {row['not_200']} not 200, {row['broken']} broken   "
        f"Hornbill is {row['hornbill_to_it']} of it"
        + (f"   after {len(row['rounds'])} rounds: {row['reason']}" if "reason" in row else "")
    )


if __name__ == "__main__":
    main()
