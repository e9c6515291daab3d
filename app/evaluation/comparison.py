"""Compares what two models predict for the same samples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving.decisions import decide
from serving.manifest import Manifest

from .estimates import Estimate, mcnemar, paired_difference, wilson_estimate
from .evaluations import calibration_of, describe_interval
from .metrics import Scorer
from .resampling import difference_estimate, resample, score_intervals

# Samples that are shown for each change, and changes that are listed.
_EXAMPLES, _CHANGES = 3, 20
# The answer of a model for labels that are all off.
NO_LABEL = "none"


@dataclass(frozen=True)
class Answers:
    """What a model answers to some samples.

    Attributes:
        manifest: manifest of the model.
        predictions: probabilities, values or another output, `(samples, outputs)`.
    """

    manifest: Manifest
    predictions: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Classes `(samples,)` or labels, bool `(samples, labels)`."""
        thresholds = self.manifest.thresholds
        values = None if thresholds is None else thresholds.values
        return decide(self.manifest.task, self.predictions, values)


def compare_answers(first: Answers, second: Answers) -> dict[str, Any]:
    """Return how two models differ, whether or not the targets are known.

    Args:
        first: answers of the first model.
        second: those of the second one to the same samples, with the same task and labels.

    Returns:
        `samples`; for classes and labels `agreement`, a proportion with its interval, `changed`,
        the number of the others, `kinds`, the number of different pairs of answers among them, and
        `changes`: for each of at most twenty pairs, the most frequent first, `from`, `to`, `count`
        and `examples`, indices of samples. For other outputs `differences`, by label.
    """
    count, task = len(first.predictions), first.manifest.task
    found: dict[str, Any] = {"samples": count}
    if task not in ("multiclass", "multilabel"):
        return {**found, "differences": _differences(first, second)}
    before, after = (_as_rows(answers.decided) for answers in (first, second))
    is_changed = (before != after).any(axis=1)
    agreement = wilson_estimate(count - int(is_changed.sum()), count)
    changes = _changes(first, second, np.flatnonzero(is_changed))
    return {
        **found,
        "agreement": {**asdict(agreement), "method": "wilson"},
        "changed": int(is_changed.sum()),
        "kinds": len(changes),
        "changes": changes[:_CHANGES],
    }


def _as_rows(decided: np.ndarray) -> np.ndarray:
    return decided.reshape(len(decided), -1)


def answer_names(answers: Answers, samples: np.ndarray) -> list[str]:
    """Return the answers to the samples at some indices as texts: a class, or all labels."""
    labels, chosen = answers.manifest.labels, answers.decided[samples]
    if answers.manifest.task == "multiclass":
        return [labels[number] for number in chosen]
    return [
        ", ".join(label for label, is_set in zip(labels, row, strict=True) if is_set) or NO_LABEL
        for row in chosen
    ]


def _changes(first: Answers, second: Answers, changed: np.ndarray) -> list[dict[str, Any]]:
    pairs: dict[tuple[str, str], list[int]] = {}
    names = (answer_names(answers, changed) for answers in (first, second))
    for sample, *pair in zip(changed.tolist(), *names, strict=True):
        pairs.setdefault((pair[0], pair[1]), []).append(sample)
    shift = np.abs(first.predictions.astype(float) - second.predictions).max(axis=1)
    found: list[dict[str, Any]] = [
        {
            "from": before,
            "to": after,
            "count": len(samples),
            # those about which the models differ most
            "examples": sorted(samples, key=lambda sample: -shift[sample])[:_EXAMPLES],
        }
        for (before, after), samples in pairs.items()
    ]
    return sorted(found, key=lambda change: -change["count"])


def change_matrix(first: Answers, second: Answers) -> list[list[int]]:
    """Return how many samples get each class from the first model (row) and the second (column)."""
    count = len(first.manifest.labels)
    codes = first.decided * count + second.decided
    matrix = np.bincount(codes, minlength=count**2).reshape(count, count)
    found: list[list[int]] = matrix.tolist()
    return found


def _differences(first: Answers, second: Answers) -> list[dict[str, Any]]:
    change = second.predictions.astype(np.float64) - first.predictions
    shift = change.reshape(len(change), -1)
    names: Sequence[str] = first.manifest.labels or [f"output {n}" for n in range(shift.shape[1])]
    return [
        {
            "name": name,
            "mean": float(column.mean()),
            "mean_absolute": float(np.abs(column).mean()),
            "largest": float(np.abs(column).max()),
            "example": int(np.abs(column).argmax()),
        }
        for name, column in zip(names, shift.T, strict=False)
    ]


def compare_scores(
    answers: Sequence[Answers], scorers: Sequence[Scorer], targets: np.ndarray, resamples: int
) -> dict[str, Any]:
    """Return how much better the second model is on samples whose targets are known.

    Args:
        answers: those of both models.
        scorers: see `app.evaluation.metrics.make_scorer`.
        targets: classes `(samples,)`, labels or values `(samples, outputs)`.
        resamples: number of resamples at most, see `app.evaluation.resampling.resample`.

    Returns:
        `scores`: by metric `first`, `second` and `difference`, each with its interval; for classes
        and labels `mcnemar`, with the number of samples that only one model answers rightly and the
        p value of the exact test, and `calibration` of both models.
    """
    count, task = len(targets), answers[0].manifest.task
    drawn = resample(scorers, count, len(answers[0].manifest.labels), resamples)
    plain = [scorer(np.ones(count)) for scorer in scorers]
    intervals = [score_intervals(*pair, count) for pair in zip(plain, drawn, strict=True)]
    differences = {name: difference_estimate(name, plain, drawn) for name in plain[0]}
    methods = dict.fromkeys(differences, "bootstrap")
    found: dict[str, Any] = {}
    if task != "regression":
        right = [_are_right(each, targets) for each in answers]
        main = "accuracy" if task == "multiclass" else "exact_match"
        differences[main], methods[main] = paired_difference(*right), "agresti-min"
        found["mcnemar"] = {
            "only_first_right": int((right[0] & ~right[1]).sum()),
            "only_second_right": int((right[1] & ~right[0]).sum()),
            "p_value": mcnemar(*right),
        }
        found["calibration"] = dict(
            zip(
                ("first", "second"),
                (calibration_of(targets, each.predictions) for each in answers),
                strict=True,
            )
        )
    return {
        "scores": {
            name: {
                "first": describe_interval(plain[0][name], intervals[0][name]),
                "second": describe_interval(plain[1][name], intervals[1][name]),
                "difference": _described(differences[name], methods[name]),
            }
            for name in plain[0]
        },
        **found,
    }


def _described(estimate: Estimate, method: str) -> dict[str, Any]:
    return {**asdict(estimate), "method": method}


def _are_right(answers: Answers, targets: np.ndarray) -> np.ndarray:
    """Return whether the class, or all labels, of each sample are right, bool `(samples,)`."""
    return np.asarray((_as_rows(answers.decided) == _as_rows(targets)).all(axis=1))
