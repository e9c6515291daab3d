"""Describes a comparison of two models as lines for a terminal."""

from typing import Any

from serving.errors import counted
from serving.written_numbers import metric_name, write_number, write_percent, write_score

from .evaluation_lines import describe_gaps, describe_methods, write_interval

_SHOWN_CHANGES, _SHOWN_SETTINGS = 6, 8
# Below this p value, McNemar's test counts as significant.
_LEVEL = 0.05
# Metrics of which less is better.
_ERRORS = ("mae", "rmse", "cross_entropy", "binary_cross_entropy")


def comparison_lines(facts: dict[str, Any]) -> list[str]:
    """Return a comparison as lines for a terminal, see `app.bundles.comparing.Comparison`."""
    first, second = facts["models"]
    lines = [
        f"compared:    {_model(first)} with {_model(second)}, on {facts['measured_on']}",
        *_agreement(facts),
    ]
    for name, found in facts.get("scores", {}).items():
        lines.append(
            f"{metric_name(name, facts['positive']) + ':':27} "
            f"{write_interval(name, found['first'])} → "
            f"{write_interval(name, found['second'])}, {write_difference(name, found)}"
        )
    if "scores" in facts:
        methods = describe_methods({n: f["first"] for n, f in facts["scores"].items()})
        lines.append(f"intervals:   {methods}; differences are paired")
    lines += [f"note:        {line}" for line in describe_gaps(facts)]
    if "mcnemar" in facts:
        lines.append(f"McNemar:     {describe_mcnemar(facts['mcnemar'])}")
    if "calibration" in facts:
        lines.append(f"calibration: {describe_shift(facts['calibration'])}")
    lines.append(f"latency:     {describe_latency(facts['latency'])}")
    lines += [f"settings:    {line}" for line in settings_lines(facts["settings"])]
    return lines


def short_comparison(facts: dict[str, Any]) -> list[str]:
    """Return the few lines with which an export ends."""
    before = facts["models"][0]["version"]
    lines = [
        f"compared:    with version {before} on {facts['measured_on']}",
        *_agreement(facts)[:1],
    ]
    for name, found in list(facts.get("scores", {}).items())[:1]:
        lines.append(f"{metric_name(name) + ':':12} {write_difference(name, found)}")
    if "mcnemar" in facts:
        lines.append(f"McNemar:     {describe_mcnemar(facts['mcnemar'])}")
    return [*lines, f"latency:     {describe_latency(facts['latency'])}"]


def _model(model: dict[str, Any]) -> str:
    precision = "" if model["precision"] == "float32" else f", {model['precision']}"
    return f"{model['title']}{precision}"


def _agreement(facts: dict[str, Any]) -> list[str]:
    if "agreement" not in facts:
        return [
            f"change:      {row['name']} by {write_number(row['mean_absolute'])} on average, at "
            f"most by {write_number(row['largest'])}, mean {write_number(row['mean'])}"
            for row in facts["differences"][:_SHOWN_CHANGES]
        ]
    changed = facts["changed"]
    lines = [
        f"agreement:   {write_interval('accuracy', facts['agreement'])}; "
        f"{counted(changed, 'answer')} of {facts['samples']:,} "
        f"{'changes' if changed == 1 else 'change'}"
    ]
    lines += [f"  {describe_change(change)}" for change in facts["changes"][:_SHOWN_CHANGES]]
    left = facts["kinds"] - _SHOWN_CHANGES
    more = f"  and {left:,} more kind{'' if left == 1 else 's'} of change"
    return [*lines, more] if left > 0 else lines


def describe_change(change: dict[str, Any]) -> str:
    """Return how often an answer became another, with examples, in one line."""
    names = ", ".join(
        f"{example['sample']}" + (f" (true: {example['true']})" if "true" in example else "")
        for example in change["examples"]
    )
    return f"{change['count']:,} from {change['from']} to {change['to']}, such as {names}"


def write_difference(name: str, found: dict[str, Any]) -> str:
    """Return by how much a metric differs, with its interval, and whether that may be chance."""
    difference = found["difference"]
    if difference["value"] == 0 and found["first"] == found["second"]:
        return "no difference"
    ends = [difference[key] for key in ("value", "low", "high")]
    if difference["method"] == "agresti-min" or name.endswith("accuracy"):
        value, low, high = (f"{100 * end:+z.2f}" for end in ends)
        text = f"{value} points [{low}, {high}]"
    else:
        value, low, high = (f"{'+' if end > 0 else ''}{write_score(name, end)}" for end in ends)
        text = f"{value} [{low}, {high}]"
    if difference["low"] <= 0 <= difference["high"]:
        return f"{text}, which may be chance"
    is_better = (difference["value"] < 0) == (name in _ERRORS)
    return f"{text}, {'better' if is_better else 'worse'}"


def describe_mcnemar(found: dict[str, Any]) -> str:
    """Return which model is right alone how often, and whether that may be chance, in one line."""
    if not found["only_first_right"] + found["only_second_right"]:
        return "both are right about the same samples"
    p_value = found["p_value"]
    verdict = "unlikely to be chance" if p_value < _LEVEL else "which may be chance"
    shown = f"{p_value:.3f}" if p_value >= 0.001 else f"{p_value:.1e}"
    return (
        f"only the first is right {counted(found['only_first_right'], 'time')}, only the second "
        f"{counted(found['only_second_right'], 'time')}; p = {shown}, {verdict}"
    )


def describe_shift(found: dict[str, Any]) -> str:
    """Return how the calibration of two models differs, in one line."""
    pair = [found[key] for key in ("first", "second")]
    errors = " → ".join(f"{one['ece']:.4f}" for one in pair)
    classwise = " → ".join(f"{one['classwise_ece']:.4f}" for one in pair)
    confidence = " → ".join(write_percent(one["mean_confidence"]) for one in pair)
    return f"ECE {errors}, class-wise {classwise}, mean confidence {confidence}"


def describe_latency(latency: dict[str, Any]) -> str:
    """Return how long the second model takes compared with the first, in one line."""
    parts = [
        f"{found['ratio']:.2f} times at batch size {size} ({write_number(found['first_ms'], 3)} → "
        f"{write_number(found['second_ms'], 3)} ms)"
        for size, found in latency.items()
    ]
    return f"{', '.join(parts)}, measured in turns"


def settings_lines(settings: dict[str, list[Any]], shown: int = _SHOWN_SETTINGS) -> list[str]:
    """Return what differs in how two models were made, a line each."""
    lines = [
        f"{key}: {write_setting(before)} → {write_setting(after)}"
        for key, (before, after) in settings.items()
    ]
    left = len(lines) - shown
    return [*lines[:shown], f"and {left} more"] if left > 0 else lines or ["none differs"]


def write_setting(value: Any) -> str:
    """Return a setting as people read it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None or value == "":
        return "none"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
