"""Figures of the Predictor, the server and batch jobs."""

from collections import Counter
from typing import Any

from benchmarks.results import read_results
from serving.errors import counted

from .figure import Figure, compare


def image_latency() -> list[Figure]:
    """Return the latency of a single image on one thread, relative to that of other runtimes."""
    figures: list[Figure] = []
    for row in read_results("image_latency"):
        load = f"{row['what']}, batch 1, one thread"
        for names, ratio in row["ratios"].items():
            metric = f"{load}: time of {names.replace(' to ', ' relative to ')}"
            figures.append(compare(metric, ratio, "{:.2f}", "≤", 1.0))
        times = ", ".join(f"{milliseconds:.2f}" for milliseconds in row["ms"].values())
        figures.append(Figure(f"{load}: time of {', '.join(row['ms'])}", f"{times} ms"))
    return figures


def overhead() -> list[Figure]:
    """Return the time that the Predictor adds to ONNX Runtime, and its speedups."""
    over_keras = {"mlp": 1000, "cnn": 300}
    figures: list[Figure] = []
    for row in read_results("overhead"):
        net = row["what"]
        large = f"{net}, 1,024 rows: time relative to `session.run`"
        one = f"{net}, one row: `Predictor.predict`"
        keras, saved_model = row["keras_to_predictor"], row["saved_model_to_predictor"]
        figures += [
            compare(f"{one}, time added to `session.run`", row["added_us"], "{:.1f} µs", "≤", 5),
            compare(f"{large}, one thread", row["ratio_1024"], "{:.3f}", "≤", 1.02),
            compare(f"{large}, two threads", row["ratio_1024_all_threads"], "{:.3f}"),
            compare(f"{one}, speedup over Keras", keras, "{:,} times", "≥", over_keras.get(net)),
            compare(f"{one}, speedup over the SavedModel", saved_model, "{:.1f} times", "≥", 10),
        ]
    return figures


def comparing() -> list[Figure]:
    """Return the time in which two models are compared."""
    return [
        compare(
            f"`hornbill compare`, {row['what']}, imports included "
            f"({row['processor_seconds']:.1f} s of processor time)",
            row["seconds"], "{:.1f} s", "<", 10,
        )
        for row in read_results("comparing")
    ]  # fmt: skip


def packing() -> list[Figure]:
    """Return the time to pack and to verify a bundle."""
    return [
        compare(
            f"`hornbill pack` ({row['pack']:.1f} s) and `hornbill verify` ({row['verify']:.1f} s) "
            f"of {row['what']}, beyond loading it in onnxruntime ({row['load']:.1f} s)",
            row["pack"] + row["verify"] - row["load"], "{:.1f} s", "<", 3,
        )
        for row in read_results("packing")
    ]  # fmt: skip


def cold_start() -> list[Figure]:
    """Return the time to the first prediction, and the memory of a process that predicts."""
    rows = {row["what"]: row for row in read_results("cold_start")}
    row = rows["cold start"]
    medians = row["medians"]["serving"]
    steps = ", ".join(
        f"{step} {medians[f'{step}_ms']:.0f} ms" for step in ("import", "load", "run")
    )
    until = row.get("until", "the end of the process after one prediction")
    metric = f"fresh interpreter to {until} ({steps}), relative to"
    return [
        compare(f"{metric} bare onnxruntime", row["serving_to_bare"], "{:.2f}", "≤", 1.3),
        compare(f"{metric} TensorFlow", row["serving_to_tensorflow"], "{:.3f}", "≤", 0.05),
        compare("memory of a process that predicts", medians["resident_mb"], "{:.0f} MB", "<", 75),
        *(_commands(rows["commands"]) if "commands" in rows else ()),
    ]


def _commands(row: dict[str, Any]) -> list[Figure]:
    mistakes = [
        compare(f"command with a mistake in {name}, until it is told", seconds, "{:.2f} s", "<", 1)
        for name, seconds in row["mistakes_s"].items()
    ]
    return [
        compare("`hornbill train softmax`, first line", row["first_line_s"], "{:.2f} s", "≤", 0.3),
        compare("`hornbill train softmax`, whole run", row["iris_s"], "{:.1f} s", "≤", 10),
        *mistakes,
    ]


def http_load() -> list[Figure]:
    """Return requests per second of all servers."""
    rivals = {
        "constant": "a uvicorn application that returns a constant",
        "Granian": "the same application on Granian",
        "grpc.aio": "a function on grpc.aio that returns a constant",
        "grpcio": "grpcio's core alone, which returns a constant",
        "FastAPI": "a FastAPI handler as in tutorials",
        "Triton": "Triton with its Python backend",
    }
    goals = {
        ("constant", "JSON"): 0.3,
        ("constant", "binary"): 0.55,
        ("Triton", "JSON"): 1,
        ("Triton", "gRPC"): 1.2,
        ("MLServer", "gRPC"): 3,
        ("KServe", "gRPC"): 3,
        **{(name, "JSON"): 3 for name in ("FastAPI", "MLServer", "KServe", "LitServe", "BentoML")},
    }
    figures: list[Figure] = []
    for row in read_results("http_load"):
        name, kind = row["what"].split(", ")
        if "requests_per_s" not in row:
            figures.append(Figure(f"{name}, {kind}", f"not measured: {row['reason']}"))
        elif name == "Hornbill":
            load = f"{kind}, 32 connections, one image each, `mlp`{_ended(row)}"
            figures.append(compare(f"{load}: requests/s", row["requests_per_s"], "{:,}"))
            figures.append(compare(f"{load}: 99th percentile", row["p99_ms"], "{:.1f} ms", "≤", 5))
        else:
            runtime = row["versions"].get("onnxruntime")
            rival = rivals.get(name, name) + (f" (onnxruntime {runtime})" if runtime else "")
            metric = f"{kind} requests/s relative to {rival}{_ended(row)}"
            goal = goals.get((name, kind))
            figures.append(compare(metric, row["hornbill_to_this"], "{:.2f}", "≥", goal))
    return figures


def _ended(row: dict[str, Any]) -> str:
    """Return why a server was not measured in all rounds; an empty text if it was."""
    return f" (after {len(row['rounds'])} rounds: {row['reason']})" if "reason" in row else ""


def soak() -> list[Figure]:
    """Return the outcomes of a million requests."""
    (row,) = read_results("soak")
    found: Counter[str] = Counter()
    for kind, number in row["outcomes"].items():
        found[kind.split(": ")[1]] += number
    wrong = found.total() - found["right"] - found["sent"] - found["503"]
    growth = row["growth_after_first_tenth"]
    count = f"{row['requests']:,} requests ({found['503']:,} of them refused with 503)"
    return [
        Figure(f"{count}: wrong outputs, wrong statuses, broken connections", str(wrong), "0",
               wrong == 0),
        Figure("growth of memory after the first tenth", f"{growth:+.1%}", "0", growth <= 0),
    ]  # fmt: skip


def attack() -> list[Figure]:
    """Return what single requests, the statuses and the memory are under attack."""
    figures: list[Figure] = []
    for row in read_results("attack"):
        statuses = [item for counts in row["statuses"].values() for item in counts.items()]
        wrong = sum(count for status, count in statuses if int(status) >= 500 and status != "503")
        polite = (row["statuses"][kind] for kind in ("single images", "health"))
        lost = sum(count for found in polite for status, count in found.items() if status != "200")
        figures += [
            compare("single images under attack: 99th percentile (median "
                    f"{row['p50_ms']:.1f} ms, before the attack {row['p50_before_ms']:.1f} ms)",
                    row["p99_ms"], "{:.0f} ms", "≤", 250),
            Figure("single images and checks of health that got another status than 200", str(lost),
                   "0", lost == 0),
            Figure("statuses of 500 or above but 503", str(wrong), "0", wrong == 0),
            compare("largest memory of the process", row["peak_mb"], "{:.0f} MB", "<", 400),
        ]  # fmt: skip
    return figures


def batch() -> list[Figure]:
    """Return the rates of batch jobs."""
    figures: list[Figure] = []
    for row in read_results("batch"):
        rounds = counted(len(row["rounds_s"]["one"]), "round")
        images = f"a million images, `{row['what']}`, median of {rounds}:"
        loop = f"a plain loop ({row['loop_rows_per_s']:,} images/s)"
        one, two = row["one_actor_to_loop"], row["two_actors_to_one"]
        figures += [
            compare(f"{images} rate of one Ray actor relative to {loop}", one, "{:.2f}", "≥", 0.85),
            compare(f"{images} two actors relative to one", two, "{:.2f}", "≥", 1.6),
            compare(f"{images} two plain loops at once relative to one", row["two_loops_to_one"],
                    "{:.2f}"),
        ]  # fmt: skip
    return figures
