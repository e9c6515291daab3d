"""The command line. Each command imports what it needs, so that `--help` loads nothing heavy."""

import sys
from typing import Annotated, Any

import typer

from serving.errors import HornbillError
from serving.version import VERSION

from .bench import BENCH_EXAMPLES, bench
from .demo import DEMO_EXAMPLES, demo
from .export import EXPORT_EXAMPLES, export
from .predict import PREDICT_EXAMPLES, predict
from .serve import SERVE_EXAMPLES, serve
from .study import study
from .terminal import (
    INTERRUPTED,
    fail,
)
from .train import TRAIN_EXAMPLES, train
from .tune import TUNE_EXAMPLES, tune
from .verify import VERIFY_EXAMPLES, verify

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


app.command(epilog=VERIFY_EXAMPLES)(verify)
app.command(epilog=PREDICT_EXAMPLES)(predict)


app.command(epilog=BENCH_EXAMPLES)(bench)
app.command(epilog=SERVE_EXAMPLES)(serve)
app.command(epilog=DEMO_EXAMPLES)(demo)


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
    except HornbillError as error:
        fail(str(error), error.exit_status)
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
