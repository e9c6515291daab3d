"""Writes `report.html` of a run: a single file that opens from disk, figures included."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from app.config.families import family_named, is_own_model
from app.config.run_config import RunConfig, flat_config, make_config
from app.data.sources import bare_source
from app.evaluation.metrics import SCORES
from app.evaluation.probes import NEIGHBORS
from serving.decisions import describe_thresholds
from serving.errors import counted
from serving.manifest import TASKS, Thresholds
from serving.written_numbers import metric_name, write_number, write_percent, write_score

from .html import captioned_pictures, render
from .run_summary import summarize

REPORT = "report.html"
# By the name of the figure's file, in the order of the page.
_CAPTIONS = {
    "learning_curves": "Loss and score after each epoch. If the validation loss rises while the "
    "training loss falls, the model overfits. If both scores still rise at the end, train longer.",
    "augmented_images": "Some training images, and how training steps see them. A change that "
    "would give an image another target does harm: set augmentation.* lower.",
    "training_sizes": "Score by number of training samples. If the curves are still apart and "
    "rising on the right, more data will help. If they meet, a larger model may help.",
    "confusion_matrix": "Test samples by true class (rows) and predicted class (columns). Counts "
    "off the diagonal are mistakes.",
    "mistakes": "The mistakes that the model is most confident about. Some may be wrong labels; "
    "the others show what the model has yet to learn.",
    "reliability_diagram": "Accuracy by confidence. Where a point and all of its 95% interval lie "
    "below the diagonal, the model is overconfident. The histogram counts the predictions.",
    "roc": "True positive rate by false positive rate as the threshold falls. The closer a curve "
    "is to the upper left corner, the better; AUC is the area under it.",
    "precision_recall": "Precision by recall as the threshold falls. The full point is the "
    "threshold of this run, and a hollow one that of 0.5 if it differs. AP, average precision, is "
    "the area under the curve; where a class is rare, it says more than ROC AUC.",
    "predicted_and_true": "Predicted values by true values of the test split. On the dashed line "
    "the prediction is exact.",
    "residuals": "Left: residuals by predicted value, which should have no pattern; the interval "
    "contains as many true values as the validation split promises. Right: errors by tenths of the "
    "samples, from the lowest predictions to the highest.",
    "column_importance": "How far the score falls if the values of a column are permuted among "
    "the test samples, with 95% intervals. Columns that say the same stand in for each other, so "
    "each of them seems less important than they are together.",
    "partial_dependence": "The mean prediction if a column had this value in all of at most 200 "
    "test samples. Where columns depend on each other, some of these samples never occur.",
    "features_projection": "Learned features of test samples on their first two principal "
    "components. Well separated colors show features that tell the targets apart.",
}
# These differ between all runs, or the report shows them elsewhere.
_SHOWN_ELSEWHERE = ("family", "data", "seed", "precision", "figures")

# Of more classes, only those with the worst scores are shown at once.
_SHOWN_CLASSES = 12
_SHOWN_COLUMNS = 12
# Of more classes, the terminal shows none; of more values, the first.
_SPOKEN_CLASSES = 4
_BASELINES = {"linear": "linear model", "constant": "constant"}


def describe_speed(environment: dict[str, Any], kind: str) -> str:
    """Return the speed of a training.

    Args:
        environment: content of the run's `environment.json`.
        kind: `rows` or `images`.
    """
    epoch = f"{environment['seconds'] / environment['epochs']:,.1f} s an epoch"
    if not environment["examples_per_s"]:
        return f"{epoch}, with a single step, which is not timed"
    samples = "images" if kind == "images" else "examples"
    speed = f"{epoch}, {environment['examples_per_s']:,.0f} {samples}/s"
    if environment["wait_fraction"] is None:  # a user's pipeline, which is not timed
        return speed
    return f"{speed}, {environment['wait_fraction']:.1%} of the step time spent waiting for data"


def describe_probes(probes: dict[str, Any]) -> str:
    """Return the scores of probes, see `app.evaluation.probes.Probes`, in one line."""
    score = probes["score"]
    parts = [
        f"{metric_name(score)} {write_score(score, probes['linear'])} of a linear probe",
        f"{write_score(score, probes['nearest_neighbors'])} of {NEIGHBORS} nearest neighbors",
    ]
    if probes["recall_at_1"] is not None:
        parts.append(f"recall@1 {write_percent(probes['recall_at_1'])}")
    return ", ".join(parts)


def describe_classes(classes: Sequence[dict[str, Any]], has_warnings: bool = False) -> list[str]:
    """Return precision, recall and F1 of classes, the worst first.

    A few classes are in one line. More have a line each, if there are warnings of the model.
    """
    texts = [
        f'"{row["name"]}" precision {write_percent(row["precision"])}, '
        f"recall {write_percent(row['recall'])}, F1 {write_score('f1', row['f1'])}"
        for row in classes
    ]
    if len(texts) <= _SPOKEN_CLASSES:
        return ["; ".join(texts)]
    if not has_warnings:
        return []
    left_out = len(texts) - _SHOWN_CLASSES
    more = [f"{left_out} more are in the report"] if left_out > 0 else []
    return texts[:_SHOWN_CLASSES] + more


def describe_calibration(calibration: dict[str, Any]) -> str:
    """Return the calibration errors of a run in one line."""
    return (
        f"ECE {calibration['ece']:.4f}, class-wise {calibration['classwise_ece']:.4f}, before "
        "an export calibrates the probabilities"
    )


def describe_intervals(intervals: dict[str, Any], labels: Sequence[str]) -> str:
    """Return intervals, see `serving.manifest.Intervals`, in one line."""
    parts = [
        f"{label} ± {write_number(width)} ({measured:.1%} of the test split)"
        for label, width, measured in zip(
            labels, intervals["half_widths"], intervals["measured_coverage"], strict=True
        )
    ]
    more = ["…"] if len(parts) > _SPOKEN_CLASSES else []
    shown = ", ".join(parts[:_SPOKEN_CLASSES] + more)
    fitted = f"by the errors of {intervals['fitted_on']}"
    return f"for {intervals['coverage']:.0%} of new samples, {shown}, {fitted}"


def changed_settings(config: RunConfig, chosen: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Return the settings that a user has changed: by key, value and the family's default.

    Args:
        config: configuration of a run.
        chosen: keys of the settings that were chosen from the data, which are left out.
    """
    defaults = flat_config(make_config(config.family))
    return {
        key: (value, defaults[key])
        for key, value in flat_config(config).items()
        if value != defaults[key] and key not in (*_SHOWN_ELSEWHERE, *chosen)
    }


def write_report(
    folder: Path,
    config: RunConfig,
    data: dict[str, Any],
    metrics: dict[str, dict[str, float]],
    environment: dict[str, Any],
    evaluation: dict[str, Any],
) -> None:
    """Write `report.html` of a run, with the figures that are in `figures/`.

    Args:
        folder: folder of the results inside the run's folder, to which they are moved later.
        config: its configuration.
        data: see `app.data.summary.report_data`.
        metrics: scores by split, then by metric.
        environment: content of `environment.json`.
        evaluation: content of `evaluation.json`.
    """
    source, settings = bare_source(config.data), flat_config(config)
    own = is_own_model(config.family)
    chosen = {key: value for key, value in settings.items() if key in data.get("chosen", ())}
    page = render(
        f"{REPORT}.j2",
        folder=folder.parent,
        family=family_named(config.family).builder_name if own else config.family,
        source=source,
        data=data,
        targets=TASKS[data["task"]],
        # What counts comes first, since a phone shows the first columns.
        metrics={
            name: metrics[name] for name in ("test", "validation", "train") if name in metrics
        },
        speed=describe_speed(environment, data["kind"]),
        baselines={
            title: evaluation["baselines"][name]
            for name, title in _BASELINES.items()
            if name in evaluation.get("baselines", {})
        },
        warnings=evaluation.get("warnings", ()),
        hints=evaluation.get("hints", ()),
        positive=evaluation.get("positive"),
        calibration=evaluation.get("calibration"),
        thresholds=_threshold_lines(evaluation, data["labels"]),
        intervals=evaluation.get("intervals"),
        counted=counted,
        write_number=write_number,
        write_percent=write_percent,
        write_score=write_score,
        summary=summarize(source, config.reading.target, data, metrics["test"], evaluation),
        deciles=evaluation.get("errors_by_decile", {}),
        importance=evaluation.get("importance"),
        shown_columns=_SHOWN_COLUMNS,
        classes=evaluation.get("classes", ()),
        probes=evaluation.get("probes"),
        shown_classes=_SHOWN_CLASSES,
        neighbors=NEIGHBORS,
        score=SCORES[data["task"]],
        metric_name=metric_name,
        pictures=captioned_pictures([folder / "figures"], _CAPTIONS),
        changed=changed_settings(config, chosen),
        chosen=chosen,
        settings={**settings, "data": source},
        environment=environment,
    )
    (folder / REPORT).write_text(page, "utf-8")


def _threshold_lines(evaluation: dict[str, Any], labels: Sequence[str]) -> list[str]:
    thresholds = evaluation.get("thresholds")
    return [] if thresholds is None else describe_thresholds(Thresholds(**thresholds), labels)
