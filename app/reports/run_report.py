"""Writes `report.html` of a run: a single file that opens from disk, figures included."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.config.families import family_named, is_own_model
from app.config.run_config import RunConfig, flat_config, make_config
from app.config.without_effect import settings_in_use
from app.data.sources import bare_source
from app.evaluation.metrics import SCORES
from app.evaluation.probes import NEIGHBORS
from serving.decisions import describe_thresholds
from serving.errors import counted
from serving.manifest import TASKS, Thresholds
from serving.written_numbers import (
    metric_name,
    write_number,
    write_numbers,
    write_percent,
    write_score,
)

from .captions import captions_of_run
from .class_lines import SHOWN_CLASSES, write_class_scores
from .html import captioned_pictures, render
from .run_summary import summarize

REPORT = "report.html"
# These differ between all runs, or the report shows them elsewhere.
_SHOWN_ELSEWHERE = ("family", "data", "seed", "precision", "figures")

_SHOWN_COLUMNS = 12
# Of more values, the terminal shows the first.
_SPOKEN_VALUES = 4
_BASELINES = {"linear": "linear model", "constant": "constant"}


def describe_speed(environment: dict[str, Any], config: RunConfig, kind: str) -> str:
    """Return the speed of a training.

    Args:
        environment: content of the run's `environment.json`.
        config: the run's configuration.
        kind: `rows`, `images` or `arrays`.
    """
    epoch = f"{environment['seconds'] / environment['epochs']:,.1f} s an epoch"
    if not environment["examples_per_s"]:
        return f"{epoch}, with a single step, which is not timed"
    samples = "samples" if kind == "arrays" else kind
    if config.learns_head_only:
        samples = "feature vectors"
    speed = f"{epoch}, {environment['examples_per_s']:,.0f} {samples}/s after the first step"
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
    more = ["…"] if len(parts) > _SPOKEN_VALUES else []
    shown = ", ".join(parts[:_SPOKEN_VALUES] + more)
    fitted = f"by the errors of {intervals['fitted_on']}"
    return f"for {intervals['coverage']:.0%} of new samples, {shown}, {fitted}"


def changed_settings(
    config: RunConfig, chosen: Collection[str], overridden: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that a user has changed: by key, the value, and that it would have had.

    Args:
        config: configuration of a run.
        chosen: keys of the settings that were chosen from the data, which are left out.
        overridden: what would have been chosen from the data, see `RunConfig`; other settings have
            the family's default otherwise.
    """
    defaults = flat_config(make_config(config.family)) | dict(overridden)
    return {
        key: (value, defaults[key])
        for key, value in settings_in_use(flat_config(config)).items()
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
    source, settings = bare_source(config.data), settings_in_use(flat_config(config))
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
        speed=describe_speed(environment, config, data["kind"]),
        baselines={
            title: evaluation["baselines"][name]
            for name, title in _BASELINES.items()
            if name in evaluation.get("baselines", {})
        },
        linear_samples=evaluation.get("linear_samples"),
        warnings=evaluation.get("warnings", ()),
        hints=evaluation.get("hints", ()),
        positive=evaluation.get("positive"),
        calibration=evaluation.get("calibration"),
        thresholds=_threshold_lines(evaluation, data["labels"]),
        intervals=evaluation.get("intervals"),
        counted=counted,
        write_class_scores=write_class_scores,
        write_number=write_number,
        write_numbers=write_numbers,
        write_percent=write_percent,
        write_score=write_score,
        summary=summarize(source, config.reading.target, data, metrics["test"], evaluation),
        deciles=evaluation.get("errors_by_decile", {}),
        importance=evaluation.get("importance"),
        shown_columns=_SHOWN_COLUMNS,
        values=evaluation.get("values", {}),  # runs of earlier versions have none
        classes=evaluation.get("classes", ()),
        probes=evaluation.get("probes"),
        shown_classes=SHOWN_CLASSES,
        neighbors=NEIGHBORS,
        score=SCORES[data["task"]],
        metric_name=metric_name,
        pictures=captioned_pictures(
            [folder / "figures"],
            captions_of_run(getattr(config.training, "progressive_resizing", False)),
        ),
        changed=changed_settings(config, chosen, data.get("overridden", {})),
        chosen=chosen,
        optimizer=environment.get("optimizer", {}),
        settings={**settings, "data": source},
        environment=environment,
    )
    (folder / REPORT).write_text(page, "utf-8")


def _threshold_lines(evaluation: dict[str, Any], labels: Sequence[str]) -> list[str]:
    thresholds = evaluation.get("thresholds")
    return [] if thresholds is None else describe_thresholds(Thresholds(**thresholds), labels)
