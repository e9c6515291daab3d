"""Figures of exports."""

import math
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.export_cost import COMMAND_S, MOST_TIMES_KERAS
from benchmarks.results import read_results

from .figure import Figure, compare

# A model is slower than Keras' own ONNX if it takes more times as long.
_SLOWER = 1.1


def conversion() -> list[Figure]:
    """Return how many models convert, and their latency."""
    figures: list[Figure] = []
    for name, rows in _conversion_groups():
        ours, theirs = (sum(row[side]["agrees"] for row in rows) for side in ("ours", "theirs"))
        metric = f"{name} that load and match Keras within 1e-4 (Keras' own export: {theirs})"
        figures.append(Figure(metric, str(ours), f"all {len(rows)}", ours == len(rows)))
        figures += _conversion_latency(name, [row["latency"] for row in rows if "latency" in row])
    return figures + [
        compare(
            f"{row['what']}: latency relative to Keras' own ONNX "
            f"(transposes: {row['ours']['transposes']} instead of {row['theirs']['transposes']})",
            row["latency"]["ratio"], "{:.3f}", "≤", 0.9,
        )
        for row in read_results("conversion")
        if row["theirs"].get("transposes", 0) > 100 and "latency" in row
    ]  # fmt: skip


def _conversion_latency(name: str, timed: list[dict[str, Any]]) -> list[Figure]:
    """Return latencies relative to Keras' own ONNX.

    A model is slower if the lower end of the interval of its ratio is above a bound. Noise is the
    ratio between two sessions of one graph, measured for each model.
    """
    mean = statistics.geometric_mean(item["ratio"] for item in timed)
    noise = [max(item["noise"], 1 / item["noise"]) for item in timed]
    lowest = [item["interval"][0] for item in timed]
    slower = sum(low > _SLOWER for low in lowest)
    slower_than_own = sum(low > max(own, 1) for low, own in zip(lowest, noise, strict=True))
    slowest = max(item["ratio"] for item in timed)
    metric = f"latency relative to Keras' own ONNX, geometric mean of {len(timed)} {name}"
    return [
        compare(metric, mean, "{:.3f}", "<", 1),
        Figure(
            f"models slower by more than {_SLOWER - 1:.0%}", str(slower), "none", slower == 0
        ),
        Figure("models slower by more than their own noise", str(slower_than_own)),
        Figure("latency of the slowest model relative to Keras' own ONNX", f"{slowest:.3f}"),
    ]  # fmt: skip


def _conversion_groups() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    rows = read_results("conversion")
    for kind, name in (("zoo", "small models"), ("application", "`keras.applications`")):
        yield name, [row for row in rows if row["kind"] == kind]


def converted_counts() -> str:
    """Return how many models of each group convert, in words."""
    groups = {name: [row["ours"]["agrees"] for row in rows] for name, rows in _conversion_groups()}
    return ", ".join(f"{sum(found)} of {len(found)} {name}" for name, found in groups.items())


def keras_cases() -> list[Figure]:
    """Return how many cases of Keras' own export tests each road passes."""
    rows = read_results("keras_cases")
    if not rows:
        return []
    passed = {
        road: {row["what"] for row in rows if row[road]["passes"]}
        for road in ("ours", "onnx", "saved_model")
    }
    lost = (passed["onnx"] | passed["saved_model"]) - passed["ours"]
    count = len(passed["ours"])
    return [
        Figure(
            "cases of Keras' own export tests, and of what they leave out, that answer as the "
            "model does, or are refused because answers are random or a state changes",
            str(count), f"all {len(rows)}", count == len(rows),
        ),
        Figure("the same for Keras' own ONNX export", str(len(passed["onnx"]))),
        Figure("the same for Keras' own SavedModel", str(len(passed["saved_model"]))),
        Figure(
            "cases that one of Keras' roads passes and ours does not",
            ", ".join(sorted(lost)) or "none", "none", not lost,
        ),
    ]  # fmt: skip


def graph_latency() -> list[Figure]:
    """Return the processor time of exported graphs, all threads together, relative to others."""
    figures = []
    ratios: dict[str, list[float]] = {}
    for row in read_results("graph_latency"):
        found = row["runtimes"]
        ours, again = (found[name]["ms"] for name in ("ours", "ours again"))
        noise = f"{ours:.3f} ms; noise {max(ours / again, again / ours):.2f}"
        for name, other in found.items():
            if "ms" in other and name not in ("ours", "ours again"):
                ratio = math.sqrt(ours * again) / other["ms"]
                ratios.setdefault(name, []).append(ratio)
                metric = f"{row['what']} ({noise}): processor time relative to {name}"
                figures.append(Figure(metric, f"{ratio:.2f}"))
            elif "error" in other:
                figures.append(Figure(f"{row['what']} ({noise}): {name}", "does not load"))
    for name, each in ratios.items():
        metric = f"processor time relative to {name}, geometric mean of {len(each)}"
        goal = 1.0 if name in ("Keras' ONNX", "OnnxSlim") else None
        figures.append(compare(metric, statistics.geometric_mean(each), "{:.2f}", "<", goal))
    return figures


def export_cost() -> list[Figure]:
    """Return the time and memory of exports."""
    figures = []
    for row in read_results("export_cost"):
        if row["what"] == "zoo":
            metric = (
                "time of a whole export without int8 relative to Keras' own export, geometric mean "
                f"of {row['models']} small models"
            )
            figures += [
                compare(metric, row["ratio"], "{:.2f}", "≤", MOST_TIMES_KERAS),
                Figure("the same in processor time", f"{row['processor_ratio']:.2f}"),
            ]
            continue
        if row["what"] == "command":
            metric = f"`hornbill export` of {row['weights']:,} weights without int8, with imports"
            figures += [
                compare(metric, row["seconds"], "{:.1f} s", "<", COMMAND_S),
                Figure("the same in processor time", f"{row['processor_seconds']:.1f} s"),
            ]
            continue
        seconds, mb = row["goal_seconds"], row["goal_mb"]
        metric = f"time of a whole export of {row['what']}, without imports"
        figures.append(compare(metric, row["seconds"], "{:.1f} s", "<", seconds))
        if row["what"] != "digit_net":
            imported = f"{row['imported_mb']:,} MB of it from imports"
            metric = f"peak memory of the export of {row['what']} ({imported})"
            figures.append(compare(metric, row["peak_mb"], "{:,} MB", "<", mb))
    return figures


def hub() -> list[Figure]:
    """Return how many models of KerasHub convert, of those that Keras can run, and each model."""
    rows = [row for row in read_results("hub") if row["keras"]["agrees"]]
    if not rows:
        return []
    ours, theirs = (sum(row[side]["agrees"] for row in rows) for side in ("ours", "theirs"))
    agreeing = [row["ours"] for row in rows if row["ours"]["agrees"]]
    fixed = [row for row in agreeing if "without_sizes" in row]
    given = [row for row in agreeing if "without_samples" in row and row not in fixed]
    far = sum("of every artifact must be within" in row["without_samples"] for row in given)
    metric = f"of {len(rows)} backbones and tasks, match Keras within 1e-4 (Keras' own: {theirs})"
    return [
        compare(metric, ours / len(rows), "{:.1%}", "≥", 0.95),
        Figure("of these, with samples given, because drawn ones differed by more", str(far)),
        Figure("of these, with samples given, because none could be drawn", str(len(given) - far)),
        Figure("of these, with samples given and inputs of one size", str(len(fixed))),
        *(_hub_model(row) for row in sorted(rows, key=lambda row: str(row["what"]))),
    ]


def _hub_model(row: dict[str, Any]) -> Figure:
    """Return what became of a model; of Keras' own export only whether it agrees."""
    theirs = "agrees" if row["theirs"]["agrees"] else "does not"
    return Figure(row["what"], f"{_hub_outcome(row['ours'])}; Keras' own {theirs}")


def _hub_outcome(found: dict[str, Any]) -> str:
    if found["agrees"]:
        return f"agrees, {found['seconds']:.0f} s"
    if "error" in found:
        reason = " ".join(found["error"].partition(": ")[2].split()).replace("|", "/")
        return f"refused: {reason:.160}"
    return f"differs by {found['relative_difference']:.1e}"


def int8_bound() -> list[Figure]:
    """Return what int8 weights of 7 bits cost, and whether a processor without VNNI differs."""
    figures: list[Figure] = []
    rows = read_results("int8_bound")
    kinds = {
        "nets of the zoo": [row for row in rows if row["what"].startswith("zoo ")],
        "nets of `keras.applications`": [row for row in rows if " " not in row["what"]],
        "runs": [row for row in rows if row["what"].startswith("run ")],
    }
    for kind, models in kinds.items():
        if not models:
            continue
        others, golden = (sum(row[key] for row in models) for key in ("others", "golden"))
        metric = f"{len(models)} {kind}: golden samples, of {golden:,}, with another class"
        figures.append(Figure(f"{metric} without VNNI", str(others), "0", others == 0))
        if kind == "runs":
            figures += [_lost(row) for row in models]
        elif "zoo" in kind:
            bound, whole = (
                sum(row[f"{name}_lost"] for row in models) / len(models)
                for name in ("bound", "whole")
            )
            metric = f"{kind}, random weights: samples with another class than float32, mean"
            figures.append(Figure(f"{metric} (8 bits: {whole:.1f}%)", f"{bound:.1f}%"))
    return figures


def _lost(row: dict[str, Any]) -> Figure:
    metric = f"{row['what']}: accuracy lost by int8 (8 bits: {row['whole_lost']:+.2f} points)"
    return Figure(metric, f"{row['bound_lost']:+.2f} points")
