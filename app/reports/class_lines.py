"""Describes classes as lines for a terminal."""

from collections.abc import Sequence
from typing import Any

from serving.written_numbers import write_percent, write_score

# Of more classes, only those with the worst scores are shown at once.
SHOWN_CLASSES = 12
# Of more classes, the terminal shows none.
SPOKEN_CLASSES = 4


def describe_classes(classes: Sequence[dict[str, Any]], has_warnings: bool = False) -> list[str]:
    """Return precision, recall and F1 of classes, the worst first.

    A few classes are in one line. More have a line each, if there are warnings of the model.
    """
    texts = [_described(row) for row in classes]
    if len(texts) <= SPOKEN_CLASSES:
        return ["; ".join(texts)]
    if not has_warnings:
        return []
    left_out = len(texts) - SHOWN_CLASSES
    more = [f"{left_out} more are in the report"] if left_out > 0 else []
    return texts[:SHOWN_CLASSES] + more


def _described(row: dict[str, Any]) -> str:
    if row.get("samples") == 0:
        return f'"{row["name"]}" has no test sample'
    return (
        f'"{row["name"]}" precision {write_percent(row["precision"])}, '
        f"recall {write_percent(row['recall'])}, F1 {write_score('f1', row['f1'])}"
    )
