"""`hornbill train`: trains a model in one process or in several."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from app.errors import ConfigError
from app.system.signals import INTERRUPTED
from serving.errors import printable

from .terminal import (
    Categorical,
    Drop,
    Family,
    ImageColumn,
    Json,
    Keep,
    Quiet,
    Seed,
    Settings,
    Target,
    announce,
    check_data,
    describe_config,
    examples,
    fail,
    joined,
    load_tensorflow,
    named_columns,
    print_json,
    suggest,
)

TRAIN_EXAMPLES = examples(
    "hornbill train digits",
    "hornbill train digits --data mnist.npz --set variant=mlp --set epochs=5",
    "hornbill train features --data wine --set hidden=64,32 --set optimizer.learning_rate=1e-3",
    "hornbill train features --data flowers.csv --target kind",
    "hornbill train features --data photos",
    "hornbill train features --data photos.csv --image-column file --target kind",
    "hornbill train features --data diabetes --set head=linear",
    "hornbill train softmax --data pets --on-features dist/animals",
    "hornbill train my_net.py:build --data photos",
    "hornbill train my_net.py:build --data my_data.py:load",
    "hornbill train digits --config runs/digits/20260101-120000/config.toml",
    "hornbill train --resume runs/digits/20260101-120000",
    "hornbill train --resume runs/digits/20260101-120000 --set epochs=40",
    "hornbill train digits --data more.npz --start-from runs/digits/20260101-120000",
    "hornbill train digits --processes 2",
    "hornbill train digits --coordinator 10.0.0.1:7000 --process-id 0 --processes 2",
)
# Thresholds of more labels are in the report.
_MAX_LINES = 4


@dataclass(frozen=True)
class Request:
    """The options of `hornbill train`.

    Attributes:
        family: `digits`, `softmax` or `features`; None if `config` or `resume` states it.
        config: path of a TOML file of settings.
        settings: values of `--set`, `key=value`.
        given: settings that have separate options, such as `--target`.
        on_features: a run, a bundle or a `.keras` file on whose features to train a head.
        start_from: a run, a bundle or a `.keras` file whose weights to begin with.
        data: name or path of the data source; None takes the family's own.
        seed: seed of the split, the weights and the sample order; None takes the default.
        resume: folder of a run to resume, with `settings` that change.
        output: folder of runs.
        figures: whether to draw figures.
        as_json: whether to print a JSON object.
        quiet: whether to print nothing.
    """

    family: str | None = None
    config: str | None = None
    settings: list[str] = field(default_factory=list)
    given: dict[str, list[str] | str] = field(default_factory=dict)
    on_features: str | None = None
    start_from: str | None = None
    data: str | None = None
    seed: int | None = None
    resume: str | None = None
    output: str = "runs"
    figures: bool = True
    as_json: bool = False
    quiet: bool = False


def train(
    family: Family = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Data to train on: digits8x8, mnist, iris, wine, breast_cancer, diabetes, "
            "linnerud, or a path: .csv or .parquet (with --target), a folder of images with one "
            "subfolder per class, .npz in the layout of keras.datasets.mnist, or Semeion's .data; "
            "or a function of your own that returns data: file.py:function. "
            "Sources joined by + are used as one. Default: the family's default source.",
        ),
    ] = None,
    target: Target = None,
    categorical: Categorical = None,
    drop: Drop = None,
    keep: Keep = None,
    image_column: ImageColumn = None,
    on_features: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Run, bundle or .keras file whose features to train a head on. They are computed "
            "once, and its weights are kept.",
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Run, bundle or .keras file whose weights to begin with. The settings of its "
            "model are taken over.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file of settings, such as a run's config.toml. Other options override it.",
        ),
    ] = None,
    settings: Settings = None,
    seed: Seed = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Folder of a run to resume. All settings are taken from the run; with --set, "
            "epochs, patience and optimizer.learning_rate can be changed, and a finished run goes "
            "on.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=1024,
            help="Number of processes to train with (JAX). All run on this machine unless "
            "--coordinator is given. Default: 1.",
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address of process 0, which every other process connects to.",
        ),
    ] = None,
    process_id: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of the process on this machine, from 0; needs --coordinator. Process 0 "
            "writes the run.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write into. Default: runs."),
    ] = None,
    no_figures: Annotated[
        bool, typer.Option("--no-figures", help="Draw no figures; the report has none.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model and write a run folder, or resume a run."""
    others = {
        "FAMILY": family,
        "--data": data,
        "--target": joined(target),
        "--categorical": joined(categorical),
        "--drop": joined(drop),
        "--keep": joined(keep),
        "--image-column": image_column,
        "--on-features": on_features,
        "--start-from": start_from,
        "--config": config,
        "--seed": seed,
        "--output": output,
    }
    wrong = next((f"{name} {value}" for name, value in others.items() if value is not None), None)
    if resume is not None and wrong is not None:
        raise ConfigError(
            "--resume takes all settings from the run. "
            f"Received: {wrong}. Remove it; --set epochs=N trains for longer."
        )
    for option, model in (("--on-features", on_features), ("--start-from", start_from)):
        if model is None or model.is_dir() or (model.is_file() and model.suffix == ".keras"):
            continue
        reason = "which is another file" if model.exists() else "which does not exist"
        raise ConfigError(
            f"{option} must be a run, a bundle or a .keras file. Received: {model}, {reason}."
        )
    from app.distributed.cluster import make_cluster
    from app.distributed.launching import launch

    from .train_process import PROGRAM

    request = Request(
        family=family,
        config=None if config is None else str(config),
        settings=settings or [],
        given=named_columns(
            image_column, target=target, categorical=categorical, drop=drop, keep=keep
        ),
        on_features=None if on_features is None else str(on_features),
        start_from=None if start_from is None else str(start_from),
        data=data,
        seed=seed,
        resume=None if resume is None else str(resume),
        output="runs" if output is None else str(output),
        figures=not no_figures,
        as_json=as_json,
        quiet=quiet,
    )
    cluster = make_cluster(processes, coordinator, process_id)
    what = _checked(request)
    if not what:
        _print_finished(request)
        return
    announce(what, quiet or as_json)
    try:
        if cluster is not None:
            launch(cluster, asdict(request), PROGRAM)
        else:
            load_tensorflow()
            from app.distributed.team import alone

            run_training(request, alone())
    except KeyboardInterrupt as error:  # caught here, since Typer would drop its message
        fail(f"Interrupted. {error}".strip(), INTERRUPTED)


def _checked(request: Request) -> str:
    """Return what a request trains on what, after checking all that takes no TensorFlow to check.

    Empty if there is nothing to train: the run is finished, and no setting changes.

    Raises:
        AppError: a setting is wrong, or data, a column or a run does not exist.
    """
    if request.resume is not None:
        from app.training.checkpoint_state import config_that_goes_on

        config = config_that_goes_on(Path(request.resume), changed_settings(request))
        return "" if config is None else f"resuming {request.resume}"
    config = requested_config(request)
    check_data(config)
    return f"training {describe_config(config)}"


def changed_settings(request: Request) -> dict[str, Any]:
    """Return the settings that a run which is resumed goes on with, by flat key.

    Raises:
        ConfigError: a text is no setting.
    """
    from app.config.run_config import parse_settings

    return {**parse_settings(request.settings), **({} if request.figures else {"figures": False})}


def requested_config(request: Request) -> Any:
    """Return the configuration of a new run that the options ask for.

    Raises:
        ConfigError: see `app.config.run_config.combine_settings`.
    """
    from app.config.heads import head_settings
    from app.config.run_config import combine_settings, parse_settings

    merged = {**parse_settings(request.settings), **request.given}
    family, file = request.family, None if request.config is None else Path(request.config)
    if request.start_from is not None:
        merged["start_from"] = request.start_from
    if request.on_features is not None:
        family, merged = head_settings(family, request.on_features, merged)
    return combine_settings(family, file, merged, request.data, request.seed)


def run_training(request: Request, team: Any) -> None:
    """Train or resume a run and print its results.

    Args:
        request: options of the command line.
        team: the processes that train together, see `app.distributed.team.Team`.

    Raises:
        AppError: see `app.runs.train`.
        Interrupted: a signal stopped the run.
    """
    from app.system.garbage import collection_paused

    with collection_paused():
        from rich.console import Console

        from app.data.reading_progress import observed_reading
        from app.data.shown_progress import ReadingProgress
        from app.runs.train import resume, train

    quiet = request.quiet or request.as_json
    console = Console(quiet=True, force_terminal=False) if quiet else None
    with ReadingProgress(console) as progress, observed_reading(progress):
        if request.resume is not None:
            run = resume(request.resume, (), team, changed_settings(request), quiet=quiet)
        else:
            config = requested_config(request)
            run = train(config, request.output, (), team, request.figures, quiet=quiet)
    results = _Results(run.folder, run.config, run.data, run.metrics, team.is_writer)
    _print_results(results, request, progress.notes)


def _print_finished(request: Request) -> None:
    """Print the results of a run that is finished, without the import of TensorFlow.

    Raises:
        AppError: the folder is damaged.
    """
    from app.config.run_config import combine_settings
    from app.config.run_facts import read_facts
    from app.config.run_files import CONFIG

    folder = Path(request.resume or "")
    results = _Results(folder, combine_settings(None, folder / CONFIG), *read_facts(folder))
    if not (request.quiet or request.as_json):
        line = f"note: {folder} is finished: nothing is left to train. --set epochs=N trains on."
        typer.echo(printable(line), err=True)
    _print_results(results, request, [])


@dataclass(frozen=True)
class _Results:
    """What is printed of a run.

    Attributes:
        folder: folder of the run.
        config: its configuration.
        data: see `app.runs.run_folder.Run`.
        metrics: scores by split, then by metric.
        is_here: whether the folder is on this machine, as that of another process need not be.
    """

    folder: Path
    config: Any
    data: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    is_here: bool = True


def _print_results(run: _Results, request: Request, notes: list[str]) -> None:
    if request.as_json:
        _print_run_as_json(run, notes)
    elif not request.quiet:
        _print_run(run)


def _print_run_as_json(run: _Results, notes: list[str]) -> None:
    from app.config.run_facts import read_evaluation

    found = read_evaluation(run.folder) if run.is_here else {}
    told = {key: found[key] for key in ("baselines", "warnings", "hints") if key in found}
    print_json({"run": str(run.folder), "metrics": run.metrics, **told, "notes": notes})


def _print_run(run: _Results) -> None:
    """Print the results of a run, with details from its folder if that is here."""
    from app.config.run_facts import describe_data, read_environment, read_evaluation
    from app.data.datasets import LeftOut
    from app.reports.run_report import describe_speed
    from serving.written_numbers import describe_scores

    typer.echo(f"data:   {printable(describe_data(run.data, run.config.reading.image_size))}")
    for column in run.data.get("left_out", ()):  # runs of earlier versions do not say
        typer.echo(printable(str(LeftOut(**column))))
    if run.is_here:
        environment = read_environment(run.folder)
        place = f"{environment['precision']} on {environment['device']}"
        typer.echo(f"speed:  {describe_speed(environment, run.config, run.data['kind'])}, {place}")
    typer.echo(f"test:   {describe_scores(run.metrics['test'])}")
    if run.is_here:
        _print_evaluation(read_evaluation(run.folder), run.data["labels"])
        typer.echo(f"report: {run.folder / 'report.html'}")
        typer.echo(f"run:    {run.folder}")
        if not run.data.get("not_exportable"):  # runs of earlier versions do not say
            suggest(f"hornbill export {quote(str(run.folder))}")
    else:
        typer.echo(f"run:    {run.folder}, on the machine of process 0")


def _print_evaluation(found: dict[str, Any], labels: list[str]) -> None:
    """Print what a run's `evaluation.json` says, a line each."""
    from app.reports.class_lines import describe_classes, describe_values
    from app.reports.run_report import (
        describe_calibration,
        describe_intervals,
        describe_probes,
    )
    from serving.decisions import describe_thresholds
    from serving.manifest import Thresholds
    from serving.written_numbers import describe_scores

    baselines = found.get("baselines", {})
    lines = [("linear", describe_scores(baselines.get("linear", {})))]
    lines.append(("constant", describe_scores(baselines.get("constant", {}))))
    is_behind = bool(found.get("shortfalls"))
    told = describe_classes(found.get("classes", ()), is_behind)
    told += describe_values(found.get("values", {}))  # runs of earlier versions have none
    lines += [("each", line) for line in told]
    if calibration := found.get("calibration"):
        lines.append(("calibration", describe_calibration(calibration)))
    if thresholds := found.get("thresholds"):
        told = describe_thresholds(Thresholds(**thresholds), labels)
        lines += [("threshold", line) for line in told[:_MAX_LINES]]
        if len(told) > _MAX_LINES:
            lines.append(("threshold", f"{len(told) - _MAX_LINES} more are in the report"))
    if intervals := found.get("intervals"):
        lines.append(("intervals", describe_intervals(intervals, labels)))
    if probes := found.get("probes"):
        lines.append(("probes", describe_probes(probes)))
    lines += [("hint", line) for line in found.get("hints", ())]
    lines += [("warning", line) for line in found.get("warnings", ())]
    for name, text in lines:
        if text:
            typer.echo(printable(f"{f'{name}:':7} {text}"))
