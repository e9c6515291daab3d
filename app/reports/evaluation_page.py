"""Writes an evaluation of a bundle as an HTML page that opens from disk, figures included."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from app.data.datasets import Dataset
from app.system.atomic_files import atomic_write
from serving.manifest import TASKS, Manifest
from serving.written_numbers import (
    metric_name,
    write_number,
    write_numbers,
    write_percent,
    write_score,
)

from .captions import CAPTIONS
from .class_lines import write_class_scores
from .evaluation_lines import (
    describe_accepted,
    describe_calibration,
    describe_confusion,
    describe_gaps,
    describe_methods,
)
from .html import captioned_pictures, render
from .run_figures import draw_predictions


def write_evaluation_page(
    path: Path,
    facts: dict[str, Any],
    manifest: Manifest,
    dataset: Dataset,
    indices: np.ndarray,
    predictions: np.ndarray,
) -> None:
    """Write an evaluation as a page that opens from disk, figures included.

    Args:
        path: the file to write; one that exists is replaced when the new one is complete.
        facts: see `app.bundles.evaluating.Evaluation`.
        manifest: manifest of the bundle.
        dataset: the data.
        indices: the samples that were measured, int64 `(samples,)`.
        predictions: predictions for them, `(samples, labels)`.

    Raises:
        OSError: the file cannot be written.
    """
    thresholds = None if manifest.thresholds is None else manifest.thresholds.values
    with tempfile.TemporaryDirectory(prefix="hornbill-") as folder:
        draw_predictions(Path(folder), dataset, indices, predictions, thresholds)
        pictures = captioned_pictures([Path(folder)], CAPTIONS)
    page = render(
        "evaluation.html.j2",
        facts=facts,
        targets=TASKS[manifest.task],
        claimed=manifest.metrics,
        claimed_on=manifest.measured_on,
        classes=facts.get("classes", ()),
        values=facts.get("values", {}),
        gaps=describe_gaps(facts),
        methods=describe_methods(facts["scores"]),
        calibration=describe_calibration(facts["calibration"]) if "calibration" in facts else "",
        accepted=describe_accepted(facts["reject_option"]) if "reject_option" in facts else "",
        thresholds=facts.get("decisions", ()),
        confused=[describe_confusion(pair) for pair in facts.get("confusions", ())],
        pictures=pictures,
        metric_name=metric_name,
        write_class_scores=write_class_scores,
        write_number=write_number,
        write_numbers=write_numbers,
        write_percent=write_percent,
        write_score=write_score,
    )
    atomic_write(path, page)
