"""The figures of serving, as rows of the table that `benchmarks.figures` writes."""

from typing import Any

from benchmarks.results import read_results

Row = tuple[str, ...]
# Of other servers: how many times their requests/s are asked for.
_ASKED = {"FastAPI": 3, "Triton": 1, "MLServer": 3, "KServe": 3, "LitServe": 3, "BentoML": 3}


def serving_rows() -> list[Row]:
    """Return a row for each figure of serving."""
    return [
        *_overhead_rows(),
        *_cold_start_rows(),
        *_photograph_rows(),
        *_load_rows(),
        *_soak_rows(),
    ]


def _overhead_rows() -> list[Row]:
    command = "`python -m benchmarks.overhead`"
    to_keras_asked = {"mlp": "≥ 1000", "cnn": "≥ 300"}
    rows: list[Row] = []
    for row in read_results("overhead"):
        name = row["what"]
        added, large = f"{row['added_us']:.1f} µs", f"{row['ratio_1024']:.3f}"
        spread = f"{row['ratio_1024_all_threads']:.3f}"
        to_keras, to_saved_model = row["keras_predict_to_it"], row["saved_model_to_it"]
        asked = to_keras_asked.get(name, "no goal")
        one = f"{name}, one row, `Predictor.predict`"
        rows += [
            (f"{one} over `session.run`", "≤ 5 µs", added, command),
            (
                f"{name}, 1024 rows, its time over `session.run`'s, one thread",
                "≤ 1.02",
                large,
                command,
            ),
            (f"{name}, 1024 rows, the same on two threads", "no goal", spread, command),
            (f"{one}: times faster than Keras' `predict`", asked, f"{to_keras}", command),
            (f"{one}: times faster than the SavedModel", "≥ 10", f"{to_saved_model}", command),
        ]
    return rows


def _cold_start_rows() -> list[Row]:
    command = "`python -m benchmarks.cold_start BUNDLE`"
    rows: list[Row] = []
    for row in read_results("cold_start"):
        what = "fresh interpreter to first prediction, serving over "
        found = row["found"]["serving"]
        steps = ", ".join(f"{step} {found[step + '_ms']:.0f}" for step in ("import", "load", "run"))
        rows += [
            (what + "bare onnxruntime", "≤ 1.3", f"{row['serving_to_bare']:.2f}", command),
            (what + "TensorFlow", "≤ 0.05", f"{row['serving_to_tensorflow']:.3f}", command),
            (f"its memory ({steps} ms)", "< 75 MB", f"{found['resident_mb']:.0f} MB", command),
        ]
    return rows


def _photograph_rows() -> list[Row]:
    return [
        (
            f"digits in photographs ({row['what']}), accuracy; {row['mnist_itself']:.1%} of the "
            "digits themselves",
            "no goal",
            f"{row['accuracy']:.1%}",
            "`python -m benchmarks.photographs BUNDLE`",
        )
        for row in read_results("photographs")
    ]


def _load_rows() -> list[Row]:
    rows: list[Row] = []
    for row in read_results("http_load"):
        name, kind = row["what"].split(", ")
        if "requests_per_s" not in row:
            rows.append(_load_row(f"{name} under load", "a figure", f"none: {row['reason']}"))
        elif name == "Hornbill":
            what = f"requests/s, 32 connections, {kind}, one image each, `mlp`; p99 of their time"
            measured = f"{row['requests_per_s']:,}; {row['p99_ms']:.1f} ms"
            rows.append(_load_row(what, "p99 ≤ 5 ms", measured))
        else:
            rows.append(_load_row(_rival(name, kind), _asked(name, kind), _ratio(row)))
    return rows


def _load_row(what: str, asked: str, measured: str) -> Row:
    return what, asked, measured, "`python -m benchmarks.http_load BUNDLE`"


def _rival(name: str, kind: str) -> str:
    what = {
        "constant": "an application on uvicorn that answers a constant",
        "Granian": "the same on Granian",
        "FastAPI": "FastAPI's tutorial handler",
    }.get(name, name)
    return f"{kind} requests/s over those of {what}"


def _asked(name: str, kind: str) -> str:
    if name == "constant":
        return "≥ 0.3" if kind == "JSON" else "≥ 0.55"
    return f"≥ {_ASKED[name]}" if name in _ASKED else "no goal"


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['hornbill_to_it']:.2f}"


def _soak_rows() -> list[Row]:
    rows: list[Row] = []
    for row in read_results("soak"):
        wrong = {"right", "sent", "503"}
        others = sum(n for kind, n in row["outcomes"].items() if kind.split(": ")[1] not in wrong)
        command = "`python -m benchmarks.soak DIR`"
        count = f"{row['requests']:,} mixed requests"
        growth = f"{row['growth_after_first_tenth']:+.1%}"
        rows += [
            (
                f"{count}: wrong answers, other bits, 5xx, broken connections",
                "0",
                str(others),
                command,
            ),
            ("growth of memory after the first tenth of them", "0", growth, command),
        ]
    return rows
