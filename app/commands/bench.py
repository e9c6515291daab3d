"""`hornbill bench`: every runtime at hand, side by side."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from .terminal import (
    Bundle,
    Json,
    Quiet,
    examples,
    load_tensorflow,
    status,
    suggest,
)

BENCH_EXAMPLES = examples(
    "hornbill bench dist/digits",
    "hornbill bench dist/digits --keras runs/digits/20260101-120000/model.keras",
    "hornbill bench dist/digits --picture bench.png --json",
)


def bench(
    bundle: Bundle,
    keras: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The .keras file it was made of.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A PNG of the latencies to write.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a bundle in every runtime at hand: size, agreement with Keras, latency."""
    load_tensorflow()
    from app.bundles.runtime_benchmark import bench_bundle, bench_table, draw_bench, rows_to_json
    from app.errors import ConfigError

    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"A picture must be a file that ends in .png. Received: {picture}.")
    if picture is not None and not picture.parent.is_dir():
        raise ConfigError(f"A picture must go to a folder. Received: {picture.parent}, not there.")
    with status("measuring", quiet or as_json):
        rows = bench_bundle(bundle, keras)
    if as_json:
        typer.echo(rows_to_json(rows))
    elif not quiet:
        for line in bench_table(rows):
            typer.echo(line)
    if picture is not None:
        try:
            draw_bench(rows, picture)
        except OSError as error:
            raise ConfigError(
                f"A picture must be a file that can be written. Received: {picture}: "
                f"{error.strerror or error}."
            ) from None
    elif not (as_json or quiet):
        suggest(f"hornbill bench {quote(str(bundle))} --picture bench.png")
