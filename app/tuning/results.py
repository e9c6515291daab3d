"""Reads the results of a search: its trials as rows, the best one, the importance of settings."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from app.config.run_config import RunConfig
from app.errors import TuningError
from serving.errors import counted

from .definition import Definition
from .failures import FAILURE, number_of
from .importance import Importance, measure_importance, trials_needed
from .search_space import dimensions, read_settings
from .trial_loop import SURPLUS

_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "lost",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class Row:
    """A trial.

    Attributes:
        number: number of the trial, from 1 on, see `app.tuning.failures.number_of`.
        state: `finished`, `pruned`, `failed` (by own code or an exception that nobody foresaw),
            `lost` (its worker ended) or `running`.
        settings: value of each searched setting.
        loss: validation loss; None unless the trial finished.
        score: validation score; None unless the trial finished.
        seconds: duration; None if the trial was lost.
        reason: why the trial did not finish; empty if it did.
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
    """Results of a search.

    Attributes:
        rows: trials by number.
        best: trial with the lowest validation loss.
        config: configuration of the best trial.
        importance: of each dimension, largest first; empty if there are too few trials.
        withheld: why there is no importance and no advice; empty if there is.
    """

    rows: tuple[Row, ...]
    best: Row
    config: RunConfig
    importance: dict[str, Importance]
    withheld: str = ""

    def count(self, state: str) -> int:
        """Return how many trials are in a state."""
        return sum(row.state == state for row in self.rows)

    def describe_states(self) -> str:
        """Return how many trials finished, were pruned or lost, and failed if any did."""
        states = ("finished", "pruned", "lost", *(("failed",) if self.count("failed") else ()))
        return ", ".join(f"{self.count(state)} {state}" for state in states)


def read_rows(study: optuna.Study, definition: Definition) -> tuple[Row, ...]:
    """Return the trials of a search so far, by number."""
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in _STATES]
    names = set(dimensions(definition.space))  # a worker may have died while it sampled values
    return tuple(
        _row(t, definition)
        for t in trials
        if names <= t.params.keys() and SURPLUS not in t.user_attrs
    )


def read_search_result(study: optuna.Study, definition: Definition) -> SearchResult:
    """Return the results of a search so far.

    Raises:
        TuningError: no trial finished.
    """
    rows, names = read_rows(study, definition), dimensions(definition.space)
    done = [row for row in rows if row.loss is not None]
    if not done:
        reasons = [row.reason for row in rows if row.reason] or ["no trial was started"]
        raise TuningError(f"No trial of the search finished. The last reason: {reasons[-1]}")
    best = min(done, key=lambda row: (row.loss, row.number))
    chosen = next(t for t in study.get_trials(deepcopy=False) if number_of(t) == best.number)
    config = definition.configure(chosen.params)
    if withheld := describe_lack(len(done), len(names)):
        return SearchResult(rows, best, config, {}, withheld)
    return SearchResult(rows, best, config, measure_importance(study, definition.base.seed))


def describe_lack(finished: int, num_dimensions: int) -> str:
    """Return why a search says nothing of its settings; empty if it has enough trials.

    Args:
        finished: number of finished trials.
        num_dimensions: number of dimensions of its space.
    """
    needed = trials_needed(num_dimensions)
    if finished >= needed:
        return ""
    size = counted(num_dimensions, "searched dimension")
    return (
        f"Importance and advice need {needed} finished trials for {size}. "
        f"Received: {finished}, without pruned ones"
    )


def write_table(rows: tuple[Row, ...], loss: str, score: str, path: Path) -> None:
    """Write the trials as CSV: the best first, and those without a loss last."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        keys = list(rows[0].settings)
        writer.writerow(["trial", "state", loss, score, "seconds", *keys, "reason"])
        for row in sorted_rows(rows):
            common = (row.number, row.state, row.loss, row.score, row.seconds)
            writer.writerow([*common, *(_cell(row.settings[key]) for key in keys), row.reason])


def format_setting(value: Any) -> str:
    """Return a setting as text that `--set` accepts."""
    if isinstance(value, list):
        return ",".join(str(each) for each in value) or "[]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sorted_rows(rows: tuple[Row, ...]) -> list[Row]:
    """Return the trials: the best first, and those without a loss last."""
    return sorted(rows, key=lambda row: (row.loss is None, row.loss or 0.0, row.number))


def _cell(value: Any) -> Any:
    return format_setting(value) if isinstance(value, list) else value


def _row(trial: FrozenTrial, definition: Definition) -> Row:
    attributes = trial.user_attrs
    is_done = trial.state == TrialState.COMPLETE
    default = "its worker ended" if trial.state == TrialState.FAIL else ""
    return Row(
        number=number_of(trial),
        state="failed" if FAILURE in attributes else _STATES[trial.state],
        settings=read_settings(definition.space, trial.params),
        loss=trial.value if is_done else None,
        score=attributes.get("score"),
        seconds=attributes.get("seconds"),
        reason=str(attributes.get("reason", default)),
        curve=dict(sorted(trial.intermediate_values.items())),
    )
