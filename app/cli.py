"""The command line. Each command imports what it needs, so that `--help` loads nothing heavy."""

import sys
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from serving.errors import ServingError, printable
from serving.version import VERSION

from .export_commands import EXPORT_EXAMPLES, export
from .predict_commands import PREDICT_EXAMPLES, predict
from .study_commands import study
from .terminal import (
    INTERRUPTED,
    Bundle,
    Json,
    Output,
    Quiet,
    examples,
    fail,
    import_signature,
    load_tensorflow,
    print_json,
    status,
    suggest,
)
from .train_commands import TRAIN_EXAMPLES, train
from .tune_commands import TUNE_EXAMPLES, tune

app = typer.Typer(
    name="hornbill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train Keras models, export them as proven bundles, predict without TensorFlow.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hornbill {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Options of the program itself, which end it."""


app.add_typer(study)
app.command(epilog=TRAIN_EXAMPLES)(train)
app.command(epilog=TUNE_EXAMPLES)(tune)
app.command(epilog=EXPORT_EXAMPLES)(export)


@app.command(
    epilog=examples(
        "hornbill verify dist/digits",
        "hornbill verify dist/digits/1 --json",
        "hornbill verify dist/digits --key pub.pem",
    )
)
def verify(
    bundle: Bundle,
    key: Annotated[
        Path | None, typer.Option(metavar="PUB", help="Public key, PEM, it must be signed with.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a bundle's files, contract and behaviour; exit status 1 if one fails."""
    from serving.verify import verify_bundle

    checks = verify_bundle(bundle, None if key is None else import_signature().read_verifier(key))
    passed = all(check.passed for check in checks)
    if as_json:
        print_json(
            {
                "passed": passed,
                "checks": [
                    {"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks
                ],
            }
        )
    else:
        for check in checks:
            word = "PASS" if check.passed else "FAIL"
            if not (quiet and check.passed):
                typer.echo(f"{word}  {check.name:9}  {printable(check.detail)}", err=quiet)
        if passed and not quiet:
            suggest(f"hornbill predict {quote(str(bundle))} FILE…")
    if not passed:
        raise typer.Exit(1)


app.command(epilog=PREDICT_EXAMPLES)(predict)


@app.command(
    epilog=examples(
        "hornbill bench dist/digits",
        "hornbill bench dist/digits --keras runs/digits/20260101-120000/model.keras",
        "hornbill bench dist/digits --picture bench.png --json",
    )
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
    from app.benching import bench_bundle, bench_table, draw_bench, rows_to_json
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


@app.command(
    epilog=examples(
        "hornbill serve dist",
        "hornbill serve dist --port 8080 --versions all",
        "HORNBILL_TOKEN=… hornbill serve dist --host 0.0.0.0 --workers 2",
    )
)
def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of bundles, or of one model.")
    ] = Path("dist"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: any.")] = 8000,
    versions: Annotated[
        str, typer.Option(metavar="latest|all", help="Which versions of each model.")
    ] = "latest",
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    token: Annotated[
        str | None,
        typer.Option(envvar="HORNBILL_TOKEN", help="That requests must bear.", show_envvar=True),
    ] = None,
    max_body_mb: Annotated[float, typer.Option(help="Largest body of a request.")] = 64.0,
    max_rows: Annotated[int, typer.Option(help="Most samples in a request.")] = 16384,
    max_requests: Annotated[
        int, typer.Option(help="Under way at once; more are answered 503.")
    ] = 1024,
    max_delay_ms: Annotated[
        float, typer.Option(help="How long a batch of several requests may take.")
    ] = 5.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not log each request.")] = False,
) -> None:
    """Serve bundles over the Open Inference Protocol v2 and TF Serving's REST interface."""
    from serving.server import Settings
    from serving.server.running import find_address, run_server

    settings = Settings(
        folder=folder,
        versions=versions,
        token=token,
        max_body_mb=max_body_mb,
        max_rows=max_rows,
        max_requests=max_requests,
        max_delay_ms=max_delay_ms,
        log_requests=not quiet,
    )
    address = find_address(host, port)
    typer.echo(f"serving {folder} on {address.url}, addresses at /docs", err=True)
    run_server(settings, address, workers)


@app.command(epilog=examples("hornbill demo", "hornbill demo --output /tmp/demo"))
def demo(output: Output = Path()) -> None:
    """Run the main job in about a minute: train, export, verify, predict, compare."""
    load_tensorflow()
    from rich.console import Console

    from app.demo import run_demo

    result = run_demo(output / "runs", output / "dist", Console())
    model_folder = quote(str(result.bundle.parent))
    typer.echo("Next:")
    for command in (
        f"hornbill verify {model_folder}",
        f"hornbill predict {model_folder} YOUR_DIGIT.png",
        "hornbill train digits --set variant=mlp",
    ):
        typer.echo(f"  {command}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: 0 done, 1 a check failed, 2 the input was wrong, 130 interrupted.

    Args:
        arguments: what follows `hornbill`; the process' own arguments if None.

    Raises:
        SystemExit: always, with the status.
    """
    try:
        code = app(arguments, prog_name="hornbill", standalone_mode=False)
        if code == INTERRUPTED:  # Typer says nothing
            fail("Interrupted.", INTERRUPTED)
        sys.exit(code)
    except _CLICK_ERROR as error:
        fail(" ".join(error.format_message().split()) + _received(error), error.exit_code)
    except (ServingError, ValueError) as error:
        if not _is_ours(error):
            raise
        fail(str(error), 1 if type(error).__name__ == "ProofError" else 2)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("app", "export", "models", "serving"):
            raise
        fail(
            f"This command needs the package {error.name}. "
            f"Install it with: pip install 'hornbill[{_extra_of(error.name or '')}]'.",
            2,
        )
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.", INTERRUPTED)


def _extra_of(package: str) -> str:
    extras = {
        "jax": ("jax", "jaxlib"),
        "ray": ("pyarrow", "ray"),
        "serve": ("granian", "msgspec", "prometheus_client"),
        "tune": ("cmaes", "optuna", "sqlalchemy"),
    }
    return next((extra for extra, names in extras.items() if package in names), "train")


# Typer's copy of click, or click itself: which one depends on Typer's release.
_CLICK_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _received(error: Exception) -> str:
    """Return the value that Typer could not read and does not name; it lets pydantic read it."""
    read = getattr(error.__cause__, "errors", None)
    return f". Received: {read()[0]['input']!r}." if read else ""


def _is_ours(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in ("app", "export", "serving")
