"""Describes an evaluation of a bundle as lines for a terminal."""

from collections.abc import Mapping
from typing import Any

from serving.errors import counted, first_few, first_messages
from serving.written_numbers import (
    metric_name,
    write_number,
    write_percent,
    write_probability,
    write_score,
)

from .class_lines import SHOWN_CLASSES, describe_classes, describe_values

# What the methods of intervals are, for people.
METHODS = {"wilson": "Wilson", "bootstrap": "bootstrap", "agresti-min": "Agresti and Min"}
_SHOWN_PAIRS = 3
# The same error, added up in another order, differs by less.
_ROUNDING = 1e-9


def write_interval(metric: str, found: dict[str, Any]) -> str:
    """Return a metric with its interval, such as `97.3% [96.9%, 97.6%]`."""
    value, low, high = (write_score(metric, found[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def describe_methods(scores: dict[str, dict[str, Any]]) -> str:
    """Return which method the interval of each metric has, in one line."""
    by_method: dict[str, list[str]] = {}
    for name, found in scores.items():
        by_method.setdefault(METHODS[found["method"]], []).append(metric_name(name))
    parts = [f"{method} for {', '.join(names)}" for method, names in by_method.items()]
    return f"95%, by {'; '.join(parts)}"


def describe_gaps(facts: Mapping[str, Any]) -> list[str]:
    """Return a line for files that were left out, for labels without samples, and for each note.

    Args:
        facts: what `app.evaluation.evaluations.data_gaps` returns, and more, such as the `task`;
            empty without labels.
    """
    lines = []
    if left_out := facts.get("left_out"):
        lines.append(f"{counted(len(left_out), 'file')} left out: {first_messages(left_out)}")
    if labels := facts.get("lacking"):
        is_0 = facts["task"] == "multilabel"
        effect = "counts 0 for each" if is_0 else "leaves out each that is not predicted"
        lines.append(
            f"no sample has {first_few(labels)}: macro F1 {effect}, and there is no ROC AUC and "
            "average precision"
        )
    return [*lines, *(note.rstrip(".") for note in facts.get("notes", ()))]


def evaluation_lines(facts: dict[str, Any]) -> list[str]:
    """Return an evaluation as lines for a terminal, see `app.bundles.evaluating.Evaluation`."""
    lines = [f"measured:    {facts['title']}, {facts['precision']}, on {facts['measured_on']}"]
    scores = facts["scores"]
    lines += [
        f"{metric_name(name, facts['positive']) + ':':27} {write_interval(name, found)}"
        for name, found in scores.items()
    ]
    lines.append(f"intervals:   {describe_methods(scores)}")
    lines += [f"note:        {line}" for line in describe_gaps(facts)]
    if "calibration" in facts:
        lines.append(f"calibration: {describe_calibration(facts['calibration'])}")
    if "classes" in facts:
        lines += [f"classes:     {line}" for line in describe_classes(facts["classes"])]
    values = describe_values(facts.get("values", {}), "the page of --page")
    lines += [f"values:      {line}" for line in values]
    lines += [
        f"confused:    {describe_confusion(pair)}"
        for pair in facts.get("confusions", ())[:_SHOWN_PAIRS]
    ]
    lines += [f"threshold:   {line}" for line in facts.get("decisions", ())[:SHOWN_CLASSES]]
    if "reject_option" in facts:
        lines.append(f"reject:      {describe_accepted(facts['reject_option'])}")
    lines += [
        f"errors:      half of the predictions of {label} are off by {write_number(found['half'])} "
        f"or more, one in ten by {write_number(found['nine_of_ten'])}"
        for label, found in list(facts.get("error_quantiles", {}).items())[:_SHOWN_PAIRS]
    ]
    lines += [
        f"intervals:   {write_percent(share)} of the true values of {label} are inside"
        for label, share in list(facts.get("coverage", {}).items())[:_SHOWN_PAIRS]
    ]
    return lines


def describe_calibration(found: dict[str, float]) -> str:
    """Return calibration errors in one line, with what a calibrated model would have."""
    gap = found["mean_confidence"] - found["right"]
    most = found["ece_by_chance_95"]
    if found["ece"] <= most + _ROUNDING:
        verdict = "no sign of more than that"
    elif abs(gap) < found["ece"] / 2:  # the ECE would be the gap if all bins erred to one side
        verdict = "overconfident at some probabilities and underconfident at others"
    else:
        verdict = (
            f"{'over' if gap > 0 else 'under'}confident: the most probable answers have "
            f"{write_percent(found['mean_confidence'])} on average, and "
            f"{write_percent(found['right'])} of them are right"
        )
    return (
        f"ECE {found['ece']:.4f}, class-wise {found['classwise_ece']:.4f}; a calibrated model "
        f"would have an ECE of {found['ece_by_chance']:.4f} by chance, and one of up to "
        f"{most:.4f} in 95 of 100 cases; {verdict}"
    )


def describe_accepted(found: dict[str, Any]) -> str:
    """Return what a reject option does on the data, in one line."""
    accuracy = "" if found["accuracy"] is None else f", with accuracy {found['accuracy']:.2%}"
    return (
        f"predictions below probability {write_probability(found['threshold'])}; "
        f"{found['coverage']:.2%} is accepted{accuracy}"
    )


def describe_confusion(pair: dict[str, Any]) -> str:
    """Return how often a class is taken for another, in one line."""
    share = write_percent(pair["count"] / pair["samples"])
    return (
        f"{share} of “{pair['true']}” ({pair['count']:,} of {pair['samples']:,}) are taken for "
        f"“{pair['predicted']}”"
    )
