"""Writes the table of measured figures, as README shows it, from benchmarks/results/.

python -m benchmarks.figures
"""

import statistics

from benchmarks.results import FOLDER, read_results
from benchmarks.scale_figures import scale_rows
from benchmarks.serving_figures import serving_rows


def figures_table() -> str:
    """Return a Markdown table of every figure asked for, what was measured, and by what."""
    rows = [
        *_accuracy_rows(),
        *_elsewhere_rows(),
        *_time_rows(),
        *_pipeline_rows(),
        *_streaming_rows(),
        *_distributed_rows(),
        *_conversion_rows(),
        *_export_rows(),
        *serving_rows(),
        *_studies_rows(),
        *scale_rows(),
    ]
    lines = ["| what | asked for | measured | command |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def machine_list() -> str:
    """Return a Markdown list of the machines, each with the benchmarks that were run on it."""
    benchmarks: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("*.json")):
        for machine in dict.fromkeys(_named(row["machine"]) for row in read_results(path.stem)):
            benchmarks.setdefault(machine, []).append(f"`benchmarks.{path.stem}`")
    return "".join(f"- {name}: {', '.join(run)}.\n" for name, run in benchmarks.items())


def _named(machine: dict[str, str]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("processor", "cores"))
    return f"{machine['processor']}, {machine['cores']} cores; {packages}"


def _accuracy_rows() -> list[tuple[str, ...]]:
    command = "`python -m benchmarks.accuracy`"
    return [
        (
            f"{row['what']}, test accuracy, mean of {len(row['accuracies'])} " + row["repeated"],
            f"≥ {row['asked']:.2%}",
            f"{row['mean_accuracy']:.2%}",
            command,
        )
        for row in read_results("accuracy")
    ]


def _elsewhere_rows() -> list[tuple[str, ...]]:
    return [
        (
            f"trained on {row['what'].replace(' to ', ', tested on all of ')}, accuracy, "
            f"mean of {len(row['accuracies'])} seeds"
            + (", settings chosen by these too" if row["settings_saw_it"] else ""),
            f"≥ {row['asked']:.1%}" if row["asked"] else "no goal",
            f"{row['mean_accuracy']:.2%}",
            "`python -m benchmarks.elsewhere`",
        )
        for row in read_results("elsewhere")
    ]


def _time_rows() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for row in read_results("time_to_accuracy"):
        ours, theirs, runs = (
            sum(row["we_reached_it"]), sum(row["they_reached_it"]), len(row["they_reached_it"])
        )  # fmt: skip
        more = "" if theirs == runs else "more than "
        rows.append(
            (
                f"MNIST to {row['goal']:.1%}, times sooner than Keras' example "
                f"(reached in {ours} of {runs} runs, by the example in {theirs})",
                "≥ 5",
                f"{more}{row['times_sooner']:.1f}",
                "`python -m benchmarks.time_to_accuracy`",
            )
        )
    return rows


def _pipeline_rows() -> list[tuple[str, ...]]:
    (row,) = read_results("pipeline")
    command = "`python -m benchmarks.pipeline`"
    return [
        ("examples/s of the pipeline over those of `cnn`", "≥ 5", f"{row['times']:.1f}", command),
        (
            "share of `cnn`'s steps spent waiting for data",
            "< 5%",
            f"{row['wait_fraction']:.1%}",
            command,
        ),
    ]


def _streaming_rows() -> list[tuple[str, ...]]:
    rows = {row["what"]: row for row in read_results("streaming")}
    if not rows:
        return []
    small, large = rows["small"], rows["large"]
    return [
        (
            f"peak memory, CSV of {large['data_mb']:,} MB of numbers over one of "
            f"{small['data_mb']:,} MB",
            "no goal",
            f"+{large['peak_mb'] - small['peak_mb']:,} MB",
            "`python -m benchmarks.streaming`",
        )
    ]


def _distributed_rows() -> list[tuple[str, ...]]:
    return [
        (
            f"examples/s that two processes lose against one with two threads, `{row['what']}`, "
            f"global batch {row['batch_size']:,}",
            f"≤ {row['asked_cost']:.0%}",
            f"{row['cost']:.0%}",
            "`python -m benchmarks.distributed`",
        )
        for row in read_results("distributed")
    ]


def _conversion_rows() -> list[tuple[str, ...]]:
    command = "`python -m benchmarks.conversion`"
    found = read_results("conversion")
    rows: list[tuple[str, ...]] = []
    for kind, name in (("zoo", "small models"), ("application", "`keras.applications`")):
        chosen = [row for row in found if row["kind"] == kind]
        if not chosen:
            continue
        ours, theirs = (sum(row[side]["agrees"] for row in chosen) for side in ("ours", "theirs"))
        timed = [row["latency"] for row in chosen if "latency" in row]
        mean = statistics.geometric_mean(item["ratio"] for item in timed)
        noise = max(max(item["noise"], 1 / item["noise"]) for item in timed)
        slower = sum(item["interval"][0] > noise for item in timed)
        own = [item["interval"][0] > max(item["noise"], 1 / item["noise"], 1) for item in timed]
        worst = max(item["ratio"] for item in timed)
        rows += [
            (
                f"{name} to ONNX that load and agree within 1e-4; Keras' own road: {theirs}",
                f"all {len(chosen)}",
                str(ours),
                command,
            ),
            (
                f"latency over that of Keras' own ONNX, geometric mean of {len(timed)} {name}",
                "< 1",
                f"{mean:.3f}",
                command,
            ),
            (
                f"of these slower than two sessions of any one graph differed ({noise:.3f})",
                "none",
                str(slower),
                command,
            ),
            (
                "of these slower than two sessions of the same graph differed; the slowest",
                "no goal",
                f"{sum(own)}; {worst:.3f}",
                command,
            ),
        ]
    many = [row for row in found if row["theirs"].get("transposes", 0) > 100 and "latency" in row]
    return rows + [
        (
            f"the same of {row['what']}, {row['theirs']['transposes']} transposes in theirs, "
            f"{row['ours']['transposes']} in ours",
            "≤ 0.9",
            f"{row['latency']['ratio']:.3f}",
            command,
        )
        for row in many
    ]


def _export_rows() -> list[tuple[str, ...]]:
    command = "`python -m benchmarks.export_cost`"
    rows: list[tuple[str, ...]] = []
    for row in read_results("export_cost"):
        asked = f"< {row['asked_seconds']} s" if row["asked_seconds"] else "no goal"
        measured = f"{row['seconds']} s"
        if row["asked_mb"]:
            asked += f", < {row['asked_mb']:,} MB"
        if row["what"] != "digit_net":
            measured += f", {row['peak_mb']:,} MB ({row['imported_mb']:,} of it imports)"
        rows.append(
            (
                f"whole export of {row['what']}, imports left out",
                asked,
                measured,
                command,
            )
        )
    return rows


def _studies_rows() -> list[tuple[str, ...]]:
    return [
        (
            f"all {len(row['verdicts'])} studies, {row['what']}; claims that hold, in part, not",
            f"< {row['asked_seconds'] // 60} min",
            f"{row['seconds'] / 60:.1f} min; {_verdicts(row['verdicts'])}",
            "`python -m benchmarks.studies`",
        )
        for row in read_results("studies")
    ]


def _verdicts(verdicts: dict[str, str]) -> str:
    found = list(verdicts.values())
    counts = [found.count(verdict) for verdict in ("holds", "holds in part", "does not hold")]
    return ", ".join(map(str, counts))


if __name__ == "__main__":
    print(figures_table())
    print(machine_list())
