"""Writes what a search found: the table, the pictures, and one page that opens from disk."""

import csv
import json
from pathlib import Path

import optuna

from app.data.sources import bare_source
from app.evaluation.metrics import SCORES
from app.reports.html import captioned_pictures, render
from app.runs.run_folder import TRAINING_SIZES, Run
from app.system.atomic_files import atomic_write

from .definition import Definition
from .figures import draw_search
from .learning_curve_advice import Reading, read_epochs, read_sizes
from .results import SearchResult, shown, sorted_rows, write_table
from .search_space import dimensions
from .trials import LOSSES, metric_in_place_of_loss

REPORT, TABLE, FIGURES = "report.html", "trials.csv", "figures"
_CAPTIONS = {
    "history": "Validation loss of each trial that finished, and the best up to it.",
    "importance": "The share of each field in what the fields explain, one by one, of the variance "
    "of the validation loss (fANOVA). Fields near 0 may stay as they are.",
    "parallel_coordinates": "A line for each trial that finished, through its value of each field; "
    "the darker, the lower its loss. Where dark lines meet, the value matters.",
    "trial_curves": "Every trial by epoch: its validation loss, or where the loss is searched its "
    "metric. Gray ones were ended early.",
    "learning_curves": "The refit: loss and score by epoch.",
    "training_sizes": "The refit: score against the number of training samples.",
}


def write_results(
    folder: Path, study: optuna.Study, definition: Definition, found: SearchResult, refit: Run
) -> tuple[str, ...]:
    """Write `trials.csv`, `figures/` and last `report.html`.

    Args:
        folder: of the search.
        study: what Optuna knows.
        definition: of the study.
        found: its trials and the best.
        refit: the run of the best settings.

    Returns:
        What the learning curves say, a sentence each.
    """
    kind = refit.data["task"]
    loss, score = LOSSES[kind], SCORES[kind]
    write_table(found.rows, loss, score, folder / TABLE)
    drawn = {trial.number: trial.params for trial in study.get_trials(deepcopy=False)}
    metric = metric_in_place_of_loss([field.key for field in definition.space], kind)
    reported = f"one minus validation {metric.replace('_', ' ')}" if metric else "validation loss"
    draw_search(found, drawn, dimensions(definition.space), loss, reported, folder / FIGURES)
    readings = read_curves(refit)
    _write_page(folder, definition, found, refit, (loss, score), readings)
    return tuple(reading.text for reading in readings)


def read_curves(refit: Run) -> tuple[Reading, ...]:
    """Return what the curves of the refit say: by training-set size, and by epoch."""
    sizes = json.loads((refit.folder / TRAINING_SIZES).read_text("utf-8"))
    with (refit.folder / "history.csv").open(newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    validated = len(refit.splits.validation)
    noise = sizes["standard_error"]
    return read_sizes(sizes["sizes"], sizes["score"], validated, noise), read_epochs(losses)


def _write_page(
    folder: Path,
    definition: Definition,
    found: SearchResult,
    refit: Run,
    names: tuple[str, str],
    readings: tuple[Reading, ...],
) -> None:
    page = render(
        "tune.html.j2",
        folder=folder,
        family=definition.base.family,
        source=bare_source(definition.base.data),
        definition=definition,
        found=found,
        rows=sorted_rows(found.rows),
        refit=refit,
        loss=names[0],
        score=names[1],
        shown=shown,
        readings=readings,
        pictures=captioned_pictures([folder / FIGURES, refit.folder / FIGURES], _CAPTIONS),
    )
    atomic_write(folder / REPORT, page)
