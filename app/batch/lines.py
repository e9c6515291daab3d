"""Formats predictions as JSON lines, like those of `hornbill predict --json`."""

import itertools
import json
from collections.abc import Iterable, Sequence

import numpy as np
import orjson

from serving.decisions import decide, interval_ends, thresholds_of
from serving.manifest import Manifest


class PredictionLines:
    """Formats the predictions of one model.

    Filling a template takes a fifth of the time of `json.dumps`, which would take longer than the
    prediction of a small model.
    """

    def __init__(self, manifest: Manifest) -> None:
        members = ", ".join(f"{_quoted(label)}: %s" for label in manifest.labels)
        self._intervals = manifest.intervals
        ends = () if self._intervals is None else ("lower", "upper")
        groups = (str(manifest.prediction_output), *ends)
        numbers = ", ".join(f"{_quoted(name)}: {{{members}}}" for name in groups)
        self._template = f"{{%s%s, {numbers}}}\n"
        self._names = [json.dumps(label) for label in manifest.labels]
        self._task = manifest.task
        self._thresholds = thresholds_of(manifest)
        self._threshold = (
            None if manifest.reject_option is None else manifest.reject_option.threshold
        )

    def render(self, ids: Sequence[str], outputs: np.ndarray) -> str:
        """Return a line for each row.

        Args:
            ids: JSON members that identify each row; at least one row.
            outputs: float32 `(rows, labels)`, finite outputs of the model.
        """
        decisions = self._decisions(outputs)
        if self._intervals is not None:
            ends = interval_ends(self._intervals, outputs)
            outputs = np.concatenate([outputs, *ends], axis=1)
        numbers = orjson.dumps(outputs.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
        # One iterator repeated for all labels: every row takes its numbers in order.
        columns = [iter(numbers.decode()[1:-1].split(","))] * outputs.shape[1]
        rows = zip(ids, decisions, *columns, strict=True)
        return "".join([self._template % row for row in rows])

    def _decisions(self, outputs: np.ndarray) -> Iterable[str]:
        """Return the JSON members that state the predicted class or labels of each row."""
        if self._task == "multiclass":
            return self._classes(outputs)
        if self._task == "multilabel":
            decided = decide(self._task, outputs, self._thresholds)
            return (self._labels(is_chosen) for is_chosen in decided)
        return [""] * len(outputs)

    def _classes(self, outputs: np.ndarray) -> list[str]:
        members = [f', "label": {name}' for name in self._names]
        decided = decide(self._task, outputs, self._thresholds)
        found = [members[label] for label in decided.tolist()]
        if self._threshold is None:
            return found
        accepted = (outputs.max(axis=1) >= self._threshold).tolist()
        return [
            f'{label}, "accepted": {json.dumps(is_accepted)}'
            for label, is_accepted in zip(found, accepted, strict=True)
        ]

    def _labels(self, is_chosen: np.ndarray) -> str:
        return f', "labels": [{", ".join(itertools.compress(self._names, is_chosen))}]'


def key_lines(ids: Sequence[str], _: np.ndarray) -> str:
    """Return a line for each id, without its outputs."""
    return "".join(f"{{{row_id}}}\n" for row_id in ids)


def error_lines(failed: Sequence[tuple[str, str]]) -> str:
    """Return a line for each pair of id and reason."""
    return "".join(f'{{{row_id}, "reason": {json.dumps(reason)}}}\n' for row_id, reason in failed)


def _quoted(name: str) -> str:
    return json.dumps(name).replace("%", "%%")
