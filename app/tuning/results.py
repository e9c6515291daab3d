"""What a study found: its trials as rows, the best, and which fields mattered."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from app.config.run_config import RunConfig
from app.errors import TuningError

from .definition import Definition
from .search_space import dimensions, read_settings
from .trial_loop import SURPLUS

_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "lost",
    TrialState.RUNNING: "running",
}
# Importance is a share of the variance of the losses, which takes some of them.
_MIN_TRIALS = 4


@dataclass(frozen=True)
class Row:
    """A trial.

    Attributes:
        number: of the trial, from 0.
        state: `finished`, `pruned`, `lost` (its worker ended) or `running`.
        settings: value of each field that is searched.
        loss: on validation; None unless it finished.
        score: the same.
        seconds: that it took; None if it was lost.
        reason: why it did not finish.
        curve: validation loss by epoch.
    """

    number: int
    state: str
    settings: dict[str, Any]
    loss: float | None
    score: float | None
    seconds: float | None
    reason: str
    curve: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """What a study found.

    Attributes:
        rows: trials in their order.
        best: the row of the lowest loss.
        config: of the best.
        importance: share of each dimension in what they explain of the losses' variance one by
            one, largest first (fANOVA: Hutter et al., 2014); empty where there are too few trials.
    """

    rows: tuple[Row, ...]
    best: Row
    config: RunConfig
    importance: dict[str, float]

    def count(self, state: str) -> int:
        """Return how many trials are in a state."""
        return sum(row.state == state for row in self.rows)


def read_search_result(study: optuna.Study, definition: Definition) -> SearchResult:
    """Return what a study found so far.

    Raises:
        TuningError: no trial came to its end.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in _STATES]
    drawn = set(dimensions(definition.space))  # a worker may have died while it drew
    rows = tuple(
        _row(t, definition)
        for t in trials
        if drawn <= t.params.keys() and SURPLUS not in t.user_attrs
    )
    done = [row for row in rows if row.loss is not None]
    if not done:
        reasons = [row.reason for row in rows if row.reason] or ["none was begun"]
        raise TuningError(f"A search needs one trial that ends. Received: none; {reasons[-1]}")
    best = min(done, key=lambda row: (row.loss, row.number))
    config = definition.configure(study.get_trials(deepcopy=False)[best.number].params)
    return SearchResult(rows, best, config, _importance(study, definition.base.seed))


def write_table(rows: tuple[Row, ...], loss: str, score: str, path: Path) -> None:
    """Write the trials as CSV, the best first and those without a loss last."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        keys = list(rows[0].settings)
        writer.writerow(["trial", "state", loss, score, "seconds", *keys, "reason"])
        for row in sorted_rows(rows):
            found = (row.number, row.state, row.loss, row.score, row.seconds)
            writer.writerow([*found, *(_cell(row.settings[key]) for key in keys), row.reason])


def shown(value: Any) -> str:
    """Return a setting as people read it, and as `--set` takes it."""
    if isinstance(value, list):
        return ",".join(str(each) for each in value) or "[]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sorted_rows(rows: tuple[Row, ...]) -> list[Row]:
    """Return the trials, the best first and those without a loss last."""
    return sorted(rows, key=lambda row: (row.loss is None, row.loss or 0.0, row.number))


def _cell(value: Any) -> Any:
    return shown(value) if isinstance(value, list) else value


def _row(trial: FrozenTrial, definition: Definition) -> Row:
    noted = trial.user_attrs
    is_done = trial.state == TrialState.COMPLETE
    reason = str(noted.get("reason", "its worker ended" if _STATES[trial.state] == "lost" else ""))
    return Row(
        number=trial.number,
        state=_STATES[trial.state],
        settings=read_settings(definition.space, trial.params),
        loss=trial.value if is_done else None,
        score=noted.get("score"),
        seconds=noted.get("seconds"),
        reason=reason,
        curve=dict(sorted(trial.intermediate_values.items())),
    )


def _importance(study: optuna.Study, seed: int) -> dict[str, float]:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in done}) < _MIN_TRIALS:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
