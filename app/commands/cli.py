"""The command line. Each command imports what it needs, so that `--help` stays fast."""

import sys
from typing import Annotated, Any

import typer

from app.system.signals import INTERRUPTED
from serving.errors import HornbillError
from serving.version import VERSION

from .bench import BENCH_EXAMPLES, bench
from .compare import COMPARE_EXAMPLES, compare
from .demo import DEMO_EXAMPLES, demo
from .evaluate import EVALUATE_EXAMPLES, evaluate
from .export import EXPORT_EXAMPLES, export
from .log import LOG_EXAMPLES, log
from .pack import PACK_EXAMPLES, UNPACK_EXAMPLES, pack, unpack
from .predict import PREDICT_EXAMPLES, predict
from .serve import SERVE_EXAMPLES, serve
from .settings import SETTINGS_EXAMPLES, settings
from .share import PULL_EXAMPLES, PUSH_EXAMPLES, pull, push
from .study import study
from .terminal import Command, Group, ServerCommand, fail
from .train import TRAIN_EXAMPLES, train
from .tune import TUNE_EXAMPLES, tune
from .verify import VERIFY_EXAMPLES, verify

_OWN_PACKAGES = ("app", "export", "models", "serving")

app = typer.Typer(
    name="hornbill",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train Keras models, export them as verified bundles, and predict without TensorFlow.",
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
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
    """Options of `hornbill` itself."""


app.add_typer(study)
for command, command_examples in (
    (train, TRAIN_EXAMPLES),
    (settings, SETTINGS_EXAMPLES),
    (tune, TUNE_EXAMPLES),
    (export, EXPORT_EXAMPLES),
    (verify, VERIFY_EXAMPLES),
    (predict, PREDICT_EXAMPLES),
    (pack, PACK_EXAMPLES),
    (unpack, UNPACK_EXAMPLES),
    (push, PUSH_EXAMPLES),
    (pull, PULL_EXAMPLES),
    (log, LOG_EXAMPLES),
    (evaluate, EVALUATE_EXAMPLES),
    (compare, COMPARE_EXAMPLES),
    (bench, BENCH_EXAMPLES),
    (serve, SERVE_EXAMPLES),
    (demo, DEMO_EXAMPLES),
):
    kind = ServerCommand if command is serve else Command
    app.command(cls=kind, epilog=command_examples)(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: arguments after `hornbill`; None uses `sys.argv`.

    Raises:
        SystemExit: always, with the exit status: 0 for success, 1 if a check failed, 2 for
            another error that its message names, 130 after an interruption.
    """
    try:
        code = app(arguments, prog_name="hornbill", standalone_mode=False)
        if code == INTERRUPTED:  # Typer prints nothing
            fail("Interrupted.", INTERRUPTED)
        sys.exit(code)
    except _CLICK_ERROR as error:
        message = _unknown_option(error) or " ".join(error.format_message().split())
        fail(message + _received(error), error.exit_code)
    except HornbillError as error:
        fail(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in _OWN_PACKAGES:  # a bug, not a missing extra
            raise
        fail(
            f"This command needs the package {error.name}. Install it in the clone of Hornbill "
            f"with: pip install '.[{_extra_of(error.name or '')}]'.",
            2,
        )
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.", INTERRUPTED)


def _extra_of(package: str) -> str:
    extras = {
        "jax": ("jax", "jaxlib"),
        "mlflow": ("mlflow", "pandas"),
        "oci": ("oras",),
        "ray": ("pyarrow", "ray"),
        "serve": ("granian", "msgspec", "prometheus_client"),
        "tune": ("cmaes", "optuna", "sqlalchemy"),
    }
    return next((extra for extra, names in extras.items() if package in names), "train")


# Typer's own copy of click or click itself, depending on the release of Typer.
_CLICK_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _unknown_option(error: Any) -> str:
    """Return the message of an unknown option, with the option or setting that is meant, or ""."""
    if not hasattr(error, "possibilities") or not getattr(error, "option_name", ""):
        return ""
    message = f"No such option: {error.option_name}."
    if error.ctx is None:
        return message
    from models.checks import closest

    names = (name for each in error.ctx.command.params for name in each.opts)
    options = {name.lstrip("-"): name for name in names if name.startswith("-")}
    settings = _settings_by_name() if error.ctx.info_name in ("train", "tune") else {}
    typed = error.option_name.lstrip("-").replace("_", "-")
    meant = closest(typed, {**options, **settings})
    if not meant:
        return message
    if option := options.get(meant):
        return f"{message} Did you mean {option!r}?"
    return f"{message} A setting is given as --set {settings[meant]}=VALUE."


def _settings_by_name() -> dict[str, str]:
    """Return the keys of all settings by how they would be spelled as an option, without dashes."""
    from app.config.families import FAMILIES
    from app.config.settings import describe_settings

    keys = [setting.key for family in FAMILIES for setting in describe_settings(family)]
    nested = {key.rpartition(".")[2]: key for key in keys}
    return {name.replace("_", "-"): key for name, key in (nested | {k: k for k in keys}).items()}


def _received(error: Exception) -> str:
    """Return the value that pydantic could not parse, which Typer's message omits."""
    errors = getattr(error.__cause__, "errors", None)
    return f". Received: {errors()[0]['input']!r}." if errors else ""
