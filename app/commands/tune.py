"""`hornbill tune`: searches hyperparameters and refits the best."""

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from app.errors import ConfigError
from app.system.addresses import without_credentials
from app.system.signals import INTERRUPTED
from serving.errors import printable

from .terminal import (
    Categorical,
    Drop,
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
    load_tensorflow,
    named_columns,
    print_json,
    suggest,
)

TUNE_EXAMPLES = examples(
    "hornbill tune features --data wine",
    "hornbill tune digits --search optimizer.learning_rate=log:1e-4..1e-1 "
    "--search 'hidden=choice:64|128|64,64'",
    "hornbill tune features --data wine --search hidden=layers:1..3x8..128 "
    "--search activation='choice:relu|gelu|tanh' --folds 5",
    "hornbill tune digits --search dropout=uniform:0..0.5 --method gp --trials 30 --workers 2",
    "hornbill tune features --config space.toml --minutes 10",
    "hornbill tune --join tunes/digits/20260101-120000",
)
_METHODS = "grid|random|tpe|gp|cmaes|genetic"


def tune(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="FAMILY",
            help="Model family: digits, softmax or features.",
            show_default=False,
        ),
    ] = None,
    searches: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="KEY=KIND:VALUES",
            help="Setting to search and its values: int:1..9, uniform:0..0.5, log:1e-4..1e-1, "
            "choice:a|b, or layers:1..3x16..256 for the number of layers and the units of each. "
            "May be given several times. Default: what matters most for family and data, around "
            "the defaults, which are the first trial.",
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar=_METHODS, help="Search method. Default: tpe.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Maximum number of trials, including pruned ones. Default: 40, or no limit if "
            "--minutes is given.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Minutes after which no new trial starts; running ones finish. Default: no limit.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of cross-validation folds. Default: a single validation split.",
        ),
    ] = None,
    pruning: Annotated[
        bool | None,
        typer.Option(
            "--pruning/--no-pruning", help="Whether to stop poor trials early. Default: --pruning."
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=256,
            help="Number of trials to run at the same time; they share the cores.",
        ),
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database to store the search in. Default: a journal in the search's folder.",
        ),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(metavar="SEARCH", help="Search to join or resume: its folder, or URL#NAME."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Data to train on; see hornbill train --help."),
    ] = None,
    target: Target = None,
    categorical: Categorical = None,
    drop: Drop = None,
    keep: Keep = None,
    image_column: ImageColumn = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML file of settings, with tables \\[search] and \\[tuning]. Other options "
            "override it.",
        ),
    ] = None,
    settings: Settings = None,
    seed: Seed = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write into. Default: tunes."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search hyperparameters and refit with the best settings. No trial sees the test split."""
    budget = {
        "method": method,
        "trials": trials,
        "minutes": minutes,
        "folds": folds,
        "pruning": pruning,
    }
    given = {name: value for name, value in budget.items() if value is not None}
    others = (
        *(family, data, target, categorical, drop, keep, image_column),
        *(config, settings, seed, output),
    )
    if join is not None and (given or any(value is not None for value in others)):
        raise ConfigError("--join takes all settings from the search. Remove the other options.")
    if join is None and family is None and config is None:
        raise ConfigError("Missing argument 'FAMILY'. Give digits, softmax or features.")
    from app.config.run_config import parse_settings
    from app.tuning.definition import make_definition
    from app.tuning.search_space import parse_searches

    declared = parse_searches(searches or [])
    hidden = quiet or as_json
    if join is None:
        fixed = parse_settings(settings or [])
        fixed |= named_columns(
            image_column, target=target, categorical=categorical, drop=drop, keep=keep
        )
        fixed |= {k: v for k, v in {"data": data, "seed": seed}.items() if v is not None}
        definition = make_definition(family, declared, given, file=config, settings=fixed)
        check_data(definition.base)
        announce(f"tuning {describe_config(definition.base)}", hidden)
    load_tensorflow()
    from app.tuning import search
    from app.tuning.progress import terminal_observer

    observer = search.SILENT if hidden else terminal_observer()
    try:
        if join is not None:
            tuned = search.join(join, workers, storage, declared, observer)
        else:
            tuned = search.tune(definition, output or "tunes", workers, storage, observer)
    except KeyboardInterrupt as error:
        fail(f"Interrupted. {error}".strip(), INTERRUPTED)
    _print_result(tuned, join, as_json, quiet)


def _print_result(tuned: Any, join: str | None, as_json: bool, quiet: bool) -> None:
    if tuned is None:
        if as_json:
            print_json({"joined": without_credentials(join or ""), "finished_here": False})
        elif not quiet:
            _print_joined(join)
    elif as_json:
        print_json(_summary(tuned))
    elif not quiet:
        _print_tuned(tuned)


def _print_joined(join: str | None) -> None:
    """Say who writes, or has written, the results of a search that was joined."""
    report = Path(join or "") / "report.html"
    if report.is_file():
        typer.echo(f"The search is finished.\nreport:  {report}")
    else:
        typer.echo(
            "The trials are finished. The process that started the search writes the results."
        )
    if join is not None and Path(join).is_dir():
        suggest(f"hornbill train --config {quote(join)}/best.toml")


def _summary(tuned: Any) -> dict[str, Any]:
    best = tuned.search.best
    states = ("finished", "pruned", "failed", "lost")
    return {
        "folder": str(tuned.folder),
        "trials": {state: tuned.search.count(state) for state in states},
        "best": {
            "trial": best.number,
            "settings": best.settings,
            "loss": best.loss,
            "score": best.score,
        },
        "importance": {name: asdict(each) for name, each in tuned.search.importance.items()},
        "withheld": tuned.search.withheld,
        "diagnosis": list(tuned.diagnosis),
        "refit": str(tuned.refit.folder),
        "test": tuned.refit.metrics["test"],
    }


def _print_tuned(tuned: Any) -> None:
    from app.data.datasets import LeftOut
    from app.tuning.results import format_setting
    from app.tuning.trials import write_objective
    from serving.written_numbers import describe_scores

    result, best = tuned.search, tuned.search.best
    typer.echo(f"trials:     {len(result.rows)} ({result.describe_states()})")
    for row in result.rows:
        if row.state == "failed":
            typer.echo(f"failed:     trial {row.number}, {row.reason}")
    found = write_objective(tuned.refit.data["task"], best.loss)
    typer.echo(f"best:       trial {best.number}, {found}")
    for key, value in best.settings.items():
        typer.echo(f"            {key} = {format_setting(value)}")
    if result.importance:
        fractions = (
            f"{name} {each.fraction:.0%} [{each.low:.0%}, {each.high:.0%}]"
            for name, each in result.importance.items()
        )
        typer.echo(f"importance: {', '.join(fractions)}")
    if result.withheld:
        typer.echo(f"withheld:   {result.withheld}.")
    for sentence in tuned.diagnosis:
        typer.echo(f"diagnosis:  {sentence}")
    for column in tuned.refit.data.get("left_out", ()):
        typer.echo(printable(str(LeftOut(**column))))
    typer.echo(f"test:       {describe_scores(tuned.refit.metrics['test'])}")
    typer.echo(f"report:     {tuned.folder / 'report.html'}")
    typer.echo(f"config:     {tuned.folder / 'best.toml'}")
    suggest(f"hornbill export {quote(str(tuned.refit.folder))}")
