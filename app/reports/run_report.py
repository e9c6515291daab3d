"""Writes a run's `report.html`: one file with everything in it, that opens from disk."""

from pathlib import Path
from typing import Any

from app.config.run_config import RunConfig, flat_config
from app.data.sources import bare_source
from serving.manifest import TASKS

from .html import captioned_pictures, render

REPORT = "report.html"
# By the name of the picture's file, in the order of the page.
_CAPTIONS = {
    "learning_curves": "Loss and score by epoch. A validation curve that turns while the training "
    "curve goes on tells of over-fitting; two curves that still rise, of too few epochs.",
    "training_sizes": "Score against the number of training samples. Curves that are still apart "
    "and rising on the right ask for more data; curves that meet, for a larger model.",
    "confusion_matrix": "Samples of the test split by true and by predicted class. What lies off "
    "the diagonal was mistaken.",
    "mistakes": "The mistakes that the model was surest of: labels worth a second look, and what "
    "the model has yet to learn.",
    "reliability_diagram": "How often answers of a given confidence are right. Where a point lies "
    "below the diagonal with all of its bar, the model is surer than it should be; the bar reaches "
    "as far as chance may have moved the point. The lower part shows how many answers there are.",
    "roc": "The share of hits against the share of false alarms as the threshold falls. The "
    "further up and left, the better; AUC is the area below.",
    "predicted_and_true": "Predicted against true values of the test split. On the dashed line the "
    "prediction is right.",
    "features_projection": "The learned features of test samples, seen along the two directions in "
    "which they vary most. Colors that part show features that tell the targets apart.",
}


def describe_speed(environment: dict[str, Any]) -> str:
    """Return how fast a run took its steps, from its `environment.json`."""
    if not environment["examples_per_s"]:
        return "a single step, which is not timed"
    return (
        f"{environment['examples_per_s']:,.0f} examples/s, "
        f"{environment['wait_fraction']:.1%} of the steps' time waiting for data"
    )


def write_report(
    folder: Path,
    config: RunConfig,
    data: dict[str, Any],
    metrics: dict[str, dict[str, float]],
    environment: dict[str, Any],
) -> None:
    """Write `report.html` into the run's folder, with the pictures that are in `figures/`.

    Args:
        folder: of the run.
        config: its configuration.
        data: see `app.data.summary.report_data`.
        metrics: by split, then by metric.
        environment: see `environment.json`.
    """
    source = bare_source(config.data)
    page = render(
        f"{REPORT}.j2",
        folder=folder,
        family=config.family,
        source=source,
        data=data,
        targets=TASKS[data["task"]],
        metrics=metrics,
        speed=describe_speed(environment),
        names=list(next(iter(metrics.values()))),
        pictures=captioned_pictures([folder / "figures"], _CAPTIONS),
        settings={**flat_config(config), "data": source},
        environment=environment,
    )
    (folder / REPORT).write_text(page, "utf-8")
