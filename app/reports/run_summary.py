"""The top of a run's report: what the model does, how good that is, and what it gets wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.evaluation.estimates import wilson_estimate
from app.evaluation.metrics import plain_score
from serving.errors import counted
from serving.written_numbers import (
    metric_name,
    write_number,
    write_numbers,
    write_percent,
    write_score,
)

_MEANINGS = {
    "accuracy": "right answers",
    "exact_match": "samples with all labels right",
    "mae": "mean absolute error, the lower the better",
    "roc_auc": "how often it ranks one of each class in the right order (ROC AUC)",
}
_PROPORTIONS = ("accuracy", "exact_match")
_MODELS = {"linear": "linear model", "constant": "constant answer"}
_NAMED, _MISTAKES, _COLUMNS = 10, 3, 3


@dataclass(frozen=True)
class Bar:
    """A score of a model.

    Attributes:
        name: the model.
        text: its score.
        percent: length of the bar.
        is_net: whether it is that of the run.
    """

    name: str
    text: str
    percent: float
    is_net: bool


@dataclass(frozen=True)
class Summary:
    """What a manager reads first.

    Attributes:
        purpose: what the model does.
        meaning: what the score of the bars says.
        bars: the score of the model and of simple ones on the test split.
        verdict: what the bars show.
        mistakes: what it gets wrong, the worst first.
        columns: the columns that matter most; empty if there are none.
    """

    purpose: str
    meaning: str
    bars: list[Bar]
    verdict: str
    mistakes: list[str]
    columns: str


def summarize(
    source: str,
    target: Sequence[str],
    data: dict[str, Any],
    scores: dict[str, float],
    evaluation: dict[str, Any],
) -> Summary:
    """Return the summary of a run.

    Args:
        source: name of the data.
        target: columns to predict; empty if the data is no table.
        data: see `app.data.summary.report_data`.
        scores: metrics on the test split.
        evaluation: content of `evaluation.json`; that of an earlier version may lack parts.
    """
    name = plain_score(data["task"], scores)
    rivals = {
        title: evaluation["baselines"][key][name]
        for key, title in _MODELS.items()
        if name in evaluation.get("baselines", {}).get(key, {})
    }
    found = {"this model": scores[name], **rivals}
    longest = max(found.values()) if name == "mae" else 1
    bars = [
        Bar(model, write_score(name, score), 100 * score / (longest or 1), model not in rivals)
        for model, score in found.items()
    ]
    return Summary(
        _purpose(source, target, data, evaluation),
        _MEANINGS[name],
        bars,
        _verdict(name, scores, rivals, data, evaluation),
        _mistakes(data, evaluation),
        _columns(evaluation),
    )


def _purpose(
    source: str, target: Sequence[str], data: dict[str, Any], evaluation: dict[str, Any]
) -> str:
    labels, task = data["labels"], data["task"]
    more = f" and {len(labels) - _NAMED:,} more" if len(labels) > _NAMED else ""
    named = ", ".join(labels[:_NAMED]) + more
    what = {
        "multiclass": f"one of {len(labels):,} classes: {named}",
        "multilabel": f"which of {counted(len(labels), 'label')} apply: {named}",
        "regression": named,
    }[task]
    if task == "multiclass" and target:
        what = f"{target[0]}, {what}"
    if data["kind"] != "rows":
        thing = "an image" if data["kind"] == "images" else "a sample"
        return f"It sees {thing} like those of {source} and predicts {what}."
    # The parts of a date are one column of the source, and several of the model.
    columns = evaluation.get("importance", {}).get(
        "column_count", len(data["columns"]) + len(data["string_columns"])
    )
    return f"It sees {counted(columns, 'column')} of {source} and predicts {what}."


def _verdict(
    name: str,
    scores: dict[str, float],
    rivals: dict[str, float],
    data: dict[str, Any],
    evaluation: dict[str, Any],
) -> str:
    """Return the score with its interval, and whether it is better than simple models."""
    count = data["samples"]["test"]
    text = f"Measured on {counted(count, 'sample')}{_unseen(data)}"
    if name in _PROPORTIONS:
        estimate = wilson_estimate(scores[name] * count, count)
        text += (
            f"; for new ones like them, from {write_percent(estimate.low)} to "
            f"{write_percent(estimate.high)} are to be expected (95% interval)"
        )
    others = [f"{metric_name(m)} {write_score(m, scores[m])}" for m in _others(name, scores)]
    text += f". {', '.join(others)[:1].upper()}{', '.join(others)[1:]}." if others else "."
    if not rivals or evaluation.get("shortfalls"):
        return text  # the warnings say what it does not beat
    sign = -1 if name == "mae" else 1
    ahead = [rival for rival, score in rivals.items() if sign * score >= sign * scores[name]]
    if ahead:
        return f"{text} By this score it is no better than {_joined(ahead)}."
    unclear = [_MODELS[key] for key in evaluation.get("unclear_leads", ())]
    beaten = _joined([rival for rival in rivals if rival not in unclear])
    if not unclear:
        return f"{text} It is better than {beaten}."
    better = f"It is better than {beaten}; the" if beaten else "The"
    return f"{text} {better} difference from {_joined(unclear)} may be chance."


def _unseen(data: dict[str, Any]) -> str:
    """Return whether training has seen the test samples, as the end of a sentence."""
    seen = data.get("duplicates", {}).get("test", 0)
    if not seen:
        return " of the test split" if data.get("is_streamed") else " that training has not seen"
    return f", of which training has seen {seen:,}"


def _joined(rivals: Sequence[str]) -> str:
    return " and ".join(f"the {rival}" for rival in rivals)


def _others(name: str, scores: dict[str, float]) -> list[str]:
    shown = ("r2",) if name == "mae" else ("roc_auc", "accuracy", "f1_macro")
    return [metric for metric in shown if metric in scores and metric != name]


def _mistakes(data: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    if data["task"] == "multilabel":
        rows = evaluation.get("classes", ())
        return [_missed(row) for row in rows if row["samples"] and row["f1"] < 1][:_MISTAKES]
    if data["task"] == "multiclass":
        return [
            f"{write_percent(pair['count'] / pair['samples'])} of “{pair['true']}” "
            f"({pair['count']:,} of {pair['samples']:,}) are taken for “{pair['predicted']}”."
            for pair in evaluation.get("confusions", ())[:_MISTAKES]
        ]
    deciles = evaluation.get("errors_by_decile", {})
    return [
        line
        for label, found in list(evaluation.get("error_quantiles", {}).items())[:_MISTAKES]
        for line in _errors(label, found, deciles.get(label, []))
    ]


def _missed(row: dict[str, Any]) -> str:
    missed = round((1 - row["recall"]) * row["samples"])
    text = f"“{row['name']}”: {missed:,} of {row['samples']:,} are missed"
    if row["precision"] < 1 and row.get("predicted", row["precision"]):
        text += f"; of those predicted, {write_percent(1 - row['precision'])} do not have it"
    return f"{text}."


def _errors(label: str, found: dict[str, float], deciles: Sequence[dict[str, Any]]) -> list[str]:
    half, most = write_number(found["half"]), write_number(found["nine_of_ten"])
    lines = [f"Half of the predictions of {label} are off by {half} or more, one in ten by {most}."]
    if deciles:
        errors = [float(row["mae"]) for row in deciles]
        worst = errors.index(max(errors))
        ends = write_numbers([row[key] for key in ("from", "to") for row in deciles])
        low, high = ends[worst], ends[worst + len(deciles)]
        lines.append(
            f"It errs most where it predicts {low} to {high}: by {write_number(errors[worst])} on "
            "average."
        )
    return lines


def _columns(evaluation: dict[str, Any]) -> str:
    rows = evaluation.get("importance", {}).get("columns", ())
    names = [row["name"] for row in rows if row["low"] > 0][:_COLUMNS]
    return f"The most important columns are {', '.join(names)}." if len(names) > 1 else ""
