"""Describes classes, and values, as lines for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.written_numbers import describe_scores, metric_name, write_percent, write_score

# Of more classes, only those with the worst scores are shown at once.
SHOWN_CLASSES = 12
# Of more classes, the terminal shows none.
SPOKEN_CLASSES = 4
# Stands for a score of which there is nothing to measure.
UNDEFINED = "\N{EN DASH}"


def describe_classes(classes: Sequence[dict[str, Any]], is_behind: bool = False) -> list[str]:
    """Return precision, recall and F1 of classes, the worst first.

    A few classes are in one line. More have a line each, if the model is behind a baseline.
    """
    texts = [_described(row) for row in classes]
    if len(texts) <= SPOKEN_CLASSES:
        return ["; ".join(texts)]
    if not is_behind:
        return []
    left_out = len(texts) - SHOWN_CLASSES
    more = [f"{left_out} more are in the report"] if left_out > 0 else []
    return texts[:SHOWN_CLASSES] + more


def describe_values(
    values: Mapping[str, dict[str, float]], all_in: str = "evaluation.json"
) -> list[str]:
    """Return error and R² of each of several values, a line each; of many, of the first ones.

    A dash stands for an R² that is undefined.

    Args:
        values: see `app.evaluation.metrics.value_scores`.
        all_in: where those are that are not shown.
    """
    if len(values) == 1:
        return []  # the scores of the run are its own
    lines = [
        f'"{label}" {_describe_value(scores)}'
        for label, scores in list(values.items())[:SHOWN_CLASSES]
    ]
    left_out = len(values) - SHOWN_CLASSES
    return [*lines, f"{left_out} more are in {all_in}"] if left_out > 0 else lines


def _describe_value(scores: Mapping[str, float]) -> str:
    text = describe_scores({name: scores[name] for name in ("mae", "r2") if name in scores})
    return text if "r2" in scores else f"{text}, {metric_name('r2')} {UNDEFINED}"


def write_class_scores(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return precision, recall and F1 of a class as texts; a dash for those that are undefined.

    Args:
        row: see `app.evaluation.metrics.class_scores`; in runs of earlier versions it does not say
            how often the class is predicted.
    """
    samples, predicted = row["samples"], row.get("predicted", row["precision"])
    return (
        write_percent(row["precision"]) if predicted else UNDEFINED,
        write_percent(row["recall"]) if samples else UNDEFINED,
        write_score("f1", row["f1"]) if samples or predicted else UNDEFINED,
    )


def _described(row: dict[str, Any]) -> str:
    if not row["samples"]:
        return f'"{row["name"]}" has no sample'
    precision, recall, f1 = write_class_scores(row)
    return f'"{row["name"]}" precision {precision}, recall {recall}, F1 {f1}'
