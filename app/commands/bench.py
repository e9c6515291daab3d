"""`hornbill bench`: compares a bundle in every installed runtime."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from .terminal import (
    Bundle,
    Json,
    Quiet,
    announce,
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
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The .keras file that the bundle was exported from, to time Keras too.",
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG file to plot the latencies in.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Benchmark a bundle in every installed runtime: size, parity with Keras, latency."""
    from app.errors import ConfigError
    from serving.errors import cannot_write
    from serving.versions import find_version

    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture must end in .png. Received: {picture}.")
    if picture is not None and not picture.parent.is_dir():
        raise ConfigError(f"The folder of --picture does not exist. Received: {picture.parent}.")
    find_version(bundle)
    announce(f"benchmarking {bundle}", quiet or as_json)
    load_tensorflow()
    from app.bundles.runtime_benchmark import bench_bundle, bench_table, draw_bench, rows_to_json

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
            raise ConfigError(cannot_write(picture, error)) from None
    elif not (as_json or quiet):
        suggest(f"hornbill bench {quote(str(bundle))}", keras=keras, picture="bench.png")
