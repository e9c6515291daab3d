"""`hornbill compare`: what changes from one model to another."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from app.errors import ConfigError
from serving.errors import printable

from .pages import Page, check_page, write_page
from .terminal import (
    ImageColumn,
    Json,
    Quiet,
    Target,
    announce,
    examples,
    joined,
    load_tensorflow,
    named_columns,
    print_json,
    suggest,
)

COMPARE_EXAMPLES = examples(
    "hornbill compare dist/digits/1 dist/digits/2 --data mnist",
    "hornbill compare dist/digits runs/digits/20260101-120000 --data mnist --page compare.html",
    "hornbill compare dist/churn/1 dist/churn/2 --input 'rows/*.csv'",
)


def compare(
    first: Annotated[
        Path,
        typer.Argument(metavar="A", help="Bundle, version, packed file, or run that is used now."),
    ],
    second: Annotated[
        Path,
        typer.Argument(
            metavar="B", help="Bundle, version, packed file, or run to compare with it."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Labeled data: any source that train takes."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="GLOB",
            help="Files without labels: images, .csv, .tsv, .parquet, .txt, .npy or .npz.",
        ),
    ] = None,
    target: Target = None,
    image_column: ImageColumn = None,
    page: Page = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two models on the same samples: answers, scores, calibration, latency, settings."""
    if (data is None) == (pattern is None):
        raise ConfigError(
            "Give either --data SOURCE or --input GLOB. "
            f"Received: {'neither' if data is None else 'both'}."
        )
    check_page(page)
    from app.bundles.comparing import compare as compare_models
    from app.bundles.opening import check_model
    from app.data.source_kinds import is_code
    from app.reports.comparison_lines import comparison_lines

    are_runs = [check_model(path) for path in (first, second)]
    if any(are_runs):
        announce(f"exporting runs to compare {first} and {second}", quiet or as_json)
        load_tensorflow()
    elif is_code(data):  # which returns arrays or pipelines of TensorFlow
        load_tensorflow()
    if page is not None:  # a package that it lacks is told before the work
        from app.reports.comparison_page import write_comparison_page
    given = named_columns(image_column, target=target)
    found = compare_models(first, second, data=data or "", files=pattern or "", given=given)
    if page is not None:
        write_page(
            lambda: write_comparison_page(page, found.facts, found.labels, found.pictures), page
        )
    if as_json:
        print_json(found.facts)
    elif not quiet:
        for line in comparison_lines(found.facts):
            typer.echo(printable(line))
        if page is None:
            suggest(
                f"hornbill compare {quote(str(first))} {quote(str(second))}",
                data=data,
                input=pattern,
                target=joined(target),
                image_column=image_column,
                page="compare.html",
            )
