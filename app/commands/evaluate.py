"""`hornbill evaluate`: measures a bundle on labeled data."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

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

EVALUATE_EXAMPLES = examples(
    "hornbill evaluate dist/digits --data mnist",
    "hornbill evaluate dist/churn --data new.csv --target Churn --page churn.html",
    "hornbill evaluate dist/flowers --data photos --json",
)


def evaluate(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Bundle, version, packed file, or run.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Labeled data: any source that train takes, or an .npz with an array for each "
            "input of the model and the targets as y.",
        ),
    ],
    target: Target = None,
    image_column: ImageColumn = None,
    page: Page = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a bundle on labeled data: scores with intervals, calibration, confusion."""
    check_page(page)
    from app.bundles.evaluating import evaluate_bundle
    from app.bundles.opening import check_model
    from app.data.source_kinds import is_code
    from app.reports.evaluation_lines import evaluation_lines

    if check_model(bundle):
        announce(f"exporting {bundle} to measure it", quiet or as_json)
        load_tensorflow()
    elif is_code(data):  # which returns arrays or pipelines of TensorFlow
        load_tensorflow()
    if page is not None:  # a package that it lacks is told before the work
        from app.reports.evaluation_page import write_evaluation_page
    found = evaluate_bundle(bundle, data, named_columns(image_column, target=target))
    if page is not None:
        write_page(
            lambda: write_evaluation_page(
                page,
                found.facts,
                found.manifest,
                found.dataset,
                found.indices,
                found.predictions,
            ),
            page,
        )
    if as_json:
        print_json(found.facts)
    elif not quiet:
        for line in evaluation_lines(found.facts):
            typer.echo(printable(line))
        if page is None:
            suggest(
                f"hornbill evaluate {quote(str(bundle))}",
                data=data,
                target=joined(target),
                image_column=image_column,
                page="page.html",
            )
