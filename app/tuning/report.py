"""Writes the results of a search: a table, figures, and a report in one HTML file."""

import csv
import json
from pathlib import Path

import optuna

from app.data.sources import bare_source
from app.evaluation.metrics import SCORES
from app.reports.html import captioned_pictures, render
from app.runs.run_folder import TRAINING_SIZES, Run
from app.system.atomic_files import atomic_write
from serving.written_numbers import metric_name, write_score

from .definition import Definition
from .failures import number_of
from .figures import draw_search
from .learning_curve_advice import Diagnosis, diagnose_epochs, diagnose_sizes
from .results import Row, SearchResult, format_setting, sorted_rows, write_table
from .search_space import dimensions
from .trials import LOSSES, metric_in_place_of_loss, objective_name

REPORT, TABLE, FIGURES = "report.html", "trials.csv", "figures"
# The report of the trials alone, while the refit has failed.
TRIALS_REPORT = "trials.html"
# `{objective}` stands for what the search minimizes.
_CAPTIONS = {
    "history": "The {objective} of each finished trial on validation samples, and the best so far.",
    "importance": "How much of the variance of the validation {objective} each setting explains on "
    "its own, as a fraction of what all settings explain (fANOVA), with 95% intervals. Settings "
    "whose interval is near 0 need no tuning.",
    "parallel_coordinates": "One line for each finished trial, through its value of each setting. "
    "The darker a line, the lower its {objective}. Where dark lines converge, the value matters.",
    "trial_curves": "Validation loss of every trial by epoch, or one minus the metric if the loss "
    "itself was searched. Gray trials were pruned or lost, or failed.",
    "learning_curves": "Loss and score of the refit by epoch.",
    "training_sizes": "Score of the refit against the number of training samples.",
}


def write_trials(folder: Path, rows: tuple[Row, ...], task: str) -> None:
    """Write `trials.csv`, unless there is no trial.

    Args:
        folder: folder of the search.
        rows: the trials.
        task: `multiclass`, `multilabel` or `regression`.
    """
    if rows:
        write_table(rows, LOSSES[task], SCORES[task], folder / TABLE)


def draw_trials(
    folder: Path, study: optuna.Study, definition: Definition, result: SearchResult, task: str
) -> None:
    """Write the figures of the trials to `figures/`.

    Args:
        folder: folder of the search.
        study: the search in Optuna's storage.
        definition: definition of the search.
        result: trials and the best one.
        task: `multiclass`, `multilabel` or `regression`.
    """
    drawn = {number_of(trial): trial.params for trial in study.get_trials(deepcopy=False)}
    metric = metric_in_place_of_loss([field.key for field in definition.space], task)
    reported = f"one minus validation {metric_name(metric)}" if metric else "validation loss"
    space = dimensions(definition.space)
    draw_search(result, drawn, space, LOSSES[task], reported, folder / FIGURES)


def write_report(
    folder: Path, definition: Definition, result: SearchResult, refit: Run
) -> tuple[str, ...]:
    """Write `report.html` in place of the report of the trials alone.

    Args:
        folder: folder of the search.
        definition: definition of the search.
        result: trials and the best one.
        refit: run with the best settings.

    Returns:
        The diagnosis of the refit's learning curves, one sentence each; none if there were too few
        trials, since a model that is hardly tuned says little of its data.
    """
    task = refit.data["task"]
    diagnoses = () if result.withheld else diagnose_run(refit)
    _write_page(folder / REPORT, definition, result, task, refit, diagnoses)
    (folder / TRIALS_REPORT).unlink(missing_ok=True)
    return tuple(diagnosis.text for diagnosis in diagnoses)


def write_trials_report(
    folder: Path, definition: Definition, result: SearchResult, task: str
) -> None:
    """Write `trials.html`, the report of a search whose refit has failed.

    Args:
        folder: folder of the search.
        definition: definition of the search.
        result: trials and the best one.
        task: `multiclass`, `multilabel` or `regression`.
    """
    _write_page(folder / TRIALS_REPORT, definition, result, task)


def diagnose_run(refit: Run) -> tuple[Diagnosis, ...]:
    """Diagnose the learning curves of a run: by training-set size, and by epoch."""
    sizes = json.loads((refit.folder / TRAINING_SIZES).read_text("utf-8"))
    with (refit.folder / "history.csv").open(newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    validated = len(refit.splits.validation)
    noise = sizes["standard_error"]
    by_size = diagnose_sizes(sizes["sizes"], sizes["score"], validated, noise)
    return by_size, diagnose_epochs(losses)


def _write_page(
    path: Path,
    definition: Definition,
    result: SearchResult,
    task: str,
    refit: Run | None = None,
    diagnoses: tuple[Diagnosis, ...] = (),
) -> None:
    captions = {
        name: text.format(objective=objective_name(task)) for name, text in _CAPTIONS.items()
    }
    folders = [path.parent / FIGURES, *([refit.folder / FIGURES] if refit else [])]
    page = render(
        "tune.html.j2",
        folder=path.parent,
        family=definition.base.family,
        source=bare_source(definition.base.data),
        definition=definition,
        result=result,
        rows=sorted_rows(result.rows),
        refit=refit,
        loss=LOSSES[task],
        score=SCORES[task],
        format_setting=format_setting,
        metric_name=metric_name,
        write_score=write_score,
        diagnoses=diagnoses,
        pictures=captioned_pictures(folders, captions),
    )
    atomic_write(path, page)
