"""Figures of training, searches and studies."""

import statistics
from dataclasses import replace
from typing import Any

from benchmarks.results import read_results
from serving.errors import counted

from .figure import Figure, compare

_TIMES = "{:.1f} times"
_SIDES = ("ours", "theirs")
_TABLE_PARTS = ("defaults", "tune", "latency", "newcomer")
# How much less than boosting the net may have on a table.
_ALLOWED = 0.005


def accuracy() -> list[Figure]:
    """Return test accuracies of each family."""
    return [
        compare(
            f"{row['what']}: test accuracy, mean of {len(row['accuracies'])} {row['repetitions']}",
            row["mean_accuracy"], "{:.2%}", "≥", row["goal"],
        )
        for row in read_results("accuracy")
    ]  # fmt: skip


def cross_dataset() -> list[Figure]:
    """Return accuracies on data from another source."""
    figures = []
    for row in read_results("cross_dataset"):
        metric = f"trained on {row['what'].replace(' to ', ', tested on all of ')}"
        metric += f", mean of {len(row['accuracies'])} seeds"
        metric += ", settings chosen on the same data" * row["settings_chosen_on_it"]
        figures.append(compare(metric, row["mean_accuracy"], "{:.2%}", "≥", row["goal"]))
    return figures


def photographs() -> list[Figure]:
    """Return accuracies on photographs of digits, and the time to read them."""
    figures = []
    for row in read_results("photographs"):
        if "ms" in row:
            parts = row["ms"]
            metric = (
                f"{row['what']}: ms to read it and to find the digit (Pillow's decoding alone "
                f"{parts['decode']:.1f}, the net {parts['net']:.2f})"
            )
            goal = ("≤", 10.0) if row["what"].endswith("JPEG") else ("", None)
            figures.append(compare(metric, parts["read"], "{:.1f}", *goal))
            continue
        metric = (
            f"{row['what']}: accuracy on {row['samples']} photographs "
            f"({row['accuracy_on_originals']:.1%} on their original digits), {row['net']}"
        )
        figures.append(compare(metric, row["accuracy"], "{:.1%}"))
    return figures


def cifar10() -> list[Figure]:
    """Return accuracies on CIFAR-10, minutes of training, and the speedup over Keras' example."""
    most_minutes = {"defaults": 20, "recipe": 90}
    figures = []
    for row in read_results("cifar10"):
        name = row["what"]
        if row["name"] == "race":
            figures.append(_race(row))
            continue
        metric = f"{name}: test accuracy, mean of {counted(len(row['ours']), 'seed')}"
        figures.append(compare(metric, row["mean_accuracy"], "{:.2%}", "≥", row["goal"]))
        most = most_minutes[row["name"]]
        metric = f"{name}: minutes of training"
        figures.append(compare(metric, row["mean_minutes"], "{:.1f}", "≤", most))
    return figures


def _race(row: dict[str, Any]) -> Figure:
    metric = f"{row['what']}: speedup to {row['goal']:.0%} over Keras' ResNet20 example"
    if "speedup" not in row:
        return Figure(metric, "not measured", "≥ 5.0 times")
    ours, theirs = ([run["accuracy"] >= row["goal"] for run in row[side]] for side in _SIDES)
    return _speedup(metric, row["speedup"], ours, theirs)


def _speedup(metric: str, speedup: float, ours: list[bool], theirs: list[bool]) -> Figure:
    """Return a speedup over an example, given which runs of each reached the accuracy.

    The goal is not met unless all of ours did. Where the example was stopped before, the speedup
    is a lower bound.
    """
    metric += f" (goal reached in {sum(ours)} of {len(ours)} runs, by the example in {sum(theirs)})"
    figure = compare(metric, speedup, _TIMES, "≥", 5)
    bound = "" if all(theirs) else "more than "
    return replace(figure, measured=bound + figure.measured, met=figure.met and all(ours))


def image_sets() -> list[Figure]:
    """Return accuracies on a few thousand enlarged images, by recipe."""
    rows = {row["recipe"]: row for row in read_results("image_sets")}
    if "defaults" not in rows:
        return []
    best = max(row["mean_accuracy"] for row in rows.values())
    figures = [
        compare(
            f"{recipe}: test accuracy, mean of {counted(len(row['accuracies']), 'seed')}",
            row["mean_accuracy"],
            "{:.1%}",
            *(("≥", best - 0.01) if recipe == "defaults" and len(rows) > 1 else ()),
        )
        for recipe, row in rows.items()
    ]
    minutes = statistics.mean(rows["defaults"]["minutes"])
    return [*figures, compare("defaults: minutes of training", minutes, "{:.1f}", "<", 10)]


def tables() -> list[Figure]:
    """Return scores on tables beside gradient boosting and a linear model, and times."""
    rows = read_results("tables")
    by_part = {part: [row for row in rows if row["part"] == part] for part in _TABLE_PARTS}
    figures = [_table_figure(row) for part in ("defaults", "tune") for row in by_part[part]]
    if by_part["defaults"]:
        figures += _table_goals(by_part["defaults"])
    if by_part["tune"]:
        good = sum(row["mean"]["net"] >= row["mean"]["boosting"] for row in by_part["tune"])
        splits = min(len(row["runs"]) for row in by_part["tune"])
        searches = {_search(row) for row in by_part["tune"]}
        metric = f"tuned, {counted(splits, 'split')}: tables of {len(by_part['tune'])} at least as "
        metric += f"good as boosting{searches.pop() if len(searches) == 1 else ''}"
        figures.append(compare(metric, good, "{}", "≥", 4))
    figures += [
        compare(
            f"{row['table']}: a row on onnxruntime, one thread (`Predictor`: "
            f"{row['us']['Predictor']:.0f} µs)",
            row["us"]["onnxruntime"],
            "{:.0f} µs",
            "<",
            100,
        )
        for row in by_part["latency"]
    ]
    metric = "ionosphere, 351 rows: from the CSV file to a verified bundle, imports included"
    seconds = (row["seconds"] for row in by_part["newcomer"])
    return [*figures, *(compare(metric, each, "{:.1f} s", "≤", 20) for each in seconds)]


def tables_won() -> str:
    """Return on how many tables the default net is better than the boosting, as text."""
    means = [row["mean"] for row in read_results("tables") if row["part"] == "defaults"]
    return f"{sum(mean['net'] > mean['boosting'] for mean in means)} of {len(means)}"


def _table_figure(row: dict[str, Any]) -> Figure:
    names = {"roc_auc": "ROC AUC", "r2": "R²"}
    mean, seconds = row["mean"], row["seconds"]
    rivals = "; ".join(
        f"{rival} {mean[rival]:.4f} in {seconds[rival]:.1f} s"
        + (", difference {:+.4f} to {:+.4f}".format(*reach) if reach else "")
        for rival, reach in row["intervals"].items()
    )
    metric = f"{row['table']}, {row['part']}: {names[row['score']]}, mean of "
    metric += (
        f"{counted(len(row['runs']), 'seed')}, in {seconds['net']:.1f} s ({rivals}{_search(row)})"
    )
    return compare(metric, mean["net"], "{:.4f}")


def _search(row: dict[str, Any]) -> str:
    """Return how the boosting was searched."""
    if row["part"] != "tune":
        return ""
    if row.get("rival_search") == "TPE":
        return ", by TPE from its defaults on, as ours"
    return ", by random search without its defaults; ours by TPE from its defaults on"


def _table_goals(rows: list[dict[str, Any]]) -> list[Figure]:
    gains = [row["mean"]["net"] - row["mean"]["boosting"] for row in rows]
    sure = [bool(reach) and reach[0] > 0 for reach in (r["intervals"]["boosting"] for r in rows)]
    above_line = [row["mean"]["net"] >= row["mean"]["linear"] for row in rows]
    count = f"of {counted(len(rows), 'table')}, four of which had a part in choosing the defaults"
    return [
        compare(
            f"{count}, not worse than boosting by more than 0.005",
            sum(gain >= -_ALLOWED for gain in gains), "{}", "≥", 5,
        ),
        compare(f"{count}, better than boosting", sum(g > 0 for g in gains), "{}", "≥", 2),
        Figure(f"{count}, better than boosting, with the interval above 0", str(sum(sure))),
        compare(
            f"{count}, not worse than the linear model", sum(above_line), "{}", "≥", len(rows)
        ),
    ]  # fmt: skip


def transfer() -> list[Figure]:
    """Return the gain of features that were learned on other classes."""
    figures = []
    for row in read_results("transfer"):
        means = {name: statistics.mean(row[name]) for name in ("linear_head", "from_scratch")}
        _, comma, told = row["what"].partition(", learned")
        metric = f"linear head on features of five classes{comma}{told}{comma and ','} for five "
        metric += "others with 20 images each, above the same net from scratch "
        metric += f"({means['linear_head']:.1%}, {means['from_scratch']:.1%}), mean of "
        metric += counted(len(row["linear_head"]), "seed")
        figures.append(compare(metric, row["gain"], "{:+.1%}", "≥", row["goal"]))
    return figures


def time_to_accuracy() -> list[Figure]:
    """Return speedups over Keras' example."""
    figures = []
    for row in read_results("time_to_accuracy"):
        metric = f"MNIST to {row['goal']:.1%}: speedup over Keras' example"
        reached = row["ours_reached_goal"], row["theirs_reached_goal"]
        figures.append(_speedup(metric, row["speedup"], *reached))
    return figures


def pipeline() -> list[Figure]:
    """Return the throughput of the pipeline and the time spent waiting for it."""
    figures: list[Figure] = []
    for row in read_results("pipeline"):
        rate, wait = row["pipeline_to_cnn"], row["wait_fraction"]
        metric = f"{row['what']}: examples/s of the pipeline, relative to those of `cnn`"
        waiting = f"{row['what']}: fraction of `cnn`'s step time spent waiting for data"
        figures += [
            compare(metric, rate, _TIMES, "≥", 5),
            compare(waiting, wait, "{:.1%}", "<", 0.05),
        ]
    return figures


def image_pipeline() -> list[Figure]:
    """Return the throughput of the pipeline of images, with augmentation."""
    return [
        compare(
            f"images/s read and augmented at {row['what']}, relative to those of the default net",
            row["pipeline_to_net"], _TIMES, "≥", 5,
        )
        for row in read_results("image_pipeline")
    ]  # fmt: skip


def compilation() -> list[Figure]:
    """Return the time of a training step in each precision."""
    return [
        compare(row["what"], row["step_ms"], "{:.1f} ms") for row in read_results("compilation")
    ]


def streaming() -> list[Figure]:
    """Return the growth of memory with the data."""
    rows = {row["what"]: row for row in read_results("streaming")}
    small, large = rows["small"], rows["large"]
    metric = "growth of peak memory from a CSV with "
    metric += f"{small['data_mb']} MB of numbers to one with {large['data_mb']} MB"
    return [compare(metric, large["peak_mb"] - small["peak_mb"], "{:+,} MB")]


def distributed() -> list[Figure]:
    """Return the cost of a second process."""
    return [
        compare(
            f"`{row['what']}`, global batch {row['batch_size']:,}: examples/s lost by two "
            "processes, compared with one process of two threads, median of "
            f"{len(row['costs'])} rounds ({', '.join(f'{cost:.0%}' for cost in row['costs'])})",
            row["cost"], "{:.0%}", "≤", row["goal_cost"],
        )
        for row in read_results("distributed")
    ]  # fmt: skip


def tuning() -> list[Figure]:
    """Return the improvement by searches, and their time."""
    rows = {row["what"]: row for row in read_results("tuning")}
    makers = {"defaults": _tuned, "methods": _methods, "workers": _workers}
    return [make(rows[what]) for what, make in makers.items() if what in rows]


def _tuned(row: dict[str, Any]) -> Figure:
    before, after = (row[f"test_error_of_the_{which}"] for which in ("defaults", "best"))
    metric = "reduction of the test error by 40 trials of TPE on 6,000 samples of MNIST "
    metric += f"({before:.2%} → {after:.2%})"
    return compare(metric, row["lower_by"], "{:.1%}", "≥", row["goal_lower_by"])


def _methods(row: dict[str, Any]) -> Figure:
    losses = row["mean_best_validation_loss"]
    names = {"tpe": "TPE", "gp": "Gaussian process", "random": "random", "grid": "grid"}
    listed = ", ".join(names[method] for method in losses)
    return Figure(
        f"best validation loss of 20 trials, mean of 5 searches: {listed}",
        ", ".join(f"{loss:.4f}" for loss in losses.values()),
        "Bayesian ≤ random ≤ grid",
        max(losses["tpe"], losses["gp"]) <= losses["random"] <= losses["grid"],
    )


def _workers(row: dict[str, Any]) -> Figure:
    metric = "time of a search with two workers relative to one"
    return compare(metric, row["ratio"], "{:.2f}", "≤", row["goal_ratio"])


def own_model() -> list[Figure]:
    """Return what a step of a user's model costs beside one of `keras.Model.fit`."""
    return [
        compare(
            f"{row['what']}: step of a user's model over one of model.fit "
            f"({row['train_ms']:.1f} and {row['fit_ms']:.1f} ms; processor time "
            f"{row['cpu_ratio']:.2f})",
            row["ratio"], _TIMES.replace(".1f", ".2f"), "≤", 1.02,
        )
        for row in read_results("own_model")
    ]  # fmt: skip


def studies() -> list[Figure]:
    """Return the time of the studies, and the signs of their claims."""
    figures: list[Figure] = []
    for row in read_results("studies"):
        signs = [sign for claims in row["signs"].values() for sign in claims]
        counts = [signs.count(sign) for sign in ("holds", "not shown", "refuted")]
        studies = f"all {len(row['signs'])} studies, {row['what']}"
        minutes, goal = row["seconds"] / 60, row["goal_seconds"] / 60
        figures += [
            compare(f"{studies}: time", minutes, "{:.1f} min", "<", goal),
            Figure(f"{studies}: processor time", f"{row['processor_seconds'] / 60:.1f} min"),
            Figure(f"{studies}: claims that hold, are not shown, are refuted",
                   ", ".join(map(str, counts))),
        ]  # fmt: skip
    return figures
