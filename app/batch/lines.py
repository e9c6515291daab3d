"""Writes rows as lines of JSON, the objects that `hornbill predict --json` prints."""

import json
from collections.abc import Sequence

import numpy as np

from serving.manifest import Manifest


class AnswerLines:
    """Writes the answers of one model.

    A template that is filled takes a third of the time of `json.dumps`, which would be as long as
    a small net itself.
    """

    def __init__(self, manifest: Manifest) -> None:
        # nine digits are what a float32 has
        members = ", ".join(f"{_quoted(label)}: %.9g" for label in manifest.labels)
        self._template = f"{{%s%s, {_quoted(str(manifest.answer))}: {{{members}}}}}\n"
        self._names = [json.dumps(label) for label in manifest.labels]
        self._kind = manifest.kind_of_targets
        self._threshold = None if manifest.reject is None else manifest.reject.threshold

    def render(self, ids: Sequence[str], answers: np.ndarray) -> str:
        """Return a line for each row.

        Args:
            ids: members that say who each row is.
            answers: of the model, finite, `(rows, labels)`.
        """
        decide = {"classes": self._class, "labels": self._labels}.get(self._kind, _nothing)
        return "".join(
            self._template % (row_id, decide(answer), *answer)
            for row_id, answer in zip(ids, answers.tolist(), strict=True)
        )

    def _class(self, answer: list[float]) -> str:
        most = max(answer)
        label = f', "label": {self._names[answer.index(most)]}'
        if self._threshold is None:
            return label
        return f'{label}, "accepted": {json.dumps(most >= self._threshold)}'

    def _labels(self, answer: list[float]) -> str:
        chosen = [n for n, value in zip(self._names, answer, strict=True) if value >= 0.5]
        return f', "labels": [{", ".join(chosen)}]'


def error_lines(bad: Sequence[tuple[str, str]]) -> str:
    """Return a line for each id and reason."""
    return "".join(f'{{{row_id}, "reason": {json.dumps(reason)}}}\n' for row_id, reason in bad)


def _nothing(_: list[float]) -> str:
    return ""


def _quoted(name: str) -> str:
    return json.dumps(name).replace("%", "%%")
